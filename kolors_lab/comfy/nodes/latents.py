"""Nodes that make and change latents. A mask stays with the latents that it was put on."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from kolors_lab.comfy.registry import (
    AnySize,
    Count,
    Crop,
    Images,
    Latents,
    Mask,
    Place,
    Scale,
    Size,
    Vae,
    Widget,
    check_size,
    node,
)  # fmt: skip
from kolors_lab.comfy.values import Latent
from kolors_lab.sampling import latents
from kolors_lab.sampling.latents import encode_image
from kolors_lab.sampling.masks import hide

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from kolors_lab.comfy.executor import Workbench

Method = Annotated[str, Widget(choices=("nearest-exact", "bilinear", "area", "bicubic", "bislerp"))]


@node("EmptyLatentImage", outputs=("LATENT",))
def empty(bench: Workbench, *, width: Size = 1024, height: Size = 1024, batch_size: Count = 1) -> tuple[Latent]:
    import torch

    check_size(batch_size, width, height)
    return (Latent(torch.zeros(batch_size, bench.pipe.vae.config.latent_channels, height // 8, width // 8)),)


@node("RepeatLatentBatch", outputs=("LATENT",))
def repeat(bench: Workbench, *, samples: Latents, amount: Count = 1) -> tuple[Latent]:
    count, _, rows, columns = samples.samples.shape
    check_size(count * amount, 8 * columns, 8 * rows)
    return (replace(samples, samples=samples.samples.repeat(amount, 1, 1, 1)),)


@node("LatentFromBatch", outputs=("LATENT",))
def from_batch(bench: Workbench, *, samples: Latents, batch_index: Place = 0, length: Count = 1) -> tuple[Latent]:
    first = min(len(samples.samples) - 1, batch_index)
    return (replace(samples, samples=samples.samples[first : first + length]),)


@node("LatentUpscale", outputs=("LATENT",))
def upscale(
    bench: Workbench, *, samples: Latents, upscale_method: Method, width: AnySize = 512, height: AnySize = 512,
    crop: Crop = "disabled",
) -> tuple[Latent]:  # fmt: skip
    """To a size in px; 0 as the other side asks for, both 0 nothing; `center` crops to the new shape before."""
    old = samples.samples
    rows, columns = old.shape[2:]
    if not width and not height:
        return (samples,)
    width, height = width or round(height * columns / rows), height or round(width * rows / columns)
    width, height = (max(64, side // 8 * 8) for side in (width, height))
    if crop == "center":
        keep = min(columns / width, rows / height)
        left, top = (columns - round(width * keep)) // 2, (rows - round(height * keep)) // 2
        old = old[:, :, top : rows - top, left : columns - left]
    return (replace(samples, samples=resize(old, upscale_method, width, height)),)


@node("LatentUpscaleBy", outputs=("LATENT",))
def upscale_by(bench: Workbench, *, samples: Latents, upscale_method: Method, scale_by: Scale = 1.5) -> tuple[Latent]:
    height, width = (round(side * scale_by) * 8 for side in samples.samples.shape[2:])
    return (replace(samples, samples=resize(samples.samples, upscale_method, width, height)),)


def resize(samples: torch.Tensor, method: str, width: int, height: int) -> torch.Tensor:
    """Latents (B, 4, h, w) for pictures of width and height px."""
    check_size(len(samples), width, height)
    if method == "bislerp":
        return bislerp(bislerp(samples, width // 8, 3), height // 8, 2)
    return latents.upscale(samples, width, height, method)


def bislerp(samples: torch.Tensor, length: int, axis: int) -> torch.Tensor:
    """Latents resized along one axis: between two neighbours the four channels' direction turns evenly, and their
    length goes straight. As ComfyUI's `bislerp`, which does first the columns, then the rows."""
    import torch

    old = samples.shape[axis]
    place = ((torch.arange(length) + 0.5) * (old / length) - 0.5).clamp(0, old - 1)
    low = place.floor().long()
    high = (low + 1).clamp(max=old - 1)
    shape = [1] * samples.ndim
    shape[axis] = length
    part = (place - low).reshape(shape).to(samples)
    a, b = samples.index_select(axis, low), samples.index_select(axis, high)
    long_a, long_b = a.norm(dim=1, keepdim=True), b.norm(dim=1, keepdim=True)
    cosine = (a * b).sum(1, keepdim=True) / (long_a * long_b).clamp(min=1e-12)
    angle = cosine.clamp(-1, 1).acos()
    turned = torch.sin((1 - part) * angle) * a / long_a.clamp(min=1e-12)
    turned = turned + torch.sin(part * angle) * b / long_b.clamp(min=1e-12)
    turned = turned / torch.sin(angle).clamp(min=1e-12) * (long_a * (1 - part) + long_b * part)
    straight = a * (1 - part) + b * part  # of the same or opposite direction there is nothing to turn
    return torch.where(cosine.abs() > 1 - 1e-5, straight, turned)


@node("VAEDecode", outputs=("IMAGE",))
def decode(bench: Workbench, *, samples: Latents, vae: Vae) -> tuple[list[Image.Image]]:
    return (latents.decode(bench.pipe, samples.samples),)


@node("VAEEncode", outputs=("LATENT",))
def encode(bench: Workbench, *, pixels: Images, vae: Vae) -> tuple[Latent]:
    """Pictures as latents, of the model's own area where they have over four times or under a quarter of it."""
    import torch

    sizes = [own_size(bench, image) for image in pixels]
    each = [encode_image(bench.pipe, image, *size) for image, size in zip(pixels, sizes, strict=True)]
    return (Latent(torch.cat(each)),)


def own_size(bench: Workbench, image: Image.Image) -> tuple[int, int]:
    """The size at which a picture is encoded, px: multiples of 8, near the model's own area."""
    own = bench.pipe.unet.config.sample_size * 8
    scale = own / (image.width * image.height) ** 0.5
    scale = 1 if 0.5 <= scale <= 2 else scale
    width, height = (max(64, int(side * scale / 8) * 8) for side in image.size)
    check_size(1, width, height)
    return width, height


# Masks on latents -----------------------------------------------------------------------------------------------------


@node("SetLatentNoiseMask", outputs=("LATENT",))
def set_noise_mask(bench: Workbench, *, samples: Latents, mask: Mask) -> tuple[Latent]:
    return (replace(samples, mask=mask),)


@node("VAEEncodeForInpaint", outputs=("LATENT",))
def encode_for_inpaint(
    bench: Workbench, *, pixels: Images, vae: Vae, mask: Mask,
    grow_mask_by: Annotated[int, Widget(0, 64)] = 6,
) -> tuple[Latent]:  # fmt: skip
    """Pictures as latents, grey where they are drawn anew, with a mask that reaches `grow_mask_by` px further in all.
    As in ComfyUI, but that a picture far from the model's own area is scaled, as `VAEEncode` does here."""
    import numpy as np
    import torch
    from PIL import Image

    each, masks = [], []
    for index, image in enumerate(pixels):
        width, height = own_size(bench, image)
        part = fit_mask(mask[index % len(mask)][None], image.width, image.height).round()
        white = Image.fromarray(np.uint8(part[0].numpy() * 255))
        each.append(encode_image(bench.pipe, hide(image, white), width, height))
        masks.append(fit_mask(grown(part, grow_mask_by), width, height).round())
    return (Latent(torch.cat(each), torch.cat(masks)),)


def fit_mask(mask: torch.Tensor, width: int, height: int) -> torch.Tensor:
    """A mask (B, H, W) at another size, (B, height, width)."""
    from torch.nn.functional import interpolate

    return interpolate(mask[:, None], (height, width), mode="bilinear")[:, 0]


def grown(mask: torch.Tensor, pixels: int) -> torch.Tensor:
    """A mask (B, H, W) larger by so many px in all, half of them on either side."""
    import torch
    from torch.nn.functional import conv2d

    if pixels < 2:
        return mask
    wider = conv2d(mask[:, None], torch.ones(1, 1, pixels, pixels), padding=math.ceil((pixels - 1) / 2))
    return wider.clamp(0, 1)[:, 0, : mask.shape[1], : mask.shape[2]]
