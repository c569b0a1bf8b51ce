"""What of a picture is encoded: the part that fits its bucket, and versions that are cropped, turned and recoloured.

References: aspect-ratio buckets https://github.com/NovelAI/novelai-aspect-ratio-bucketing · SDXL's time ids, which tell
the UNet of size and crop, https://arxiv.org/abs/2307.01952
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from kolors_lab.core.fields import Range, check_fields

if TYPE_CHECKING:
    import random

    from PIL import Image

NARROWEST, WIDEST = 0.5, 2.0  # width / height of the buckets


@dataclass(frozen=True)
class VariantConfig:
    """How many versions of each picture are encoded, and how they differ.

    Args:
        variants: versions of each picture; the first is the picture itself, the others are changed as follows
        flip: mirror half of the versions; not for subjects whose left and right differ
        random_crop: cut off up to this share of each side
        rotation: turn by up to so many degrees
        color_jitter: change brightness, contrast and saturation by up to this share
        buckets: keep wide and tall pictures wide and tall, instead of cutting out their middle square
    """

    variants: Annotated[int, Range(1, 64)] = 1
    flip: bool = True
    random_crop: Annotated[float, Range(0, 0.9)] = 0.1
    rotation: Annotated[float, Range(0, 45)] = 3.0
    color_jitter: Annotated[float, Range(0, 0.9)] = 0.1
    buckets: bool = False

    def __post_init__(self):
        check_fields(self)

    def changes(self, number: int) -> tuple:
        """All that decides version `number` of a picture, but its bucket; nothing for the first, the picture itself."""
        return (number, self.flip, self.random_crop, self.rotation, self.color_jitter) if number else ()


def bucket(width: int, height: int, size: int) -> tuple[int, int]:
    """Width and height, in px, of the bucket nearest in ratio; each has at most size x size px, as the model's own."""
    step = max(size // 128 * 8, 16)  # 64 at 1024, as SDXL's
    shapes = {(w, size * size // (w * step) * step) for w in range(step, 2 * size, step)} | {(size, size)}
    allowed = [(w, h) for w, h in sorted(shapes) if h and NARROWEST <= w / h <= WIDEST]
    return min(allowed, key=lambda shape: abs(math.log(shape[0] / shape[1] * height / width)))


def vary(image: Image.Image, width: int, height: int, config: VariantConfig, rng: random.Random):
    """A random version of the picture, width x height px, and the (top, left) of its crop as `crop` gives it."""
    from PIL import ImageEnhance, ImageOps

    if config.flip and rng.random() < 0.5:
        image = ImageOps.mirror(image)  # before the crop: the time ids speak of the mirrored picture
    for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = change(image).enhance(1 + rng.uniform(-config.color_jitter, config.color_jitter))
    angle, zoom = rng.uniform(-config.rotation, config.rotation), 1 / (1 - rng.uniform(0, config.random_crop))
    at = (rng.uniform(-1, 1), rng.uniform(-1, 1)) if config.random_crop else (0.0, 0.0)
    return crop(image, width, height, angle, zoom, at)


def crop(
    image: Image.Image,
    width: int,
    height: int,
    angle: float = 0.0,
    zoom: float = 1.0,
    at: tuple[float, float] = (0.0, 0.0),
) -> tuple[Image.Image, tuple[int, int]]:
    """The largest part of that shape, at width x height px, and its (top, left) in the picture scaled alike, in px.

    `angle`, in degrees: the picture is turned first, and none of the part lies outside of it. `zoom` > 1 takes a
    smaller part, `at` (-1..1, -1..1) says where in the room that leaves; (0, 0) is the centre.
    """
    from PIL import Image

    ratio, turn = width / height, math.radians(angle)
    cos, sin, edge = math.cos(turn), abs(math.sin(turn)), 2 if angle else 0  # px: turning blurs the edge
    room = (max(image.width - edge, 1), max(image.height - edge, 1))
    tall = min(room[0] / (ratio * cos + sin), room[1] / (ratio * sin + cos)) / zoom
    wide = tall * ratio
    x = at[0] * (room[0] - wide * cos - tall * sin) / 2  # of the part's centre from the picture's
    y = at[1] * (room[1] - wide * sin - tall * cos) / 2
    left, top = (math.floor((side - part) / 2 + off) for side, part, off in
                 ((image.width, wide, x), (image.height, tall, y)))  # fmt: skip
    corner = (round(max(top, 0) * height / tall), round(max(left, 0) * width / wide))
    if angle:
        image = image.rotate(angle, Image.Resampling.BICUBIC, expand=True)
        left = image.width / 2 + x * cos + y * math.sin(turn) - wide / 2
        top = image.height / 2 - x * math.sin(turn) + y * cos - tall / 2
    box = (left, top, min(left + wide, image.width), min(top + tall, image.height))
    # one step straight from the box, so that a picture of 1 x 10000 is never blown up whole
    return image.resize((width, height), Image.Resampling.LANCZOS, box=box), corner
