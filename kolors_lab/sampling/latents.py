"""Between texts, pictures and what the UNet works on: embeddings and latents.

Latents (B, 4, height / 8, width / 8) are always in the UNet's scale: the VAE's own times its scaling factor.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from kolors_lab.core.errors import ModelError
from kolors_lab.models.device import device_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from diffusers import AutoencoderKL, KolorsPipeline
    from PIL import Image

    from kolors_lab.sampling.ksampler import KSampler

_colors: WeakKeyDictionary[AutoencoderKL, torch.Tensor] = WeakKeyDictionary()


@contextlib.contextmanager
def drawing(pipe: KolorsPipeline) -> Iterator[None]:
    """Without gradients; at the end, also when stopped, parts that only visit the GPU leave it."""
    import torch

    try:
        with torch.no_grad():
            yield
    finally:
        pipe.maybe_free_model_hooks()


def empty_latents(pipe: KolorsPipeline, settings: KSampler) -> torch.Tensor:
    """(1, 4, h, w) zeros: a picture of nothing."""
    import torch

    return torch.zeros(1, pipe.vae.config.latent_channels, settings.height // 8, settings.width // 8)


def encode_image(pipe: KolorsPipeline, image: Image.Image, width: int, height: int) -> torch.Tensor:
    """Latents (1, 4, h, w) of a picture, cut and scaled to (width, height) px; the VAE's mean, not a draw from it."""
    import torch
    from PIL import ImageOps

    fitted = ImageOps.fit(image.convert("RGB"), (width, height))
    pixels = pipe.image_processor.preprocess(fitted)
    with torch.no_grad():
        return _means(pipe, pixels)


def _means(pipe: KolorsPipeline, pixels: torch.Tensor) -> torch.Tensor:
    vae = _safe_vae(pipe)
    mean = vae.encode(pixels.to(device_of(pipe), vae.dtype)).latent_dist.mode()
    return mean.float() * vae.config.scaling_factor


def decode(pipe: KolorsPipeline, latents: torch.Tensor) -> list[Image.Image]:
    """The pictures of latents, RGB. ModelError where they are no numbers, which would be drawn as plain black."""
    import torch

    vae = _safe_vae(pipe)
    with torch.no_grad():
        pixels = vae.decode((latents / vae.config.scaling_factor).to(device_of(pipe), vae.dtype)).sample
    if not pixels.isfinite().all():
        raise ModelError("the picture came out as no numbers (NaN); lower lora_strength or cfg, or try another LoRA")
    return pipe.image_processor.postprocess(pixels.float(), "pil")


def _safe_vae(pipe: KolorsPipeline) -> AutoencoderKL:
    """The VAE, in float32 if it is one that overflows in float16."""
    import torch

    if pipe.vae.dtype == torch.float16 and pipe.vae.config.force_upcast:
        pipe.vae.to(dtype=torch.float32)
    return pipe.vae


def upscale(latents: torch.Tensor, width: int, height: int, method: str = "bilinear") -> torch.Tensor:
    """Latents for a picture of width and height px; method: nearest-exact, bilinear, area or bicubic."""
    from torch.nn.functional import interpolate

    size = (height // 8, width // 8)
    return latents if latents.shape[-2:] == size else interpolate(latents, size, mode=method)


def preview(pipe: KolorsPipeline, latents: torch.Tensor) -> Image.Image:
    """A rough view of latents, all pictures in a row: every latent pixel is given its colour, the VAE does nothing."""
    import torch
    from PIL import Image

    if pipe.vae not in _colors:
        _colors[pipe.vae] = fit_colors(pipe)
    weights = _colors[pipe.vae].to(latents)
    colors = latents.permute(2, 0, 3, 1) @ weights[:-1] + weights[-1]  # h, B, w, rgb
    row = ((colors.flatten(1, 2) + 1) * 127.5).clamp(0, 255).to("cpu", torch.uint8)
    return Image.fromarray(row.numpy()).resize((8 * row.shape[1], 8 * row.shape[0]), Image.Resampling.BILINEAR)


def fit_colors(pipe: KolorsPipeline) -> torch.Tensor:
    """How a latent pixel becomes a colour from -1 to 1: (5, 3), one row per channel and one to add, by least squares
    over pictures of random colours, soft and in patches, that the VAE at hand encodes."""
    import torch
    from torch.nn.functional import avg_pool2d, interpolate

    points = torch.rand(8, 3, 6, 6, generator=torch.Generator().manual_seed(0)) * 2 - 1
    pictures = torch.cat([interpolate(points, (128, 128), mode=mode) for mode in ("bilinear", "nearest")])
    with torch.no_grad():
        latents = _means(pipe, pictures).cpu().permute(0, 2, 3, 1).flatten(0, 2)
    colors = avg_pool2d(pictures, 8).permute(0, 2, 3, 1).flatten(0, 2)
    return torch.linalg.lstsq(torch.cat([latents, torch.ones(len(latents), 1)], 1), colors).solution
