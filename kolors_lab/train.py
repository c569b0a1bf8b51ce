"""Train a LoRA on Kolors' UNet from pictures with captions.

The plain good path: pictures and captions are encoded once, the text encoder is freed, then AdamW with a cosine
schedule learns to predict the noise, weighted by min-SNR.

    kolors-lab train --preset tiny --data FOLDER --out runs/train

References: LoRA https://arxiv.org/abs/2106.09685 · SDXL's size and crop conditioning https://arxiv.org/abs/2307.01952
· min-SNR weighting https://arxiv.org/abs/2303.09556 · the loss of diffusers' train_text_to_image_lora_sdxl.py.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from .encoding import encode
from .errors import DataError, ModelError, SettingError, check_number
from .files import writing
from .lora import add_lora, save_lora, unload_lora
from .models import get_preset, load_pipeline, pick_device, pick_dtype, place
from .sets import DataConfig, read_sets
from .steps import write_config

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from diffusers import DDPMScheduler, KolorsPipeline, UNet2DConditionModel

    from .dataset import Example
    from .encoding import Encoded
    from .models import Preset


@dataclass(frozen=True)
class TrainConfig(DataConfig):
    """Training a LoRA.

    Args:
        preset: tiny, kolors, or a folder that holds a KolorsPipeline
        out: the folder for lora.safetensors, config.json and metrics.jsonl
        steps: training steps; none: the preset's
        seed: equal seeds give equal LoRAs
        rank: the LoRA's size; about 16 for a style, about 4 for a subject
        alpha: the LoRA's effect is scaled by alpha / rank
        batch_size: pictures per step; none: the preset's
        learning_rate: at its peak; none: the preset's
        lr_warmup_steps: steps that the learning rate rises before it falls along a cosine
        snr_gamma: upper limit of min-SNR weighting; none: every timestep weighs the same
        target_modules: ends of the names of the layers that learn; none: the preset's
    """

    preset: str = "tiny"
    out: str = "runs/train"
    steps: int | None = None
    seed: int = 0
    rank: int = 16
    alpha: float = 16.0
    batch_size: int | None = None
    learning_rate: float | None = None
    lr_warmup_steps: int = 10
    snr_gamma: float | None = 5.0
    target_modules: tuple[str, ...] | None = None

    def __post_init__(self):
        DataConfig.__post_init__(self)
        check_number("seed", self.seed, 0, 2**63 - 1, whole=True)
        check_number("rank", self.rank, 1, 1024, whole=True)
        check_number("alpha", self.alpha, 1e-6, 1024)
        check_number("lr_warmup_steps", self.lr_warmup_steps, 0, whole=True)
        for field, low, whole in (
            ("steps", 1, True), ("batch_size", 1, True), ("learning_rate", 1e-9, False), ("snr_gamma", 1e-3, False)
        ):  # fmt: skip
            if getattr(self, field) is not None:
                check_number(field, getattr(self, field), low, whole=whole)
        if self.target_modules is not None and not self.target_modules:
            raise SettingError("target_modules = (): must name at least one layer, such as to_q")


def resolve(config: TrainConfig, preset: Preset) -> TrainConfig:
    """The config with the preset's values where it says None."""
    return replace(
        config,
        steps=config.steps or preset.train_steps,
        batch_size=config.batch_size or preset.batch_size,
        learning_rate=config.learning_rate or preset.learning_rate,
        target_modules=tuple(config.target_modules or preset.target_modules),
    )


def train(
    config: TrainConfig,
    pipe: KolorsPipeline | None = None,
    on_step: Callable[[int, int, float], None] | None = None,
    on_encode: Callable[[int, int], None] | None = None,
) -> Path:
    """Train a LoRA; return `out/lora.safetensors`. A pipeline that is passed in is given back without the LoRA.

    `on_encode(done, total)` is called while pictures and captions are encoded, `on_step(step, total, loss)` after
    each training step. Raises DataError for a set that cannot be used or a folder that holds a LoRA already,
    ModelError for a loss that is not finite; nothing is saved then.
    """
    preset = get_preset(config.preset)
    config = resolve(config, preset)
    out = Path(config.out)
    if (out / "lora.safetensors").exists():
        raise DataError(f"{out} already holds a lora.safetensors; choose another folder or move it away")
    examples, _ = read_sets(config)
    write_config(out / "config.json", config)

    device = pick_device()
    borrowed = pipe is not None
    if borrowed:
        unload_lora(pipe)
        pipe.remove_all_hooks()
        pipe.to("cpu")
    else:
        pipe = load_pipeline(preset, "cpu", pick_dtype(device))
    try:
        data = encode(pipe, examples, preset.size, device, on_encode, config)
        if not borrowed:
            pipe.text_encoder = None  # 12.5 GB of Kolors' 17.7
        add_lora(pipe.unet, config.rank, config.alpha, config.target_modules, config.seed)
        fit(pipe, data, config, device, preset.gradient_checkpointing, on_step)
        return save_lora(pipe.unet, out / "lora.safetensors", _header(config, preset, examples))
    finally:
        if borrowed:
            unload_lora(pipe)
            place(pipe, device)


def _header(config: TrainConfig, preset: Preset, examples: list[Example]) -> dict[str, str]:
    """What the LoRA file says about itself. Paths stay out: the file is made to be shared."""
    settings = {
        key: value for key, value in asdict(config).items() if key not in ("preset", "data", "more_data", "out")
    }
    used = any(config.trigger_word in example.text for example in examples)
    return {
        "base_model": preset.name if Path(preset.model).is_dir() else preset.model,
        "trigger_word": config.trigger_word if used else "",
        "examples": str(len(examples)),
        "settings": json.dumps(settings, ensure_ascii=False, sort_keys=True),
    }


def fit(
    pipe: KolorsPipeline,
    data: Encoded,
    config: TrainConfig,
    device: torch.device,
    gradient_checkpointing: bool = False,
    on_step: Callable[[int, int, float], None] | None = None,
) -> None:
    """Train the LoRA that is on `pipe.unet`; `config` has no None but snr_gamma. One line of metrics.jsonl per step."""
    import torch
    from diffusers import DDPMScheduler
    from diffusers.optimization import get_scheduler

    unet = pipe.unet.to(device).train()
    if gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    weights = [parameter for parameter in unet.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=config.learning_rate)
    schedule = get_scheduler(
        "cosine", optimizer, num_warmup_steps=config.lr_warmup_steps, num_training_steps=config.steps
    )
    scaler = torch.amp.GradScaler(device.type, enabled=unet.dtype == torch.float16)
    noise_scheduler = DDPMScheduler.from_config(pipe.scheduler.config)  # Kolors' own betas, 1100 steps of them
    generator = torch.Generator().manual_seed(config.seed)
    start, metrics = time.monotonic(), Path(config.out, "metrics.jsonl")
    with writing(metrics), metrics.open("w", encoding="utf-8", buffering=1) as log:
        for step, index in enumerate(data.batches([config.batch_size] * config.steps, generator), 1):
            batch = data.batch(index, device)
            noise, timesteps = draw(batch["latents"].shape, len(noise_scheduler), generator, device)
            with torch.autocast(device.type, unet.dtype, enabled=device.type == "cuda"):
                value = loss(unet, noise_scheduler, batch, noise, timesteps, config.snr_gamma)
            rate = schedule.get_last_lr()[0]
            update(value, weights, optimizer, schedule, scaler)
            row = {"step": step, "loss": value.item(), "learning_rate": rate, "seconds": time.monotonic() - start}
            if not math.isfinite(row["loss"]):
                raise ModelError(f"the loss at step {step} is {row['loss']}: nothing saved; try a lower learning_rate")
            log.write(json.dumps(row) + "\n")
            if on_step:
                on_step(step, config.steps, row["loss"])
    unet.eval()
    unet.disable_gradient_checkpointing()


def draw(
    shape: torch.Size, num_timesteps: int, generator: torch.Generator, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise of `shape` and a timestep of its own for each example, (B,); drawn on the CPU, so equal on every device."""
    import torch

    noise = torch.randn(shape, generator=generator)
    timesteps = torch.randint(num_timesteps, shape[:1], generator=generator)
    return noise.to(device), timesteps.to(device)


def loss(
    unet: UNet2DConditionModel,
    noise_scheduler: DDPMScheduler,
    batch: dict[str, torch.Tensor],
    noise: torch.Tensor,
    timesteps: torch.Tensor,
    snr_gamma: float | None = 5.0,
) -> torch.Tensor:
    """Mean squared error, a scalar, of the predicted noise; an example counts by its weight x min(SNR, gamma) / SNR.

    `batch` as Encoded.batch gives it; noise (B, 4, h, w); timesteps (B,) in 0..1099.
    """
    from diffusers.training_utils import compute_snr

    noisy = noise_scheduler.add_noise(batch["latents"], noise, timesteps)
    conditions = {"text_embeds": batch["pooled"], "time_ids": batch["time_ids"]}
    predicted = unet(noisy.to(unet.dtype), timesteps, batch["prompt_embeds"], added_cond_kwargs=conditions).sample
    error = (predicted.float() - noise).square().mean(dim=(1, 2, 3))
    if snr_gamma is not None:
        snr = compute_snr(noise_scheduler, timesteps)
        error = error * snr.clamp(max=snr_gamma) / snr
    return (error * batch["weight"]).mean()


def update(
    value: torch.Tensor,
    weights: list[torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    scaler: torch.amp.GradScaler,
) -> None:
    """One step down the gradient, which is cut to a norm of 1; the scaler does nothing but in float16."""
    import torch

    scaler.scale(value).backward()
    scaler.unscale_(optimizer)
    torch.nn.utils.clip_grad_norm_(weights, 1.0)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad()
    schedule.step()
