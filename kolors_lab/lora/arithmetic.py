"""LoRAs without a model: mix them with weights, subtract one from another, change the rank, show and convert files.

kolors-lab lora show runs/train/lora.safetensors
kolors-lab lora convert "epoch=0-step=500.ckpt" camp.safetensors --alpha 4
kolors-lab lora mix style.safetensors=0.7 hero.safetensors=0.3 --out both.safetensors
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from kolors_lab.core.errors import ModelError, SettingError, check_number
from kolors_lab.core.fields import OneOf, Range, check_fields
from kolors_lab.core.language import _
from kolors_lab.lora.layers import Layer, Lora, strongest
from kolors_lab.lora.reading import LIMIT, open_lora, read_lora
from kolors_lab.lora.weights import lora_file
from kolors_lab.lora.writing import FORMATS, write_lora

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

KINDS = {  # what `lora show` calls a layer, by its name
    r"attn1\.": "self-attention",
    r"attn2\.": "cross-attention",
    r"ff\.": "feed-forward",
    r"proj_(in|out)$": "projections",
    r"conv": "convolutions",
}


def mix(loras: Sequence[tuple[Lora, float]], rank: int | None = None) -> Lora:
    """One plain LoRA with the effect of several, each by its weight; a negative weight subtracts.

    Exact: the down parts are stacked, and so the ranks add up. With `rank` each layer then keeps only its strongest
    directions (`resize`). Raises ModelError for a DoRA, whose effects do not add up, and for LoRAs of two models.
    """
    names = list(dict.fromkeys(name for lora, _ in loras for name in lora.layers))
    layers = {
        name: _stack(name, [(lora.layers[name], w) for lora, w in loras if name in lora.layers]) for name in names
    }
    mixed = Lora(layers, _header([lora.header for lora, _ in loras]))
    return resize(mixed, rank) if rank else mixed


def _stack(name: str, parts: Sequence[tuple[Layer, float]]) -> Layer:
    import torch

    if any(layer.magnitude is not None for layer, _ in parts):
        raise ModelError("a DoRA cannot be mixed or change its rank: its effect depends on the base; use a plain LoRA")
    if len({(layer.down.shape[1:], len(layer.up)) for layer, _ in parts}) > 1:
        raise ModelError("these LoRAs were made for two models: layer {name} differs in shape", name=name)
    down = torch.cat([layer.down.float() for layer, _ in parts])
    up = torch.cat([layer.up.float() * (weight * layer.alpha / layer.rank) for layer, weight in parts], dim=1)
    return Layer(down, up, float(len(down)))


def _header(headers: Sequence[dict[str, str]]) -> dict[str, str]:
    """Trigger words one after the other, and the base where it is the same for all."""
    words = dict.fromkeys(word for header in headers if (word := header.get("trigger_word")))
    bases = {header.get("base_model", "") for header in headers}
    return {"trigger_word": "，".join(words), "base_model": bases.pop() if len(bases) == 1 else ""}


def resize(lora: Lora, rank: int) -> Lora:
    """The nearest LoRA of `rank`, layer by layer, by singular value decomposition; exact where `rank` suffices."""
    check_number("rank", rank, 1, 1024, whole=True)
    return Lora({name: _resize(_stack(name, [(layer, 1.0)]), rank) for name, layer in lora.layers.items()}, lora.header)


def _resize(layer: Layer, rank: int) -> Layer:
    up, down, _values = strongest(layer.up.flatten(1), layer.down.flatten(1), rank)
    kept = len(down)
    down, up = down.reshape(kept, *layer.down.shape[1:]), up.reshape(len(up), kept, *layer.up.shape[2:])
    return Layer(down, up, float(kept))


def singular_values(layer: Layer) -> torch.Tensor:
    """How strong each direction of a layer's LoRA is, strongest first: the singular values, (rank,)."""
    _up, _down, values = strongest(layer.up.float().flatten(1), layer.down.float().flatten(1), layer.rank)
    return values * layer.alpha / layer.rank


@dataclass(frozen=True)
class LoraShowConfig:
    """What a LoRA file holds.

    Args:
        file: a LoRA of diffusers, peft (its folder will do), kohya/ComfyUI, LyCORIS (LoHa, LoKr) or DiffSynth
    """

    file: str


def lora_show(config: LoraShowConfig) -> list[str]:
    """Lines on a file: format, rank, alpha, layers by kind, number of parameters, and what it says about itself."""
    file = lora_file(config.file)
    form, lora, notes, kind = open_lora(file)
    layers = lora.layers.values()
    count = sum(layer.down.numel() + layer.up.numel() for layer in layers)
    types = Counter(str(layer.down.dtype).removeprefix("torch.") for layer in layers)
    alphas = sorted({layer.alpha for layer in layers if layer.alpha is not None})
    kinds = Counter(
        next((kind for pattern, kind in KINDS.items() if re.search(pattern, name)), "others") for name in lora.layers
    )
    lines = {
        "file": f"{file}, {file.stat().st_size / 1e6:.1f} MB, {', '.join(types)}",
        "format": f"{form}, {kind}"
        + (", read as the plain LoRA that it is" if kind in ("LoHa", "LoKr", "full weights") else ""),
        "rank": ", ".join(str(rank) for rank in sorted({layer.rank for layer in layers})),
        "alpha": ", ".join(f"{alpha:g}" for alpha in alphas) or "not in the file; whoever trained it knows",
        "layers": f"{len(layers)}: " + ", ".join(f"{kind} {n}" for kind, n in kinds.items()),
        "parameters": f"{count:,}",
    }
    said = {name: value for name, value in lora.header.items() if name not in lines}
    shown = [f"{name:13} {value}" for name, value in lines.items()]
    return [*shown, *(f"{'note':13} {note}" for note in notes), *_about(said)]


SHOWN, WIDE = 20, 120  # entries of a header, and characters of each


def _about(header: dict[str, str]) -> list[str]:
    """What a file says about itself, in short lines: kohya's trainers note every caption in there."""
    entries = [(_short(name, 40), _short(value, WIDE)) for name, value in header.items() if value]
    # by name, since a file has them in any order; trainers' own notes behind what is written for people
    entries.sort(key=lambda entry: (entry[0].startswith("ss_"), entry[0]))
    lines = [f"{name:13} {value}" for name, value in entries[:SHOWN]]
    rest = [name for name, _ in entries[SHOWN:]]
    return lines + ([_short(f"and {len(rest)} more: {', '.join(rest)}", WIDE)] if rest else [])


def _short(text: str, width: int) -> str:
    """At most so many characters in one line."""
    line = " ".join(text[: 4 * width].split())
    return line if len(text) <= 4 * width and len(line) <= width else f"{line[:width]}… ({len(text):,} characters)"


@dataclass(frozen=True)
class LoraConvertConfig:
    """Write a LoRA file in another program's format.

    Args:
        file: a LoRA of any format that `lora show` knows
        target: the .safetensors file to write
        to: diffusers or comfyui (which kohya's scripts and the web UI read as well)
        alpha: what the LoRA was trained with, where its file does not say; none: as the file says
        rank: change the LoRA to this rank; none: leave it
    """

    file: str
    target: str
    to: Annotated[str, OneOf(FORMATS)] = "diffusers"
    alpha: Annotated[float | None, Range(1e-6, 1024)] = None
    rank: Annotated[int | None, Range(1, 1024)] = None

    def __post_init__(self):
        check_fields(self)


def lora_convert(config: LoraConvertConfig) -> Path:
    """Convert a LoRA file; the file it was stays. Raises as `read_lora` and `write_lora`."""
    lora = read_lora(config.file, config.alpha, max(config.rank or 0, LIMIT))
    return write_lora(resize(lora, config.rank) if config.rank else lora, config.target, config.to)


@dataclass(frozen=True)
class LoraMixConfig:
    """Mix LoRA files into one.

    Args:
        parts: each as FILE=WEIGHT, such as style.safetensors=0.7; a negative weight subtracts
        out: the .safetensors file to write
        to: diffusers or comfyui
        rank: keep only this many directions of each layer; none: all, so that the ranks add up
    """

    parts: tuple[str, ...]
    out: str = "runs/mixed.safetensors"
    to: Annotated[str, OneOf(FORMATS)] = "diffusers"
    rank: Annotated[int | None, Range(1, 1024)] = None

    def __post_init__(self):
        check_fields(self)
        self.chain()

    def chain(self) -> list[tuple[str, float]]:
        """Files and weights. A file's own name may hold = signs: the last one counts."""
        chain = []
        for text in self.parts:
            file, _sign, weight = text.rpartition("=")
            try:
                chain.append((file, float(weight)))
            except ValueError:
                file = ""
            if not file:
                raise SettingError("parts = {text!r}: must be FILE=WEIGHT, such as style.safetensors=0.7", text=text)
            check_number(_("the weight of {file}").format(file=file), chain[-1][1], -100, 100)
        return chain


def lora_mix(config: LoraMixConfig) -> Path:
    """Mix LoRA files; the header says of what. Raises as `read_lora`, `mix` and `write_lora`."""
    chain = config.chain()
    mixed = mix([(read_lora(file), weight) for file, weight in chain], config.rank)
    mixed.header["mix"] = json.dumps({Path(file).name: weight for file, weight in chain}, ensure_ascii=False)
    return write_lora(mixed, config.out, config.to)
