"""Rooms and halls, painted over the whole view. The ground people stand on is at y = 118 (units of 1/128)."""

import random

from world.outdoors import area
from world.pen import Pen, box, hsv, mix, oval, poly, smooth

WOOD, DARK_WOOD, PAPER = (176, 122, 76), (122, 80, 50), (250, 242, 220)


def floor(pen: Pen, y: float, rgb, planks=None):
    left, _, right, bottom = pen.view
    pen.gradient(area(pen, y, bottom + 2), mix(rgb, (255, 250, 230), 0.18), mix(rgb, (60, 40, 50), 0.16), y, bottom)
    if planks:
        for i in range(-12, 13):
            pen.stroke([(64 + i * 12, y), (64 + i * 26, bottom + 4)], planks, 0.7, 0.6)
    pen.stroke([(left, y), (right, y)], mix(rgb, (60, 40, 40), 0.4), 1.2, 0.8)


def lattice(pen: Pen, x: float, y: float, w: float, h: float):
    """A window of wooden bars on a bright garden."""
    pen.fill(box(x - 2.5, y - 2.5, x + w + 2.5, y + h + 2.5, 1), DARK_WOOD, 0.7)
    pen.gradient(box(x, y, x + w, y + h), (255, 250, 214), (176, 224, 176), y, y + h)
    for i in range(1, 4):
        pen.stroke([(x + w * i / 4, y), (x + w * i / 4, y + h)], DARK_WOOD, 1.1)
        pen.stroke([(x, y + h * i / 4), (x + w, y + h * i / 4)], DARK_WOOD, 1.1)
    pen.stroke(box(x + w * 0.25, y + h * 0.25, x + w * 0.75, y + h * 0.75), DARK_WOOD, 1.6)


def shelf(pen: Pen, rng: random.Random, x: float, y: float, w: float, rows: int):
    """A bookcase of `rows` boards."""
    pen.fill(box(x - 2, y - 2, x + w + 2, y + rows * 15 + 1), DARK_WOOD, 0.8)
    books = ((168, 92, 70), (92, 122, 128), (206, 172, 104), (128, 104, 84), (226, 206, 160), (110, 138, 104))
    for row in range(rows):
        pen.flat(box(x, y + row * 15, x + w, y + row * 15 + 13), (84, 56, 40))
        at = x + 1
        while at < x + w - 3:
            wide, tall = rng.uniform(3, 5), rng.uniform(8, 12)
            pen.fill(
                box(at, y + row * 15 + 13 - tall, min(at + wide - 0.5, x + w - 0.5), y + row * 15 + 13),
                rng.choice(books),
                0.5,
                0.4,
            )
            at += wide


def academy(pen: Pen, rng: random.Random):
    left, top, right, _ = pen.view
    pen.gradient(area(pen, top - 2, 98), (238, 214, 172), (222, 186, 138), min(top, 0), 98)
    floor(pen, 97, (166, 112, 72), (120, 78, 50))
    for x in (left - 40, *range(-128, 257, 128)):
        pen.flat(box(x - 3, top - 2, x + 3, 98), WOOD)
    lattice(pen, 8, 18, 34, 42)
    shelf(pen, rng, 88, 14, 32, 5)
    if left < -12:
        shelf(pen, rng, -46, 14, 32, 5)
    if right > 140:
        lattice(pen, 136, 18, 34, 42)
    pen.fill(box(53, 12, 75, 56), PAPER, 0.4, 0.7)  # a hanging scroll
    pen.fill(smooth([(56, 46), (60, 34), (64, 40), (69, 30), (73, 46)]), (150, 160, 150), 0.6, 0.4)
    for y in (11, 56):
        pen.limb([(51, y), (77, y)], DARK_WOOD, 2.2)
    for x in (6, 104):  # other desks
        pen.fill(box(x - 4, 88, x + 22, 92), WOOD, 0.8)
        for leg in (x - 1, x + 19):
            pen.limb([(leg, 93), (leg, 106)], DARK_WOOD, 2)


def sofa(pen: Pen, x: float, seat: float, width: float = 46):
    """A sofa whose seat is at height `seat`; also drawn behind a sitting figure."""
    cloth = (84, 150, 156)
    pen.fill(box(x - width, seat - 27, x + width, seat + 6, 8), cloth, 0.9)
    pen.fill(box(x - width + 8, seat - 3, x + width - 8, seat + 9, 4), mix(cloth, (255, 255, 255), 0.22), 0.7)
    for side in (-1, 1):
        pen.fill(box(x + side * width - 7, seat - 12, x + side * width + 7, seat + 14, 6), hsv(cloth, 1, 0.9), 0.9)
    pen.fill(box(x - width, seat + 8, x + width, seat + 16, 3), hsv(cloth, 1, 0.84), 0.8)
    for side in (-1, 1):
        pen.fill(box(x + side * width * 0.85 - 2, seat + 15, x + side * width * 0.85 + 2, seat + 20), DARK_WOOD, 0.5)


def living(pen: Pen, rng: random.Random):
    _, top, _, _ = pen.view
    pen.gradient(area(pen, top - 2, 100), (255, 214, 178), (250, 186, 146), min(top, 0), 100)
    floor(pen, 98, (214, 156, 108))
    pen.fill(oval(64, 116, 54, 9), (240, 224, 196), 0.5, 0.6)
    pen.stroke(oval(64, 116, 48, 7), (214, 120, 96), 1.1)
    pen.fill(box(84, 14, 120, 54, 1), (255, 252, 244), 0.4)  # window
    pen.gradient(box(87, 17, 117, 51), (150, 206, 246), (226, 244, 252), 17, 51)
    for points in ([(102, 17), (102, 51)], [(87, 33), (117, 33)]):
        pen.stroke(points, (255, 252, 244), 2)
    for x, d in ((83, 1), (121, -1)):
        pen.fill(
            smooth([(x - 5, 10), (x + 5, 10), (x + 3 * d, 34), (x + 5, 60), (x - 5, 60)], tension=0.7),
            (232, 112, 92),
            0.9,
        )
    pen.limb([(18, 104), (18, 44)], (120, 86, 70), 2.2)  # lamp
    pen.glow(18, 40, 30, (255, 240, 170), 0.75)
    pen.fill(poly((11, 26), (25, 26), (31, 46), (5, 46)), (255, 232, 140), 0.5)
    pen.fill(oval(18, 105, 8, 2.4), (120, 86, 70), 0.6)
    pen.fill(box(46, 18, 68, 34, 0.5), (146, 98, 66), 0.6)  # picture
    pen.gradient(box(48, 20, 66, 32), (190, 226, 240), (150, 196, 120), 20, 32)
    sofa(pen, 64, 88, 34)


def concert(pen: Pen, rng: random.Random):
    left, top, right, bottom = pen.view
    pen.gradient(area(pen, top - 2, bottom + 2), (58, 26, 96), (112, 46, 130), min(top, 0), 110)
    for i, tone in enumerate(((255, 120, 210), (120, 220, 255), (255, 230, 140), (120, 220, 255), (255, 120, 210))):
        x = 64 + (i - 2) * 15
        lean = (i - 2) * 16 + rng.uniform(-6, 6)
        pen.flat(poly((x - 1, 62), (x + 1, 62), (x + lean + 9, top - 6), (x + lean - 9, top - 6)), tone, 0.34)
    pen.glow(64, 56, 52, (255, 190, 240), 0.85)
    pen.fill(box(28, 62, 100, 70, 1), (206, 120, 200), 0.6, 0.6)
    pen.fill(box(34, 30, 94, 62, 2), (250, 196, 236), 0.6, 0.6)
    pen.flat(oval(64, 52, 3), (110, 40, 110))
    pen.flat(poly((64, 52), (60, 63), (68, 63)), (110, 40, 110))
    rows = ((76, 3.6, 9), (86, 4.8, 12), (98, 6.2, 15), (113, 7.6, 19), (130, 9, 22))
    for row, (y, r, gap) in enumerate(rows):
        tone = mix((74, 36, 100), (30, 14, 52), row / 4)
        x = left - gap * rng.random()
        while x < right + gap:
            if rng.random() < 0.4:
                light = rng.choice(((110, 240, 255), (255, 130, 220), (180, 255, 170)))
                pen.flat(oval(x + r, y - r * 1.6, r * 0.75, r * 1.4), light, 0.3, blur=1.2)
                pen.stroke([(x + r, y), (x + r * 1.1, y - r * 2.3)], light, r * 0.38)
            pen.flat(oval(x, y, r, r * 1.1), tone)
            pen.flat(box(x - r * 1.5, y + r * 0.9, x + r * 1.5, y + r * 5, r), tone)
            x += gap
    if bottom > 150:
        pen.flat(area(pen, 146, bottom + 2), (30, 14, 52))


def practice(pen: Pen, rng: random.Random):
    left, top, right, _ = pen.view
    pen.gradient(area(pen, top - 2, 94), (232, 238, 242), (208, 220, 228), min(top, 0), 94)
    for i in range(-6, 8):  # mirrors
        x = i * 32
        pen.gradient(box(x + 1.2, 14, x + 30.8, 86), (190, 224, 232), (222, 242, 244), 14, 86)
        pen.stroke(box(x + 1.2, 14, x + 30.8, 86), (150, 166, 180), 1.3)
        for d in (0, 6):
            pen.stroke([(x + 8 + d, 62), (x + 20 + d, 30)], (255, 255, 255), 1.7, 0.75)
    pen.limb([(left - 2, 68), (right + 2, 68)], (198, 150, 100), 2.2)
    floor(pen, 94, (226, 186, 134), (190, 146, 96))
    with pen.placed(104 + rng.uniform(-3, 3), 108):  # music stand
        pen.limb([(0, 0), (0, -40)], (70, 74, 86), 1.6)
        pen.limb([(-8, 2), (0, -8), (8, 2)], (70, 74, 86), 1.6)
        pen.fill(poly((-12, -56), (10, -59), (12, -40), (-10, -38)), (86, 92, 106), 0.7)
        pen.fill(poly((-9, -57), (7, -59), (9, -43), (-7, -42)), (255, 255, 250), 0.3, 0.5)
        for i in range(3):
            pen.stroke([(-6, -53 + i * 4), (6, -54.4 + i * 4)], (120, 124, 134), 0.6)
    with pen.placed(17 + rng.uniform(-3, 3), 106):  # loudspeaker
        pen.fill(box(-11, -44, 11, 0, 2), (62, 66, 80), 0.8)
        for y, r in ((-31, 5), (-13, 8)):
            pen.fill(oval(0, y, r), (118, 124, 142), 1.2, 0.6)
            pen.flat(oval(0, y, r * 0.4), (50, 52, 64))


def fitting(pen: Pen, rng: random.Random):
    left, top, _, _ = pen.view
    pen.gradient(area(pen, top - 2, 98), (232, 214, 244), (206, 184, 228), min(top, 0), 98)
    floor(pen, 97, (178, 150, 186))
    for i in range(6):  # curtain
        x = -4 + i * 6.4
        pen.fill(
            smooth([(x, 6), (x + 6.6, 6), (x + 7.6, 50), (x + 7, 104), (x, 104), (x - 0.6, 50)], tension=0.5),
            mix((150, 70, 150), (190, 110, 186), i % 2),
            0.7,
            0.6,
        )
    if left < -4:
        pen.fill(box(left - 2, 6, -3, 104), (150, 70, 150), 0.6)
    pen.limb([(left - 2, 6), (40, 6)], (226, 190, 110), 2.4)
    pen.limb([(82, 30), (126, 30)], (130, 130, 148), 2.2)  # rack
    for x in (84, 124):
        pen.limb([(x, 30), (x, 110)], (130, 130, 148), 2.2)
    tones = [(240, 120, 130), (120, 190, 220), (250, 220, 130), (150, 204, 140), (246, 246, 250)]
    rng.shuffle(tones)
    for i, tone in enumerate(tones):
        x = 89 + i * 7.6
        pen.stroke([(x, 30), (x, 34)], (120, 120, 136), 0.9)
        pen.fill(
            smooth(
                [
                    (x - 2, 34),
                    (x + 2, 34),
                    (x + 4, 40),
                    (x + 3, 56),
                    (x + 6, 84),
                    (x - 6, 84),
                    (x - 3, 56),
                    (x - 4, 40),
                ],
                tension=0.6,
            ),
            tone,
            0.9,
            0.7,
        )
    pen.fill(oval(56, 44, 15, 28), (214, 178, 104), 0.8)  # mirror
    pen.gradient(oval(56, 44, 12.4, 25), (224, 240, 248), (190, 214, 232), 18, 70)
    pen.stroke([(50, 54), (60, 30)], (255, 255, 255), 2, 0.8)


def stage(pen: Pen, rng: random.Random):
    left, top, right, _ = pen.view
    pen.gradient(area(pen, top - 2, 100), (56, 20, 46), (118, 44, 72), min(top, 0), 100)
    floor(pen, 98, (200, 134, 82), (150, 94, 60))
    for x, lean, tone in ((24, 22, (255, 244, 190)), (104, -22, (255, 244, 190)), (64, 0, (255, 226, 240))):
        x += rng.uniform(-4, 4)
        pen.flat(poly((x - 3, top - 4), (x + 3, top - 4), (x + lean + 24, 112), (x + lean - 24, 112)), tone, 0.24)
        pen.fill(box(x - 5, top - 2, x + 5, 7, 1), (70, 66, 80), 0.5, 0.6)
        pen.flat(oval(x, 8, 3.6, 1.8), (255, 252, 220))
    pen.flat(oval(64, 114, 44, 9), (255, 240, 190), 0.6, blur=1.5)
    for side in (-1, 1):
        for i in range(4):
            x = 64 + side * (64 - i * 6.4)
            wave = 3 * (i % 2)
            pen.fill(
                smooth(
                    [
                        (x - 4.4, top - 4),
                        (x + 4.4, top - 4),
                        (x + 4.6, 60),
                        (x + 4, 106 - wave),
                        (x - 4, 106 - wave),
                        (x - 4.6, 60),
                    ],
                    tension=0.5,
                ),
                mix((196, 30, 52), (232, 62, 72), i % 2),
                0.8,
                0.6,
            )
    for edge in ((left - 4, -2), (130, right + 4)):
        if edge[1] > edge[0]:
            pen.fill(box(edge[0], top - 4, edge[1], 106), (196, 30, 52), 0.6)
    for i in range(-8, 18):
        pen.fill(oval(i * 12 + 4, 1 + min(top, 0), 8, 10), (214, 44, 60), 0.8, 0.6)
