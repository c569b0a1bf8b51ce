"""Heads and hair, drawn with the origin at the neck: 43 units from chin to crown, 38 wide."""

from world.colors import SKIN, WHITE
from world.faces import features
from world.pen import Pen, mirrored, mix, poly, smooth

FACE = [(0, -35), (9, -33.5), (15.8, -27), (17.6, -17), (15.6, -7.6), (8.4, -1.2), (0, 0.4)]
ANIME_FACE = [*FACE[:4], (15, -8), (7, -0.6), (0, 1.8)]
CROWN, CHIN = -43, 0.4
FACE_BOX = (-17.6, -34, 17.6, 1)  # what a face finder should find, in units
BACK = {"short": (19.6, -1), "medium": (21.5, 15), "long": (23, 41)}  # half width and lower end in units
LOCKS = {"short": -4, "medium": 11, "long": 24}  # where the locks beside the face end


def back_hair(pen: Pen, hair, length: str):
    """The hair behind the body."""
    half, bottom = BACK[length]
    shape = [(0, -42), (14, -37), (19.4, -24), (half, (bottom - 12) / 2), (half, bottom - 3), (half * 0.6, bottom + 1)]
    if length == "long":
        shape.append((0, bottom - 2))
    pen.fill(smooth(mirrored(shape), tension=0.9), mix(hair, (20, 14, 40), 0.2))


def head(pen: Pen, hair, length: str, eyes: str, mouth: str, look: float = 0.0, flaw=None):
    """Face, fringe and side locks. Where the face is on the picture is noted in `pen.faces`."""
    pen.note(pen.faces, *FACE_BOX)
    face = mirrored(ANIME_FACE if pen.name == "anime" else FACE)
    pen.fill(smooth(flaw.bend(face) if flaw else face), SKIN, 0.5)
    features(pen, hair, eyes, mouth, look, flaw)
    fringe(pen, hair, look)
    if length in LOCKS:
        side_locks(pen, hair, LOCKS[length])
    if pen.name == "anime":
        shine(pen, hair)


def side_locks(pen: Pen, hair, drop: float):
    lock = [(13, -31), (18.6, -24), (19.4, drop * 0.5 - 6), (18, drop), (15.4, drop - 2), (15, -12), (14.4, -22)]
    for side in (-1, 1):
        pen.fill(smooth([(side * x, y) for x, y in lock], tension=0.8), hair, 0.7, 0.8)


def fringe(pen: Pen, hair, look: float):
    """The cap of hair over the brow; pointed strands in anime."""
    part, anime = look * 4 + 2.4, pen.name == "anime"
    cap = [(-18.6, -15), (-19.4, -27), (-13.4, -38.6), (0, -43), (13.4, -38.6), (19.4, -27), (18.6, -15)]
    if anime:
        cap += [(15, -25), (11.4, -29), (8.8, -23.6), (6, -29.4), (part, -22.6), (part - 3.6, -29.6)]
        cap += [(part - 8, -23.2), (-9.6, -29), (-13, -22.6), (-15.4, -26)]
    else:
        cap += [(15.2, -23), (10.6, -28), (part + 4, -25.4), (part, -30), (part - 6.4, -25.2)]
        cap += [(-11, -27.6), (-15.2, -23)]
    pen.fill(smooth(cap, tension=0.55 if anime else 0.75), hair)
    if pen.name not in ("papercut", "anime"):
        pen.stroke([(-12, -34), (-2, -38.6), (9, -36.4)], mix(hair, WHITE, 0.42), 2.4, 0.5)


def shine(pen: Pen, hair):
    """The jagged band of light on anime hair."""
    top = [(-15, -33), (-9, -36.4), (-3, -38), (3, -38), (9, -36.4), (15, -33)]
    zag = [(12.4, -30), (9.6, -33), (6, -31), (2.6, -34.4), (-1.6, -31.6), (-6, -34), (-9.6, -30.4), (-12.4, -32.4)]
    pen.flat(poly(*top, *zag), mix(hair, WHITE, 0.62), 0.95)
