"""Rooms and halls, painted over the whole view. The ground people stand on is at y = 118 (units of 1/128)."""

import random

from world.outdoors import area
from world.pen import Pen, box, hsv, mirrored, mix, oval, poly, smooth

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
    pen.fill(box(x - 2, y - 2, x + w + 2, y + rows * 19 + 1), DARK_WOOD, 0.8)
    books = ((168, 92, 70), (92, 122, 128), (206, 172, 104), (226, 206, 160), (110, 138, 104))
    for row in range(rows):
        foot = y + row * 19 + 17
        pen.flat(box(x, y + row * 19, x + w, foot), (84, 56, 40))
        at = x + 1
        while at < x + w - 4:
            wide, tall = rng.uniform(4.5, 7), rng.uniform(10, 15)
            pen.fill(box(at, foot - tall, min(at + wide - 0.5, x + w - 0.5), foot), rng.choice(books), 0.5, 0.4)
            at += wide


def academy(pen: Pen, rng: random.Random, palette: int = 0):
    """A classroom of old: a lattice window, a bookcase, a hanging scroll, low desks."""
    left, top, right, _ = pen.view
    wall = ((238, 214, 172), (232, 222, 200), (226, 202, 176))[palette]
    pen.gradient(area(pen, top - 2, 98), wall, mix(wall, (150, 100, 60), 0.25), min(top, 0), 98)
    floor(pen, 97, ((166, 112, 72), (150, 108, 86), (178, 128, 78))[palette], (120, 78, 50))
    for x in (left - 40, *range(-128, 257, 128)):
        pen.flat(box(x - 3, top - 2, x + 3, 98), WOOD)
    shift = rng.uniform(-4, 4)
    lattice(pen, 8 + shift, 18, 34, 42)
    shelf(pen, rng, 86 + shift, 14, 34, 4)
    if left < -22:
        shelf(pen, rng, -46, 14, 32, 4)
    if right > 150:
        lattice(pen, 136, 18, 34, 42)
    pen.fill(box(53, 12, 75, 56), PAPER, 0.4, 0.7)  # a hanging scroll
    pen.fill(smooth([(56, 46), (60, 34), (64, 40), (69, 30), (73, 46)]), (150, 160, 150), 0.6, 0.4)
    for y in (11, 56):
        pen.limb([(51, y), (77, y)], DARK_WOOD, 2.6)
    for x in (6, 104):  # other desks
        pen.fill(box(x - 4, 88, x + 22, 93), WOOD, 0.8)
        for leg in (x - 1, x + 19):
            pen.limb([(leg, 93), (leg, 106)], DARK_WOOD, 2.6)


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


def living(pen: Pen, rng: random.Random, palette: int = 0):
    """A living room: sofa, lamp, window with curtains, a picture, a round rug."""
    _, top, _, _ = pen.view
    wall, curtain, rug = (
        ((255, 214, 178), (232, 112, 92), (240, 224, 196)),
        ((222, 236, 206), (240, 178, 80), (250, 220, 200)),
        ((250, 222, 226), (140, 150, 220), (226, 230, 246)),
    )[palette]
    pen.gradient(area(pen, top - 2, 100), wall, mix(wall, (230, 130, 90), 0.2), min(top, 0), 100)
    floor(pen, 98, (214, 156, 108))
    pen.fill(oval(64, 116, 54, 9), rug, 0.5, 0.6)
    pen.fill(box(84, 14, 120, 54, 1), (255, 252, 244), 0.4)  # window
    pen.gradient(box(87, 17, 117, 51), (150, 206, 246), (226, 244, 252), 17, 51)
    for points in ([(102, 17), (102, 51)], [(87, 33), (117, 33)]):
        pen.stroke(points, (255, 252, 244), 2)
    for x, d in ((83, 1), (121, -1)):
        cloth = [(x - 5, 10), (x + 5, 10), (x + 3 * d, 34), (x + 5, 60), (x - 5, 60)]
        pen.fill(smooth(cloth, tension=0.7), curtain, 0.9)
    pen.limb([(18, 104), (18, 44)], (120, 86, 70), 2.8)  # lamp
    pen.glow(18, 40, 30, (255, 240, 170), 0.75)
    pen.fill(poly((11, 24), (25, 24), (32, 46), (4, 46)), (255, 232, 140), 0.5)
    pen.fill(oval(18, 105, 8, 2.6), (120, 86, 70), 0.6)
    x = rng.uniform(42, 50)
    pen.fill(box(x, 16, x + 24, 34, 0.5), (146, 98, 66), 0.6)  # picture
    pen.gradient(box(x + 3, 19, x + 21, 31), (190, 226, 240), (150, 196, 120), 19, 31)
    sofa(pen, 64, 88, 36)
    if rng.random() < 0.6:
        potted(pen, rng.choice((4, 112)), 108)


def potted(pen: Pen, x: float, foot: float):
    """A plant in a pot."""
    for dx, dy in ((-9, -26), (0, -34), (9, -26)):
        middle, tip = foot + dy * 0.7, foot + dy
        leaf = [(x, foot - 10), (x + dx - 5, middle), (x + dx, tip), (x + dx + 5, middle)]
        pen.fill(smooth(leaf), (86, 160, 92), 0.7, 0.7)
    pen.fill(poly((x - 8, foot - 13), (x + 8, foot - 13), (x + 5.6, foot), (x - 5.6, foot)), (214, 120, 80), 0.8)


def concert(pen: Pen, rng: random.Random, palette: int = 0):
    """The dark hall of a concert: a bright stage with beams above a crowd with light sticks."""
    left, top, right, bottom = pen.view
    dark = ((58, 26, 96), (24, 34, 104), (92, 22, 84))[palette]
    pen.gradient(area(pen, top - 2, bottom + 2), dark, mix(dark, (200, 90, 190), 0.35), min(top, 0), 110)
    for i, tone in enumerate(((255, 120, 210), (120, 220, 255), (255, 230, 140), (120, 220, 255), (255, 120, 210))):
        x = 64 + (i - 2) * 15
        lean = (i - 2) * 16 + rng.uniform(-10, 10)
        pen.flat(poly((x - 1, 62), (x + 1, 62), (x + lean + 9, top - 6), (x + lean - 9, top - 6)), tone, 0.34)
    pen.glow(64, 56, 52, (255, 190, 240), 0.85)
    pen.fill(box(28, 62, 100, 70, 1), (206, 120, 200), 0.6, 0.6)
    pen.fill(box(34, 30, 94, 62, 2), (250, 196, 236), 0.6, 0.6)
    for x in rng.sample((44, 54, 64, 74, 84), rng.choice((1, 2, 3))):  # the stars on the stage
        pen.flat(oval(x, 50, 4), (110, 40, 110))
        pen.flat(poly((x, 50), (x - 6, 63), (x + 6, 63)), (110, 40, 110))
    for row, (y, r, gap) in enumerate(((78, 4.6, 12), (90, 6.2, 15), (105, 8, 19), (124, 10, 23))):
        tone = mix(mix(dark, (20, 8, 40), 0.3), (24, 10, 44), row / 3)
        x = left - gap * rng.random()
        while x < right + gap:
            if rng.random() < 0.35:
                light = rng.choice(((110, 240, 255), (255, 130, 220), (180, 255, 170)))
                stick = [(x + r, y), (x + r * 1.1, y - r * 2.3)]
                pen.stroke(stick, mix(light, (255, 255, 255), 0.2), max(2.2, r * 0.4))
            pen.flat(oval(x, y, r, r * 1.1), tone)
            pen.flat(box(x - r * 1.5, y + r * 0.9, x + r * 1.5, y + r * 5, r), tone)
            x += gap
    if bottom > 150:
        pen.flat(area(pen, 146, bottom + 2), (30, 14, 52))


def practice(pen: Pen, rng: random.Random, palette: int = 0):
    """A bright rehearsal room: a wall of mirrors with a rail, a music stand, a loudspeaker."""
    left, top, right, _ = pen.view
    wall, glass = (
        ((232, 238, 242), (190, 224, 232)), ((246, 238, 222), (200, 224, 222)), ((234, 230, 246), (196, 208, 240)),
    )[palette]  # fmt: skip
    pen.gradient(area(pen, top - 2, 94), wall, mix(wall, (150, 170, 190), 0.25), min(top, 0), 94)
    shift = rng.uniform(-12, 12)
    for i in range(-6, 8):  # mirrors
        x = i * 32 + shift
        pen.gradient(box(x + 1.2, 14, x + 30.8, 86), glass, mix(glass, (255, 255, 255), 0.6), 14, 86)
        pen.stroke(box(x + 1.2, 14, x + 30.8, 86), (150, 166, 180), 1.6)
        pen.stroke([(x + 10, 62), (x + 22, 30)], (255, 255, 255), 3, 0.75)
    pen.limb([(left - 2, 68), (right + 2, 68)], (198, 150, 100), 3)
    floor(pen, 94, (226, 186, 134), (190, 146, 96))
    music_stand(pen, 106 + rng.uniform(-5, 5), 108)
    with pen.placed(17 + rng.uniform(-5, 5), 106):  # loudspeaker
        pen.fill(box(-13, -48, 13, 0, 2), (62, 66, 80), 0.8)
        for y, r in ((-34, 6), (-14, 9)):
            pen.fill(oval(0, y, r), (118, 124, 142), 1.2, 0.6)
            pen.flat(oval(0, y, r * 0.4), (50, 52, 64))


def music_stand(pen: Pen, x: float, y: float):
    with pen.placed(x, y):
        pen.limb([(0, 0), (0, -40)], (70, 74, 86), 2.4)
        pen.limb([(-8, 2), (0, -8), (8, 2)], (70, 74, 86), 2.4)
        pen.fill(poly((-14, -58), (12, -61), (14, -40), (-12, -38)), (86, 92, 106), 0.7)
        pen.fill(poly((-11, -58), (9, -60), (11, -43), (-9, -41.6)), (255, 255, 250), 0.3, 0.5)
        for i in range(2):
            pen.stroke([(-7, -53 + i * 6), (7, -54.6 + i * 6)], (120, 124, 134), 1.6)


def fitting(pen: Pen, rng: random.Random, palette: int = 0):
    """A fitting room: a curtain, an oval mirror, a rack of dresses."""
    left, top, _, _ = pen.view
    wall, cloth = (
        ((232, 214, 244), (170, 90, 168)), ((250, 228, 214), (196, 84, 100)), ((220, 228, 246), (96, 104, 178)),
    )[palette]  # fmt: skip
    pen.gradient(area(pen, top - 2, 98), wall, mix(wall, (140, 110, 170), 0.25), min(top, 0), 98)
    floor(pen, 97, mix(wall, (120, 80, 120), 0.45))
    pen.fill(box(left - 2, 6, 0, 104), hsv(cloth, 1, 0.9), 0.6)
    for i in range(5):  # curtain
        x = -4 + i * 7.8
        fold = [(x, 6), (x + 8, 6), (x + 9, 50), (x + 8.4, 104), (x, 104), (x - 0.6, 50)]
        pen.fill(smooth(fold, tension=0.5), mix(cloth, (255, 200, 240), 0.25 * (i % 2)), 0.7, 0.6)
    pen.limb([(left - 2, 6), (42, 6)], (226, 190, 110), 3)
    pen.fill(oval(58, 44, 16, 29), (214, 178, 104), 0.8)  # mirror
    pen.gradient(oval(58, 44, 13, 26), (224, 240, 248), (190, 214, 232), 18, 70)
    pen.stroke([(52, 54), (62, 30)], (255, 255, 255), 3, 0.8)
    rack(pen, rng)


def rack(pen: Pen, rng: random.Random):
    """Four dresses on a rail."""
    for points in ([(82, 28), (128, 28)], [(83, 28), (83, 110)], [(127, 28), (127, 110)]):
        pen.limb(points, (130, 130, 148), 2.6)
    tones = [(240, 120, 130), (120, 190, 220), (250, 220, 130), (150, 204, 140), (246, 246, 250)]
    for i, tone in enumerate(rng.sample(tones, 4)):
        x = 90 + i * 10
        with pen.placed(x, 0):
            shape = [(0, 33), (3, 33), (4.6, 40), (3.4, 56), (7, 86), (0, 87)]
            pen.fill(smooth(mirrored(shape), tension=0.6), tone, 0.9, 0.7)


def stage(pen: Pen, rng: random.Random, palette: int = 0):
    """A stage: curtains at both sides and above, three spotlights, a wooden floor."""
    left, top, right, _ = pen.view
    back = ((86, 30, 62), (40, 34, 92), (30, 62, 84))[palette]
    high, low = mix(back, (20, 8, 30), 0.4), mix(back, (220, 120, 110), 0.2)
    pen.gradient(area(pen, top - 2, 100), high, low, min(top, 0), 100)
    floor(pen, 98, (200, 134, 82), (150, 94, 60))
    for x, lean, tone in ((24, 22, (255, 244, 190)), (104, -22, (255, 244, 190)), (64, 0, (255, 226, 240))):
        x += rng.uniform(-10, 10)
        pen.flat(poly((x - 3, top - 4), (x + 3, top - 4), (x + lean + 24, 112), (x + lean - 24, 112)), tone, 0.24)
        pen.fill(box(x - 6, top - 2, x + 6, 9, 1), (70, 66, 80), 0.5, 0.6)
        pen.flat(oval(x, 10, 4.6, 2.4), (255, 252, 220))
    pen.flat(oval(64, 114, 46, 9), (255, 240, 190), 0.6, blur=1.5)
    red = ((204, 36, 56), (196, 36, 92), (214, 60, 40))[palette]
    for side in (-1, 1):
        for i in range(3):
            x = 64 + side * (64 - i * 8)
            with pen.placed(x, 0):
                fold = smooth(mirrored([(0, top - 4), (5.4, top - 4), (5.6, 60), (5, 106), (0, 104)]), tension=0.5)
                pen.fill(fold, mix(red, (255, 120, 110), 0.22 * (i % 2)), 0.8, 0.6)
    for edge in ((left - 4, 0), (128, right + 4)):
        pen.fill(box(edge[0], top - 4, edge[1], 106), hsv(red, 1, 0.9), 0.6, 0.6)
    for i in range(-6, 15):
        pen.fill(oval(i * 15 + 4, 1 + min(top, 0), 9.4, 11), hsv(red, 1, 1.08), 0.8, 0.6)
