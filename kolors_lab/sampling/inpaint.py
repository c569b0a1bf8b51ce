"""Drawing a part of a picture anew; outside of its mask not a pixel changes.

With a UNet of four channels as in ComfyUI: outside the mask the original's latents, with the noise of the step, are
what the model reads, and the original is what it is taken to have answered (SetLatentNoiseMask); `grey` hides what lay
under the mask first (VAEEncodeForInpaint). A UNet of nine channels, Kolors-Inpainting's, reads mask and hidden picture
beside the latents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from kolors_lab.core.errors import SettingError
from kolors_lab.core.fields import OneOf, Range, check_fields
from kolors_lab.sampling.latents import encode_image
from kolors_lab.sampling.masks import grow, hide, paste, read_mask

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import torch
    from diffusers import KolorsPipeline
    from PIL import Image

    from kolors_lab.sampling.denoiser import Guided
    from kolors_lab.sampling.ksampler import KSampler

FILLS = ("original", "grey")
CHANNELS = 4  # of the latents; a UNet for inpainting has five more


@dataclass(frozen=True)
class MaskConfig:
    """Which part of a picture is drawn anew.

    Args:
        mask: white where `image` is drawn anew: a picture of its size, box:x,y,w,h or ellipse:x,y,w,h in its px
        mask_fill: what the model sees under the mask before it draws: original, or grey, for things it should not keep
        mask_grow: px by which the model draws over the mask's edge; outside the mask the picture stays all the same
    """

    mask: str | None = None
    mask_fill: Annotated[str, OneOf(FILLS)] = "original"
    mask_grow: Annotated[int, Range(0, 64)] = 6

    def __post_init__(self):
        check_fields(self)


@dataclass(frozen=True)
class Area:
    """A picture and where of it is drawn, both cut to what is drawn: (width, height) px; mask of mode L, 0 or 255."""

    image: Image.Image
    mask: Image.Image
    fill: str = "original"
    grow: int = 6

    @staticmethod
    def cut(
        image: Image.Image, mask: str | Path | Image.Image, width: int, height: int, fill: str = "original",
        grow: int = 6,
    ) -> Area:  # fmt: skip
        """Picture and mask, read as `read_mask` does, cut and scaled alike. SettingError, DataError."""
        from PIL import Image, ImageOps

        MaskConfig(None, fill, grow)
        found = read_mask(mask, image.size)
        part = ImageOps.fit(image.convert("RGB"), (width, height))
        cut = ImageOps.fit(found, (width, height), Image.Resampling.NEAREST)
        if not cut.getbbox():
            raise SettingError(
                "the mask's white lies outside of the middle {width} x {height} px that are drawn",
                width=width,
                height=height,
            )
        return Area(part, cut, fill, grow)

    def hidden(self) -> Image.Image:
        """The picture, grey where it is drawn anew."""
        return hide(self.image, self.mask)

    def latents(self, pipe: KolorsPipeline) -> torch.Tensor:
        """What drawing starts from, (1, 4, h, w)."""
        return encode_image(pipe, self.hidden() if self.fill == "grey" else self.image, *self.image.size)

    def shares(self) -> torch.Tensor:
        """How much of each latent pixel is drawn, (1, 1, h, w) from 0 to 1: the grown mask, made smaller as ComfyUI."""
        import numpy as np
        import torch
        from torch.nn.functional import interpolate

        width, height = self.image.size
        mask = torch.from_numpy(np.asarray(grow(self.mask, self.grow), dtype=np.float32) / 255)[None, None]
        return interpolate(mask, (height // 8, width // 8), mode="bilinear")

    def seen_by(self, pipe: KolorsPipeline, denoiser: Guided) -> Any:
        """The denoiser's UNet; one of nine channels with mask and hidden picture, (1, 5, h, w), beside its input."""
        if pipe.unet.config.in_channels == CHANNELS:
            return denoiser.unet
        import torch

        hidden = encode_image(pipe, self.hidden(), *self.image.size)
        more = torch.cat([(self.shares() > 0.5).to(hidden), hidden], 1).to(denoiser.device, denoiser.dtype)
        inner = denoiser.unet

        def unet(sample: torch.Tensor, *args: Any, **options: Any) -> Any:
            return inner(torch.cat([sample, more.expand(len(sample), -1, -1, -1)], 1), *args, **options)

        return unet

    def around(self, pipe: KolorsPipeline, denoiser: Guided, noise: Callable[[], torch.Tensor]) -> Guided | Masked:
        """The denoiser that draws in the mask only; `noise()` gives what the picture is covered with at first.

        One for inpainting stays as it is: it was trained to go on with what it sees around.
        """
        if pipe.unet.config.in_channels > CHANNELS:
            return denoiser
        return Masked(denoiser, self.latents(pipe), self.shares(), noise())

    def paste(self, drawn: Image.Image) -> Image.Image:
        """What was drawn, in the mask; the picture to the pixel outside. The soft edge, 1/64 of the picture's smaller
        side but 4 px at least, lies inside."""
        return paste(self.image, drawn, self.mask, max(4, min(self.image.size) // 64))


def find_area(
    pipe: KolorsPipeline,
    image: Image.Image | None,
    mask: str | Path | Image.Image | None,
    size: KSampler,
    fill: str = "original",
    grow: int = 6,
) -> Area | None:
    """Where the picture is drawn anew; None: everywhere. SettingError where mask, image, model do not go together."""
    inpainting = pipe.unet.config.in_channels > CHANNELS
    if mask is None and not inpainting:
        return None
    if mask is None or image is None:
        missing = "mask" if mask is None else "image"
        if inpainting:
            raise SettingError(
                "{missing} = None: this model draws parts of pictures only: give both, the picture and its mask",
                missing=missing,
            )
        raise SettingError("{missing} = None: give both, the picture and its mask", missing=missing)
    return Area.cut(image, mask, size.width, size.height, fill, grow)


class Masked:
    """A denoiser that draws in a mask and knows the rest; a denoiser like the one it wraps."""

    def __init__(self, denoiser: Any, original: torch.Tensor, shares: torch.Tensor, noise: torch.Tensor):
        """`original` (1, 4, h, w), `shares` (1, 1, h, w) of each latent pixel that is drawn, `noise` (B, 4, h, w)."""
        self.denoiser, self.sigmas, self.device = denoiser, denoiser.sigmas, denoiser.device
        self.original, self.shares, self.noise = (part.to(self.device) for part in (original, shares, noise))

    def __call__(self, x: torch.Tensor, sigma: float) -> torch.Tensor:
        kept = 1 - self.shares
        x = x * self.shares + (self.original + self.noise * float(sigma)) * kept
        return self.denoiser(x, sigma) * self.shares + self.original * kept
