"""Pictures of the little world: render(scene) for a Scene, toys in toys.py, pictures gone wrong in damage.py.

Drawn with skia in units of 1/128 of the shorter side; a way of painting is a Pen (pen.py) and a filter (finish.py).
"""

import random
from dataclasses import dataclass

import numpy as np
import skia
from PIL import Image

from world.cast import cast, stand_at
from world.finish import blurred, finish, spoil
from world.flaws import Flaw
from world.look import Look, hour_of, look_of
from world.outdoors import shooting_star
from world.pen import Pen
from world.places import PLACES
from world.scenes import Scene

DARK_PLACES = {"concert": (255, 190, 240), "night": (176, 196, 255), "stage": (255, 226, 170)}
LIGHT = {"morning": (226, 238, 255), "dusk": (255, 206, 164)}  # what the light of the hour leaves of white
MARGIN = 10  # units painted beyond each edge, for a viewer who stands further left or right
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Drawing:
    """A picture and where its people's faces and hands are: boxes (x, y, width, height) in px, inside the picture."""

    image: Image.Image
    faces: tuple[Box, ...]
    hands: tuple[Box, ...]


def render(scene: Scene, width: int = 128, height: int = 128) -> Image.Image:
    """The picture of a scene, RGB, width x height px; the same for equal scenes and sizes."""
    return drawn(scene, width, height).image


def face_boxes(scene: Scene, width: int = 128, height: int = 128) -> tuple[Box, ...]:
    """The box (x, y, width, height) in px of each person's face in render(scene, width, height)."""
    return drawn(scene, width, height).faces


def drawn(scene: Scene, width: int = 128, height: int = 128, flaw: Flaw | None = None) -> Drawing:
    """The picture with its faces and hands; `flaw` says what goes wrong in drawing it (see damage.py)."""
    rng, look = random.Random(scene.seed), look_of(scene.seed)
    surface, pen = canvas(width, height, scene.style, rng)
    if scene.spoil == "deform":
        flaw = Flaw("deform", 0.65 + 0.35 * scene.severity, rng)
    backdrop(pen, scene.place, look, rng, 1.2 if scene.framing == "half" else 1.0)
    x = stand_at(pen, scene, look)[0]
    if scene.action == "wish" or scene.place == "night":
        shooting_star(pen, rng, 112 if x < 60 else 16)
    if flaw and flaw.kind == "mush":
        mush(surface, flaw)
    halo(pen, scene.style, scene.place, x, scene.framing == "half")
    pen.focus = True
    if flaw and flaw.kind == "doubled_figure":
        ghost(pen, scene, look, flaw)
    cast(pen, scene, look, rng, flaw)
    pixels = finish(pixels_of(surface), scene.style, scene.seed)
    image = Image.fromarray(spoil(pixels, scene.spoil, scene.severity, scene.seed))
    return Drawing(image, _inside(pen.faces, width, height), _inside(pen.hands, width, height))


def canvas(width: int, height: int, style: str, rng: random.Random):
    """A surface and a pen whose middle 128 x 128 units fill the shorter side."""
    surface = skia.Surface(width, height)
    canvas, scale = surface.getCanvas(), min(width, height) / 128
    canvas.scale(scale, scale)
    dx, dy = width / scale / 2 - 64, height / scale - 128
    dy = dy * 0.7  # more sky than ground in a tall picture
    canvas.translate(dx, dy)
    view = (-dx, -dy, 128 + dx, height / scale - dy)
    return surface, Pen(canvas, style, rng.getrandbits(30), view)


def pixels_of(surface: skia.Surface) -> np.ndarray:
    """float32 (height, width, 3) in 0..1."""
    return surface.toarray(colorType=skia.kRGBA_8888_ColorType)[..., :3].astype(np.float32) / 255


def backdrop(pen: Pen, place: str, look: Look, rng: random.Random, zoom: float = 1.0):
    """The place from where the viewer of `look` stands, in the light of its hour."""
    left, top, right, bottom = pen.view
    zoom += 0.1 * look.near
    with pen.placed(64 * (1 - zoom) + look.pan * (MARGIN - 2), 30 * (1 - zoom), zoom):
        pen.view = (left - MARGIN, top, right + MARGIN, bottom)
        with pen.placed(128, 0, mirror=True) if look.mirror else pen.placed(0, 0):
            PLACES[place](pen, rng, look.palette)
        pen.view = (left, top, right, bottom)
    light = LIGHT.get(hour_of(place, look))
    if light:
        share = 0.5 if pen.name == "ink" else 1.0
        tint = (round(255 - (255 - c) * share) for c in light)
        pen.canvas.drawColor(skia.ColorSetRGB(*tint), skia.BlendMode.kMultiply)


def halo(pen: Pen, style: str, place: str, x: float, half: bool = False):
    """Light behind the figure where the place is dark, bare paper around it in ink."""
    if place in DARK_PLACES:
        pen.glow(x, 70, 66 if half else 56, DARK_PLACES[place], 0.62)
    elif style == "ink":
        pen.glow(x, 72, 66 if half else 56, (255, 252, 240), 0.6)


def mush(surface: skia.Surface, flaw: Flaw):
    """What is drawn so far melts into soft patches."""
    pixels = pixels_of(surface)
    height, width = pixels.shape[:2]
    unit = min(height, width) / 128
    y, x = np.mgrid[:height, :width] / unit
    reach = (4 + 12 * flaw.force) * unit
    rows = y * unit + reach * np.sin(x / 9 + flaw.turn) * np.sin(y / 7 + flaw.turn)
    columns = x * unit + reach * np.sin(y / 8 + 2 * flaw.turn) * np.cos(x / 11)
    rows, columns = (np.clip(a, 0, n - 1).astype(int) for a, n in ((rows, height), (columns, width)))
    soft = blurred(pixels[rows, columns], (1.5 + 3.5 * flaw.force) * unit)
    rgba = np.dstack([(soft * 255).astype(np.uint8), np.full((height, width), 255, np.uint8)])
    canvas = surface.getCanvas()
    canvas.save()
    canvas.resetMatrix()
    canvas.drawImage(skia.Image.fromarray(np.ascontiguousarray(rgba), colorType=skia.kRGBA_8888_ColorType), 0, 0)
    canvas.restore()


def ghost(pen: Pen, scene: Scene, look: Look, flaw: Flaw):
    """A second of the same figures, grown together with the first; its faces count as well."""
    pen.canvas.saveLayerAlpha(None, round(150 + 105 * flaw.force))
    with pen.placed((15 + 14 * flaw.force) * flaw.big, 3 * flaw.skew):
        cast(pen, scene, look, random.Random(scene.seed + 1))
    pen.canvas.restore()


def _inside(boxes, width: int, height: int) -> tuple[Box, ...]:
    """Boxes cut to the picture, as (x, y, width, height); those that lie outside by more than half are dropped."""
    kept = []
    for left, top, right, bottom in boxes:
        x0, y0, x1, y1 = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
        if x1 > x0 and y1 > y0 and (x1 - x0) * (y1 - y0) >= 0.5 * (right - left) * (bottom - top):
            kept.append((round(x0), round(y0), round(x1) - round(x0), round(y1) - round(y0)))
    return tuple(kept)


def __getattr__(name: str):
    """figurine and figurine_words are asked for here as well; toys.py itself needs this module."""
    if name in ("figurine", "figurine_words"):
        from world import toys

        return getattr(toys, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
