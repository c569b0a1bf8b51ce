"""Masks: which part of a picture is drawn anew. White is drawn, black stays.

A mask is a picture of the same size, or words: `box:x,y,w,h` and `ellipse:x,y,w,h`, in px from the top left corner.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kolors_lab.core.errors import DataError, SettingError
from kolors_lab.core.images import open_image
from kolors_lab.core.language import _

if TYPE_CHECKING:
    from PIL import Image

Box = tuple[int, int, int, int]  # x, y, width, height in px
SHAPES = ("box", "ellipse")


def parse_box(text: str, size: tuple[int, int] | None = None) -> Box:
    """`x,y,w,h` → four whole numbers. SettingError for anything else, and for a box outside of a picture of `size`."""
    try:
        x, y, w, h = (int(part) for part in text.split(","))
    except ValueError:
        raise SettingError(
            "box = {text!r}: must be x,y,w,h in px, four whole numbers such as 40,10,48,48", text=text
        ) from None
    if w < 1 or h < 1:
        raise SettingError("box = {text!r}: width and height must be at least 1", text=text)
    if size and (x < 0 or y < 0 or x + w > size[0] or y + h > size[1]):
        raise SettingError(
            "box = {text!r}: lies outside of the picture, which has {width} x {height} px",
            text=text,
            width=size[0],
            height=size[1],
        )
    return x, y, w, h


def draw_mask(shape: str, box: Box, size: tuple[int, int]) -> Image.Image:
    """A white box or ellipse on black; mode L, `size` = (width, height) px."""
    from PIL import Image, ImageDraw

    x, y, w, h = box
    mask = Image.new("L", size)
    draw = ImageDraw.Draw(mask)
    (draw.ellipse if shape == "ellipse" else draw.rectangle)((x, y, x + w - 1, y + h - 1), fill=255)
    return mask


def read_mask(mask: str | Path | Image.Image, size: tuple[int, int]) -> Image.Image:
    """A mask for a picture of `size`, mode L, every pixel 0 or 255.

    SettingError for another size, a box outside, and a mask that is all black or all white; DataError for a file that
    is no picture.
    """
    what, shape, colon, box = _("the mask"), *str(mask).partition(":")
    if isinstance(mask, str) and colon and shape in SHAPES:
        what, image = f"mask = {mask!r}", draw_mask(shape, parse_box(box, size), size)
    elif isinstance(mask, (str, Path)):
        what, image = _("mask {file}").format(file=mask), open_image(mask)
    else:
        image = mask
    image = image.convert("L").point(lambda value: 255 * (value > 127))
    if image.size != size:
        found, wanted = (" x ".join(map(str, one)) for one in (image.size, size))
        raise SettingError(
            "{what} has {found} px, the picture {wanted}: both must be of one size",
            what=what,
            found=found,
            wanted=wanted,
        )
    if image.getextrema() == (0, 0):
        raise SettingError("{what} is all black: nothing would be drawn; what is to be drawn anew is white", what=what)
    if image.getextrema() == (255, 255):
        raise SettingError(
            "{what} is all white: everything would be drawn anew; leave the mask out for that", what=what
        )
    return image


def grow(mask: Image.Image, pixels: int) -> Image.Image:
    """The mask larger by so many px in all, half of them on either side, as VAEEncodeForInpaint's grow_mask_by."""
    from PIL import ImageFilter

    return mask.filter(ImageFilter.MaxFilter(pixels // 2 * 2 + 1)) if pixels > 1 else mask


def feather(mask: Image.Image, pixels: int) -> Image.Image:
    """The mask with an edge that rises over about so many px, all of them inside: outside it is 0 as before."""
    from PIL import ImageChops, ImageFilter

    if pixels < 2:
        return mask
    inner = mask.filter(ImageFilter.MinFilter(pixels // 2 * 2 + 1)).filter(ImageFilter.GaussianBlur(pixels / 3))
    inner = inner if inner.getextrema()[1] > 127 else mask  # of a mask as narrow as its edge nothing would be left
    return ImageChops.multiply(inner, mask)


def hide(picture: Image.Image, mask: Image.Image) -> Image.Image:
    """The picture, grey in the white of the mask, where it is drawn anew; RGB."""
    from PIL import Image

    return Image.composite(Image.new("RGB", picture.size, (127, 127, 127)), picture.convert("RGB"), mask)


def paste(picture: Image.Image, drawn: Image.Image, mask: Image.Image, edge: int) -> Image.Image:
    """`drawn` in the white of the mask, `picture` to the pixel in its black; all of one size, the edge `edge` px."""
    from PIL import Image

    return Image.composite(drawn.convert("RGB"), picture.convert("RGB"), feather(mask, edge))


def file_beside(image: Path, folder: str | Path) -> Path:
    """The picture of the same stem in another folder, such as a mask or a control. DataError where there is none."""
    found = sorted(file for file in Path(folder).glob(f"{image.stem}.*") if file.suffix.lower() != ".txt")
    if not found:
        raise DataError(
            "{folder}: holds nothing of the name of {name}; each picture needs its own there",
            folder=folder,
            name=image.name,
        )
    return found[0]
