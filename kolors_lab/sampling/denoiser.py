"""Kolors' UNet as a denoiser in the manner of k-diffusion, and the noise that a seed stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kolors_lab.models.device import device_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from diffusers import KolorsPipeline


def model_sigmas(pipe: KolorsPipeline) -> torch.Tensor:
    """The model's noise levels, (training steps,), from 0.03 up to 29 for Kolors: sqrt((1 - ᾱ) / ᾱ)."""
    kept = pipe.scheduler.alphas_cumprod
    return ((1 - kept) / kept) ** 0.5


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

        self.unet, self.device, self.dtype = pipe.unet, device_of(pipe), pipe.unet.dtype
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
