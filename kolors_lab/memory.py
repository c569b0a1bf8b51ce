"""What a training takes in memory, and the ways to take less."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .models import GIB, pipeline_path, quantization, weights_variant

if TYPE_CHECKING:
    import torch
    from diffusers import UNet2DConditionModel

    from .models import Preset

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


def load_quantized_unet(preset: Preset, bits: int, dtype: torch.dtype) -> UNet2DConditionModel:
    """The preset's UNet on the card, its linear layers in 4 or 8 bits, computing in `dtype`."""
    from diffusers import UNet2DConditionModel

    config, folder = quantization(bits, dtype, "diffusers"), pipeline_path(preset)
    options = {"subfolder": "unet", "variant": weights_variant(folder), "use_safetensors": True, "torch_dtype": dtype}
    return UNet2DConditionModel.from_pretrained(folder, quantization_config=config, **options)


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
