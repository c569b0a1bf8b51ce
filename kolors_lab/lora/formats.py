"""LoRA files of diffusers, kohya/ComfyUI and DiffSynth; whichever it was, one `Lora` comes of it.

They differ in the names of the layers (lora_keys.py) and in where alpha is: diffusers has it in the header, kohya in a
tensor beside each layer, DiffSynth nowhere. ComfyUI reads diffusers' names as well, but not that header: it would take
alpha for equal to the rank. diffusers' own `convert_state_dict_to_kohya` writes just that alpha.
"""

from __future__ import annotations

import json
import math
import pickle
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from kolors_lab.core.errors import ModelError, SettingError
from kolors_lab.core.files import replacing
from kolors_lab.lora.layer_names import layer_name

if TYPE_CHECKING:
    import torch

PICKLES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")
ADAPTER_KEY = "lora_adapter_metadata"  # where diffusers looks for rank and alpha
OWN = ("format", ADAPTER_KEY)  # of the header: what concerns only the file itself
KEY = re.compile(
    r"(?P<name>.+?)[._](?P<part>lora_A|lora_B|lora_down|lora_up|lora\.down|lora\.up|alpha|lora_magnitude_vector)"
    r"(\.default)?(\.weight)?"
)
PARTS = {"lora_A": "down", "lora_down": "down", "lora.down": "down", "lora_B": "up", "lora_up": "up", "lora.up": "up"}
PARTS |= {"alpha": "alpha", "lora_magnitude_vector": "magnitude"}


class Layer(NamedTuple):
    """What a LoRA adds to one layer: alpha / rank · up @ down."""

    down: torch.Tensor  # A: (rank, in), of a convolution (rank, in, k, k)
    up: torch.Tensor  # B: (out, rank), of a convolution (out, rank, 1, 1)
    alpha: float | None  # None: the file does not say
    magnitude: torch.Tensor | None = None  # of a DoRA: the length of each of the layer's output rows

    @property
    def rank(self) -> int:
        return self.down.shape[0]

    def delta(self) -> torch.Tensor:
        """What a plain LoRA adds to the weight, in float32 and of its shape."""
        flat = self.up.float().flatten(1) @ self.down.float().flatten(1)
        return (self.alpha / self.rank * flat).reshape(len(self.up), *self.down.shape[1:])


class Lora(NamedTuple):
    """A LoRA: its layers by diffusers' names, and what its file says about itself."""

    layers: dict[str, Layer]
    header: dict[str, str]

    @property
    def dora(self) -> bool:
        return any(layer.magnitude is not None for layer in self.layers.values())


def read_lora(file: str | Path, alpha: float | None = None) -> Lora:
    """Read and check a LoRA of any of the formats; `alpha` takes the place of what the file says.

    Raises ModelError for a pickle that holds more than weights (it is never run), a file that is not whole, NaN or
    infinite values, parts that do not fit each other, and where alpha is neither in the file nor given.
    """
    _, lora = open_lora(file)
    layers = {name: layer if alpha is None else layer._replace(alpha=alpha) for name, layer in lora.layers.items()}
    if any(layer.alpha is None for layer in layers.values()):
        raise ModelError(
            f"LoRA {file} does not say its alpha, as DiffSynth's never do: convert it first with "
            f"`kolors-lab lora convert FILE TARGET --alpha X` (the camp trains with 4, and 2 draws at half strength)"
        )
    config = adapter_config(Lora(layers, {}))
    return Lora(layers, lora.header | {"rank": str(config["r"]), "alpha": str(config["lora_alpha"])})


def open_lora(file: str | Path) -> tuple[str, Lora]:
    """The format's name and the LoRA, as `read_lora`; but an alpha that the file does not say is None."""
    file = Path(file)
    if not file.is_file():
        raise ModelError(f"LoRA {file} does not exist; give a .safetensors file")
    tensors, header = _unpickle(file) if file.suffix.lower() in PICKLES else _read_safetensors(file)
    if not tensors:
        raise ModelError(f"LoRA {file} holds no weights")
    form = _form(next(iter(tensors)))
    layers = _layers(file, form, _sort(file, tensors), header)
    return form, Lora(layers, {key: value for key, value in header.items() if key not in OWN})


def _read_safetensors(file: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as source:
            return {key: source.get_tensor(key) for key in source.keys()}, source.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"LoRA {file} is damaged or no safetensors file ({error})") from error


def _unpickle(file: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """A pickle's tensors, by torch's reader that can make nothing else."""
    import torch

    if torch.__version__ < (2, 6):  # that reader could be tricked: CVE-2025-32434
        raise ModelError(f"LoRA {file} is a pickle, safe to open from torch 2.6 on; give a .safetensors file")
    try:
        tensors = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError, TypeError, LookupError) as error:
        raise ModelError(
            f"LoRA {file} is a pickle that is damaged or holds more than weights, which could run code; "
            "nothing of it was run: give a .safetensors file"
        ) from error
    if not isinstance(tensors, dict) or not all(isinstance(value, torch.Tensor) for value in tensors.values()):
        raise ModelError(f"LoRA {file} is no table of weights; give a .safetensors file")
    return {str(key): value for key, value in tensors.items()}, {}


def _form(key: str) -> str:
    if key.startswith("lora_unet_"):
        return "kohya/ComfyUI"
    return "DiffSynth" if re.match(r"blocks\.\d", key) else "diffusers"


def _sort(file: Path, tensors: dict[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    """Tensors by diffusers' name of their layer, then by part: down, up, alpha, magnitude."""
    found: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        match = KEY.fullmatch(key)
        name = layer_name(match["name"]) if match else None
        if name is None:
            raise ModelError(
                f"LoRA {file}: key {key} is in no format known here for Kolors' UNet (diffusers, kohya/ComfyUI, "
                "DiffSynth); DoRA is read from diffusers' files only, LoHa and LoKr from none"
            )
        if not (tensor.is_floating_point() or match["part"] == "alpha") or not tensor.float().isfinite().all():
            raise ModelError(f"LoRA {file}: {key} holds NaN, infinite values or no numbers; train it again")
        if found.setdefault(name, {}).setdefault(PARTS[match["part"]], tensor) is not tensor:
            raise ModelError(f"LoRA {file}: {key} is the second of two for {name}; the file mixes formats")
    return found


def _layers(file: Path, form: str, found: dict[str, dict[str, torch.Tensor]], header: dict[str, str]) -> dict:
    layers = {}
    for name, parts in found.items():
        if not {"down", "up"} <= set(parts):
            raise ModelError(f"LoRA {file}: {name} has only {', '.join(parts)}; the file is not whole")
        layer = Layer(parts["down"], parts["up"], None, parts.get("magnitude"))
        down, up = layer.down.shape, layer.up.shape
        if len(down) < 2 or len(down) != len(up) or down[0] != up[1] or not down[0]:
            raise ModelError(f"LoRA {file}: {name} has shapes {tuple(down)} and {tuple(up)}, of unequal rank")
        if parts.get("alpha") is not None and parts["alpha"].numel() != 1:
            raise ModelError(f"LoRA {file}: {name} has an alpha of shape {tuple(parts['alpha'].shape)}, not a number")
        layers[name] = layer
    if form == "DiffSynth":
        return layers
    said = _adapter(file, header) if form == "diffusers" else {}
    return {
        name: layer._replace(alpha=found[name]["alpha"].item() if "alpha" in found[name] else _alpha(said, name, layer))
        for name, layer in layers.items()
    }


def _adapter(file: Path, header: dict[str, str]) -> dict:
    """What diffusers' header says for the UNet, its patterns compiled; {} where it says nothing."""
    try:
        said = json.loads(header.get(ADAPTER_KEY, "{}"))
        said = {key.removeprefix("unet."): value for key, value in said.items()}
        patterns = (said.get("alpha_pattern") or {}).items()
        said["alpha_pattern"] = {re.compile(rf"(.*\.)?({key})"): float(value) for key, value in patterns}
        if "lora_alpha" in said:
            said["lora_alpha"] = float(said["lora_alpha"])
        return said
    except (ValueError, TypeError, AttributeError, re.error) as error:
        raise ModelError(f"LoRA {file} has a damaged header: {ADAPTER_KEY} ({error})") from error


def _alpha(said: dict, name: str, layer: Layer) -> float:
    """peft's rules: a pattern for this layer, else the one for all, else the rank. rsLoRA's scale is taken in."""
    patterns = said.get("alpha_pattern", {}).items()
    alpha = next((value for pattern, value in patterns if pattern.fullmatch(name)), said.get("lora_alpha", layer.rank))
    return alpha * math.sqrt(layer.rank) if said.get("use_rslora") else float(alpha)


def write_lora(lora: Lora, file: str | Path, to: str = "diffusers") -> Path:
    """Write a .safetensors file for `diffusers` or `comfyui`, whole or not at all; equal LoRAs give equal bytes.

    Raises SettingError for another name and for a DoRA to ComfyUI, which scales it by other lengths than peft does.
    """
    if to not in FORMATS:
        raise SettingError(f"to = {to!r}: must be one of {', '.join(FORMATS)}")
    if Path(file).suffix != ".safetensors":
        raise SettingError(f"LoRA {file}: the name must end in .safetensors")
    if to == "comfyui" and lora.dora:
        raise SettingError("to = 'comfyui': this LoRA is a DoRA, which ComfyUI draws otherwise; train a plain LoRA")
    config = adapter_config(lora)
    header = {"format": "pt", **lora.header, "rank": str(config["r"]), "alpha": str(config["lora_alpha"])}
    if to == "diffusers":
        header[ADAPTER_KEY] = json.dumps({f"unet.{key}": value for key, value in config.items()}, sort_keys=True)
    with replacing(file) as temporary:
        temporary.write_bytes(serialize(FORMATS[to](lora), header))
    return Path(file)


def adapter_config(lora: Lora) -> dict:
    """peft's settings for this LoRA: those of most layers, and patterns for the others. No more than old peft knows."""
    (rank, alpha), _ = Counter((layer.rank, layer.alpha) for layer in lora.layers.values()).most_common(1)[0]
    config = {"r": rank, "lora_alpha": alpha, "target_modules": sorted(lora.layers)}
    config["rank_pattern"] = {name: layer.rank for name, layer in lora.layers.items() if layer.rank != rank}
    config["alpha_pattern"] = {name: layer.alpha for name, layer in lora.layers.items() if layer.alpha != alpha}
    return config | ({"use_dora": True} if lora.dora else {})


def diffusers_tensors(lora: Lora) -> dict[str, torch.Tensor]:
    """`unet.<layer>.lora_A.weight` (rank, in) and `lora_B` (out, rank), as peft names them."""
    tensors = {}
    for name, layer in lora.layers.items():
        tensors |= {f"unet.{name}.lora_A.weight": layer.down, f"unet.{name}.lora_B.weight": layer.up}
        if layer.magnitude is not None:
            tensors[f"unet.{name}.lora_magnitude_vector"] = layer.magnitude
    return tensors


def kohya_tensors(lora: Lora) -> dict[str, torch.Tensor]:
    """`lora_unet_<layer>.lora_down.weight`, `.lora_up.weight` and `.alpha`, the layer's dots as underscores."""
    import torch

    tensors = {}
    for name, layer in lora.layers.items():
        key = f"lora_unet_{name.replace('.', '_')}"
        tensors |= {f"{key}.lora_down.weight": layer.down, f"{key}.lora_up.weight": layer.up}
        tensors[f"{key}.alpha"] = torch.tensor(layer.alpha, dtype=torch.float64)  # float32 would round 0.1
    return tensors


FORMATS = {"diffusers": diffusers_tensors, "comfyui": kohya_tensors}


def serialize(tensors: dict[str, torch.Tensor], header: dict[str, str]) -> bytes:
    """A safetensors file; its header sorted, since safetensors writes it in an order that changes from run to run."""
    from safetensors.torch import save

    data = save({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}, metadata=header)
    end = 8 + int.from_bytes(data[:8], "little")
    text = json.dumps(json.loads(data[8:end]), sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the tensors behind it stay aligned
    return len(text).to_bytes(8, "little") + text + data[end:]
