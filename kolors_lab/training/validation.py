"""Is it trained enough? The loss on held-out pictures, pictures on the way, and an end when nothing gets better.

The loss of training jumps with the noise that each step draws. Here noise and timesteps are the same each time, so that
two looks differ by what was learned in between, and by nothing else.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kolors_lab.core.errors import SettingError, check_number
from kolors_lab.dataset.sets import DataConfig
from kolors_lab.sampling.metadata import write_picture
from kolors_lab.training.latent_cache import encode, encode_captions, read_caption

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch
    from diffusers import KolorsPipeline

    from kolors_lab.dataset.folder import Example
    from kolors_lab.models.presets import Preset
    from kolors_lab.training.latent_cache import Encoded
    from kolors_lab.training.loop import Training

SEED, TIMESTEPS = 20240809, 8  # of the noise; for each held-out picture, evenly spread


@dataclass(frozen=True)
class ValidationConfig(DataConfig):
    """How a training is watched.

    Args:
        validate_every: steps between looks at the held-out pictures, if there are any
        patience: end after so many looks without a better one; 0: go on to the last step
        keep_best: save the weights of the best look, not the last ones
        sample_every: steps between pictures drawn on the way, into the run's samples; 0: none
        sample_prompts: what they show; none: the captions of the first two pictures
    """

    validate_every: int = 20
    patience: int = 0
    keep_best: bool = True
    sample_every: int = 0
    sample_prompts: tuple[str, ...] = ()

    def __post_init__(self):
        DataConfig.__post_init__(self)
        check_number("validate_every", self.validate_every, 1, whole=True)
        check_number("patience", self.patience, 0, whole=True)
        check_number("sample_every", self.sample_every, 0, whole=True)
        if self.patience and not self.held_out:
            raise SettingError(f"patience = {self.patience}: needs held-out pictures to look at, such as held_out 0.1")


def validation_loss(training: Training, held: Encoded, loss: Callable[..., torch.Tensor]) -> float:
    """The mean of `loss`, train.loss, over all held-out pictures at eight timesteps each, of the same noise always."""
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
class Watcher:
    """Called after each step of a training; True ends it. Figures go into the step's row of metrics."""

    loss: Callable[..., torch.Tensor]  # train.loss
    held: Encoded | None = None
    samples: Samples | None = None
    best: float = float("inf")
    best_step: int = 0
    waited: int = 0  # looks since then
    weights: list[torch.Tensor] = field(default_factory=list)  # of then

    def __call__(self, training: Training, row: dict[str, float]) -> bool:
        config, step = training.config, training.step
        last, ended = step == config.steps, False
        if self.samples and training.processes.is_main_process and (step % config.sample_every == 0 or last):
            with _looking(training):
                self.samples.draw(step)
        if self.held and (step % config.validate_every == 0 or last):
            with _looking(training):
                row["validation_loss"] = value = validation_loss(training, self.held, self.loss)
                self.judge(value, step, [weight.detach().clone() for weight in training.weights])
            ended = bool(config.patience) and self.waited >= config.patience
        if config.keep_best and self.weights and (ended or last):
            restore(training, self.weights)
        return ended

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


class Samples:
    """Pictures of the same prompts and seeds again and again, `samples/step-000100_0.png` in the run's folder."""

    def __init__(self, pipe: KolorsPipeline, prompts: tuple[str, ...], preset: Preset, folder: Path, device: Any):
        """Encodes the prompts, so that the text encoder may be freed after."""
        self.pipe, self.prompts, self.preset, self.folder, self.device = pipe, prompts, preset, folder, device
        self.files = encode_captions(pipe, [*prompts, ""], device)

    def draw(self, step: int) -> list[Path]:
        """Draw all of them with the UNet as it is."""
        import torch

        pipe, drawn = self.pipe, []
        home, dtype = pipe.vae.device, pipe.vae.dtype
        pipe.vae.to(self.device, torch.float32)
        names = ("prompt_embeds", "pooled_prompt_embeds")
        nothing = dict(zip((f"negative_{n}" for n in names), read_caption(self.files[""], self.device), strict=True))
        for number, prompt in enumerate(self.prompts):
            told = dict(zip(names, read_caption(self.files[prompt], self.device), strict=True))
            settings = {"seed": number, "steps": self.preset.steps, "cfg": self.preset.cfg}
            with torch.autocast(self.device.type, pipe.unet.dtype, enabled=pipe.unet.dtype != torch.float32):
                image = pipe(
                    **told, **nothing, num_inference_steps=settings["steps"], guidance_scale=settings["cfg"],
                    width=self.preset.size, height=self.preset.size, generator=torch.Generator().manual_seed(number),
                ).images[0]  # fmt: skip
            file = self.folder / f"step-{step:06d}_{number}.png"
            drawn.append(write_picture(image, file, {"model": self.preset.name, "prompt": prompt, **settings}))
        torch.nn.Module.to(pipe.vae, home, dtype)
        return drawn


def watch(
    pipe: KolorsPipeline,
    examples: list[Example],
    held: list[Example],
    config: ValidationConfig,
    preset: Preset,
    folder: Path,
    device: torch.device,
    loss: Callable[..., torch.Tensor],
) -> Watcher | None:
    """The watcher that the config asks for, if any; made while the pipeline still has its text encoder."""
    prompts = config.sample_prompts or tuple(example.text for example in examples[:2])
    samples = Samples(pipe, prompts, preset, folder / "samples", device) if config.sample_every else None
    seen = encode(pipe, held, preset.size, device, config=config.plain()) if held else None
    return Watcher(loss, seen, samples) if seen or samples else None
