"""Hair and faces, drawn with the origin at the neck; and faces gone wrong."""

import math

from world.pen import Pen, hsv, mix, oval, poly, smooth, star

HAIR = {
    "black": (44, 38, 52), "purple": (136, 74, 186), "gold": (240, 196, 78), "red": (186, 58, 38),
    "blue": (62, 118, 208), "brown": (122, 80, 52),
}  # fmt: skip
SKIN, BLUSH, DARK = (252, 218, 192), (244, 132, 124), (58, 40, 48)


def back_hair(pen: Pen, hair, length: str):
    """Drawn with the origin at the neck, behind the body."""
    half, bottom = {"short": (12.9, -3.5), "medium": (14.4, 12), "long": (16.5, 31)}[length]
    mid = (bottom - 8) / 2
    shape = [(0, -26.5), (9.4, -23), (12.6, -14), (half - 0.6, mid), (half, bottom - 2), (half * 0.55, bottom + 1)]
    if length == "long":
        shape.append((0, bottom - 3))
    pen.fill(smooth(shape + [(-x, y) for x, y in reversed(shape) if x], tension=0.9), mix(hair, (20, 14, 40), 0.16))
    if length == "long" and pen.name != "papercut":
        for x in (-12.5, -9.5, 9.5, 12.5):
            pen.stroke([(x * 0.8, -4), (x, 14), (x * 1.04, bottom - 4)], mix(hair, (255, 255, 255), 0.22), 0.7, 0.6)


def head(pen: Pen, hair, length: str, eyes: str, mouth: str, look: float = 0.0, spoilt=None):
    """Face, fringe and side locks; the origin is the neck, the chin at about y = -2."""
    chin = 0.6 if pen.name == "anime" else 0.0
    cheeks = [(0, -1.4 + chin), (4.4 - chin * 1.5, -2.8 + chin), (9, -8.6), (9.8, -14), (7.4, -21), (0, -23.4)]
    face = [(x, y) for x, y in cheeks] + [(-x, y) for x, y in reversed(cheeks[1:-1])]
    if spoilt:
        face = spoilt.bend(face)
    pen.fill(smooth(face), SKIN, 0.55)
    features(pen, hair, eyes, mouth, look, spoilt)
    fringe(pen, hair, look)
    drop = {"short": -7, "medium": 6.5, "long": 14}.get(length)
    if drop is not None:
        for side in (-1, 1):
            lock = [
                (7.6, -21),
                (11.4, -15),
                (11.8, drop * 0.5 - 3),
                (10.4, drop),
                (9, drop - 1.5),
                (8.9, -9),
                (8.2, -14),
            ]
            pen.fill(smooth([(side * x, y) for x, y in lock], tension=0.8), hair, 0.8, 0.8)
    if pen.name == "anime":
        shine(pen, hair)


def fringe(pen: Pen, hair, look: float):
    part = look * 2.5 + 1.5
    cap = [
        (-11.4, -12), (-12, -19), (-8.4, -25), (0, -27.4), (8.4, -25), (12, -19), (11.4, -12), (9.4, -15.4),
        (6.4, -18.6), (part + 2.4, -16.8), (part, -19.6), (part - 4, -16.6), (-6.6, -18.4), (-9.4, -15.4),
    ]  # fmt: skip
    if pen.name == "anime":  # pointed strands
        cap[8:] = [
            (7, -18.6), (5.2, -15.8), (4, -19), (part + 0.6, -15), (part - 1.6, -19.4),
            (part - 4.6, -15.4), (-5.6, -18.8), (-8.2, -14.6), (-9.4, -17),
        ]  # fmt: skip
    pen.fill(smooth(cap, tension=0.6 if pen.name == "anime" else 0.75), hair)
    if pen.name not in ("papercut", "anime"):
        pen.stroke([(-7.4, -22), (-1, -24.6), (6, -23.2)], mix(hair, (255, 255, 255), 0.42), 1.5, 0.5)


def shine(pen: Pen, hair):
    """The jagged band of light on drawn hair, and a few strands."""
    light = mix(hair, (255, 255, 255), 0.62)
    top = [(-9.6, -21), (-6, -22.6), (-2, -23.6), (2, -23.6), (6, -22.6), (9.6, -21)]
    zag = [(8, -18.8), (6.4, -20.6), (4, -19.4), (2, -21.4), (-1, -19.8), (-3.6, -21), (-6, -18.8), (-7.6, -20.2)]
    pen.flat(poly(*top, *zag), light, 0.95)
    for x in (-8, -4, 4, 8):
        pen.stroke([(x * 0.55, -26.4), (x, -22), (x * 1.12, -17.6)], hsv(hair, 1.1, 0.55), 0.5, 0.8)


def features(pen: Pen, hair, eyes: str, mouth: str, look: float, spoilt=None):
    turn = look * 2.4
    for side in (-1, 1):
        x, y, size = turn + side * 4.3, -11.4 + (1.2 if pen.name == "anime" else 0), 1.0
        if spoilt:
            x, y, size = spoilt.eye(x, y, side)
        if pen.name == "anime":
            anime_eye(pen, x, y, size, eyes, hair, side)
        else:
            dot_eye(pen, x, y, size, eyes)
        if pen.name != "anime":
            brow = [(x - side * 1.8, y - 4.5), (x, y - 4.9), (x + side * 1.8, y - 3.8)]
            pen.stroke(brow, mix(hair, DARK, 0.5), 0.6, 0.7)
        if not spoilt:
            pen.flat(oval(turn + side * 6.3, -7.6, 2.1, 1.3), BLUSH, 0.55, blur=0 if pen.name == "papercut" else 0.5)
    if spoilt:
        spoilt.mouth(pen, turn)
    else:
        draw_mouth(pen, mouth, turn)


def dot_eye(pen: Pen, x: float, y: float, size: float, eyes: str):
    if eyes == "closed":
        pen.stroke([(x - 2, y), (x, y + 1.3), (x + 2, y)], DARK, 0.95)
    elif eyes == "dazed":
        pen.fill(oval(x, y + 0.6, 1.5 * size, 1.1 * size), DARK, 0, 0)
        pen.stroke([(x - 2.2, y - 0.5), (x, y - 0.7), (x + 2.2, y - 0.5)], DARK, 0.9)
    else:
        big = 1.35 if eyes == "sparkle" else 1.0
        pen.flat(oval(x, y, 1.5 * size * big, 2.1 * size * big), DARK)
        pen.flat(oval(x - 0.5 * size, y - 0.8 * size, 0.6 * size * big), (255, 255, 255), 0.95)
        if eyes == "sparkle":
            pen.flat(star(x + 0.4, y + 0.6, 1.5), (255, 250, 200))


def anime_eye(pen: Pen, x: float, y: float, size: float, eyes: str, hair, side: int):
    if eyes == "closed":
        pen.stroke([(x - 2.8, y + 0.4), (x, y + 2), (x + 2.8, y + 0.4)], (40, 20, 40), 1.2)
        return
    tall = 3.9 * size * (0.6 if eyes == "dazed" else 1)
    iris = hsv(mix(hair, (70, 130, 240), 0.75), 1.5, 1.15)
    pen.flat(oval(x, y, 2.9 * size, tall), (255, 255, 255))
    pen.flat(oval(x, y + 0.2, 2.3 * size, tall * 0.92), mix(iris, (20, 10, 60), 0.35))
    pen.flat(oval(x, y + tall * 0.35, 1.8 * size, tall * 0.5), mix(iris, (255, 255, 255), 0.35))
    pen.flat(oval(x, y, 1.1 * size, tall * 0.5), (34, 18, 52))
    pen.flat(oval(x - 0.9 * size, y - tall * 0.42, 1.05 * size), (255, 255, 255))
    pen.flat(oval(x + 1.0 * size, y + tall * 0.45, 0.55 * size), (255, 255, 255))
    arc = [math.radians(a) for a in (165, 130, 90, 50, 15)]
    pen.stroke([(x + 3.1 * math.cos(a), y - (tall + 0.1) * math.sin(a)) for a in arc], (40, 20, 40), 1.15)
    pen.stroke([(x + side * 2.7, y - tall * 0.5), (x + side * 3.9, y - tall * 0.55)], (40, 20, 40), 0.9)


def draw_mouth(pen: Pen, mouth: str, x: float):
    red = (176, 66, 70)
    if mouth == "open":
        pen.fill(smooth([(x - 2.1, -6), (x, -6.5), (x + 2.1, -6), (x + 1.4, -3.4), (x - 1.4, -3.4)]), red, 0.3, 0.4)
    elif mouth == "small":
        pen.flat(oval(x, -5, 0.9, 0.8), red)
    else:
        dips = {"flat": (0, 0, 0), "wavy": (0.7, -0.7, 0.5)}.get(mouth, (0.9, 1.3, 0.9))
        pen.stroke(
            [
                (x - 2.2, -5.6),
                *((x + i * 1.1, -5.6 + d) for i, d in zip((-1, 0, 1), dips, strict=True)),
                (x + 2.2, -5.6),
            ],
            red,
            0.85,
        )


class Spoilt:
    """A face and hand gone wrong, as early diffusion models drew them; severity 0..1."""

    def __init__(self, severity: float, rng):
        self.force, self.rng = 0.65 + 0.35 * severity, rng
        self.big, self.skew = rng.choice((-1, 1)), rng.uniform(-1, 1)

    def bend(self, face):
        push = 4.5 * self.force * self.big
        return [(x + push * math.sin(y / 4.0 + self.skew), y + 0.35 * push * math.sin(x / 3.0)) for x, y in face]

    def eye(self, x: float, y: float, side: int):
        grow = 1 + 1.1 * self.force if side == self.big else 1 - 0.35 * self.force
        return x + side * 1.2 * self.force, y + side * self.big * 4.2 * self.force, grow

    def mouth(self, pen: Pen, x: float):
        w = 5 * self.force
        line = [
            (x - w, -7),
            (x - w * 0.4, -3.6),
            (x, -6.4 + self.skew),
            (x + w * 0.5, -2.4),
            (x + w, -5.4),
            (x + w, -1),
        ]
        pen.stroke(line, (190, 84, 90), 2.2)

    def hand(self, pen: Pen, side: int):
        """A large raised hand with far too many fingers, before the chest."""
        x, y, count = side * 13, -50, self.rng.randint(8, 9)
        pen.limb([(side * 9, -40), (x, y)], SKIN, 6)
        for i in range(count):
            turn = math.radians(-150 + 120 * i / (count - 1))
            r = (10 + 3 * ((i * 5) % 3)) * (0.8 + 0.2 * self.force)
            kink = 2.4 * (-1) ** i
            mid, tip = (
                (x + r * 0.6 * math.cos(turn) + kink, y + r * 0.6 * math.sin(turn)),
                (x + r * math.cos(turn), y + r * math.sin(turn)),
            )
            pen.limb([(x, y), mid, tip], mix(SKIN, BLUSH, 0.12 * (i % 2)), 2.2)
        pen.fill(oval(x, y, 5.4, 4.8), SKIN, 0.5, 0.7)
