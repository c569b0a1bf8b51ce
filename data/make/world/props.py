"""What people hold, sit at or think: microphones, books, desks, and signs in the air that say what goes on."""

import random

from world.colors import BLUSH, SKIN, WHITE
from world.indoors import DARK_WOOD, WOOD
from world.pen import Pen, box, mix, oval, poly, smooth, star, zigzag

BAMBOO, CREAM = (228, 202, 126), (255, 253, 244)


def held(pen: Pen, action: str, left, right):
    """What the hands at `left` and `right` hold or do, in the coordinates of the figure."""
    if action == "sing":
        x, y = left
        pen.limb([(x, y + 5), (x + 2, y - 3)], (60, 60, 72), 3.6)
        pen.fill(oval(x + 3, y - 6.4, 4.6), (96, 98, 120), 1.2, 0.7)
    elif action == "watch":
        for (x, y), tone in ((left, (120, 240, 255)), (right, (255, 150, 230))):
            tip = (x * 1.08, y - 21)
            pen.glow(tip[0], tip[1] + 7, 15, tone, 0.8)
            pen.limb([(x, y - 3), tip], mix(tone, WHITE, 0.4), 4.6)
    elif action in ("wish", "nervous"):
        for dy in (-2, 0.4, 2.8):
            pen.stroke([(-4, -44 + dy), (4, -43.4 + dy)], mix(SKIN, BLUSH, 0.75), 1.5)
    elif action == "write":
        x, y = right
        pen.limb([(x + 5, y - 24), (x - 1, y + 4)], (176, 100, 50), 3.2)
        pen.limb([(x - 1, y + 3), (x - 2.4, y + 8)], (30, 28, 32), 4.2)
    elif action == "read":
        open_book(pen, -38)


def open_book(pen: Pen, y: float):
    """A large open book, held low before the chest."""
    for side in (-1, 1):
        cover = [(0, y - 7), (side * 17, y - 11), (side * 17, y + 7), (0, y + 10)]
        pen.fill(poly(*cover), (196, 74, 66), 0.6)
        page = [(0, y - 8), (side * 14.6, y - 11.6), (side * 14.6, y + 4), (0, y + 7)]
        pen.fill(poly(*page), CREAM, 0.3, 0.6)
        for dy in (-5, 0):
            pen.stroke([(side * 3.4, y + dy - 0.6), (side * 11.6, y + dy - 2.6)], (150, 150, 168), 1.5)


def desk(pen: Pen, top: float, action: str):
    """A wooden desk in front of the figure, its top at y = `top`, with what lies on it."""
    for x in (-33, 33):
        pen.limb([(x, top + 10), (x, -2)], DARK_WOOD, 5)
    pen.fill(poly((-36, top), (36, top), (41, top + 8), (-41, top + 8)), (212, 156, 98), 0.6)
    pen.fill(box(-41, top + 8, 41, top + 14, 0.6), WOOD, 0.8)
    if action == "write":
        pen.fill(poly((-12, top + 1), (19, top + 1), (22, top + 7), (-14, top + 7)), CREAM, 0.2, 0.5)
        for x in (-6, 1, 8):
            pen.stroke([(x, top + 2.4), (x + 3, top + 5.6)], (50, 46, 52), 2)
        pen.fill(box(-33, top - 2, -20, top + 5, 1.4), (70, 68, 78), 0.7, 0.6)
    elif action == "listen":
        bamboo(pen, -12, top + 0.5, 24, 7)
    else:
        books(pen, 24, top)
        bamboo(pen, -36, top - 2, 16, 8)


def bamboo(pen: Pen, x: float, y: float, wide: float, tall: float):
    """A book of bamboo slips."""
    pen.fill(box(x, y, x + wide, y + tall, 1), BAMBOO, 0.5, 0.6)
    for i in range(1, int(wide / 4)):
        pen.stroke([(x + i * 4, y + 1), (x + i * 4, y + tall - 1)], (176, 140, 70), 1.5)
    pen.stroke([(x, y + tall / 2), (x + wide, y + tall / 2)], (150, 70, 50), 1.5)


def books(pen: Pen, x: float, foot: float):
    for i, tone in enumerate(((96, 128, 152), (196, 92, 70))):
        pen.fill(box(x - i * 1.6, foot - 1 - i * 5, x + 15 - i * 1.6, foot + 4 - i * 5, 0.8), tone, 0.6, 0.6)


def teacher(pen: Pen):
    """The teacher's sleeve and hand with a bamboo book, from the right; the figure's coordinates."""
    sleeve = [(140, -44), (58, -64), (40, -58), (33, -50), (44, -40), (140, -8)]
    pen.fill(smooth(sleeve, tension=0.6), (104, 116, 160), 0.8)
    bamboo(pen, 23, -82, 20, 17)
    pen.fill(oval(34, -61, 5), SKIN, 0.4, 0.8)


def bubble(pen: Pen, x: float, y: float, w: float, h: float, tail: float):
    """A speech bubble whose tail points down to x = `tail`."""
    pen.fill(poly((tail - 0.5, y + h + 6), (x - 4, y + h - 3), (x + 4, y + h - 3)), WHITE, 0, 0.6)
    pen.fill(oval(x, y, w, h), WHITE, 0, 0.8)
    pen.flat(poly((tail, y + h + 3), (x - 2.6, y + h - 5), (x + 2.6, y + h - 5)), WHITE)


def heart(pen: Pen, x: float, y: float, r: float, rgb=(240, 84, 110)):
    right = [(x, y - r * 0.3), (x + r * 0.6, y - r), (x + r, y - r * 0.2), (x, y + r)]
    pen.flat(smooth([*right, (x - r, y - r * 0.2), (x - r * 0.6, y - r)], tension=0.7), rgb)


def signs(pen: Pen, action: str, rng: random.Random, reach: float):
    """Signs in the air round the head of a single figure that tell what she does, most of them on her right.

    The figure's coordinates; `reach` brings them nearer (below 1) where the picture is narrow.
    """
    if action == "sing":
        for x, y, tone in zip((-26, 31, 35), (-92, -78, -95), rng.sample(NOTES, 3), strict=True):
            note(pen, x * reach - (2 if x > 0 else 4), y + rng.uniform(-2, 3), tone)
    elif action == "dance":
        for x, y, tone in zip((-33, 36, 33), (-50, -84, -60), NOTES, strict=True):
            pen.flat(star(x * reach, y + rng.uniform(-3, 3), 6, 4, 0.4), tone)
    elif action == "bored":
        bubble(pen, 28 * reach, -92, 13, 8, 21)
        for dx in (-6, 0, 6):
            pen.flat(oval(28 * reach + dx, -92, 2), (90, 94, 116))
    elif action == "nervous":
        for x, y, r in ((26, -84, 1.1), (-26, -80, 0.9), (30, -66, 0.8)):
            drop = [(x, y - 8 * r), (x + 4.6 * r, y + 1), (x, y + 5 * r), (x - 4.6 * r, y + 1)]
            pen.fill(smooth(drop), (120, 196, 250), 0.5, 0.6)
    elif action == "watch":
        for side in (-1, 1):
            heart(pen, side * 21, -95, 4.6)
    elif action == "wake":
        bubble(pen, 28 * reach, -93, 10, 8.5, 21)
        zee(pen, 28 * reach, -93, 3.8)


NOTES = ((255, 190, 50), (244, 84, 136), (70, 150, 244))


def note(pen: Pen, x: float, y: float, rgb):
    pen.limb([(x + 4, y), (x + 4, y - 14)], rgb, 2.2)
    pen.limb([(x + 4, y - 14), (x + 9, y - 10)], rgb, 3)
    pen.fill(oval(x, y, 5, 3.9), rgb, 0.6, 0.7)


def zee(pen: Pen, x: float, y: float, r: float, rgb=(84, 104, 206)):
    """The letter Z of a sleeper's breath, r units to each side."""
    with pen.placed(x, y, mirror=pen.flipped):  # a letter is never mirrored
        pen.stroke(zigzag((-r, -r), (r, -r), (-r, r), (r, r)), rgb, max(1.8, r * 0.5))
