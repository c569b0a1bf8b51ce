"""Full fine-tuning: every weight of the UNet learns. Saved as a UNet folder, and as the LoRA that comes nearest to it.

What was learned is one matrix for each layer, weights after less weights before. Its strongest directions, by singular
value decomposition, are a LoRA of any rank; biases and norms, which a LoRA cannot hold, stay behind.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kolors_lab.lora.layers import Layer, Lora
from kolors_lab.lora.writing import write_lora
from kolors_lab.models.memory import set_checkpointing
from kolors_lab.training.learner import Learner, save_folder

if TYPE_CHECKING:
    import torch
    from diffusers import KolorsPipeline, UNet2DConditionModel

    from kolors_lab.training.config import TrainConfig

EXTRA = 16  # directions beyond those wanted that the randomised decomposition looks at, to find these more exactly


class Whole(Learner):
    """A UNet that learns with all its weights, and what they were before, in main memory."""

    def __init__(self, unet: UNet2DConditionModel, rank: int):
        super().__init__(unet)
        self.rank, self.dtype = rank, unet.dtype
        self.before = {name: weight.detach().cpu().clone() for name, weight in unet.state_dict().items()}


def begin(pipe: KolorsPipeline, config: TrainConfig) -> Whole:
    """The pipeline's UNet in float32, every weight of it to learn."""
    model = Whole(pipe.unet, config.rank)
    pipe.unet.float().requires_grad_(True)
    set_checkpointing(pipe.unet, config.gradient_checkpointing)
    return model.train()


def write(model: Whole, file: Path, header: dict[str, str]) -> Path:
    """A checkpoint is a LoRA; the end is a folder `unet` of diffusers, with the LoRA as lora.safetensors beside it."""
    lora = difference(model.before, model.unet.state_dict(), model.rank, header)
    if file.suffix:
        return write_lora(lora, file)
    write_lora(lora, file.with_name("lora.safetensors"))
    return save_folder(model.unet, file)


def end(pipe: KolorsPipeline, model: Whole | None) -> None:
    """Give the UNet back the very bits that it had."""
    if model is None:  # it never began
        return
    pipe.unet.requires_grad_(False).to(model.dtype)
    pipe.unet.load_state_dict(model.before)


def difference(
    before: dict[str, torch.Tensor], after: dict[str, torch.Tensor], rank: int, header: dict[str, str] | None = None
) -> Lora:
    """The LoRA of at most `rank` that comes nearest, in squares, to the way from one state of a UNet to another.

    Both are state dicts of one model. Layers that did not change are left out.
    """
    layers = {}
    for name, new in after.items():
        change = new.detach().cpu().float() - before[name].float()
        if name.endswith(".weight") and change.ndim > 1 and change.any():
            layers[name.removesuffix(".weight")] = strongest(change, rank)
    return Lora(layers, dict(header or {}))


def strongest(change: torch.Tensor, rank: int) -> Layer:
    """A matrix, or a convolution's kernel, as a LoRA layer of its `rank` strongest directions, or as many as it has.

    By randomised SVD, https://arxiv.org/abs/0909.4061; equal calls give equal layers.
    """
    import torch

    flat = change.flatten(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        u, s, v = torch.svd_lowrank(flat, q=min(rank + EXTRA, *flat.shape), niter=4)
    rank = min(rank, len(s))
    root = s[:rank].sqrt()
    down, up = (v[:, :rank] * root).T, u[:, :rank] * root
    ones = (1,) * (change.ndim - 2)
    return Layer(
        down.reshape(rank, *change.shape[1:]).contiguous(), up.reshape(*up.shape, *ones).contiguous(), float(rank)
    )
