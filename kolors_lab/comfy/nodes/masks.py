"""Nodes that make and change masks: (B, H, W), from 0, kept, to 1, drawn anew."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from kolors_lab.comfy.registry import AnySize, ImageFile, Images, Mask, Part, Place, Toggle, Widget, check_size, node
from kolors_lab.core.images import open_image

if TYPE_CHECKING:
    import torch
    from PIL import Image

Channel = Annotated[str, Widget(choices=("alpha", "red", "green", "blue"))]
Color = Annotated[str, Widget(choices=("red", "green", "blue", "alpha"))]


def read_channel(file: Path, name: str) -> torch.Tensor | None:
    """One channel of a picture's file, (1, H, W) from 0 to 1; None for the alpha of one without transparency."""
    import numpy as np
    import torch
    from PIL import Image, ImageOps

    if name != "alpha":
        pixels = open_image(file).getchannel(name[0].upper())
    else:
        open_image(file)  # refuses what is damaged or too large
        with Image.open(file) as image:
            if not image.has_transparency_data:
                return None
            pixels = ImageOps.exif_transpose(image.convert("RGBA")).getchannel("A")
    return torch.from_numpy(np.asarray(pixels, dtype=np.float32) / 255)[None]


@node("LoadImageMask", outputs=("MASK",))
def load(bench: Any, *, image: ImageFile, channel: Channel = "alpha") -> tuple[torch.Tensor]:
    """One channel as a mask; of alpha what is transparent is 1, and without transparency all is 0, 64 x 64."""
    import torch

    found = read_channel(image, channel)
    if found is None:
        return (torch.zeros(1, 64, 64),)
    return (1 - found if channel == "alpha" else found,)


@node("SolidMask", outputs=("MASK",))
def solid(bench: Any, *, value: Part = 1.0, width: Place = 512, height: Place = 512) -> tuple[torch.Tensor]:
    import torch

    check_size(1, width, height)
    return (torch.full((1, height, width), value),)


@node("InvertMask", outputs=("MASK",))
def invert(bench: Any, *, mask: Mask) -> tuple[torch.Tensor]:
    return (1 - mask,)


@node("GrowMask", outputs=("MASK",))
def grow(
    bench: Any, *, mask: Mask, expand: Annotated[int, Widget(-256, 256)] = 0, tapered_corners: Toggle = True
) -> tuple[torch.Tensor]:
    """Larger by `expand` px on each side, or smaller below 0; tapered: it grows without its corners."""
    import numpy as np
    import torch
    from scipy.ndimage import grey_dilation, grey_erosion

    corner = 0 if tapered_corners else 1
    around = np.array([[corner, 1, corner], [1, 1, 1], [corner, 1, corner]])
    step = grey_dilation if expand > 0 else grey_erosion
    grown = []
    for one in mask.numpy():
        for _ in range(abs(expand)):
            one = step(one, footprint=around)
        grown.append(torch.from_numpy(np.ascontiguousarray(one)))
    return (torch.stack(grown),)


@node("FeatherMask", outputs=("MASK",))
def feather(
    bench: Any, *, mask: Mask, left: AnySize = 0, top: AnySize = 0, right: AnySize = 0, bottom: AnySize = 0
) -> tuple[torch.Tensor]:
    """Fading towards the picture's edges over so many px."""
    import torch

    rows, columns = mask.shape[1:]
    across, down = (1, 1, -1), (1, -1, 1)
    for size, length, shape, forward in (
        (left, columns, across, True), (right, columns, across, False), (top, rows, down, True),
        (bottom, rows, down, False),
    ):  # fmt: skip
        if size:
            ramp = ((torch.arange(length) + 1) / min(size, length)).clamp(max=1)
            mask = mask * (ramp if forward else ramp.flip(0)).reshape(shape)
    return (mask,)


@node("ThresholdMask", outputs=("MASK",))
def threshold(bench: Any, *, mask: Mask, value: Part = 0.5) -> tuple[torch.Tensor]:
    return ((mask > value).float(),)


@node("ImageToMask", outputs=("MASK",))
def of_images(bench: Any, *, image: Images, channel: Color = "red") -> tuple[torch.Tensor]:
    import numpy as np
    import torch

    if channel == "alpha":
        return (torch.stack([torch.ones(each.height, each.width) for each in image]),)
    planes = [np.asarray(each.getchannel(channel[0].upper()), dtype=np.float32) / 255 for each in image]
    return (torch.from_numpy(np.stack(planes)),)


@node("MaskToImage", outputs=("IMAGE",))
def as_images(bench: Any, *, mask: Mask) -> tuple[list[Image.Image]]:
    import numpy as np
    from PIL import Image

    return ([Image.fromarray(np.uint8(one.numpy() * 255)).convert("RGB") for one in mask],)
