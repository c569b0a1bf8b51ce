"""LoRA adapters on the UNet (https://arxiv.org/abs/2106.09685), by peft, in the file format of diffusers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import ModelError
from .files import replacing
from .models import ATTENTION

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from diffusers import KolorsPipeline, UNet2DConditionModel

ADAPTER = "kolors_lab"
PICKLES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")
PARTS = ("lora_A", "lora_B")  # down to the rank, and up again
FEED_FORWARD = ("ff.net.0.proj", "ff.net.2")
TARGETS = {  # groups of layers in the UNet's blocks, by the ends of their names; a new group is one line here
    "attention": ATTENTION,
    "attention+ff": (*ATTENTION, *FEED_FORWARD),
    "all-linear": (*ATTENTION, *FEED_FORWARD, "proj_in", "proj_out", "time_emb_proj"),
    "conv": ("conv1", "conv2", "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv"),
}


def add_lora(unet: UNet2DConditionModel, rank: int, alpha: float, target_modules: tuple[str, ...], seed: int) -> None:
    """Freeze the UNet and add a LoRA, in float32, to every layer whose name ends in one of `target_modules`.

    Its effect starts at zero and is scaled by alpha / rank. Equal seeds give equal weights.
    Raises ModelError if no layer has such a name.
    """
    import torch
    from diffusers.training_utils import cast_training_params
    from peft import LoraConfig

    unet.requires_grad_(False)
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(target_modules), init_lora_weights="gaussian")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            unet.add_adapter(config, adapter_name=ADAPTER)
        except ValueError as error:
            raise ModelError(f"target_modules = {','.join(target_modules)}: no such layers ({error})") from error
    cast_training_params(unet, torch.float32)


def save_lora(unet: UNet2DConditionModel, file: str | Path, metadata: dict[str, str] | None = None) -> Path:
    """Write the UNet's LoRA as `unet.<layer>.lora_A.weight` (rank, in) and `lora_B` (out, rank), whole or not at all.

    The header holds `metadata`, rank, alpha, and what diffusers' own `load_lora_weights` needs to scale by them.
    """
    from peft import get_peft_model_state_dict

    config = unet.peft_config[ADAPTER]
    state = get_peft_model_state_dict(unet, adapter_name=ADAPTER)
    tensors = {f"unet.{key}": value.detach().cpu().contiguous() for key, value in state.items()}
    # diffusers hands all of it to LoraConfig: only what every version of peft knows; diffusers 0.39 wants the patterns
    adapter = {"r": config.r, "lora_alpha": config.lora_alpha, "target_modules": sorted(config.target_modules)}
    adapter |= {"rank_pattern": {}, "alpha_pattern": {}}
    header = {
        "format": "pt",
        **(metadata or {}),
        "rank": str(config.r),
        "alpha": str(config.lora_alpha),
        "lora_adapter_metadata": json.dumps({f"unet.{key}": value for key, value in adapter.items()}, sort_keys=True),
    }
    with replacing(file) as temporary:
        temporary.write_bytes(_serialize(tensors, header))
    return Path(file)


def _serialize(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> bytes:
    """A safetensors file; its header sorted, since safetensors writes it in an order that changes from run to run."""
    from safetensors.torch import save

    data = save(tensors, metadata=metadata)
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # the tensors behind it stay aligned
    return len(header).to_bytes(8, "little") + header + data[end:]


def read_lora(file: str | Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and header of a LoRA file, checked.

    Raises ModelError for a pickle (never opened: it can run code), anything else that is not whole safetensors in
    diffusers' format, NaN or infinite values, and parts that do not fit each other.
    """
    from safetensors import SafetensorError, safe_open

    file = Path(file)
    if file.suffix.lower() in PICKLES:
        raise ModelError(f"LoRA {file} is a pickle, which can run code when opened; give a .safetensors file")
    if not file.is_file():
        raise ModelError(f"LoRA {file} does not exist; give a .safetensors file")
    try:
        with safe_open(file, framework="pt") as source:
            header = source.metadata() or {}
            tensors = {key: source.get_tensor(key) for key in source.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"LoRA {file} is damaged or no safetensors file ({error})") from error
    _check(file, tensors)
    return tensors, header


def _check(file: Path, tensors: dict[str, torch.Tensor]) -> None:
    if not tensors:
        raise ModelError(f"LoRA {file} holds no weights")
    for key, tensor in tensors.items():
        layer, part = _split(key)
        if not layer:
            raise ModelError(f"LoRA {file}: key {key} is not in diffusers' format (unet.<layer>.lora_A.weight)")
        if not tensor.isfinite().all():
            raise ModelError(f"LoRA {file}: {key} holds NaN or infinite values; train it again")
        down, up = (tensors.get(f"unet.{layer}.{part}.weight") for part in PARTS)
        if down is None or up is None:
            raise ModelError(f"LoRA {file}: {layer} has only {part}; the file is not whole")
        if down.ndim < 2 or up.ndim < 2 or down.shape[0] != up.shape[1]:
            raise ModelError(f"LoRA {file}: {layer} has shapes {_show(down)} and {_show(up)}, of unequal rank")


def _split(key: str) -> tuple[str, str]:
    """`unet.<layer>.lora_A.weight` -> (layer, "lora_A"); ("", "") for any other key."""
    layer, _, rest = key.removeprefix("unet.").rpartition(".lora_")
    part = f"lora_{rest.removesuffix('.weight')}"
    whole = key == f"unet.{layer}.{part}.weight" and part in PARTS
    return (layer, part) if whole else ("", "")


def _show(tensor: torch.Tensor) -> str:
    return str(tuple(tensor.shape))


def set_loras(pipe: KolorsPipeline, chain: Sequence[tuple[str | Path, float]]) -> list[dict[str, str]]:
    """Put LoRA files on the pipeline, each at its strength, in place of those there before; return their headers.

    Their effects add up; strength 1 is as trained, a negative one goes the other way. An empty chain takes all off.
    Raises ModelError for what `read_lora` refuses and for a LoRA made for another model; nothing changes then.
    """
    loras = [(Path(file), *read_lora(file)) for file, _ in chain]
    for file, tensors, _ in loras:
        _compare(file, tensors, pipe.unet)
    unload_lora(pipe)
    names = [f"{ADAPTER}_{n}" if n else ADAPTER for n in range(len(loras))]
    for name, (file, tensors, header) in zip(names, loras, strict=True):
        _load(pipe, name, file, tensors, header.get("lora_adapter_metadata"))
    if names:
        pipe.unet.set_adapters(names, [strength for _, strength in chain])
    return [header for _, _, header in loras]


def load_lora(pipe: KolorsPipeline, file: str | Path, strength: float = 1.0) -> dict[str, str]:
    """A chain of one: put the LoRA on the pipeline at `strength`, in place of any before; return its header."""
    return set_loras(pipe, [(file, strength)])[0]


def _load(pipe: KolorsPipeline, name: str, file: Path, tensors: dict[str, torch.Tensor], adapter: str | None) -> None:
    try:
        pipe.load_lora_into_unet(
            tensors,
            network_alphas=None,
            unet=pipe.unet,
            adapter_name=name,
            metadata=json.loads(adapter) if adapter else None,  # without it alpha counts as equal to the rank
            _pipeline=pipe,
        )
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
        unload_lora(pipe)
        raise ModelError(f"LoRA {file} cannot be loaded ({error})") from error


def _compare(file: Path, tensors: dict[str, torch.Tensor], unet: UNet2DConditionModel) -> None:
    """Raise ModelError at the first LoRA key that has no layer of fitting shape in the UNet."""
    modules = dict(unet.named_modules())
    other = f"LoRA {file} was made for another model"
    for key, tensor in tensors.items():
        layer, part = _split(key)
        module = modules.get(layer)
        weight = getattr(getattr(module, "base_layer", module), "weight", None)
        if weight is None:
            raise ModelError(f"{other}: key {key}, shape {_show(tensor)} there, no such layer here")
        axis = PARTS.index(part)
        rank = tensor.shape[axis]  # A is (rank, in), B is (out, rank)
        # a convolution's kernel is the down part's; the up part is 1 x 1
        here = (rank, *weight.shape[1:]) if axis == 0 else (weight.shape[0], rank, *(1,) * (weight.ndim - 2))
        if tuple(tensor.shape) != tuple(here):
            raise ModelError(f"{other}: key {key}, shape {_show(tensor)} there, {tuple(here)} here")


def unload_lora(pipe: KolorsPipeline) -> None:
    """Take any LoRA off the pipeline; nothing happens where there is none."""
    if pipe.unet._hf_peft_config_loaded:  # also where adding one was cut short
        pipe.unload_lora_weights()
