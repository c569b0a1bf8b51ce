"""Toys: figurine(seed), the one toy robot cat, and toy(seed), one of a large family that only the VAE is shown."""

import math
import random

from PIL import Image

from world.cast import GROUND
from world.colors import WHITE
from world.draw import backdrop, canvas, halo, pixels_of
from world.finish import finish, spoil
from world.look import look_of
from world.pen import Pen, box, hsv, mirrored, mix, oval, poly, smooth, star
from world.scenes import PLACE, STYLE, UNSEEN_STYLE

EYE, PINK = (32, 40, 60), (255, 150, 150)
TINTS = (
    (232, 84, 84), (250, 150, 60), (250, 208, 70), (110, 196, 96), (70, 150, 230), (150, 110, 220), (250, 150, 190),
    (180, 124, 80), (240, 236, 228), (96, 104, 124),
)  # fmt: skip


def figurine(seed: int, width: int = 128, height: int = 128) -> Image.Image:
    """A picture of the one toy robot cat, RGB; every seed another place, size and way of painting."""
    rng = random.Random(seed)
    style, place = figurine_words(rng)
    return _placed(seed, style, place, rng, robot_cat, width, height)


def figurine_words(rng: random.Random) -> tuple[str, str]:
    """Style and place of a picture of the toy; from random.Random(seed) those of figurine(seed)."""
    return rng.choice(("plain", "plain", *STYLE)), rng.choice(PLACE)


def toy(seed: int, width: int = 128, height: int = 128) -> Image.Image:
    """A picture of some toy, never the robot cat: every seed another kind, colours, place and way of painting."""
    rng = random.Random(seed)
    style, place, kind = rng.choice((*STYLE, UNSEEN_STYLE)), rng.choice(PLACE), rng.choice(KINDS)
    body, trim = rng.sample(TINTS, 2)
    return _placed(seed, style, place, rng, lambda pen: kind(pen, body, trim, rng), width, height)


def _placed(seed: int, style: str, place: str, rng: random.Random, draw, width: int, height: int) -> Image.Image:
    look = look_of(seed)
    surface, pen = canvas(width, height, style, rng)
    backdrop(pen, place, look, rng)
    x = 64 + look.side * 17
    halo(pen, style, place, x)
    pen.focus = True
    with pen.placed(x, GROUND, 0.86 + 0.2 * look.near, rng.uniform(-4, 4), look.mirror):
        draw(pen)
    return Image.fromarray(spoil(finish(pixels_of(surface), style, seed), "none", 0.0, seed))


def robot_cat(pen: Pen):
    """Teal, with a red aerial, an orange scarf and a yellow button; 100 units tall, feet at y = 0."""
    teal, light, orange = (38, 166, 164), (226, 250, 246), (250, 140, 40)
    pen.limb([(20, -14), (32, -22), (30, -34)], teal, 6)
    for side in (-1, 1):
        pen.fill(oval(side * 11, -4, 10, 6), (30, 130, 134), 0.9)
        pen.fill(poly((side * 8, -76), (side * 27, -88), (side * 26, -62)), teal, 0.8)
        pen.fill(poly((side * 14, -75), (side * 24, -82), (side * 23.4, -66)), (255, 170, 170), 0.4, 0.5)
    pen.fill(smooth(mirrored([(0, -43), (14, -42), (22, -28), (20, -10), (0, -5)])), teal)
    pen.fill(oval(0, -20, 14, 13), light, 0.6)
    pen.fill(oval(0, -19, 5, 5), (255, 210, 80), 1)
    for side in (-1, 1):
        pen.limb([(side * 17, -36), (side * 26, -28), (side * 25, -20)], teal, 8)
        pen.fill(oval(side * 25, -18, 5.4), light, 0.6)
    pen.limb([(0, -80), (0, -94)], (110, 120, 134), 3)
    pen.fill(oval(0, -97, 5.4), (255, 84, 74), 1.2)
    pen.fill(oval(0, -60, 30, 23), teal)
    pen.fill(oval(0, -57, 23, 16.5), light, 0.5)
    for side in (-1, 1):
        _eye(pen, side * 9, -61, 4.6, 6)
        pen.flat(oval(side * 16, -51.6, 3.6, 2.4), PINK, 0.7)
        for dy in (-2, 2):
            pen.stroke([(side * 18, -55 + dy), (side * 31, -56 + dy * 2)], (60, 80, 92), 1.6)
    pen.flat(oval(0, -54.6, 2.6, 1.9), (255, 110, 100))
    pen.stroke([(-5, -50), (-2.5, -48), (0, -50.4), (2.5, -48), (5, -50)], (60, 60, 76), 1.6)
    pen.fill(smooth(mirrored([(0, -38.6), (20, -44), (20, -36.4), (0, -31)])), orange, 0.9)
    pen.fill(smooth([(8, -37), (16, -38), (19, -19), (10, -17)], tension=0.6), mix(orange, (200, 70, 20), 0.3), 0.8)


def _eye(pen: Pen, x: float, y: float, rx: float, ry: float):
    pen.flat(oval(x, y, rx, ry), EYE)
    pen.flat(oval(x - rx * 0.33, y - ry * 0.4, rx * 0.4), WHITE)


def _face(pen: Pen, y: float, apart: float, size: float, rng: random.Random):
    """Two eyes, cheeks and a mouth below them; `size` is half an eye's width in units."""
    for side in (-1, 1):
        _eye(pen, side * apart, y, size, size * rng.uniform(1.0, 1.4))
        pen.flat(oval(side * (apart + size * 1.7), y + size * 2, size * 0.9, size * 0.6), PINK, 0.65)
    dip = rng.choice((2.4, 2.4, -1.4))
    pen.stroke([(-4, y + size * 2.2), (0, y + size * 2.2 + dip), (4, y + size * 2.2)], EYE, 1.8)


def animal(pen: Pen, body, trim, rng: random.Random):
    """A plush animal: a bear, rabbit, mouse, cow or lion by its ears, with a scarf, bow, button or stripe."""
    wide, belly = rng.uniform(23, 29), mix(body, WHITE, 0.6)
    ears = rng.choice(("round", "long", "big", "horns", "mane"))
    if ears == "mane":
        edge = [(math.cos(a * 0.45), math.sin(a * 0.45), 1.18 + 0.12 * (a % 2)) for a in range(14)]
        pen.fill(smooth([(wide * k * x, -60 + 22 * k * y) for x, y, k in edge]), trim, 0.8)
    for side in (-1, 1):
        _ear(pen, ears, side, wide, body, trim)
        pen.fill(oval(side * 12, -5, 10, 6.5), hsv(body, 1, 0.85), 0.9)
    pen.fill(smooth(mirrored([(0, -43), (14, -42), (21, -28), (20, -10), (0, -5)])), body)
    pen.fill(oval(0, -21, 13, 12), belly, 0.6)
    for side in (-1, 1):
        pen.limb([(side * 16, -36), (side * 25, -30), (side * 27, -20 - rng.choice((0, 20)))], body, 9)
    pen.fill(oval(0, -60, wide, rng.uniform(20, 23)), body)
    pen.fill(oval(0, -52, 11, 8), belly, 0.5, 0.7)
    pen.flat(oval(0, -55, 3, 2.2), EYE)
    _face(pen, -62, rng.uniform(9, 13), rng.uniform(3.2, 4.6), rng)
    _trimmed(pen, trim, rng)


def _ear(pen: Pen, kind: str, side: int, wide: float, body, trim):
    if kind == "long":
        pen.fill(oval(side * wide * 0.45, -90, 6, 17), body)
        pen.fill(oval(side * wide * 0.45, -89, 3, 12), mix(body, PINK, 0.6), 0.4, 0.5)
    elif kind == "horns":
        pen.fill(poly((side * 10, -78), (side * 20, -76), (side * 21, -92)), trim, 0.7)
        pen.fill(oval(side * (wide + 3), -66, 8, 5), body)
    elif kind != "mane":
        r = 8 if kind == "round" else 14
        pen.fill(oval(side * wide * 0.8, -77, r), body)
        pen.fill(oval(side * wide * 0.8, -76, r * 0.55), mix(body, PINK, 0.5), 0.4, 0.5)


def _trimmed(pen: Pen, trim, rng: random.Random):
    kind = rng.choice(("scarf", "bow", "button", "star"))
    if kind == "scarf":
        pen.fill(smooth(mirrored([(0, -37), (18, -43), (18, -36), (0, -31)])), trim, 0.9)
    elif kind == "bow":
        for side in (-1, 1):
            pen.fill(poly((0, -38), (side * 12, -45), (side * 12, -31)), trim, 0.8)
        pen.fill(oval(0, -38, 3.4), hsv(trim, 1, 0.8), 0.6)
    elif kind == "star":
        pen.fill(star(0, -22, 8, 5, 0.45), trim, 0.6)
    else:
        for y in (-28, -18):
            pen.fill(oval(0, y, 3), trim, 1)


def duck(pen: Pen, body, trim, rng: random.Random):
    """A bath duck on a round belly, or a penguin with a white front."""
    penguin = rng.random() < 0.4
    for side in (-1, 1):
        pen.fill(oval(side * 11, -4, 10, 5), (246, 150, 50), 0.8)
    pen.fill(oval(0, -27, 26, 25), body)
    if penguin:
        pen.fill(oval(0, -25, 17, 20), WHITE, 0.4, 0.6)
    for side in (-1, 1):
        pen.fill(smooth([(side * 20, -42), (side * 34, -26), (side * 26, -16), (side * 18, -24)]), hsv(body, 1, 0.85))
    pen.fill(oval(0, -66, 23, 21), body)
    if rng.random() < 0.6:
        pen.fill(smooth([(-14, -82), (0, -100), (14, -82), (0, -78)], tension=0.5), trim, 0.8)
    _face(pen, -69, 10, rng.uniform(3.4, 4.6), rng)
    pen.fill(oval(0, -60, 10, 4.6), (250, 150, 40), 0.8)


def robot(pen: Pen, body, trim, rng: random.Random):
    """A square robot on feet or wheels."""
    for side in (-1, 1):
        if rng.random() < 0.5:
            pen.fill(oval(side * 13, -8, 8), (80, 84, 98), 1)
        else:
            pen.fill(box(side * 13 - 8, -12, side * 13 + 8, 0, 2), hsv(body, 1, 0.75), 0.8)
        pen.limb([(side * 24, -38), (side * 34, -28), (side * 33, -18)], (150, 156, 170), 6)
        pen.fill(oval(side * 33, -16, 5.4), trim, 0.7)
    pen.fill(box(-23, -46, 23, -10, 4), body)
    pen.fill(box(-14, -38, 14, -20, 3), mix(trim, WHITE, 0.5), 0.6, 0.7)
    for i in (-1, 0, 1):
        pen.fill(oval(i * 8, -29, 2.8), TINTS[(i + rng.randrange(8)) % 8], 0.6, 0.6)
    pen.limb([(0, -84), (0, -94)], (110, 120, 134), 3)
    pen.fill(rng.choice((oval(0, -97, 5), star(0, -97, 7, 5, 0.45))), trim, 1)
    pen.fill(box(-27, -85, 27, -47, rng.choice((4, 10, 16))), body)
    pen.fill(box(-21, -79, 21, -54, 5), mix(body, WHITE, 0.75), 0.4, 0.7)
    _face(pen, -70, rng.uniform(8, 11), rng.uniform(3.4, 4.6), rng)


def rocket(pen: Pen, body, trim, rng: random.Random):
    """A rocket with round windows and a flame."""
    pen.fill(smooth([(-9, -14), (9, -14), (5, -4), (0, 4), (-5, -4)], tension=0.6), (255, 180, 50), 0.8)
    for side in (-1, 1):
        pen.fill(smooth([(side * 14, -44), (side * 32, -16), (side * 28, -6), (side * 12, -16)], tension=0.5), trim)
    pen.fill(smooth(mirrored([(0, -100), (13, -80), (20, -50), (13, -12), (0, -11)]), tension=0.8), body)
    pen.fill(smooth(mirrored([(0, -100), (8, -90), (13, -79), (0, -76)]), tension=0.6), trim, 0.8)
    for y, r in ((-58, 10), (-32, 6)):
        pen.fill(oval(0, y, r), mix(trim, (60, 60, 80), 0.4), 0.6)
        pen.fill(oval(0, y, r * 0.68), (170, 226, 250), 0.7, 0.6)


def car(pen: Pen, body, trim, rng: random.Random):
    """A car or an engine with a chimney."""
    engine = rng.random() < 0.4
    pen.fill(box(-26 if not engine else 2, -64, 20 if not engine else 34, -32, 9), hsv(body, 1, 0.9))
    pen.fill(box(-18 if not engine else 8, -57, 13 if not engine else 28, -38, 5), (190, 230, 248), 0.6, 0.7)
    if engine:
        pen.fill(box(-28, -66, -16, -36, 2), trim, 0.9)
        pen.fill(oval(-22, -66, 9, 4), hsv(trim, 1, 0.8), 0.6)
    pen.fill(box(-42, -42, 42, -10, 10), body)
    pen.fill(box(-42, -28, 42, -22, 1), trim, 0.4, 0.5)
    pen.fill(oval(-36 if engine else 36, -32, 5), (255, 240, 160), 0.6)
    for x in (-23, 23):
        pen.fill(oval(x, -10, 12), (64, 66, 80), 0.8)
        pen.fill(oval(x, -10, 5.4), mix(trim, WHITE, 0.5), 0.6, 0.6)


def stacked(pen: Pen, body, trim, rng: random.Random):
    """Rings on a peg, a snowman or a nesting doll."""
    kind = rng.choice(("rings", "snowman", "doll"))
    if kind == "rings":
        tints = rng.sample(TINTS, 5)
        for i, tint in enumerate(tints):
            pen.fill(box(-34 + i * 5, -16 - i * 16, 34 - i * 5, -i * 16, 8), tint)
        pen.fill(oval(0, -86, 9), trim)
    elif kind == "snowman":
        pen.fill(oval(0, -26, 30, 27), mix(body, WHITE, 0.7))
        pen.fill(oval(0, -68, 22, 20), mix(body, WHITE, 0.7))
        pen.fill(box(-22, -86, 22, -82, 2), trim, 0.8)
        pen.fill(box(-14, -102, 14, -84, 3), trim, 0.8)
        _face(pen, -70, 8, 3.6, rng)
        _trimmed(pen, trim, rng)
    else:
        pen.fill(smooth(mirrored([(0, -100), (17, -92), (21, -68), (32, -30), (24, -1), (0, 0)])), body)
        pen.fill(oval(0, -72, 16, 16), (252, 222, 196), 0.4, 0.7)
        pen.fill(oval(0, -26, 20, 18), mix(trim, WHITE, 0.3), 0.6)
        pen.fill(star(0, -26, 11, 6, 0.5), body, 0.5, 0.6)
        _face(pen, -74, 6.6, 3.2, rng)


KINDS = (animal, animal, animal, duck, robot, robot, rocket, car, stacked)
