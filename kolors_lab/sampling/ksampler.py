"""KSampler: how noise becomes a picture. Noise levels (sigmas), samplers, and the model as a denoiser.

In the manner of k-diffusion: a picture with noise is x = picture + sigma · noise, a denoiser tells from x and sigma
what the picture is, a scheduler says at which sigmas to ask it, a sampler how to go from each to the next. Every
sampler goes with every scheduler; their names and figures are ComfyUI's.

    denoiser = Guided(pipe, encode_prompt(pipe, "白马"), encode_prompt(pipe, ""), cfg=4.0, size=(128, 128))
    settings = KSampler(steps=20, sampler_name="dpmpp_2m", scheduler="karras")
    latents = run_ksampler(denoiser, settings, torch.zeros(1, 4, 16, 16), Noise([settings.seed], (4, 16, 16)))

References: Karras et al. 2022 https://arxiv.org/abs/2206.00364 · https://github.com/crowsonkb/k-diffusion · ComfyUI.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, TypeVar

from kolors_lab.core.errors import SettingError
from kolors_lab.core.fields import OneOf, Range, check_fields
from kolors_lab.sampling.denoiser import Guided
from kolors_lab.sampling.samplers import SAMPLERS
from kolors_lab.sampling.schedules import SCHEDULERS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch

    from kolors_lab.models.presets import Preset
    from kolors_lab.sampling.samplers import Denoiser

MAX_SEED = 2**64 - 1  # ComfyUI's
CONTROLS = ("fixed", "increment", "decrement", "randomize")
ONE_LESS = ("dpm_2", "dpm_2_ancestral", "uni_pc", "uni_pc_bh2")  # ComfyUI leaves out their last sigma before 0
Self = TypeVar("Self", bound="KSampler")


@dataclass(frozen=True)
class KSampler:
    """How a picture is drawn: the settings of ComfyUI's KSampler and of its empty latent image.

    Args:
        seed: equal seeds give equal pictures
        control_after_generate: the seed of the next picture: fixed, increment, decrement or randomize
        steps: sampling steps; none: the preset's
        cfg: how closely to follow the prompt (1: no guidance); none: the preset's
        sampler_name: how to go from one noise level to the next: euler, dpmpp_2m, uni_pc, …
        scheduler: at which noise levels to ask the model: leading (diffusers' for Kolors), karras, simple, …
        denoise: how much of a given picture is drawn anew: 1 all, 0.5 from half-way, 0 nothing
        width: in pixels, a multiple of 8 (1000 is one, 1001 is not); none: the preset's size
        height: in pixels, a multiple of 8; none: the preset's size
        batch: pictures drawn at once, from one noise
    """

    seed: Annotated[int, Range(0, MAX_SEED)] = 0
    control_after_generate: Annotated[str, OneOf(CONTROLS)] = "fixed"
    steps: Annotated[int | None, Range(1, 1000)] = None
    cfg: Annotated[float | None, Range(0, 100)] = None
    sampler_name: Annotated[str, OneOf(SAMPLERS)] = "euler"
    scheduler: Annotated[str, OneOf(SCHEDULERS)] = "leading"
    denoise: Annotated[float, Range(0, 1)] = 1.0
    width: Annotated[int | None, Range(64, 4096)] = None
    height: Annotated[int | None, Range(64, 4096)] = None
    batch: Annotated[int, Range(1, 64)] = 1

    def __post_init__(self):
        check_fields(self)
        for field in ("width", "height"):
            value = getattr(self, field)
            if value is not None and value % 8:
                near = value // 8 * 8
                raise SettingError(
                    "{field} = {value}: must be a multiple of 8, such as {low} or {high}",
                    field=field,
                    value=value,
                    low=near,
                    high=near + 8,
                )

    def resolve(self: Self, preset: Preset) -> Self:
        """The same with the preset's values where it says None."""
        return replace(
            self,
            steps=preset.steps if self.steps is None else self.steps,
            cfg=preset.cfg if self.cfg is None else self.cfg,
            width=self.width or preset.size,
            height=self.height or preset.size,
        )

    def next_seed(self) -> int:
        """The seed for the next picture, as control_after_generate says."""
        moves = {"fixed": self.seed, "increment": self.seed + 1, "decrement": self.seed - 1}
        chosen = moves.get(self.control_after_generate)
        return random.SystemRandom().randint(0, MAX_SEED) if chosen is None else chosen % (MAX_SEED + 1)


def scaled(side: int, factor: float) -> int:
    """The side of a picture, in px, drawn `factor` times as large: the nearest multiple of 8."""
    return round(side * factor / 8) * 8


def get_sigmas(
    model: torch.Tensor,
    settings: KSampler,
    start_at_step: int = 0,
    end_at_step: int | None = None,
    leftover: bool = False,
) -> list[float]:
    """The sigmas that a KSampler, or a KSamplerAdvanced with these steps, goes through; none where it does nothing.

    With denoise < 1, as in ComfyUI, int(steps / denoise) are laid out and the last `steps` of them run. `leftover`
    keeps the noise that an early end leaves; without it the last step goes all the way to the picture.
    """
    if settings.denoise <= 0:
        return []
    whole = settings.denoise > 0.9999
    steps = settings.steps if whole else int(settings.steps / settings.denoise)
    one_less = settings.sampler_name in ONE_LESS
    sigmas = SCHEDULERS[settings.scheduler](steps + one_less, model)
    sigmas = [*(sigmas[:-1] if one_less else sigmas), 0.0]
    if not whole:
        sigmas = sigmas[-settings.steps - 1 :]
    if end_at_step is not None and end_at_step < len(sigmas) - 1:
        sigmas = sigmas[: end_at_step + 1]
        sigmas[-1] = sigmas[-1] if leftover else 0.0
    return sigmas[start_at_step:] if start_at_step < len(sigmas) - 1 else []


def sample(
    denoiser: Denoiser,
    latents: torch.Tensor,
    noise: Callable[[], torch.Tensor],
    sigmas: Sequence[float],
    sampler_name: str = "euler",
    callback: Callable[[int, torch.Tensor, torch.Tensor], None] | None = None,
    *,
    add_noise: bool = True,
    afresh: bool = False,
) -> torch.Tensor:
    """Take latents (B, 4, h, w), noise added to the first sigma, down to the last; float32, on the latents' device.

    `afresh`: the first sigma stands for nothing but noise, which is sqrt(1 + sigma²) strong then, else sigma.
    `callback(i, x, denoised)` hears of every step and may end the run by raising.
    """
    import torch

    if len(sigmas) < 2:
        return latents
    first = noise()  # drawn also where it is not added, so that what follows is the same
    if add_noise:
        strength = float((torch.tensor(sigmas[0]) ** 2 + 1) ** 0.5) if afresh else sigmas[0]
        latents = latents + first.to(latents) * strength
    with torch.no_grad():
        return SAMPLERS[sampler_name](
            denoiser, latents, sigmas, callback or (lambda *step: None), lambda: noise().to(latents)
        )


def run_ksampler(
    denoiser: Guided,
    settings: KSampler,
    latents: torch.Tensor,
    noise: Callable[[], torch.Tensor],
    callback: Callable[[int, torch.Tensor, torch.Tensor], None] | None = None,
    *,
    add_noise: bool = True,
    start_at_step: int = 0,
    end_at_step: int | None = None,
    leftover: bool = False,
) -> torch.Tensor:
    """What ComfyUI's KSampler and KSamplerAdvanced do, on latents in the model's scale (zeros: an empty picture).

    A start at the model's largest sigma is afresh, as in ComfyUI; with `leading`, as in diffusers, any first step is.
    """
    sigmas = get_sigmas(denoiser.sigmas, settings, start_at_step, end_at_step, leftover)
    whole = start_at_step == 0 and settings.denoise > 0.9999
    afresh = bool(sigmas) and (
        sigmas[0] > denoiser.sigmas[-1].item() * (1 - 1e-5) or (whole and settings.scheduler == "leading")
    )
    name = settings.sampler_name
    return sample(
        denoiser, latents.to(denoiser.device), noise, sigmas, name, callback, add_noise=add_noise, afresh=afresh
    )
