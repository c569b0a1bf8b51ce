"""Ways to teach a model: what learns, what is written of it, how the pipeline is given back. A new way is one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kolors_lab.lora.adapter import add_lora, save_lora, unload_lora
from kolors_lab.models.memory import set_checkpointing
from kolors_lab.training import control, full

if TYPE_CHECKING:
    from diffusers import KolorsPipeline, UNet2DConditionModel

    from kolors_lab.training.config import TrainConfig


class Method(NamedTuple):
    """A way to teach a model."""

    result: str  # what lies in the run's folder at the end
    rate: float  # the learning rate at its peak, in multiples of a LoRA's
    begin: Callable[[KolorsPipeline, TrainConfig], Any]  # the model: a UNet, or a Learner
    write: Callable[[Any, Path, dict[str, str]], Path]  # the result, or a checkpoint, step-000100.safetensors
    end: Callable[[KolorsPipeline, Any], None]  # gives the pipeline back as it was


def with_lora(pipe: KolorsPipeline, config: TrainConfig) -> UNet2DConditionModel:
    """The pipeline's UNet, ready to train its LoRA."""
    add_lora(
        pipe.unet, config.rank, config.alpha, config.target_modules, config.seed, dropout=config.dropout,
        use_rslora=config.use_rslora, use_dora=config.use_dora, start=config.init_lora,
    )  # fmt: skip
    set_checkpointing(pipe.unet, config.gradient_checkpointing)
    return pipe.unet.train()


METHODS = {
    "lora": Method("lora.safetensors", 1.0, with_lora, save_lora, lambda pipe, unet: unload_lora(pipe)),
    "controlnet": Method("controlnet", 0.1, control.begin, control.write, control.end),
    "full": Method("unet", 0.05, full.begin, full.write, full.end),
}
