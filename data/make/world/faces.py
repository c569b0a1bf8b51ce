"""The features of a face, drawn with the origin at the neck, the chin at about y = 0; eyes are 8.6 units or wider."""

import math

from world.colors import BLUSH, DARK, LASH, MOUTH, WHITE
from world.pen import Pen, hsv, mix, oval, smooth, star

EYE_X, EYE_Y, MOUTH_Y = 8.6, -15.5, -6.2
EYE = {"plain": (4.3, 5.3), "anime": (5.0, 6.6)}  # half width and half height in units

CLOSED = {"closed": 1, "happy": -1}  # which way the line of a shut eye bends


def features(pen: Pen, hair, eyes: str, mouth: str, look: float, flaw=None):
    """Eyes, brows, cheeks and mouth; `look` -1..1 turns the face to the side."""
    for dx, dy in flaw.copies() if flaw else ((0, 0),):
        with pen.placed(look * 3.4 + dx, dy):
            _features(pen, hair, eyes, mouth, flaw)


def _features(pen: Pen, hair, eyes: str, mouth: str, flaw):
    anime = pen.name == "anime"
    for side in (-1, 1):
        x, y, size = side * EYE_X, EYE_Y, 1.0
        pen.flat(oval(side * 12.6, -8.4, 3.6, 2.2), BLUSH, 0.6, blur=0 if pen.name == "papercut" else 0.8)
        if flaw:
            x, y, size = flaw.eye(x, y, side)
        (anime_eye if anime else dot_eye)(pen, x, y, size, eyes, hair, side)
        if not anime:
            worry = 1.5 * side if eyes == "nervous" else 0.0  # the inner ends go up
            brow = [(x - 3, y - 7.4 - worry), (x, y - 8.6), (x + 3, y - 7.4 + worry)]
            pen.stroke(brow, mix(hair, DARK, 0.5), 1.5, 0.85)
    if flaw and flaw.kind == "deform":
        flaw.torn_mouth(pen, 0)
    else:
        draw_mouth(pen, mouth, *(flaw.mouth(0, MOUTH_Y) if flaw else (0, MOUTH_Y)))


def dot_eye(pen: Pen, x: float, y: float, size: float, eyes: str, hair, side: int):
    """A large simple eye with one light in it."""
    rx, ry = (half * size for half in EYE["plain"])
    if eyes in CLOSED:
        pen.stroke([(x - rx, y), (x, y + 2.6 * CLOSED[eyes]), (x + rx, y)], DARK, 1.9)
        return
    if eyes == "dazed":
        pen.flat(oval(x, y + 1.2, rx, ry * 0.62), DARK)
        pen.flat(oval(x - 1.2, y + 0.4, 1.3), WHITE)
        pen.stroke([(x - rx - 0.8, y - 1.5), (x + rx + 0.8, y - 1.5)], DARK, 2.0)
        return
    big = 1.14 if eyes == "sparkle" else 1.0
    pen.flat(oval(x, y, rx * big, ry * big), DARK)
    pen.flat(oval(x, y + ry * 0.5, rx * 0.62, ry * 0.36), (132, 92, 84))
    if eyes == "sparkle":
        pen.flat(star(x - 0.6, y - 1.2, 3.4, 4, 0.42), (255, 250, 210))
    else:
        pen.flat(oval(x - 1.3 * size, y - 1.9 * size, 1.6 * size), WHITE)


def anime_eye(pen: Pen, x: float, y: float, size: float, eyes: str, hair, side: int):
    """A tall eye with a bright iris, two lights and a heavy upper lash."""
    rx, tall = (half * size for half in EYE["anime"])
    if eyes in CLOSED:
        pen.stroke([(x - rx, y), (x, y + 3.2 * CLOSED[eyes]), (x + rx, y)], LASH, 2.2)
        return
    tall *= 0.6 if eyes == "dazed" else 1
    iris = hsv(mix(hair, (70, 130, 240), 0.75), 1.5, 1.15)
    pen.flat(oval(x, y, rx, tall), WHITE)
    pen.flat(oval(x, y + 0.4, rx * 0.84, tall * 0.94), mix(iris, (20, 10, 60), 0.35))
    pen.flat(oval(x, y + tall * 0.42, rx * 0.64, tall * 0.48), mix(iris, WHITE, 0.45))
    pen.flat(oval(x, y, rx * 0.36, tall * 0.46), (34, 18, 52))
    if eyes == "sparkle":
        pen.flat(star(x - 0.8, y - tall * 0.3, 3.6, 4, 0.42), (255, 255, 230))
    else:
        pen.flat(oval(x - 1.5 * size, y - tall * 0.4, 1.9 * size), WHITE)
    pen.flat(oval(x + 1.7 * size, y + tall * 0.5, 1.0 * size), WHITE)
    arc = [math.radians(a) for a in (168, 130, 90, 50, 12)]
    pen.stroke([(x + (rx + 0.2) * math.cos(a), y - tall * math.sin(a)) for a in arc], LASH, 2.0)
    pen.stroke([(x + side * rx * 0.9, y - tall * 0.5), (x + side * (rx + 2), y - tall * 0.62)], LASH, 1.6)


def draw_mouth(pen: Pen, mouth: str, x: float, y: float):
    if mouth == "open":
        shape = [(x - 4.2, y - 1.6), (x, y - 2.2), (x + 4.2, y - 1.6), (x + 2.6, y + 3.6), (x - 2.6, y + 3.6)]
        pen.flat(smooth(shape), MOUTH)
        pen.flat(oval(x, y + 2.4, 2, 1.3), (250, 140, 140))
    elif mouth == "yawn":
        pen.flat(oval(x, y + 0.6, 2.8, 3.6), MOUTH)
    elif mouth == "small":
        pen.flat(oval(x, y, 1.7, 1.4), MOUTH)
    else:
        dips = {"flat": (0, 0, 0), "wavy": (-1.3, 1.3, -1.3)}.get(mouth, (1.7, 2.4, 1.7))
        middle = [(x + i * 2.1, y + d) for i, d in zip((-1, 0, 1), dips, strict=True)]
        pen.stroke([(x - 4.2, y), *middle, (x + 4.2, y)], MOUTH, 1.8)
