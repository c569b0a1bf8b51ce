"""Is it trained enough? The loss on held-out pictures, pictures on the way, and an end when nothing gets better.

The loss of training jumps with the noise that each step draws. Here noise and timesteps are the same each time, so that
two looks differ by what was learned in between, and by nothing else.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kolors_lab.sampling.ksampler import KSampler
from kolors_lab.sampling.metadata import write_picture
from kolors_lab.sampling.pipeline import generate_batch
from kolors_lab.training.callbacks import Callback
from kolors_lab.training.loss import loss
from kolors_lab.training.processes import from_main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch
    from diffusers import KolorsPipeline

    from kolors_lab.dataset.folder import Example
    from kolors_lab.models.presets import Preset
    from kolors_lab.training.config import TrainConfig
    from kolors_lab.training.latent_cache import Encoded
    from kolors_lab.training.loop import Training

SEED, TIMESTEPS = 20240809, 8  # of the noise; for each held-out picture, evenly spread


def validation_loss(training: Training, held: Encoded, loss: Callable[..., torch.Tensor] = loss) -> float:
    """The mean of `loss` over all held-out pictures at eight timesteps each, of the same noise always."""
    import torch

    scheduler, config, device = training.noise_scheduler, training.config, training.device
    generator, values = torch.Generator().manual_seed(SEED), []
    timesteps = ((torch.arange(TIMESTEPS) + 0.5) * len(scheduler) / TIMESTEPS).long()
    for number in range(len(held)):  # one at a time: they may differ in shape
        for part in timesteps.split(config.batch_size):
            batch = held.batch(torch.full_like(part, number), device)
            noise = torch.randn(batch["latents"].shape, generator=generator).to(device)
            with torch.autocast(device.type, training.dtype, enabled=training.dtype != torch.float32):
                value = loss(training.unet, scheduler, batch, noise, part.to(device), config.snr_gamma)
            values += [value.item()] * len(part)
    return sum(values) / len(values)


@dataclass
class Watcher(Callback):
    """Looks at held-out pictures every so many steps, ends the training where they get no better, keeps the best."""

    loss: Callable[..., torch.Tensor] = loss
    held: Encoded | None = None
    best: float = float("inf")
    best_step: int = 0
    waited: int = 0  # looks since then
    weights: list[torch.Tensor] = field(default_factory=list)  # of then

    everywhere = True  # each process restores its own weights; what it decides by is the main one's loss

    def on_step(self, training: Training, row: dict[str, float]) -> None:
        config, step = training.config, training.step
        if step % config.validate_every and step != config.steps:
            return
        with _looking(training):
            value = validation_loss(training, self.held, self.loss)
            row["validation_loss"] = value = from_main(training.processes, value)
            self.judge(value, step, [weight.detach().clone() for weight in training.weights])
        training.ended = training.ended or 0 < config.patience <= self.waited

    def on_end(self, training: Training) -> None:
        if training.config.keep_best and self.weights:
            restore(training, self.weights)

    def judge(self, value: float, step: int, weights: list[torch.Tensor]) -> None:
        """Take note of a look; NaN is never better."""
        self.waited += 1
        if value < self.best:
            self.best, self.best_step, self.waited, self.weights = value, step, 0, weights

    def state_dict(self) -> dict[str, Any]:
        names = ("best", "best_step", "waited", "weights")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)


@contextlib.contextmanager
def _looking(training: Training) -> Iterator[None]:
    """The UNet as it would be saved: averaged, without dropout, without gradients."""
    import torch

    training.unet.eval()
    try:
        with torch.no_grad(), training.averaged():
            yield
    finally:
        training.unet.train()


def restore(training: Training, weights: list[torch.Tensor]) -> None:
    """Put the weights, and the moving average if there is one, back to what they were."""
    import torch

    averages = training.ema.shadow_params if training.ema else training.weights
    with torch.no_grad():
        for weight, average, kept in zip(training.weights, averages, weights, strict=True):
            weight.copy_(kept)
            average.copy_(kept)


class Samples(Callback):
    """Pictures of the same prompts and seeds again and again, `samples/step-000100_0.png` in the run's folder."""

    def __init__(self, pipe: KolorsPipeline, prompts: tuple[str, ...], preset: Preset, folder: Path, device: Any):
        """`encode_text` knows the prompts, and the empty one, already: the text encoder may be gone."""
        self.pipe, self.prompts, self.folder, self.device, self.model = pipe, prompts, folder, device, preset.name
        self.settings = [KSampler(seed=seed).resolve(preset) for seed in range(len(prompts))]

    def on_step(self, training: Training, row: dict[str, float]) -> None:
        if training.step % training.config.sample_every == 0 or training.step == training.config.steps:
            with _looking(training):
                self.draw(training.step)

    def draw(self, step: int) -> list[Path]:
        """Draw all of them with the UNet as it is, as `generate` draws: the VAE computes in float32 where it must."""
        import torch

        pipe, drawn = self.pipe, []
        encoder, home, dtype = pipe.text_encoder, pipe.vae.device, pipe.vae.dtype
        pipe.text_encoder = None  # its texts are known; on the CPU it would make the pipeline take that for its place
        pipe.vae.to(self.device)
        try:
            for one, prompt in zip(self.settings, self.prompts, strict=True):
                (image,) = generate_batch(pipe, [prompt], [""], [one], prompt_syntax="plain")
                told = {"model": self.model, "prompt": prompt, "seed": one.seed, "steps": one.steps, "cfg": one.cfg}
                drawn.append(write_picture(image, self.folder / f"step-{step:06d}_{one.seed}.png", told))
        finally:
            pipe.text_encoder = encoder
            torch.nn.Module.to(pipe.vae, home, dtype)  # not diffusers' own, which warns of half precision on a CPU
        return drawn


def sample_prompts(config: TrainConfig, examples: list[Example]) -> tuple[str, ...]:
    """The prompts of the pictures on the way; none where none are drawn."""
    given = config.sample_prompts or tuple(example.text for example in examples[:2])
    return given if config.sample_every else ()


def watch(
    pipe: KolorsPipeline,
    prompts: tuple[str, ...],
    held: Encoded,
    preset: Preset,
    folder: Path,
    device: torch.device,
) -> list[Callback]:
    """The callbacks for the prompts of pictures on the way and for held-out pictures, where there are any."""
    samples = [Samples(pipe, prompts, preset, folder / "samples", device)] if prompts else []
    return [*samples, *([Watcher(held=held)] if len(held) else [])]
