"""Nodes that draw: samplers, whole ones and those put together of parts. Noise is its seed, None for no noise; sigmas
are a list of numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from kolors_lab.comfy.nodes.latents import empty
from kolors_lab.comfy.registry import (
    Cfg,
    Conditioning,
    KolorsEmbeds,
    KolorsModel,
    Latents,
    Link,
    Model,
    Part,
    Sampler,
    Scheduler,
    Seed,
    Size,
    Step,
    Steps,
    Switch,
    Toggle,
    Widget,
    node,
)  # fmt: skip
from kolors_lab.comfy.values import Guider, Latent
from kolors_lab.sampling.denoiser import model_sigmas
from kolors_lab.sampling.ksampler import KSampler, get_sigmas
from kolors_lab.sampling.schedules import exponential, karras

if TYPE_CHECKING:
    from kolors_lab.comfy.executor import Workbench

KIJAI_SCHEDULERS = {  # diffusers' classes: (sampler_name, scheduler) here
    "EulerDiscreteScheduler": ("euler", "leading"),
    "EulerAncestralDiscreteScheduler": ("euler_ancestral", "leading"),
    "DPMSolverMultistepScheduler": ("dpmpp_2m", "leading"),
    "DPMSolverMultistepScheduler_SDE_karras": ("dpmpp_2m_sde", "karras"),
    "UniPCMultistepScheduler": ("uni_pc_bh2", "leading"),
    "DEISMultistepScheduler": ("deis", "leading"),
}
KijaiScheduler = Annotated[str, Widget(choices=tuple(KIJAI_SCHEDULERS))]
NoiseSeed = Annotated[Any, Link("NOISE")]
Asked = Annotated[Any, Link("GUIDER")]
Method = Annotated[Any, Link("SAMPLER")]
Sigmas = Annotated[Any, Link("SIGMAS")]
Sigma = Annotated[float, Widget(0, 5000)]
Rho = Annotated[float, Widget(0.1, 100)]


@node("KolorsSampler", outputs=("LATENT",))
def kijai_sampler(
    bench: Workbench, *, kolors_model: KolorsModel, kolors_embeds: KolorsEmbeds, width: Size = 1024,
    height: Size = 1024, seed: Seed = 0, steps: Steps = 25, cfg: Cfg = 5.0,
    scheduler: KijaiScheduler = "EulerDiscreteScheduler", latent: Latents = None, denoise_strength: Part = 1.0,
) -> tuple[Latent]:  # fmt: skip
    """kijai's node: a diffusers pipeline, which runs the last int(steps * strength) steps; width and height only tell
    the model a size where latents are given."""
    name, scheduler = KIJAI_SCHEDULERS[scheduler]
    settings = KSampler(seed=seed, steps=steps, cfg=cfg, sampler_name=name, scheduler=scheduler)
    start = 0 if latent is None else steps - min(int(steps * denoise_strength), steps)
    latent = latent or empty(bench, width=width, height=height, batch_size=1)[0]
    guider = Guider(kolors_model, *kolors_embeds, cfg)
    return bench.sample(guider, latent, settings, like_diffusers=True, size=(width, height), start_at_step=start)


@node("KSampler", outputs=("LATENT",))
def ksampler(
    bench: Workbench, *, model: Model, seed: Seed = 0, steps: Steps = 20, cfg: Cfg = 8.0, sampler_name: Sampler,
    scheduler: Scheduler, positive: Conditioning, negative: Conditioning, latent_image: Latents, denoise: Part = 1.0,
) -> tuple[Latent]:  # fmt: skip
    settings = KSampler(
        seed=seed, steps=steps, cfg=cfg, sampler_name=sampler_name, scheduler=scheduler, denoise=denoise
    )
    return bench.sample(Guider(model, positive, negative, cfg), latent_image, settings)


@node("KSamplerAdvanced", outputs=("LATENT",))
def ksampler_advanced(
    bench: Workbench, *, model: Model, add_noise: Switch = "enable", noise_seed: Seed = 0, steps: Steps = 20,
    cfg: Cfg = 8.0, sampler_name: Sampler, scheduler: Scheduler, positive: Conditioning, negative: Conditioning,
    latent_image: Latents, start_at_step: Step = 0, end_at_step: Step = 10_000,
    return_with_leftover_noise: Switch = "disable",
) -> tuple[Latent]:  # fmt: skip
    settings = KSampler(seed=noise_seed, steps=steps, cfg=cfg, sampler_name=sampler_name, scheduler=scheduler)
    return bench.sample(
        Guider(model, positive, negative, cfg), latent_image, settings, add_noise=add_noise == "enable",
        start_at_step=start_at_step, end_at_step=end_at_step, leftover=return_with_leftover_noise == "enable",
    )  # fmt: skip


# In parts -------------------------------------------------------------------------------------------------------------


@node("RandomNoise", outputs=("NOISE",))
def random_noise(bench: Workbench, *, noise_seed: Seed = 0) -> tuple[int]:
    return (noise_seed,)


@node("DisableNoise", outputs=("NOISE",))
def no_noise(bench: Workbench) -> tuple[None]:
    return (None,)


@node("BasicGuider", outputs=("GUIDER",))
def basic_guider(bench: Workbench, *, model: Model, conditioning: Conditioning) -> tuple[Guider]:
    return (Guider(model, conditioning, conditioning, 1.0),)


@node("CFGGuider", outputs=("GUIDER",))
def cfg_guider(
    bench: Workbench, *, model: Model, positive: Conditioning, negative: Conditioning, cfg: Cfg = 8.0
) -> tuple[Guider]:
    return (Guider(model, positive, negative, cfg),)


@node("KSamplerSelect", outputs=("SAMPLER",))
def select(bench: Workbench, *, sampler_name: Sampler) -> tuple[str]:
    return (sampler_name,)


@node("BasicScheduler", outputs=("SIGMAS",))
def basic_scheduler(
    bench: Workbench, *, model: Model, scheduler: Scheduler, steps: Steps = 20, denoise: Part = 1.0
) -> tuple[list[float]]:
    return (get_sigmas(model_sigmas(bench.pipe), KSampler(steps=steps, scheduler=scheduler, denoise=denoise)),)


@node("KarrasScheduler", outputs=("SIGMAS",))
def karras_scheduler(
    bench: Workbench, *, steps: Steps = 20, sigma_max: Sigma = 14.614642, sigma_min: Sigma = 0.0291675, rho: Rho = 7.0
) -> tuple[list[float]]:
    import torch

    return ([*karras(steps, torch.tensor([sigma_min, sigma_max]), rho), 0.0],)


@node("ExponentialScheduler", outputs=("SIGMAS",))
def exponential_scheduler(
    bench: Workbench, *, steps: Steps = 20, sigma_max: Sigma = 14.614642, sigma_min: Sigma = 0.0291675
) -> tuple[list[float]]:
    import torch

    return ([*exponential(steps, torch.tensor([sigma_min, sigma_max]).clamp(min=1e-6)), 0.0],)


@node("SplitSigmas", outputs=("SIGMAS", "SIGMAS"))
def split(bench: Workbench, *, sigmas: Sigmas, step: Step = 0) -> tuple[list[float], list[float]]:
    return sigmas[: step + 1], sigmas[step:]


@node("SplitSigmasDenoise", outputs=("SIGMAS", "SIGMAS"))
def split_by_share(bench: Workbench, *, sigmas: Sigmas, denoise: Part = 1.0) -> tuple[list[float], list[float]]:
    """The second gets the share `denoise` of the steps."""
    first = len(sigmas) - 1 - round((len(sigmas) - 1) * denoise)
    return sigmas[: first + 1], sigmas[first:]


@node("SamplerCustom", outputs=("LATENT", "LATENT"))
def sampler_custom(
    bench: Workbench, *, model: Model, add_noise: Toggle = True, noise_seed: Seed = 0, cfg: Cfg = 8.0,
    positive: Conditioning, negative: Conditioning, sampler: Method, sigmas: Sigmas, latent_image: Latents,
) -> tuple[Latent, Latent]:  # fmt: skip
    guider = Guider(model, positive, negative, cfg)
    return bench.sample_sigmas(guider, latent_image, noise_seed if add_noise else None, sigmas, sampler)


@node("SamplerCustomAdvanced", outputs=("LATENT", "LATENT"))
def sampler_custom_advanced(
    bench: Workbench, *, noise: NoiseSeed, guider: Asked, sampler: Method, sigmas: Sigmas, latent_image: Latents
) -> tuple[Latent, Latent]:
    return bench.sample_sigmas(guider, latent_image, noise, sigmas, sampler)
