"""LoRA files for diffusers and for ComfyUI.

ComfyUI reads diffusers' names as well, but not that header: it would take alpha for equal to the rank. diffusers' own
`convert_state_dict_to_kohya` writes just that alpha.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from kolors_lab.core.errors import SettingError, check_name
from kolors_lab.core.files import replacing
from kolors_lab.lora.alpha import ADAPTER_KEY
from kolors_lab.lora.layers import adapter_config

if TYPE_CHECKING:
    import torch

    from kolors_lab.lora.layers import Lora


def write_lora(lora: Lora, file: str | Path, to: str = "diffusers") -> Path:
    """Write a .safetensors file for `diffusers` or `comfyui`, whole or not at all; equal LoRAs give equal bytes.

    Raises SettingError for another name and for a DoRA to ComfyUI, which scales it by other lengths than peft does.
    """
    check_name("to", to, FORMATS)
    if Path(file).suffix != ".safetensors":
        raise SettingError("LoRA {file}: the name must end in .safetensors", file=file)
    if to == "comfyui" and lora.dora:
        raise SettingError("to = 'comfyui': this LoRA is a DoRA, which ComfyUI draws otherwise; train a plain LoRA")
    config = adapter_config(lora)
    header = {"format": "pt", **lora.header, "rank": str(config["r"]), "alpha": str(config["lora_alpha"])}
    if to == "diffusers":
        header[ADAPTER_KEY] = json.dumps({f"unet.{key}": value for key, value in config.items()}, sort_keys=True)
    with replacing(file) as temporary:
        temporary.write_bytes(serialize(FORMATS[to](lora), header))
    return Path(file)


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
