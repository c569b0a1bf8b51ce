"""The people and animals. A standing person's feet are at (0, 0), the crown at y = -90; up is negative."""

import math

from pen import Pen, box, hsv, mix, oval, poly, smooth, star, zigzag

HAIR = {
    "black": (44, 38, 52), "purple": (136, 74, 186), "gold": (240, 196, 78), "red": (186, 58, 38), "blue": (62, 118, 208),
    "brown": (122, 80, 52),
}  # fmt: skip
DRESS = {
    "green": (70, 170, 96), "white": (246, 244, 248), "pink": (246, 146, 180), "black": (58, 54, 70),
    "red": (208, 44, 56), "blue": (58, 104, 206), "yellow": (248, 212, 76),
}  # fmt: skip
SKIN, BLUSH, DARK = (252, 218, 192), (244, 132, 124), (58, 40, 48)
SILVER, GOLD, CAPE, LEATHER = (192, 202, 216), (226, 180, 74), (64, 88, 160), (120, 78, 50)

# Where elbow and hand are, for the arm on the right of the picture; the left one mirrors it unless given.
DOWN, CHEST, CHIN, UP = (
    ((12, -50), (11.5, -41)),
    ((12, -50), (1.8, -53)),
    ((11, -51), (7.8, -67)),
    ((15, -57), (18, -67)),
)
ARMS = {
    "stand": (DOWN, DOWN), "listen": (((12, -50), (5, -46)),) * 2, "wake": (((13, -50), (4, -46)),) * 2,
    "write": (((13, -51), (9, -47)), ((12, -50), (10, -45))), "bored": (CHIN, CHIN), "watch": (UP, CHEST),
    "wish": (CHEST, CHEST), "sing": (((12, -53), (4.5, -62)), ((15, -56), (21, -62))), "nervous": (CHEST, CHEST),
    "talk_girl": (DOWN, ((13, -53), (16, -59))), "ride": (((10, -52), (9, -46)), DOWN), "sleep": (DOWN, DOWN),
}  # fmt: skip
EYES = {"sleep": "closed", "wish": "closed", "wake": "dazed", "bored": "dazed", "watch": "sparkle"}
MOUTHS = {
    "sing": "open",
    "sleep": "small",
    "wake": "small",
    "bored": "flat",
    "nervous": "wavy",
    "watch": "open",
    "talk_girl": "open",
}


def girl(pen: Pen, scene, action: str, tilt: float = 0.0, look: float = 0.0, lift: float = 0.0, spoilt=None):
    """The girl; `lift` shortens what is below the waist (she sits), `look` -1..1 turns her face."""
    hair, dress = HAIR[scene.hair_color], DRESS[scene.color]
    with pen.placed(0, -64, turn=tilt):
        back_hair(pen, hair, scene.hair_length)
    skirt(pen, scene.garment, dress, lift)
    bodice(pen, scene.garment, dress)
    arms = ARMS[action]
    raised = action in ("bored", "sing", "wish", "nervous", "watch")
    if not raised:
        both_arms(pen, scene.garment, dress, arms)
    with pen.placed(0, -64, turn=tilt):
        head(pen, hair, scene.hair_length, EYES.get(action, "open"), MOUTHS.get(action, "smile"), look, spoilt)
        if action == "nervous":
            pen.fill(smooth([(10, -18), (11.6, -14), (10, -12.4), (8.4, -14)]), (150, 208, 244), 0.4, 0.5)
    if raised:
        both_arms(pen, scene.garment, dress, arms)
    held(pen, action, arms)


def skirt(pen: Pen, garment: str, dress, lift: float):
    hem, half = {"long_dress": (-3, 18), "dress": (-24, 17), "strap_dress": (-19, 13), "gown": (-2, 28)}[garment]
    hem = min(hem, -3) - lift * (0.55 if garment in ("dress", "strap_dress") else 1)
    for side in (-1, 1):
        pen.limb([(side * 4, -36), (side * 4.2, -5 - lift)], SKIN, 4.4)
        pen.fill(oval(side * 4.8, -2.4 - lift, 3.8, 2.6), mix(dress, DARK, 0.45), 0.6)
    top, full = -47, 0.8 if garment == "gown" else 0.55
    mid = (top + hem) / 2
    wave = 2.2 if garment == "gown" else 1.4
    pen.fill(smooth([
        (-6.2, top), (0, top - 0.6), (6.2, top), (6.2 + (half - 6.2) * full, mid), (half, hem - 1), (half * 0.5, hem + wave * 0.6),
        (0, hem - wave * 0.4), (-half * 0.5, hem + wave * 0.6), (-half, hem - 1), (-6.2 - (half - 6.2) * full, mid),
    ], tension=0.9), dress)  # fmt: skip
    for x in (-0.5, 0.05, 0.55):  # folds
        pen.stroke(
            [(x * 8, top + 6), (x * half * 0.9, mid), (x * half * 1.1, hem - 3)], hsv(dress, 1.1, 0.78), 0.9, 0.45
        )
    if garment == "gown":
        pen.stroke(
            [(-half + 2, hem - 6), (0, hem - 3.5), (half - 2, hem - 6)], mix(dress, (255, 250, 220), 0.6), 1.6, 0.8
        )
        for i in range(9):
            x = (i - 4) * half * 0.19
            pen.flat(star(x, mid + ((i * 7) % 5 - 1.4) * 4.2, 2.3), (255, 246, 190), 0.95)


def bodice(pen: Pen, garment: str, dress):
    bare = garment in ("strap_dress", "gown")
    pen.fill(smooth([(-3, -65), (3, -65), (9, -60), (6.4, -47), (-6.4, -47), (-9, -60)], tension=0.7), SKIN, 0.6)
    if bare:
        top = smooth(
            [(-7.6, -56), (-3.5, -57.4), (0, -55.6), (3.5, -57.4), (7.6, -56), (6.4, -46), (-6.4, -46)], tension=0.6
        )
    else:
        top = smooth([(-3.6, -63), (0, -59.5), (3.6, -63), (9, -60.5), (8, -54), (6.6, -46), (-6.6, -46), (-8, -54), (-9, -60.5)], tension=0.6)  # fmt: skip
    pen.fill(top, dress)
    trim = mix(dress, (255, 252, 240), 0.75) if sum(dress) < 650 else (214, 190, 140)
    if garment == "strap_dress":
        for side in (-1, 1):
            pen.stroke([(side * 4.4, -56), (side * 4.8, -62)], hsv(dress, 1, 0.9), 1.5)
    elif garment == "gown":
        pen.stroke([(-7, -55.6), (-3.5, -57), (0, -55.4), (3.5, -57), (7, -55.6)], trim, 1.1)
    else:
        pen.stroke([(-4.4, -62.6), (0, -57.2), (4.4, -62.6)], trim, 1.5)
    sash = trim if garment == "long_dress" else hsv(dress, 1.0, 0.7)
    pen.fill(box(-6.8, -49, 6.8, -45.6, 1), sash, 0.5, 0.5)


def both_arms(pen: Pen, garment: str, dress, arms):
    for side, (elbow, hand) in zip((-1, 1), arms):
        shoulder = (side * 8, -58.6)
        points = [shoulder, (side * elbow[0], elbow[1]), (side * hand[0], hand[1])]
        if garment == "long_dress":
            pen.limb(points, hsv(dress, 1, 0.93), 5.6)
        else:
            pen.limb(points, SKIN, 4.2)
            if garment != "strap_dress":
                pen.fill(oval(side * 9, -58, 4.2, 3.9 if garment == "dress" else 4.6), dress, 0.8)
        pen.fill(oval(side * hand[0], hand[1], 2.7), SKIN, 0.4, 0.7)


def held(pen: Pen, action: str, arms):
    """What her hands hold or do."""
    (left, right) = (-arms[0][1][0], arms[0][1][1]), arms[1][1]
    if action == "sing":
        x, y = left
        pen.limb([(x - 1, y + 5), (x + 1, y - 1)], (60, 60, 72), 2.2)
        pen.fill(oval(x + 1.6, y - 3, 2.7), (92, 92, 108), 1.2, 0.7)
    elif action == "watch":
        x, y = left
        pen.glow(x - 2, y - 9, 11, (120, 240, 255), 0.8)
        pen.limb([(x, y), (x - 3.4, y - 13)], (190, 250, 255), 2.6)
    elif action in ("wish", "nervous"):
        for i in range(3):
            pen.stroke([(-2.4, -54.4 + i * 1.5), (2.4, -54 + i * 1.5)], mix(SKIN, BLUSH, 0.75), 0.6)
    elif action == "write":
        x, y = right
        pen.limb([(x + 2.6, y - 11), (x - 1.6, y + 4)], (168, 104, 56), 1.7)
        pen.limb([(x - 1.6, y + 3), (x - 2.4, y + 5.4)], (30, 28, 32), 2.2)


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
            [(x - 2.2, -5.6), *((x + i * 1.1, -5.6 + d) for i, d in zip((-1, 0, 1), dips)), (x + 2.2, -5.6)], red, 0.85
        )


def asleep(pen: Pen, scene, desk: float, spoilt=None):
    """The sleeper's hair, back and head, to be drawn before the desk whose top is at y = `desk`."""
    hair, dress = HAIR[scene.hair_color], DRESS[scene.color]
    with pen.placed(2, desk - 8, turn=-58):
        back_hair(pen, hair, scene.hair_length)
    pen.fill(smooth([(-4, desk + 3), (-1, desk - 12), (8, desk - 18), (18, desk - 12), (21, desk + 3)]), dress)
    if scene.garment in ("strap_dress", "gown"):
        pen.fill(smooth([(1, desk - 12), (8, desk - 17.4), (15, desk - 13), (9, desk - 9)]), SKIN, 0.5, 0.6)


def sleeping_arms(pen: Pen, scene, desk: float, spoilt=None):
    """Her arms on the desk and her head on them, closed eyes and a dream."""
    dress, hair = DRESS[scene.color], HAIR[scene.hair_color]
    sleeve = hsv(dress, 1, 0.93) if scene.garment == "long_dress" else SKIN
    pen.limb([(19, desk - 6), (10, desk + 2), (-20, desk + 2)], sleeve, 6)
    pen.fill(oval(-21, desk + 2, 2.9), SKIN, 0.4, 0.7)
    with pen.placed(3, desk - 5, turn=-58):
        head(pen, hair, scene.hair_length, "closed", "small", 0, spoilt)
    pen.limb([(21, desk - 3), (14, desk + 4.6), (-3, desk + 4.6)], hsv(sleeve, 1, 0.95), 5.6)
    pen.fill(oval(-5, desk + 4.6, 2.9), SKIN, 0.4, 0.7)
    for i in range(3):
        x, y, r = 10 + i * 5, desk - 26 - i * 6, 1.6 + i * 0.6
        pen.stroke(zigzag((x - r, y - r), (x + r, y - r), (x - r, y + r), (x + r, y + r)), (110, 130, 200), 1.2)


def skirt_below(pen: Pen, scene, desk: float):
    """What is seen of the sleeper under the desk."""
    hem = {"dress": -20, "strap_dress": -16}.get(scene.garment, -4)
    for side in (-1, 1):
        pen.limb([(side * 4 + 4, desk + 10), (side * 4.2 + 3, -5)], SKIN, 4.4)
        pen.fill(oval(side * 4.8 + 3, -2.4, 3.8, 2.6), mix(DRESS[scene.color], DARK, 0.45), 0.6)
    pen.fill(
        smooth([(-8, desk + 4), (18, desk + 4), (18, hem), (5, hem + 1), (-10, hem)], tension=0.5), DRESS[scene.color]
    )


def prince(pen: Pen, action: str = "stand", tilt: float = 0.0, look: float = 0.0, seated: bool = False, spoilt=None):
    """The prince in silver armour; seated on a horse only his upper half is drawn."""
    hem = -40 if seated else -8
    pen.fill(
        smooth([(-8, -61), (8, -61), (14, -44), (17, hem), (0, hem + 3), (-17, hem), (-14, -44)], tension=0.8), CAPE
    )
    if not seated:
        for side in (-1, 1):
            pen.limb([(side * 4.4, -40), (side * 4.8, -16)], mix(SILVER, (90, 100, 130), 0.3), 6.4)
            pen.limb([(side * 4.9, -18), (side * 5, -6)], SILVER, 7)
            pen.fill(oval(side * 5.8, -2.8, 4.8, 3), (132, 142, 160), 1)
    armour(pen)
    arms = {
        "talk": (((12, -52), (13, -45)), ((14, -53), (17, -58))),
        "ride": (((12, -52), (8, -45)), ((14, -54), (15, -49))),
    }.get(action, (((12, -52), (13, -45)), ((13, -53), (15, -48))))
    for side, (elbow, hand) in zip((-1, 1), arms):
        pen.limb([(side * 9, -58), (side * elbow[0], elbow[1]), (side * hand[0], hand[1])], SILVER, 5.6)
        pen.fill(oval(side * 9.4, -59.6, 5, 4), SILVER, 1.3)
        pen.fill(oval(side * hand[0], hand[1], 2.8), (150, 158, 176), 0.8, 0.7)
    if action != "talk":
        sword(pen, *arms[1][1], turn=14 if seated else 10)
    with pen.placed(0, -64, turn=tilt):
        head(pen, HAIR["brown"], "prince", "open", "open" if action == "talk" else "smile", look, spoilt)
        pen.fill(
            poly((-7, -23), (-7.5, -28), (-3.4, -25.6), (0, -29.6), (3.4, -25.6), (7.5, -28), (7, -23)), GOLD, 0.8, 0.7
        )


def armour(pen: Pen):
    pen.fill(box(-3, -66, 3, -60, 1), SKIN, 0.5, 0.6)
    pen.fill(smooth([(-9.4, -61), (-3.4, -62.6), (0, -60.6), (3.4, -62.6), (9.4, -61), (8.6, -52), (6.8, -44), (-6.8, -44), (-8.6, -52)], tension=0.6), SILVER, 1.4)  # fmt: skip
    pen.fill(
        poly((-7.4, -45), (7.4, -45), (10, -34.5), (4, -37), (0, -33.5), (-4, -37), (-10, -34.5)),
        mix(SILVER, (110, 120, 150), 0.25),
        1.2,
    )
    pen.fill(box(-7.4, -46.6, 7.4, -43.6, 1), LEATHER, 0.5, 0.5)
    pen.stroke([(0, -60), (0, -47)], (128, 138, 160), 0.8)
    pen.stroke([(-6.6, -58.6), (-6, -50)], (255, 255, 255), 1.4, 0.85)
    pen.stroke([(-6.4, -55), (0, -53), (6.4, -55)], GOLD, 1.1)


def sword(pen: Pen, x: float, y: float, turn: float):
    with pen.placed(x, y, turn=turn):
        pen.fill(poly((-1.5, -3), (-1.5, -31), (0, -35), (1.5, -31), (1.5, -3)), (232, 238, 246), 0.8, 0.9)
        pen.stroke([(0, -30), (0, -5)], (150, 162, 184), 0.6)
        pen.fill(box(-5, -4.4, 5, -2.2, 1), GOLD, 0.6, 0.7)
        pen.limb([(0, -2), (0, 4)], LEATHER, 2.2)
        pen.fill(oval(0, 5, 1.7), GOLD, 0.6, 0.6)


def horse(pen: Pen, saddle: bool, stride: float = 0.0):
    """A white horse that looks to the right, hooves at y = 0, its back at about y = -46."""
    coat, shade, mane = (250, 249, 250), (214, 214, 228), (206, 208, 226)
    pen.fill(smooth([(-30, -45), (-40, -42), (-46, -28), (-44, -12), (-40, -20), (-36, -32), (-30, -36)]), mane)
    for x, step in ((-21, 1), (17, -1)):  # far legs
        leg(pen, x + 7, stride * step, shade)
    pen.fill(
        smooth([(18, -44), (26, -62), (33, -73), (40, -70), (40, -56), (34, -40), (26, -28), (14, -30)], tension=0.8),
        coat,
    )
    pen.fill(
        smooth(
            [
                (-32, -40),
                (-22, -47),
                (0, -45),
                (18, -47),
                (28, -40),
                (26, -28),
                (10, -23),
                (-8, -23),
                (-26, -26),
                (-33, -32),
            ]
        ),
        coat,
    )
    for x, step in ((-26, -1), (19, 1)):
        leg(pen, x, stride * step, coat)
    pen.fill(poly((31, -74), (31.5, -83), (36.5, -75.5)), coat, 0.8, 0.8)
    pen.fill(
        smooth([(30, -75), (38, -77), (47, -66), (51, -58), (48.6, -54), (44, -55), (36, -60), (31, -66)], tension=0.8),
        coat,
    )
    pen.fill(smooth([(33, -79), (27, -75), (19, -60), (12, -46), (18, -44), (25, -54), (30, -65), (34, -72)]), mane)
    pen.flat(oval(39, -69, 1.4, 1.8), DARK)
    pen.flat(oval(38.5, -69.7, 0.55), (255, 255, 255))
    pen.flat(oval(48, -58.4, 0.8), (150, 120, 130))
    pen.flat(oval(43, -61, 2, 1.4), BLUSH, 0.35)
    pen.stroke([(34, -74), (38, -64), (44, -56)], LEATHER, 1.2)
    pen.stroke([(38, -64), (46, -64.6)], LEATHER, 1.1)
    if saddle:
        pen.stroke([(44, -58), (28, -50), (8, -50)], LEATHER, 1.0)
        pen.fill(
            smooth([(-12, -47), (0, -48.6), (12, -47), (13, -34), (0, -31), (-13, -34)], tension=0.7), (156, 52, 60)
        )
        pen.stroke([(-11, -35.4), (0, -33), (11, -35.4)], GOLD, 1.2)


def leg(pen: Pen, x: float, bend: float, coat):
    pen.limb([(x, -32), (x + bend * 3, -16), (x + bend * 1.4, -4)], coat, 6.4)
    pen.fill(box(x + bend * 1.4 - 3.6, -5, x + bend * 1.4 + 3.8, 0, 1.2), (124, 112, 118), 0.8, 0.8)


def riders(pen: Pen, scene, tilt: float):
    """Who sits on the horse: the prince alone, or the girl side-saddle before him."""
    pair = scene.who == "couple_rider"
    at = -9 if pair else -1
    with pen.placed(at, -11, 0.8):
        prince(pen, "ride", tilt, 0.5 if pair else 0.4, seated=True)
    for points in ([(at + 2, -46), (at + 5, -34), (at + 3, -24)],):
        pen.limb(points, mix(SILVER, (90, 100, 130), 0.2), 6)
        pen.fill(oval(at + 5, -21, 4.6, 2.8), (132, 142, 160), 1, 0.8)
    if pair:
        dress = DRESS[scene.color]
        with pen.placed(10, -11, 0.76), pen.placed(0, -64, turn=-tilt):
            back_hair(pen, HAIR[scene.hair_color], scene.hair_length)
        pen.fill(smooth([(5, -48), (15, -48), (23, -38), (25, -20), (16, -17), (7, -20), (4, -36)]), dress)
        pen.stroke([(12, -46), (16, -34), (16, -21)], hsv(dress, 1.1, 0.78), 0.9, 0.5)
        pen.fill(oval(20, -15.6, 3.4, 2), mix(dress, DARK, 0.45), 0.5, 0.7)
        with pen.placed(10, -11, 0.76):
            bodice(pen, scene.garment, dress)
            both_arms(pen, scene.garment, dress, (((11, -50), (4, -45)), ((11, -50), (6, -44))))
            with pen.placed(0, -64, turn=-tilt):
                head(pen, HAIR[scene.hair_color], scene.hair_length, "open", "smile", -0.4)


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
