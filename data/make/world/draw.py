"""Pictures of the little world: render(scene) for a Scene, figurine(seed) for the toy robot cat.

Drawn with skia in units of 1/128 of the shorter side; a way of painting is a Pen (pen.py) and a filter (finish.py).
"""

import random

import numpy as np
import skia
from PIL import Image

from world import figures, horse
from world.finish import finish, spoil
from world.heads import Spoilt
from world.indoors import DARK_WOOD, WOOD, sofa
from world.outdoors import shooting_star
from world.pen import Pen, box, mix, oval, poly, smooth
from world.places import PLACES
from world.scenes import PLACE, STYLE, Scene

AT_DESK = ("listen", "sleep", "wake", "write")
DARK_PLACES = {"concert": (255, 190, 240), "night": (176, 196, 255), "stage": (255, 226, 170)}
GROUND = 118


def render(scene: Scene, width: int = 128, height: int = 128) -> Image.Image:
    """The picture of a scene, RGB, width x height px; the same for equal scenes and sizes."""
    rng = random.Random(scene.seed)
    surface, pen = _surface(width, height, scene.style, rng)
    zoom = 1.22 if scene.framing == "half" else 1.0
    with pen.placed(64 * (1 - zoom), 30 * (1 - zoom), zoom):
        PLACES[scene.place](pen, rng)
        if scene.action == "wish" and scene.place != "night":
            shooting_star(pen, rng)
    pen.focus = True
    spoilt = Spoilt(scene.severity, rng) if scene.spoil == "deform" else None
    _cast(pen, scene, rng, spoilt)
    pixels = finish(_pixels(surface), scene.style, scene.seed)
    return Image.fromarray(spoil(pixels, scene.spoil, scene.severity, scene.seed))


def _surface(width: int, height: int, style: str, rng: random.Random):
    """A surface and a pen whose middle 128 x 128 units fill the shorter side."""
    surface = skia.Surface(width, height)
    canvas, scale = surface.getCanvas(), min(width, height) / 128
    canvas.scale(scale, scale)
    dx, dy = width / scale / 2 - 64, height / scale - 128
    dy = dy * 0.7  # more sky than ground in a tall picture
    canvas.translate(dx, dy)
    view = (-dx, -dy, 128 + dx, height / scale - dy)
    return surface, Pen(canvas, style, rng.getrandbits(30), view)


def _pixels(surface: skia.Surface) -> np.ndarray:
    return surface.toarray(colorType=skia.kRGBA_8888_ColorType)[..., :3].astype(np.float32) / 255


def _cast(pen: Pen, scene: Scene, rng: random.Random, spoilt):
    """The people and animals, placed for the framing."""
    half = scene.framing == "half"
    size, shift = rng.uniform(0.96, 1.04), rng.uniform(-4, 4)
    tilt, mirror = rng.uniform(-6, 6), rng.random() < 0.5
    _halo(pen, scene, 64 + shift, half)
    if scene.who in ("horse", "rider", "couple_rider"):
        _mounted(pen, scene, rng, tilt, size * (1.36 if half else 1.07), mirror)
    elif scene.who == "couple":
        _couple(pen, scene, size, tilt, half, mirror, spoilt)
    else:
        scale = size * (1.9 if half else 1.0)
        raised = 15 if scene.who == "girl" and scene.action in (*AT_DESK, "bored") else 0
        foot = pen.view[3] - 6 - raised + 40 * scale if half else GROUND
        with pen.placed(64 + shift * (0.6 if half else 1.5), foot, scale, mirror=mirror):
            _single(pen, scene, tilt, spoilt)
    if scene.action == "sing" and scene.who == "girl":
        _notes(pen, rng)


def _halo(pen: Pen, scene: Scene, x: float, half: bool):
    """Light behind the figure where the place is dark, bare paper around it in ink."""
    if scene.place in DARK_PLACES:
        pen.glow(x, 70, 62 if half else 52, DARK_PLACES[scene.place], 0.62)
    elif pen.name == "ink":
        pen.glow(x, 74, 60 if half else 50, (255, 252, 240), 0.6)


def _single(pen: Pen, scene: Scene, tilt: float, spoilt):
    """A girl or prince alone; the origin is on the ground below them."""
    if scene.who == "prince":
        figures.prince(pen, "stand", tilt, 0.0, spoilt=spoilt)
    elif scene.action in AT_DESK:
        _at_desk(pen, scene, tilt, spoilt)
    elif scene.action == "bored":
        sofa(pen, 0, -20)
        with pen.placed(0, 12):
            figures.girl(pen, scene, "bored", tilt * 0.5, lift=12, spoilt=spoilt)
    else:
        action = scene.action if scene.action in figures.ARMS else "stand"
        figures.girl(pen, scene, action, tilt, 0.2, spoilt=spoilt)
    if spoilt:
        spoilt.hand(pen, 1)


def _at_desk(pen: Pen, scene: Scene, tilt: float, spoilt):
    sinks = 0 if scene.action == "write" else 9
    top = -45 + sinks * 0.6
    if scene.action == "sleep":
        figures.asleep(pen, scene, top)
    else:
        turn = {"wake": 9, "write": 5}.get(scene.action, 0) + tilt * 0.5
        with pen.placed(0, sinks):
            figures.girl(pen, scene, scene.action, turn, 0.5 if scene.action == "listen" else 0.0, sinks, spoilt)
    if scene.action == "sleep":
        figures.skirt_below(pen, scene, top)
    _desk(pen, top, scene.action)
    if scene.action == "sleep":
        figures.sleeping_arms(pen, scene, top, spoilt)


def _desk(pen: Pen, top: float, action: str):
    """A wooden desk in front of the figure, with what lies on it."""
    for x in (-30, 30):
        pen.limb([(x, top + 8), (x, -2)], DARK_WOOD, 4)
    pen.fill(poly((-33, top), (33, top), (37, top + 6), (-37, top + 6)), (206, 152, 98), 0.6)
    pen.fill(box(-37, top + 6, 37, top + 11, 0.6), WOOD, 0.8)
    if action in ("listen", "wake"):
        slip = (-30, top - 2) if action == "listen" else (-32, top + 2)
        for i in range(6):
            pen.fill(box(slip[0] + i * 2.8, slip[1], slip[0] + i * 2.8 + 2.5, slip[1] + 6), (226, 200, 128), 0.5, 0.4)
        pen.stroke([(slip[0], slip[1] + 3), (slip[0] + 17, slip[1] + 3)], (150, 70, 50), 0.8)
    if action == "write":
        pen.fill(poly((-12, top + 0.8), (17, top + 0.8), (19, top + 5), (-14, top + 5)), (255, 253, 244), 0.2, 0.5)
        for i in range(3):
            pen.stroke([(-8 + i * 6, top + 2), (-6 + i * 6, top + 4)], (50, 46, 52), 1.0)
        pen.fill(box(-29, top - 1, -20, top + 3.6, 1), (70, 68, 78), 0.7, 0.6)
    if action in ("sleep", "wake", "listen"):
        for i, tone in enumerate(((96, 128, 132), (186, 96, 74))):
            pen.fill(box(21 - i, top - 0.5 - i * 3, 33 - i, top + 2.6 - i * 3, 0.5), tone, 0.6, 0.6)


def _couple(pen: Pen, scene: Scene, size: float, tilt: float, half: bool, mirror: bool, spoilt):
    scale = size * (1.5 if half else 0.97)
    foot = pen.view[3] - 12 + 40 * scale if half else GROUND
    gap = 27 if half else 22
    for who, side in (("prince", 1), ("girl", -1)):
        with pen.placed(64 + side * gap * (-1 if mirror else 1), foot, scale, mirror=(side == 1) != mirror):
            if who == "prince":
                figures.prince(pen, "talk", 2, 0.9, spoilt=spoilt)
            else:
                figures.girl(pen, scene, "talk_girl", tilt * 0.4 + 2, 0.9, spoilt=spoilt)
                if spoilt:
                    spoilt.hand(pen, 1)


def _mounted(pen: Pen, scene: Scene, rng: random.Random, tilt: float, size: float, mirror: bool):
    foot = GROUND if scene.framing == "full" else 136
    with pen.placed(62 if mirror else 66, foot, size, mirror=mirror):
        horse.horse(pen, scene.who != "horse", rng.uniform(-1, 1))
        if scene.who != "horse":
            horse.riders(pen, scene, tilt)


def _notes(pen: Pen, rng: random.Random):
    for x, y in ((24, 46), (104, 30), (34, 22)):
        x, y = x + rng.uniform(-4, 4), y + rng.uniform(-4, 4)
        tone = rng.choice(((255, 196, 60), (244, 96, 140), (80, 160, 240)))
        pen.limb([(x + 2.4, y), (x + 2.4, y - 10)], tone, 1.5)
        pen.limb([(x + 2.4, y - 10), (x + 6.4, y - 7)], tone, 1.9)
        pen.fill(oval(x, y, 3.2, 2.5), tone, 0.6, 0.7)


def figurine(seed: int, width: int = 128, height: int = 128) -> Image.Image:
    """A picture of the one toy robot cat, RGB; every seed another place, size and way of painting."""
    rng = random.Random(seed)
    style, place = figurine_words(rng)
    surface, pen = _surface(width, height, style, rng)
    PLACES[place](pen, rng)
    if place in DARK_PLACES:
        pen.glow(64, 76, 56, DARK_PLACES[place], 0.7)
    pen.focus = True
    with pen.placed(64 + rng.uniform(-14, 14), GROUND, rng.uniform(0.75, 1.05), rng.uniform(-4, 4), rng.random() < 0.5):
        _robot_cat(pen)
    return Image.fromarray(spoil(finish(_pixels(surface), style, seed), "none", 0.0, seed))


def figurine_words(rng: random.Random) -> tuple[str, str]:
    """Style and place of a picture of the toy; from random.Random(seed) those of figurine(seed)."""
    return rng.choice(("plain", "plain", *STYLE)), rng.choice(PLACE)


def _robot_cat(pen: Pen):
    teal, light, orange = (38, 166, 164), (226, 250, 246), (250, 140, 40)
    pen.limb([(20, -14), (32, -22), (30, -34)], teal, 4.5)
    for side in (-1, 1):
        pen.fill(oval(side * 11, -4, 9, 5.5), (30, 130, 134), 0.9)
        pen.fill(poly((side * 8, -76), (side * 24, -84), (side * 23, -62)), teal, 0.8)
        pen.fill(poly((side * 13, -74), (side * 21.5, -79), (side * 21, -66)), (255, 170, 170), 0.4, 0.5)
    pen.fill(smooth([(-20, -10), (-21, -28), (-14, -42), (14, -42), (21, -28), (20, -10), (0, -5)]), teal)
    pen.fill(oval(0, -22, 13, 13), light, 0.6)
    pen.fill(oval(0, -22, 4, 4), (255, 210, 80), 1)
    for side in (-1, 1):
        pen.limb([(side * 17, -36), (side * 25, -28), (side * 23, -20)], teal, 6.5)
        pen.fill(oval(side * 23, -18, 4.4), light, 0.6)
    pen.limb([(0, -78), (0, -92)], (110, 120, 134), 2)
    pen.fill(oval(0, -94, 4), (255, 84, 74), 1.2)
    pen.fill(oval(0, -60, 27, 21), teal)
    pen.fill(oval(0, -57, 20, 14.5), light, 0.5)
    for side in (-1, 1):
        pen.flat(oval(side * 8, -60, 3.6, 5), (32, 48, 66))
        pen.flat(oval(side * 8 - 1.2, -62, 1.4), (255, 255, 255))
        pen.flat(oval(side * 13.4, -52, 3, 1.8), (255, 150, 140), 0.6)
        for dy in (-2, 2):
            pen.stroke([(side * 16, -55 + dy * 0.5), (side * 27, -56 + dy * 1.6)], (60, 80, 92), 0.8)
    pen.flat(oval(0, -55.6, 1.8, 1.3), (255, 110, 100))
    pen.stroke([(-4, -51.6), (-2, -50), (0, -52), (2, -50), (4, -51.6)], (60, 60, 76), 1.0)
    pen.fill(smooth([(-19, -43), (0, -38), (19, -43), (19, -37), (0, -32), (-19, -37)]), orange, 0.9)
    pen.fill(smooth([(8, -37), (15, -38), (18, -20), (10, -18)], tension=0.6), mix(orange, (200, 70, 20), 0.3), 0.8)
