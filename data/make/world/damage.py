"""Pictures of the world gone wrong in a named way, to teach probes and scores what a drawing's failures look like.

    damaged(scene, "melted_face", 0.7)     a Drawing: the picture, and where its faces and hands are
    melted(picture, boxes, 0.7, seed)      the same for any picture whose faces or hands are known

A severity of 0 is a failure just seen, 1 a gross one.
"""

import random
from dataclasses import replace

import numpy as np
from PIL import Image

from world.draw import Drawing, drawn
from world.finish import blurred
from world.flaws import Flaw
from world.scenes import SPOIL, Scene

DRAWN = ("faceless", "doubled_face", "displaced", "fingers", "doubled_figure", "mush")  # wrong as it is drawn
MELTED = {"melted_face": "faces", "melted_hands": "hands"}  # wrong afterwards, where the Drawing's boxes are
DAMAGES = (*DRAWN, *MELTED, *SPOIL[1:])
FACE_DAMAGES = ("faceless", "melted_face", "doubled_face", "displaced")  # after these no face is intact


def damaged(scene: Scene, name: str, severity: float, seed: int = 0, width: int = 128, height: int = 128) -> Drawing:
    """The picture of `scene` with one of DAMAGES; `seed` varies how it goes wrong, the scene stays the same."""
    if name not in DAMAGES:
        raise ValueError(f"name={name!r}: not one of {', '.join(DAMAGES)}")
    if name in SPOIL:
        return drawn(replace(scene, spoil=name, severity=severity), width, height)
    if name in MELTED:
        whole = drawn(scene, width, height)
        return replace(whole, image=melted(whole.image, getattr(whole, MELTED[name]), severity, seed))
    wrong = drawn(scene, width, height, Flaw(name, severity, random.Random(seed)))
    if name != "faceless":
        return wrong
    share = 0.7 + 0.3 * severity  # a shadow of the features may be left
    return replace(wrong, image=Image.blend(drawn(scene, width, height).image, wrong.image, share))


def melted(picture: Image.Image, boxes, severity: float, seed: int = 0) -> Image.Image:
    """`picture` (RGB) with what is in each box (x, y, width, height in px) run together as soft wax does."""
    pixels = np.asarray(picture, np.float32) / 255
    rng = np.random.default_rng(seed)
    for box in boxes:
        pixels = _melt(pixels, box, severity, rng)
    return Image.fromarray((np.clip(pixels, 0, 1) * 255 + 0.5).astype(np.uint8))


def _melt(pixels: np.ndarray, box, severity: float, rng) -> np.ndarray:
    """Waves half as long as the box push its pixels about; the border of the box stays joined to the picture."""
    (x0, y0, wide, tall), (height, width) = box, pixels.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    u, v = (x - x0 - wide / 2) / (wide / 2), (y - y0 - tall / 2) / (tall / 2)
    inside = np.clip((1.25 - np.hypot(u, v)) / 0.4, 0, 1)
    reach = (0.22 + 0.3 * severity) * inside
    a, b, c, d = rng.uniform(0, 2 * np.pi, 4)
    dx = reach * wide / 2 * (np.sin(4 * v + a) + 0.7 * np.sin(5 * u + b))
    dy = reach * tall / 2 * (np.sin(4 * u + c) + 0.7 * np.sin(5 * v + d))
    rows, columns = np.clip(y + dy, 0, height - 1).astype(int), np.clip(x + dx, 0, width - 1).astype(int)
    soft = blurred(pixels[rows, columns], 0.04 * max(wide, tall) * (0.5 + severity))
    return pixels + (soft - pixels) * inside[..., None]
