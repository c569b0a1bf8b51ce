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

import math
import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from .errors import SettingError, check_name, check_number
from .samplers import SAMPLERS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch
    from diffusers import KolorsPipeline

    from .models import Preset
    from .samplers import Denoiser

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

    seed: int = 0
    control_after_generate: str = "fixed"
    steps: int | None = None
    cfg: float | None = None
    sampler_name: str = "euler"
    scheduler: str = "leading"
    denoise: float = 1.0
    width: int | None = None
    height: int | None = None
    batch: int = 1

    def __post_init__(self):
        check_number("seed", self.seed, 0, MAX_SEED, whole=True)
        check_number("denoise", self.denoise, 0, 1)
        check_number("batch", self.batch, 1, 64, whole=True)
        check_name("control_after_generate", self.control_after_generate, CONTROLS)
        check_name("sampler_name", self.sampler_name, SAMPLERS)
        check_name("scheduler", self.scheduler, SCHEDULERS)
        if self.steps is not None:
            check_number("steps", self.steps, 1, 1000, whole=True)
        if self.cfg is not None:
            check_number("cfg", self.cfg, 0, 100)
        for field in ("width", "height"):
            if (value := getattr(self, field)) is not None:
                check_number(field, value, 64, 4096, whole=True)
                if value % 8:
                    near = value // 8 * 8
                    raise SettingError(f"{field} = {value}: must be a multiple of 8, such as {near} or {near + 8}")

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


def model_sigmas(pipe: KolorsPipeline) -> torch.Tensor:
    """The model's noise levels, (training steps,), from 0.03 up to 29 for Kolors: sqrt((1 - ᾱ) / ᾱ)."""
    kept = pipe.scheduler.alphas_cumprod
    return ((1 - kept) / kept) ** 0.5


def _at(sigmas: torch.Tensor, times: Sequence[float]) -> list[float]:
    """Sigmas at training steps that need not be whole: between two of them log sigma goes straight."""
    import numpy as np

    return np.exp(np.interp(times, range(len(sigmas)), np.log(sigmas.numpy()))).tolist()


def leading(steps: int, sigmas: torch.Tensor) -> list[float]:
    """Every (training steps // steps)-th sigma from the second on: what diffusers does for Kolors."""
    stride = len(sigmas) // steps
    return [sigmas[min(i * stride + 1, len(sigmas) - 1)].item() for i in reversed(range(steps))]


def simple(steps: int, sigmas: torch.Tensor) -> list[float]:
    """Evenly many training steps apart, from the last one down."""
    return [sigmas[-1 - int(i * (len(sigmas) / steps))].item() for i in range(steps)]


def sgm_uniform(steps: int, sigmas: torch.Tensor) -> list[float]:
    """Evenly spaced in training steps, without the lowest: `normal` of one step more, cut."""
    return normal(steps + 1, sigmas)[:-1]


def karras(steps: int, sigmas: torch.Tensor, rho: float = 7.0) -> list[float]:
    """Evenly spaced in sigma^(1/rho): ever smaller steps near the picture. Equation 5 of Karras et al. 2022."""
    low, high = sigmas[0].item() ** (1 / rho), sigmas[-1].item() ** (1 / rho)
    return [(high + _part(i, steps) * (low - high)) ** rho for i in range(steps)]


def exponential(steps: int, sigmas: torch.Tensor) -> list[float]:
    """Evenly spaced in log sigma."""
    low, high = sigmas[0].log().item(), sigmas[-1].log().item()
    return [math.exp(high + _part(i, steps) * (low - high)) for i in range(steps)]


def ddim_uniform(steps: int, sigmas: torch.Tensor) -> list[float]:
    """Every (training steps // steps)-th sigma from the second up to the end: more steps than asked where that leaves
    a rest, as ComfyUI does (29 for 28)."""
    return sigmas[1 :: max(len(sigmas) // steps, 1)].flip(0).tolist()


def beta(steps: int, sigmas: torch.Tensor, a: float = 0.6, b: float = 0.6) -> list[float]:
    """Dense at both ends: training steps at the quantiles of a beta distribution. https://arxiv.org/abs/2407.12173"""
    import numpy as np
    from scipy.stats import beta as distribution

    times = np.rint(distribution.ppf(1 - np.linspace(0, 1, steps, endpoint=False), a, b) * (len(sigmas) - 1))
    return [sigmas[int(time)].item() for time in dict.fromkeys(times.tolist())]  # one that falls twice counts once


def normal(steps: int, sigmas: torch.Tensor) -> list[float]:
    """Evenly spaced in training steps, from the last to the first."""
    return _at(sigmas, [(len(sigmas) - 1) * (1 - _part(i, steps)) for i in range(steps)])


def linear_quadratic(steps: int, sigmas: torch.Tensor, threshold: float = 0.025) -> list[float]:
    """Half of the steps for the first 2.5 % of the noise, ever longer ones for the rest. Mochi's (Genmo 2024)."""
    if steps == 1:
        return [sigmas[-1].item()]
    straight = steps // 2
    rest = steps - straight
    slope = threshold / straight
    bend = (straight - threshold * steps) / (straight * rest**2)
    gone = [slope * i + bend * max(i - straight, 0) ** 2 for i in range(steps)]
    return [(1 - part) * sigmas[-1].item() for part in gone]


def kl_optimal(steps: int, sigmas: torch.Tensor) -> list[float]:
    """Evenly spaced in arctan sigma. Align Your Steps, https://arxiv.org/abs/2404.14507"""
    low, high = sigmas[0].atan().item(), sigmas[-1].atan().item()
    return [math.tan(high + _part(i, steps) * (low - high)) for i in range(steps)]


def _part(i: int, steps: int) -> float:
    """0 for the first step, 1 for the last."""
    return i / max(steps - 1, 1)


SCHEDULERS: dict[str, Callable[[int, torch.Tensor], list[float]]] = {
    f.__name__: f
    for f in (
        leading, simple, sgm_uniform, karras, exponential, ddim_uniform, beta, normal, linear_quadratic, kl_optimal
    )
}  # fmt: skip


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


class Noise:
    """Unit noise (B, *shape) as ComfyUI draws it: float32 on the CPU, from one generator per seed, each for `batch`
    pictures at once. Later calls give the fresh noise of ancestral samplers.

    diffusers draws in the model's type: with `dtype` float16 or bfloat16 the noise is its, else both are the same.
    """

    def __init__(self, seeds: Sequence[int], shape: Sequence[int], batch: int = 1, dtype: torch.dtype | None = None):
        import torch

        self.generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        self.shape, self.dtype = (batch, *shape), dtype or torch.float32

    def __call__(self) -> torch.Tensor:
        import torch

        return torch.cat([torch.randn(self.shape, generator=g, dtype=self.dtype).float() for g in self.generators])


class Guided:
    """Kolors' UNet with classifier-free guidance as a denoiser: what the picture is, from x (B, 4, h, w) and sigma.

    `prompt` and `negative` are embeddings (B, 256, hidden) and pooled vectors (B, hidden); `cfg` is one number or one
    per picture, 1 leaves the negative prompt out; `size` is the (width, height) in px that the model is told.
    Guidance: https://arxiv.org/abs/2207.12598
    """

    def __init__(
        self,
        pipe: KolorsPipeline,
        prompt: tuple[torch.Tensor, torch.Tensor],
        negative: tuple[torch.Tensor, torch.Tensor],
        cfg: float | Sequence[float],
        size: tuple[int, int],
    ):
        import torch

        self.unet, self.device, self.dtype = pipe.unet, pipe._execution_device, pipe.unet.dtype
        self.sigmas = model_sigmas(pipe)
        self.cfg = torch.as_tensor(cfg, dtype=torch.float32, device=self.device).reshape(-1, 1, 1, 1)
        self.guided = bool((self.cfg != 1).any())
        both = [torch.cat(pair) for pair in zip(negative, prompt, strict=True)] if self.guided else prompt
        self.embeds, pooled = (part.to(self.device, self.dtype) for part in both)
        width, height = size
        ids = torch.tensor([[height, width, 0, 0, height, width]], device=self.device, dtype=self.dtype)
        self.added = {"text_embeds": pooled, "time_ids": ids.repeat(len(pooled), 1)}

    def __call__(self, x: torch.Tensor, sigma: float) -> torch.Tensor:
        import torch

        sigma = torch.tensor(sigma)
        time = (self.sigmas.log() - sigma.log()).abs().argmin().float()  # the training step nearest in log sigma
        scaled = (x / float((sigma**2 + 1) ** 0.5)).to(self.dtype)
        scaled = torch.cat([scaled, scaled]) if self.guided else scaled
        noise = self.unet(
            scaled,
            time.to(self.device),
            encoder_hidden_states=self.embeds,
            added_cond_kwargs=self.added,
            return_dict=False,
        )[0].float()
        if self.guided:
            without, noise = noise.chunk(2)
            noise = without + self.cfg * (noise - without)
        return x - noise * float(sigma)


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
