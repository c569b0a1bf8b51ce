"""LoRA files of diffusers, peft, kohya/ComfyUI, LyCORIS and DiffSynth; whichever it was, one `Lora` comes of it.

They differ in the names of the layers (layer_names.py), in where alpha is (alpha.py) and in how the change is written
(lycoris.py).
"""

from __future__ import annotations

import math
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from kolors_lab.core.errors import KolorsLabWarning, ModelError, check_number
from kolors_lab.core.language import _
from kolors_lab.lora.alpha import ADAPTER_FILE, ADAPTER_KEY, LARGEST, Said, is_beside, number, said_of
from kolors_lab.lora.layer_names import TEXT_ENCODER, kernel, layer_name
from kolors_lab.lora.layers import Layer, Lora, adapter_config
from kolors_lab.lora.lycoris import LYCORIS, WHOLE, plain, whole
from kolors_lab.lora.weights import lora_file, open_weights

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import torch

    Tensors = dict[str, torch.Tensor]

OWN = re.compile(rf"format|{ADAPTER_KEY}|lora_alpha|ss_network_\w+|sshs_\w+")  # of a header: what the file only needs
PARTS = {"lora_A": "down", "lora_down": "down", "lora.down": "down", "lora_B": "up", "lora_up": "up", "lora.up": "up"}
PARTS |= {"lora_linear_layer.down": "down", "lora_linear_layer.up": "up"}
PARTS |= {"lora_mid": "mid", "alpha": "alpha", "lora_magnitude_vector": "magnitude", "dora_scale": "dora_scale"}
PARTS |= {part: part for part in (*LYCORIS, WHOLE)}
ENDS = "|".join(re.escape(part) for part in sorted(PARTS, key=len, reverse=True))  # the longest first
KEY = re.compile(rf"(?P<name>.+?)[._](?P<part>{ENDS})(\.default)?(\.weight)?")
BASE = ("modelspec.architecture", "ss_base_model_version")  # what a header says of the model it was made for
FORMS = {r"(lora|lycoris)_": "kohya/ComfyUI", r"blocks\.\d": "DiffSynth", r"base_model\.": "peft"}  # by a name's start
KINDS = {"hada_": "LoHa", "lokr_": "LoKr"}  # by a part's
BIAS = re.compile(r".+\.diff_b")  # of ComfyUI and LyCORIS: a bias' change, which no LoRA has a place for
LIMIT = 256  # rank up to which LoHa and LoKr are written out in full
ROOM = 2**24  # bytes for each rank of all layers together: 4 GiB at 256, where every layer of Kolors takes 3.3


class Opened(NamedTuple):
    """A LoRA, its file's format and kind, and what a user should know: what is left out, guessed or approximated,
    and a rank that is not as said."""

    form: str
    lora: Lora
    notes: list[str]
    kind: str


def read_lora(file: str | Path, alpha: float | None = None, rank: int = LIMIT) -> Lora:
    """Read and check a LoRA of any of the formats; `alpha` takes the place of what the file says.

    Warns (KolorsLabWarning) of what is left out, guessed or approximated and of a rank that is not as said; `rank`
    bounds what LoHa and LoKr are written out to. Raises ModelError for a pickle that holds more than weights (it is
    never run), a file that is not whole, NaN or infinite values, parts that do not fit each other, and where alpha is
    neither said, given nor to be guessed.
    """
    opened = open_lora(file, alpha, rank)
    layers = opened.lora.layers
    if any(layer.alpha is None for layer in layers.values()):
        raise ModelError(
            "LoRA {file} does not say its alpha, as DiffSynth's never do: convert it first with "
            "`kolors-lab lora convert FILE TARGET --alpha X` (the camp trains with 4, and 2 draws at half strength)",
            file=file,
        )
    for note in opened.notes:
        warnings.warn(KolorsLabWarning("LoRA {file}: {note}", file=file, note=note), stacklevel=2)
    config = adapter_config(Lora(layers, {}))
    return Lora(layers, opened.lora.header | {"rank": str(config["r"]), "alpha": str(config["lora_alpha"])})


def open_lora(file: str | Path, alpha: float | None = None, rank: int = LIMIT) -> Opened:
    """The LoRA of a file or of peft's folder, as `read_lora`; but an alpha that the file does not say is None."""
    if alpha is not None:
        check_number("alpha", alpha, -LARGEST, LARGEST)
    file = lora_file(file)
    with open_weights(file) as (names, read, header):
        if not names:
            raise ModelError("LoRA {file} holds no weights", file=file)
        form = next((form for start, form in FORMS.items() if re.match(start, names[0])), "diffusers")
        keys, texts, biases = _sort(file, names)
        found = {name: {part: _tensor(file, key, read(key)) for part, key in of.items()} for name, of in keys.items()}
    said = Said({"lora_alpha": alpha}) if alpha is not None else said_of(file, header, form)
    layers, lost, guessed, written = {}, 0.0, set(), 0
    for name, parts in found.items():
        counts = alpha is None and "alpha" in parts and not parts.keys() >= {"lokr_w1", "lokr_w2"}
        own = _own_alpha(file, name, parts["alpha"]) if counts else None  # two whole factors are not scaled by it
        layer, share = _layer(file, name, parts, own, said, rank)
        if layer.alpha is None and form != "DiffSynth":
            layer = layer._replace(alpha=float(layer.rank))
            guessed.add(layer.rank)
        layers[name], lost = layer, max(lost, share)
        written += layer.down.nbytes + layer.up.nbytes
        if written > max(ROOM * rank, file.stat().st_size):
            raise ModelError(
                "LoRA {file} writes out to more than {size:.1f} GB, larger than any of Kolors",
                file=file,
                size=written / 1e9,
            )
    lora = Lora(layers, {key: value for key, value in header.items() if not OWN.fullmatch(key)})
    ends = {part[:5] for parts in found.values() for part in parts}
    plainly = "DoRA" if lora.dora else "full weights" if ends <= {WHOLE, "alpha"} else "plain LoRA"
    kind = next((kind for start, kind in KINDS.items() if start in ends), plainly)
    full = [of[WHOLE] for of in keys.values() if WHOLE in of]
    ranks = {name: layers[name].rank for name, parts in found.items() if "down" in parts}
    beside = ADAPTER_KEY not in header and is_beside(file, form)
    place = ADAPTER_FILE if beside else _("the header")
    still = 0 if alpha == 0 else sum(layer.alpha == 0 for layer in layers.values())  # 0 asked for is no surprise
    notes = [
        *_notes(guessed, lost, kind, rank, still),
        *_counted(texts, full, biases),
        *_other_rank(place, header, said, ranks),
    ]
    if said.dora and not lora.dora:
        notes.append(
            _("{place} says DoRA, the tensors have none of its lengths: it counts as a plain LoRA").format(place=place)
        )
    if idle := said.idle(layers):
        told = _("{place}: {count} patterns for layers that are not in the file are not used ({name}, …)")
        notes.append(told.format(place=place, count=len(idle), name=idle[0][:60]))
    base = next((header[key] for key in BASE if header.get(key)), "kolors")
    if "kolors" not in base.lower():  # Kolors' UNet has SDXL's layers, so their LoRAs can be put on it
        told = _("its header says that it was made for {base}, not for Kolors, whose weights are others")
        notes.append(told.format(base=base[:60]))
    return Opened(form, lora, notes, kind)


def _notes(guessed: set[int], lost: float, kind: str, rank: int, still: int) -> list[str]:
    """What was guessed or approximated, or does nothing, a sentence each."""
    notes = [_("{count} layers have alpha 0: they change nothing").format(count=still)] if still else []
    if guessed:
        told = _(
            "alpha is said nowhere and guessed to be the rank ({ranks}), as diffusers "
            "and ComfyUI do; another is given by `kolors-lab lora convert FILE TARGET --alpha X`"
        )
        notes.append(told.format(ranks=_listed(guessed)))
    if lost:
        told = _(
            "{kind} at rank {rank} is an approximation: it loses up to {lost:.1%} of a layer's change; "
            "`kolors-lab lora convert FILE TARGET --rank N` writes it at a higher one"
        )
        notes.append(told.format(kind=kind, rank=rank, lost=lost))
    return notes


def _counted(texts: list[str], full: list[str], biases: list[str]) -> list[str]:
    """What is said of texts' weights, of changes that are written whole, and of biases, with the first one's name."""
    told = {
        _(
            "{count} weights of a text encoder are left out ({name}, …): only the UNet is changed here, "
            "and a LoRA with CLIP's text encoders was made for another model than Kolors"
        ): texts,
        _("{count} layers have their whole change in the file ({name}, …): read as the plain LoRA that holds it"): full,
        _(
            "{count} biases are left out ({name}, …): a LoRA changes weights alone, so the effect is not quite the same"
        ): biases,
    }
    return [text.format(count=len(names), name=names[0][:100]) for text, names in told.items() if names]


def _other_rank(place: str, header: dict[str, str], said: Said, ranks: dict[str, int]) -> list[str]:
    """A note where plain layers have not the rank that is said of them. kohya's need only be that of some layers."""
    odd = [name for name, rank in ranks.items() if said.rank_of(name) not in (None, rank)]
    claimed, dim = {said.rank_of(name) for name in odd}, header.get("ss_network_dim", "")
    if not odd and re.fullmatch("[0-9]{1,6}", dim) and int(dim) not in ranks.values():
        odd, claimed = list(ranks), {int(dim)}
    told = _("{place} says rank {said}, the tensors have {found}: the tensors count")
    found = {ranks[name] for name in odd}
    return [told.format(place=place, said=_listed(claimed), found=_listed(found))] if odd else []


def _listed(numbers: Iterable[float]) -> str:
    return ", ".join(f"{number:g}" for number in sorted(numbers))


def _sort(file: Path, names: Sequence[str]) -> tuple[dict[str, dict[str, str]], list[str], list[str]]:
    """Names of tensors by diffusers' name of their layer, then by part: down, up, alpha, …; those of texts, of biases.

    A name that nothing is known of is refused before a single weight is read: what is left out could be half a LoRA.
    """
    found: dict[str, dict[str, str]] = {}
    unknown: list[str] = []
    texts: list[str] = []
    biases: list[str] = []
    for key in names:
        match = KEY.fullmatch(key) if len(key) < 500 else None
        name = layer_name(match["name"]) if match else None
        if TEXT_ENCODER.match(key):
            texts.append(key)
        elif BIAS.fullmatch(key):
            biases.append(key)
        elif name is None:
            unknown.append(key)
        elif found.setdefault(name, {}).setdefault(PARTS[match["part"]], key) != key:
            raise ModelError(
                "LoRA {file}: {key} is the second of two for {name}; the file mixes formats",
                file=file,
                key=key,
                name=name,
            )
    if unknown:
        key, others = unknown[0][:200], len(unknown) - 1
        more = _(" and {count} more").format(count=others) if others else ""
        raise ModelError("LoRA {file}: {key}{more}: {why}", file=file, key=key, more=more, why=_why_none(key))
    if not found and biases:
        raise ModelError(
            "LoRA {file} holds {count} biases ({key}, …) and no weights of the UNet; a LoRA changes weights",
            file=file, count=len(biases), key=biases[0][:100],
        )  # fmt: skip
    if not found:
        raise ModelError(
            "LoRA {file} holds {count} weights of a text encoder only; Kolors' LoRAs change the UNet",
            file=file,
            count=len(texts),
        )
    return found, texts, biases


def _why_none(key: str) -> str:
    """Why no LoRA comes of a file with a tensor of this name."""
    if re.search(r"oft_|\.rescale$", key):
        return _("OFT turns the base's own weights, so no LoRA does the same without that base")
    if re.search(r"\.on_input$|\.ia3_", key):
        return _("IA3 scales the base's own outputs, so no LoRA does the same without that base")
    if re.search(r"\.diff$|\.[wb]_norm$|lora_bias|lora_B\.bias$", key):
        return _("whole weights or biases are no LoRA")
    return _("in no format known here for Kolors' UNet (diffusers, peft, kohya/ComfyUI, LyCORIS, DiffSynth)")


def _tensor(file: Path, key: str, tensor: torch.Tensor) -> torch.Tensor:
    """The tensor, if it holds finite numbers. ModelError."""
    number_like = tensor.is_floating_point() or key.endswith("alpha")
    if not number_like or tensor.is_complex() or not tensor.float().isfinite().all():
        raise ModelError(
            "LoRA {file}: {key} holds NaN, infinite values or no numbers; train it again", file=file, key=key
        )
    return tensor


def _own_alpha(file: Path, name: str, alpha: torch.Tensor) -> float:
    if alpha.numel() != 1:
        shape = tuple(alpha.shape)
        raise ModelError(
            "LoRA {file}: {name} has an alpha of shape {shape}, not a number", file=file, name=name, shape=shape
        )
    try:
        return number(alpha.item())
    except ValueError as error:
        raise ModelError("LoRA {file}: the alpha of {name}: {error}", file=file, name=name, error=error) from error


def _layer(file: Path, name: str, parts: Tensors, alpha: float | None, said: Said, limit: int) -> tuple[Layer, float]:
    """One layer and the share of its change that is lost. Its own `alpha` counts more than what is said for all."""
    if parts.keys() & {*LYCORIS, WHOLE}:
        layer, lost = _unfolded(file, name, parts, said.alpha_of(name, 1) if alpha is None else alpha, said, limit)
    elif parts.keys() >= {"down", "up"}:
        layer, lost = _plain_layer(file, name, parts), 0.0
        layer = layer._replace(alpha=said.alpha_of(name, layer.rank) if alpha is None else alpha)
    else:
        there = ", ".join(parts)
        raise ModelError(
            "LoRA {file}: {name} has only {there}; the file is not whole", file=file, name=name, there=there
        )
    return layer._replace(magnitude=_magnitude(file, name, parts, layer)), lost


def _unfolded(
    file: Path, name: str, parts: Tensors, alpha: float | None, said: Said, limit: int
) -> tuple[Layer, float]:  # fmt: skip
    """A LoHa's or LoKr's layer, or one whose change is written whole, and the share of its change that is lost.

    ModelError for parts that do not fit, and where no LoRA up to `limit` is the same as a whole change.
    """
    fitting = {WHOLE, "alpha"} if WHOLE in parts else {*LYCORIS, "alpha", "magnitude", "dora_scale"}
    try:
        if parts.keys() - fitting:
            raise ValueError(_("{parts} together").format(parts=", ".join(sorted(parts.keys() - {"alpha"}))))
        if WHOLE in parts:
            layer, lost = whole(name, parts[WHOLE], limit), 0.0
        else:
            layer, lost = plain(name, parts, alpha, said.rank_of(name), limit)
    except (ValueError, KeyError, RuntimeError) as error:  # RuntimeError: torch's, for shapes that do not fit
        raise ModelError(
            "LoRA {file}: {name} is not whole or does not fit together ({error})", file=file, name=name, error=error
        ) from error
    if layer is None:
        raise ModelError(
            "LoRA {file}: {name} has its whole change in the file ({part}), which no LoRA up to rank {rank} holds; "
            "extract a LoRA from these weights with the program that made them",
            file=file, name=name, part=WHOLE, rank=limit,
        )  # fmt: skip
    for part in (layer.down, layer.up):
        _tensor(file, name, part)
    return layer, lost


def _plain_layer(file: Path, name: str, parts: Tensors) -> Layer:
    """down and up of one rank; a kernel that Tucker's form keeps between the two goes into down."""
    import torch

    down, up = (_as_kernel(parts[side], kernel(name), side) for side in ("down", "up"))
    fits = down.ndim >= 2 and down.ndim == up.ndim and down.shape[0] == up.shape[1] > 0
    if fits and (mid := parts.get("mid")) is not None:
        fits = mid.ndim == 4 == down.ndim and mid.shape[:2] == (len(down), len(down))
        down = torch.einsum("rskl,si->rikl", mid, down.flatten(1)) if fits else down
    if not fits:
        shapes = _(" and ").join(str(tuple(part.shape)) for key, part in parts.items() if key in ("down", "up", "mid"))
        raise ModelError(
            "LoRA {file}: {name} has shapes {shapes}, of unequal rank", file=file, name=name, shapes=shapes
        )
    return Layer(down, up, None)


def _as_kernel(part: torch.Tensor, size: tuple[int, ...], side: str) -> torch.Tensor:
    """A part in the layer's own shape: some programs write a linear layer's as of a 1 x 1 convolution, and a
    convolution's flat."""
    if not size and part.ndim == 4 and part.shape[2:] == (1, 1):
        return part.flatten(1)
    size = (1, 1) if size and side == "up" else size
    if size and part.ndim == 2 and not part.shape[1] % (area := math.prod(size)):
        return part.reshape(len(part), part.shape[1] // area, *size)
    return part


def _magnitude(file: Path, name: str, parts: Tensors, layer: Layer) -> torch.Tensor | None:
    """A DoRA's lengths of the layer's output rows in peft's shape: (out,), of a convolution (1, out, 1, 1)."""
    lengths = parts.get("magnitude", parts.get("dora_scale"))
    if lengths is None:
        return None
    out, conv = len(layer.up), layer.down.ndim == 4
    if "dora_scale" in parts and lengths.shape[:1] != (out,):
        raise ModelError(
            "LoRA {file}: {name} is a DoRA over inputs, which peft and diffusers do not have", file=file, name=name
        )
    if lengths.numel() != out:
        raise ModelError(
            "LoRA {file}: {name} has {count} lengths of a DoRA for {rows} rows",
            file=file,
            name=name,
            count=lengths.numel(),
            rows=out,
        )
    return lengths.reshape((1, out, 1, 1) if conv else (out,))
