"""The places under the sky, painted over the whole view. The ground people stand on is at y = 118 (units of 1/128)."""

import math
import random

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
        with pen.placed(rng.uniform(left, right), rng.uniform(top, bottom), rng.uniform(0.8, 1.3), rng.uniform(0, 180)):
            pen.flat(oval(0, 0, 2, 1.1), rgb, 0.95)


def tree(pen: Pen, rng: random.Random, x: float, foot: float, size: float, mirror: bool):
    with pen.placed(x, foot, size, mirror=mirror):
        pen.limb([(0, 0), (-2, -22), (4, -42), (2, -58)], (112, 76, 66), 5.5)
        pen.limb([(1, -32), (12, -44), (20, -56)], (112, 76, 66), 3.2)
        for dx, dy, r in ((-12, -60, 15), (10, -72, 17), (26, -58, 14), (4, -54, 12), (16, -46, 9)):
            tone = mix((246, 142, 176), (255, 206, 222), rng.random())
            pen.fill(
                smooth(
                    [
                        (dx + r * (1 + 0.13 * math.cos(5 * a)) * math.cos(a), dy + 0.8 * r * math.sin(a))
                        for a in [i * 0.7 for i in range(9)]
                    ]
                ),
                tone,
                0.8,
                0.7,
            )
        for _ in range(12):
            pen.flat(oval(rng.uniform(-22, 36), rng.uniform(-84, -44), 1.5), (255, 238, 244), 0.9)


def pavilion(pen: Pen, x: float, y: float, size: float):
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


def peach(pen: Pen, rng: random.Random):
    sky(pen, (168, 212, 240), (255, 232, 232), 84)
    for x, y in ((24, 14), (92, 24)):
        cloud(pen, x + rng.uniform(-8, 8), y, 8)
    ridge(pen, 84, (10, 18, 8, 14), (178, 204, 190), phase=rng.uniform(0, 60))
    pavilion(pen, 64 + rng.choice((-25, 25)), 84, 1.0)
    left, _, right, bottom = pen.view
    pen.gradient(area(pen, 82, bottom + 2), (170, 208, 126), (112, 172, 96), 82, bottom)
    pen.fill(
        smooth([(58, 82), (70, 82), (84, 100), (106, bottom + 8), (18, bottom + 8), (44, 100)], tension=0.5),
        (208, 202, 194),
        0.6,
        0.7,
    )
    for i, y in enumerate((88, 95, 103, 112, 122)):
        pen.stroke([(62 - (y - 80) * 0.8, y), (66 + (y - 80) * 0.85, y + (i % 2))], (166, 160, 156), 0.9, 0.8)
    for x, side in (
        (16, False),
        (112, True),
        *(((-40, False),) if left < -20 else ()),
        *(((168, True),) if right > 148 else ()),
    ):
        tree(pen, rng, x + rng.uniform(-3, 3), 100, rng.uniform(1.0, 1.12), side)
    petals(pen, rng, 16)


def wild(pen: Pen, rng: random.Random):
    sky(pen, (246, 220, 168), (255, 244, 212), 76)
    pen.glow(100 + rng.uniform(-10, 10), 26, 30, (255, 214, 120), 0.8)
    pen.flat(oval(100, 26, 7), (255, 236, 170))
    cloud(pen, 26 + rng.uniform(-8, 8), 20, 8)
    ridge(pen, 70, (6, 26, 8, 20, 30, 10), (176, 160, 178), phase=rng.uniform(0, 40), soft=False)
    ridge(pen, 80, (8, 16, 4, 12), (212, 178, 98), phase=rng.uniform(0, 60))
    ridge(pen, 92, (4, 14, 10, 2), (164, 174, 84), phase=rng.uniform(0, 60))
    ridge(pen, 108, (2, 8, 12, 5), (222, 186, 96), phase=rng.uniform(0, 60))
    for _ in range(14):
        x, y = rng.uniform(pen.view[0], pen.view[2]), rng.uniform(106, pen.view[3])
        for d in (-1.6, 0, 1.6):
            pen.stroke([(x, y), (x + d, y - 3.6)], (140, 138, 58), 0.8)
    petals(pen, rng, 6)


def river(pen: Pen, rng: random.Random):
    sky(pen, (206, 234, 240), (246, 252, 248), 72)
    ridge(pen, 66, (10, 38, 14, 26, 44, 12), (150, 194, 200), phase=rng.uniform(0, 20), soft=False)
    ridge(pen, 76, (30, 8, 4, 22, 6, 34), (84, 156, 150), phase=rng.uniform(0, 12))
    for x in (20, 84):
        cloud(pen, x + rng.uniform(-10, 10), 70, 9, alpha=0.55)
    bottom = pen.view[3]
    pen.gradient(area(pen, 76, bottom + 2), (150, 216, 222), (58, 146, 176), 76, 116)
    for i in range(11):
        x, y = rng.uniform(pen.view[0], pen.view[2]), 80 + i * 2.6
        pen.stroke([(x - 8, y), (x, y - 0.6), (x + 8, y)], (236, 250, 252), 0.9, 0.8)
    with pen.placed(rng.choice((22, 104)), 88, 1.1):  # a boat
        pen.fill(smooth([(-11, -2), (0, 0), (11, -2), (7, 3), (-7, 3)]), BOAT, 0.7, 0.7)
        pen.fill(smooth([(-5, -1), (0, -8), (5, -1)]), (206, 178, 120), 0.8, 0.7)
    ridge(pen, 116, (2, 6, 3, 5), (126, 182, 110), phase=rng.uniform(0, 40))


def shooting_star(pen: Pen, rng: random.Random):
    x, y = rng.uniform(14, 26), rng.uniform(14, 22)
    for i, width in enumerate((1.0, 1.7, 2.6)):
        pen.stroke([(x + 30 - i * 7, y - 11 + i * 2.6), (x, y)], (255, 252, 214), width, 0.6)
    pen.glow(x, y, 9, (255, 250, 200), 0.8)
    pen.flat(star(x, y, 5, 5, 0.42), (255, 246, 170))


def night(pen: Pen, rng: random.Random):
    left, top, right, _ = pen.view
    sky(pen, (22, 34, 92), (78, 102, 176), 100)
    for _ in range(int(34 * (right - left) / 128)):
        x, y, r = rng.uniform(left, right), rng.uniform(top, 84), rng.choice((0.7, 0.9, 1.2, 2.4))
        pen.flat(star(x, y, r * 1.3) if r > 2 else oval(x, y, r), (255, 250, 214), 0.95)
    pen.glow(102, 22, 26, (255, 246, 200), 0.5)
    pen.flat(oval(102, 22, 10), (255, 246, 206))
    pen.flat(oval(106.5, 19, 8.6), (44, 58, 122))
    shooting_star(pen, rng)
    ridge(pen, 94, (4, 12, 6, 10), (52, 74, 124), phase=rng.uniform(0, 60))
    ridge(pen, 106, (10, 14, 8, 4), (38, 84, 96), phase=rng.uniform(0, 60))
