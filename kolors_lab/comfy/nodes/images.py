"""Nodes that read, change and hand out pictures: lists of PIL pictures, RGB."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from kolors_lab.comfy.nodes import masks
from kolors_lab.comfy.registry import AnySize, Crop, ImageFile, Images, Scale, Text, Widget, check_size, node
from kolors_lab.core.images import open_image

if TYPE_CHECKING:
    import torch
    from PIL import Image

METHODS = {  # ComfyUI's name: Pillow's
    "nearest-exact": "NEAREST", "bilinear": "BILINEAR", "area": "BOX", "bicubic": "BICUBIC", "lanczos": "LANCZOS",
}  # fmt: skip
Method = Annotated[str, Widget(choices=tuple(METHODS))]


@node("LoadImage", outputs=("IMAGE", "MASK"))
def load_image(bench: Any, *, image: ImageFile) -> tuple[list[Image.Image], torch.Tensor]:
    """A picture, and a mask that is 1 where it is transparent; without transparency all 0, 64 x 64."""
    return [open_image(image)], *masks.load(bench, image=image)


@node("ImageScale", outputs=("IMAGE",))
def scale(
    bench: Any, *, image: Images, upscale_method: Method, width: AnySize = 512, height: AnySize = 512,
    crop: Crop = "disabled",
) -> tuple[list[Image.Image]]:  # fmt: skip
    """To a size in px; 0 as the other side asks for, both 0 nothing; `center` crops to the new shape before."""
    if not width and not height:
        return (image,)
    sizes = [(width or round(height * p.width / p.height), height or round(width * p.height / p.width)) for p in image]
    return (_resized(image, sizes, upscale_method, crop),)


@node("ImageScaleBy", outputs=("IMAGE",))
def scale_by(bench: Any, *, image: Images, upscale_method: Method, scale_by: Scale = 1.0) -> tuple[list[Image.Image]]:
    sizes = [(round(each.width * scale_by), round(each.height * scale_by)) for each in image]
    return (_resized(image, sizes, upscale_method),)


@node("ImageScaleToTotalPixels", outputs=("IMAGE",))
def scale_to_total(
    bench: Any, *, image: Images, upscale_method: Method, megapixels: Annotated[float, Widget(0.01, 16)] = 1.0
) -> tuple[list[Image.Image]]:
    """To so many times 1024 x 1024 px, the shape kept."""
    scales = [(megapixels * 2**20 / (each.width * each.height)) ** 0.5 for each in image]
    sizes = [(round(p.width * by), round(p.height * by)) for p, by in zip(image, scales, strict=True)]
    return (_resized(image, sizes, upscale_method),)


def _resized(
    images: list[Image.Image], sizes: list[tuple[int, int]], method: str, crop: str = "disabled"
) -> list[Image.Image]:
    from PIL import Image, ImageOps

    resampling = getattr(Image.Resampling, METHODS[method])
    for width, height in sizes:
        check_size(len(images), width, height)
    if crop == "center":
        return [ImageOps.fit(each, size, resampling) for each, size in zip(images, sizes, strict=True)]
    return [each.resize(size, resampling) for each, size in zip(images, sizes, strict=True)]


@node("ImageInvert", outputs=("IMAGE",))
def invert(bench: Any, *, image: Images) -> tuple[list[Image.Image]]:
    from PIL import ImageOps

    return ([ImageOps.invert(each) for each in image],)


@node("SaveImage", pictures=True)
def save(bench: Any, *, images: Images, filename_prefix: Text = "ComfyUI") -> tuple[list[Image.Image]]:
    return (images,)


@node("PreviewImage", pictures=True)
def show(bench: Any, *, images: Images) -> tuple[list[Image.Image]]:
    return (images,)
