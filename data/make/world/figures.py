"""The people. A standing person's feet are at (0, 0), the crown at y = -90; up is negative."""

from world.heads import BLUSH, DARK, HAIR, SKIN, back_hair, head
from world.pen import Pen, box, hsv, mix, oval, poly, smooth, star, zigzag

DRESS = {
    "green": (70, 170, 96), "white": (246, 244, 248), "pink": (246, 146, 180), "black": (58, 54, 70),
    "red": (208, 44, 56), "blue": (58, 104, 206), "yellow": (248, 212, 76),
}  # fmt: skip
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
        (-6.2, top), (0, top - 0.6), (6.2, top), (6.2 + (half - 6.2) * full, mid), (half, hem - 1),
        (half * 0.5, hem + wave * 0.6), (0, hem - wave * 0.4),
        (-half * 0.5, hem + wave * 0.6), (-half, hem - 1), (-6.2 - (half - 6.2) * full, mid),
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
        top = smooth([
            (-3.6, -63), (0, -59.5), (3.6, -63), (9, -60.5), (8, -54),
            (6.6, -46), (-6.6, -46), (-8, -54), (-9, -60.5),
        ], tension=0.6)  # fmt: skip
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
    for side, (elbow, hand) in zip((-1, 1), arms, strict=True):
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
    for side, (elbow, hand) in zip((-1, 1), arms, strict=True):
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
    plate = smooth([
        (-9.4, -61), (-3.4, -62.6), (0, -60.6), (3.4, -62.6), (9.4, -61),
        (8.6, -52), (6.8, -44), (-6.8, -44), (-8.6, -52),
    ], tension=0.6)  # fmt: skip
    pen.fill(plate, SILVER, 1.4)
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
