"""The places under the sky, painted over the whole view. The ground people stand on is at y = 118 (units of 1/128)."""

import math
import random

import skia

from world.pen import Pen, box, mix, oval, smooth, star

BOAT = (122, 80, 50)


def area(pen: Pen, y0: float, y1: float):
    left, _, right, _ = pen.view
    return box(left - 2, y0, right + 2, y1)


def sky(pen: Pen, top, bottom, horizon: float):
    pen.gradient(area(pen, pen.view[1] - 2, horizon + 4), top, bottom, min(pen.view[1], 0), horizon)


def ridge(pen: Pen, y: float, heights, rgb, shade: float = 0.8, phase: float = 0.0, soft: bool = True):
    """A row of hills across the whole view; `heights` repeat every 128 units from `phase`."""
    left, _, right, bottom = pen.view
    step = 128 / len(heights)
    first = math.floor((left - phase) / step) - 1
    count = int((right - left) / step) + 4
    top = [(phase + (first + i) * step, y - heights[(first + i) % len(heights)]) for i in range(count)]
    points = [*top, (right + 60, bottom + 30), (left - 60, bottom + 30)]
    pen.fill(smooth(points, tension=1.0 if soft else 0.35), rgb, shade, 0.8)


def cloud(pen: Pen, x: float, y: float, r: float, rgb=(255, 255, 255), alpha: float = 0.85):
    for dx, dy, k in ((-1.3, 0.2, 0.6), (0, 0, 1), (1.2, 0.25, 0.7), (2.2, 0.4, 0.4)):
        pen.flat(
            oval(x + dx * r, y + dy * r, r * k * 1.2, r * k * 0.62),
            rgb,
            alpha,
            blur=0 if pen.name in ("papercut", "anime") else 1.2,
        )


def petals(pen: Pen, rng: random.Random, count: int, rgb=(250, 150, 180)):
    left, top, right, bottom = pen.view
    for _ in range(count):
        with pen.placed(rng.uniform(left, right), rng.uniform(top, bottom), rng.uniform(0.9, 1.4), rng.uniform(0, 180)):
            pen.flat(oval(0, 0, 2.8, 1.7), rgb, 0.95)


def tree(pen: Pen, rng: random.Random, x: float, foot: float, size: float, mirror: bool):
    """A peach tree in blossom: a trunk and five large round crowns."""
    with pen.placed(x, foot, size, mirror=mirror):
        pen.limb([(0, 0), (-2, -22), (4, -42), (2, -58)], (112, 76, 66), 6.5)
        pen.limb([(1, -32), (12, -44), (20, -56)], (112, 76, 66), 4)
        for dx, dy, r in ((-12, -60, 16), (10, -74, 18), (26, -58, 15), (4, -54, 13)):
            tone = mix((246, 142, 176), (255, 206, 222), rng.random())
            turns = [i * 0.7 for i in range(9)]
            crown = [(dx + r * (1 + 0.13 * math.cos(5 * a)) * math.cos(a), dy + 0.8 * r * math.sin(a)) for a in turns]
            pen.fill(smooth(crown), tone, 0.8, 0.7)
        for _ in range(7):
            pen.flat(oval(rng.uniform(-22, 36), rng.uniform(-84, -48), 2.2), (255, 240, 246), 0.9)


def pavilion(pen: Pen, x: float, y: float, size: float):
    """Two roofs on red posts; (x, y) is the middle of its foot."""
    with pen.placed(x, y, size):
        for px in (-12, 12):
            pen.limb([(px, 0), (px, -16)], (178, 74, 62), 2.6)
        pen.fill(box(-14, -3, 14, 1), (216, 206, 190), 0.5, 0.6)
        for dy, w in ((-16, 22), (-25, 14)):
            pen.fill(
                smooth(
                    [
                        (-w, dy - 1.5),
                        (-w * 0.5, dy - 3.5),
                        (0, dy - 11),
                        (w * 0.5, dy - 3.5),
                        (w, dy - 1.5),
                        (w * 0.6, dy + 1),
                        (-w * 0.6, dy + 1),
                    ],
                    tension=0.6,
                ),
                (86, 104, 118),
                1,
            )


def peach(pen: Pen, rng: random.Random, palette: int = 0):
    """A flagged path between peach trees, a pavilion behind."""
    blue, haze, grass = (
        ((168, 212, 240), (255, 232, 232), (148, 200, 112)),
        ((186, 226, 222), (250, 250, 224), (176, 204, 106)),
        ((196, 200, 240), (255, 222, 222), (122, 186, 122)),
    )[palette]
    sky(pen, blue, haze, 84)
    for x, y in ((24, 14), (92, 24)):
        cloud(pen, x + rng.uniform(-12, 12), y, 9)
    ridge(pen, 84, (10, 18, 8, 14), (178, 204, 190), phase=rng.uniform(0, 60))
    pavilion(pen, 64 + rng.choice((-26, 24, 30)), 84, 1.2)
    left, _, right, bottom = pen.view
    far, near = mix(grass, (255, 255, 220), 0.2), mix(grass, (40, 100, 70), 0.2)
    pen.gradient(area(pen, 82, bottom + 2), far, near, 82, bottom)
    bend = rng.uniform(-16, 16)
    path = [(58 + bend, 82), (70 + bend, 82), (84, 100), (106, bottom + 8), (18, bottom + 8), (44, 100)]
    pen.fill(smooth(path, tension=0.5), (208, 202, 194), 0.6, 0.7)
    for i, y in enumerate((95, 104, 114, 124)):
        pen.stroke([(62 - (y - 80) * 0.8, y), (66 + (y - 80) * 0.85, y + (i % 2))], (166, 160, 156), 1.5, 0.8)
    trees = [(16, False), (112, True)]  # and two more in a wide picture
    trees += [(-40, False)] * (left < -20) + [(168, True)] * (right > 148)
    for x, side in trees:
        tree(pen, rng, x + rng.uniform(-7, 7), 100 + rng.uniform(-3, 4), rng.uniform(0.95, 1.25), side)
    petals(pen, rng, rng.choice((5, 9, 16)))


def wild(pen: Pen, rng: random.Random, palette: int = 0):
    """Rolling grassland under jagged mountains and a low sun."""
    air, hills, grass = (
        ((246, 220, 168), (176, 160, 178), (222, 186, 96)),
        ((176, 220, 244), (150, 158, 196), (158, 190, 84)),
        ((250, 202, 160), (190, 140, 150), (206, 168, 84)),
    )[palette]
    sky(pen, air, mix(air, (255, 255, 246), 0.65), 76)
    x = rng.uniform(84, 112)
    pen.glow(x, 26, 32, (255, 214, 120), 0.8)
    pen.flat(oval(x, 26, 9), (255, 236, 170))
    cloud(pen, 26 + rng.uniform(-14, 14), rng.uniform(12, 28), 10)
    ridge(pen, 70, (6, 26, 8, 20, 30, 10), hills, phase=rng.uniform(0, 128), soft=False)
    ridge(pen, 82, (8, 16, 4, 12), mix(grass, hills, 0.35), phase=rng.uniform(0, 128))
    ridge(pen, 94, (4, 14, 10, 2), mix(grass, (120, 160, 90), 0.55), phase=rng.uniform(0, 128))
    ridge(pen, 110, (2, 8, 12, 5), grass, phase=rng.uniform(0, 128))
    for _ in range(rng.choice((3, 5, 7))):
        x, y = rng.uniform(pen.view[0], pen.view[2]), rng.uniform(100, pen.view[3] - 2)
        for d in (-3, 0, 3):
            pen.stroke([(x, y), (x + d, y - 7)], (128, 132, 56), 1.7)
    if rng.random() < 0.6:
        with pen.placed(rng.choice((14, 116)), 108):  # a boulder
            pen.fill(smooth([(-12, 0), (-6, -10), (6, -12), (13, 0)]), (160, 150, 150))
    petals(pen, rng, rng.choice((0, 5, 9)))


def river(pen: Pen, rng: random.Random, palette: int = 0):
    """A river between steep green mountains, a boat on it."""
    far, near, water = (
        ((150, 194, 200), (84, 156, 150), (90, 178, 200)),
        ((166, 196, 216), (104, 164, 110), (72, 160, 214)),
        ((164, 204, 186), (70, 142, 128), (110, 196, 190)),
    )[palette]
    sky(pen, (206, 234, 240), (246, 252, 248), 72)
    ridge(pen, 66, (10, 38, 14, 26, 44, 12), far, phase=rng.uniform(0, 128), soft=False)
    ridge(pen, 76, (30, 8, 4, 22, 6, 34), near, phase=rng.uniform(0, 128))
    for x in (20, 84):
        cloud(pen, x + rng.uniform(-14, 14), 70, 9, alpha=0.55)
    bottom = pen.view[3]
    pen.gradient(area(pen, 76, bottom + 2), mix(water, (235, 255, 250), 0.5), mix(water, (30, 90, 150), 0.3), 76, 116)
    for i in range(7):
        x, y = rng.uniform(pen.view[0], pen.view[2]), 81 + i * 4.2
        pen.stroke([(x - 9, y), (x, y - 0.6), (x + 9, y)], (236, 250, 252), 1.6, 0.8)
    with pen.placed(rng.choice((18, 30, 98, 108)), rng.uniform(86, 92), rng.uniform(1.2, 1.6)):
        pen.fill(smooth([(-11, -2), (0, 0), (11, -2), (7, 3), (-7, 3)]), BOAT, 0.7, 0.7)
        pen.fill(smooth([(-5, -1), (0, -8), (5, -1)]), (206, 178, 120), 0.8, 0.7)
    ridge(pen, 116, (2, 6, 3, 5), (126, 182, 110), phase=rng.uniform(0, 128))


def shooting_star(pen: Pen, rng: random.Random, x: float):
    """A large shooting star in the upper part of the picture, its head near x, its tail towards the middle."""
    y, away = rng.uniform(16, 22), 1 if x < 64 else -1
    x += rng.uniform(-3, 3)
    for i, width in enumerate((1.5, 2.4, 3.6)):
        pen.stroke([(x + away * (28 - i * 7), y - 12 + i * 3), (x, y)], (255, 222, 110), width, 0.85)
    pen.glow(x, y, 13, (255, 250, 200), 0.8)
    pen.flat(star(x, y, 10.4, 5, 0.5), (226, 132, 30))
    pen.flat(star(x, y, 8, 5, 0.5), (255, 230, 110))


def night(pen: Pen, rng: random.Random, palette: int = 0):
    """Stars and a crescent moon over dark hills."""
    left, top, right, _ = pen.view
    high, low, hill = (
        ((22, 34, 92), (78, 102, 176), (38, 84, 96)),
        ((40, 24, 86), (124, 92, 170), (62, 60, 110)),
        ((10, 40, 80), (60, 130, 160), (30, 90, 80)),
    )[palette]
    sky(pen, high, low, 100)
    for _ in range(int(20 * (right - left) / 128)):
        x, y, r = rng.uniform(left, right), rng.uniform(top, 84), rng.choice((1.0, 1.3, 3.2))
        pen.flat(star(x, y, r * 1.3) if r > 2 else oval(x, y, r), (255, 250, 214), 0.95)
    x, y = rng.choice((20, 106)) + rng.uniform(-6, 6), rng.uniform(44, 54)
    pen.glow(x, y, 26, (255, 246, 200), 0.5)
    moon = skia.Op(oval(x, y, 11), oval(x + 5.4, y - 3.4, 9.6), skia.PathOp.kDifference_PathOp)
    pen.flat(moon, (255, 246, 206))
    ridge(pen, 94, (4, 12, 6, 10), mix(hill, low, 0.5), phase=rng.uniform(0, 128))
    ridge(pen, 106, (10, 14, 8, 4), hill, phase=rng.uniform(0, 128))
