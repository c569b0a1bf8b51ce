"""What a training takes in memory, and the ways to take less."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kolors_lab.models.device import pick_dtype
from kolors_lab.models.presets import GIB, pipeline_path

if TYPE_CHECKING:
    import torch
    from diffusers import UNet2DConditionModel

    from kolors_lab.models.presets import Preset

# GiB that autograd keeps for one picture of 1024 px in 16 bit; counted over Kolors' UNet with rank 16 on attention
ACTIVATIONS = {"none": 5.3, "partial": 1.9, "full": 0.5}


def set_checkpointing(unet: UNet2DConditionModel, mode: str) -> None:
    """Gradient checkpointing: none; partial, the deepest blocks, which hold two thirds of memory and work; full."""
    unet.disable_gradient_checkpointing()
    if mode != "none":
        unet.enable_gradient_checkpointing()
    if mode == "partial":
        for block in (*unet.down_blocks[:-1], *unet.up_blocks[1:]):
            for module in block.modules():
                if hasattr(module, "gradient_checkpointing"):
                    module.gradient_checkpointing = False


def memory_used(device: torch.device) -> float:
    """GiB: on a card the most that was held so far, else what the process holds now."""
    import psutil
    import torch

    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / GIB
    return psutil.Process().memory_info().rss / GIB


def training_plan(unet: UNet2DConditionModel, copies: int, batch: int, size: int, checkpointing: str) -> str:
    """One line: about how many GiB the UNet, `copies` of its LoRA and a batch of pictures take; what is free on a card.

    The UNet is where it will be trained; `size` in px; `checkpointing` as for set_checkpointing.
    """
    import torch

    frozen = [parameter for parameter in unet.parameters() if not parameter.requires_grad]
    base = sum(parameter.nbytes for parameter in frozen) / GIB
    lora = copies * sum(parameter.nbytes for parameter in unet.parameters() if parameter.requires_grad) / GIB
    width, itemsize = unet.config.block_out_channels[0], unet.conv_in.weight.dtype.itemsize
    pictures = batch * ACTIVATIONS[checkpointing] * (size / 1024) ** 2 * width / 320 * itemsize / 2
    total = base + lora + pictures
    plan = (
        f"memory: about {total:.2g} GiB: UNet {base:.2g}, LoRA and optimizer {lora:.2g}, "
        f"{batch} x {size} px {pictures:.2g} (gradient checkpointing: {checkpointing})"
    )
    if unet.device.type != "cuda":
        return plan
    free = torch.cuda.mem_get_info(unet.device)[0] / GIB + base  # the UNet lies there already
    tight = (
        "; may not fit: try gradient_checkpointing full, a smaller batch_size or base_bits 4" if total > free else ""
    )
    return f"{plan}; {free:.1f} GiB for it on the card{tight}"


def weights_variant(folder: Path) -> str | None:
    """`fp16` where the folder holds the weights under that name only, as Kolors-diffusers does."""
    names = [file.name for file in (folder / "unet").glob("*.safetensors")]
    return "fp16" if names and all(".fp16" in name for name in names) else None


def _must_offload(weights: int, size: int, device: torch.device) -> bool:
    """Whether `weights` bytes and what sampling at `size` px needs besides exceed the card's free memory."""
    import torch

    torch.cuda.empty_cache()
    return weights + _working_memory(size) > torch.cuda.mem_get_info(device)[0]


def _working_memory(size: int) -> int:
    """Bytes that sampling takes beside the weights: about 4 GiB at 1024 px, most of it decoding."""
    return int(4 * GIB * (size / 1024) ** 2)


PLANS = {  # how a pipeline lies on a card, the roomiest first
    "whole": "all of it stays on the card",
    "parts": "each part goes to the card only while it works",
    "encode": "prompts are encoded in main memory, then the text encoder goes (or take text_encoder_bits 4)",
    "turns": "prompts are encoded in main memory, UNet and VAE then take turns: tight, so draw smaller where it fails",
    "none": "too small for pictures of this size: draw smaller ones",
}


def card_plan(encoder: int, rest: int, size: int, card: int) -> str:
    """Which of PLANS to draw by at `size` px with `card` bytes: text encoder and the rest of the weights in bytes."""
    working, room = _working_memory(size), int(GIB / 4 * (size / 1024) ** 2)
    if encoder + rest + working <= card:
        return "whole"
    if rest + working <= card:
        return "parts" if encoder + room <= card else "encode"
    return "turns" if rest + 4 * room <= card else "none"


def card_plan_here(preset: Preset, device: torch.device, dtype: torch.dtype | None = None) -> str:
    """`card_plan` by what is free on the device now; main memory takes all. FetchError if the model is not here."""
    import torch

    if device.type != "cuda":
        return "whole"
    encoder, rest = _weights(preset, (dtype or pick_dtype(device)).itemsize)
    torch.cuda.empty_cache()
    return card_plan(encoder, rest, preset.size, torch.cuda.mem_get_info(device)[0])


def _weights(preset: Preset, itemsize: int) -> tuple[int, int]:
    """Bytes of the text encoder, and of all else. FetchError if the model is not on this machine."""
    folder = pipeline_path(preset)
    encoder = itemsize * parameter_count(folder, "text_encoder")
    return encoder, itemsize * parameter_count(folder) - encoder


def memory_plan(preset: Preset, device: torch.device | str, dtype: torch.dtype) -> str:
    """One line that says how the preset's pipeline will lie in memory. FetchError if it is not on this machine."""
    import torch

    device = torch.device(device)
    need = f"{sum(_weights(preset, dtype.itemsize)) / GIB:.1f} GiB of weights in {str(dtype).removeprefix('torch.')}"
    if device.type != "cuda":
        return f"{need}, all in main memory ({device.type})"
    free = f"{torch.cuda.mem_get_info(device)[0] / GIB:.1f} GiB are free"
    return f"{need}, {free} on the card: {PLANS[card_plan_here(preset, device, dtype)]}"


def card_plans(preset: Preset) -> str:
    """The plan for the preset, in 16 bit, on cards of 24, 15 (a T4) and 8 GB. FetchError if it is not here."""
    encoder, rest = _weights(preset, 2)
    free = {card: int(0.95 * card * GIB) for card in (24, 15, 8)}  # the driver keeps some
    return "; ".join(f"{card} GB: {PLANS[card_plan(encoder, rest, preset.size, room)]}" for card, room in free.items())


def parameter_count(folder: Path, part: str = "*") -> int:
    """How many parameters the safetensors files of a pipeline folder, or of one part, hold: read from their headers."""
    from math import prod

    from safetensors import safe_open

    variant = weights_variant(folder)
    total = 0
    for file in folder.glob(f"{part}/*.safetensors"):
        if variant and variant not in file.name:
            continue
        with safe_open(file, framework="pt") as tensors:
            total += sum(prod(tensors.get_slice(key).get_shape()) for key in tensors.keys())  # noqa: SIM118
    return total
