"""The people. A standing person's feet are at (0, 0), the neck at y = -56, the crown at -99; up is negative."""

from dataclasses import dataclass

from world.colors import CAPE, DARK, DRESS, GOLD, HAIR, LEATHER, SILVER, SKIN, WHITE
from world.heads import back_hair, head
from world.pen import Pen, box, hsv, mirrored, mix, oval, poly, smooth, star
from world.props import held

NECK = -56
SHOULDER = (9.6, -51.5)
# Where elbow and hand are, for the arm on the right of the picture.
DOWN, ASIDE, LOW = ((15, -43), (16.5, -33)), ((17, -44), (23, -37)), ((15, -41), (8, -36))
UP, HIGH = ((19, -50), (26, -62)), ((21, -56), (25, -73))
CHEST, CHIN, MIC = ((15, -42), (4, -43)), ((17, -46), (14, -59)), ((16, -44), (9.5, -51))


@dataclass(frozen=True)
class Pose:
    """Left and right arm as (elbow, hand), eyes and mouth; `above`: the arms are in front of head and hair."""

    left: tuple
    right: tuple
    eyes: str = "open"
    mouth: str = "smile"
    above: bool = False


POSES = {
    "stand": Pose(DOWN, DOWN),
    "listen": Pose(LOW, LOW),
    "wake": Pose(HIGH, HIGH, "dazed", "yawn", True),
    "write": Pose(LOW, ((17, -44), (14, -40)), above=True),
    "bored": Pose(CHIN, CHIN, "dazed", "flat", True),
    "watch": Pose(UP, UP, "sparkle", "open", True),
    "wish": Pose(CHEST, CHEST, "closed", above=True),
    "sing": Pose(MIC, UP, "open", "open", True),
    "nervous": Pose(CHEST, CHEST, "nervous", "wavy", True),
    "talk": Pose(DOWN, ((16, -45), (20, -42)), "open", "open", True),
    "ride": Pose(LOW, LOW),
    "read": Pose(((16, -42), (12, -40)), ((16, -42), (12, -40)), above=True),
    "dance": Pose(HIGH, ASIDE, "happy", "open", True),
}
GAZE = {"listen": 0.9, "write": -0.2, "talk": 0.8}  # -1..1, how far the face turns to the right
HEM = {"long_dress": (-3, 19), "dress": (-19, 19), "strap_dress": (-22, 15), "gown": (-2, 29)}  # its height, half width


def girl(pen: Pen, scene, action: str, tilt: float = 0.0, lift: float = 0.0, flaw=None):
    """The girl; `tilt` turns her head (degrees), `lift` shortens what is below the waist (she sits)."""
    hair, dress, pose = HAIR[scene.hair_color], DRESS[scene.color], POSES[action]
    with pen.placed(0, NECK, turn=tilt):
        back_hair(pen, hair, scene.hair_length)
    legs(pen, dress, lift, action == "dance")
    skirt(pen, scene.garment, dress, lift)
    bodice(pen, scene.garment, dress)
    if not pose.above:
        arms(pen, scene.garment, dress, pose, flaw)
    with pen.placed(0, NECK, turn=tilt):
        head(pen, hair, scene.hair_length, pose.eyes, pose.mouth, GAZE.get(action, 0.0), flaw)
    if pose.above:
        arms(pen, scene.garment, dress, pose, flaw)
    held(pen, action, (-pose.left[1][0], pose.left[1][1]), pose.right[1])


def legs(pen: Pen, dress, lift: float, kick: bool):
    """Both legs; `kick`: one is thrown out to the side."""
    for side in (-1, 1):
        foot = (side * 17, -9) if kick and side == 1 else (side * 5.4, -3 - lift)
        pen.limb([(side * 4.6, -28), ((side * 5 + foot[0]) / 2, (foot[1] - 26) / 2), foot], SKIN, 6.4)
        pen.fill(oval(foot[0] + side, foot[1], 5.4, 3.6), mix(dress, DARK, 0.45), 0.6)


def skirt(pen: Pen, garment: str, dress, lift: float):
    hem, half = HEM[garment]
    hem = hem - lift * (0.45 if garment in ("dress", "strap_dress") else 1)
    top, full = -40, 0.8 if garment in ("gown", "dress") else 0.6
    mid, wave = (top + hem) / 2, 2.4 if garment == "gown" else 1.4
    side = [(0, top - 1), (7.6, top), (7.6 + (half - 7.6) * full, mid), (half, hem - 1)]
    pen.fill(smooth(mirrored([*side, (half * 0.5, hem + wave * 0.6), (0, hem - wave * 0.4)]), tension=0.9), dress)
    if garment in ("long_dress", "gown"):
        for x in (-0.5, 0.5):  # folds
            pen.stroke([(x * 9, top + 8), (x * half * 1.0, hem - 6)], hsv(dress, 1.1, 0.78), 1.8, 0.5)
    if garment == "gown":
        trim = mix(dress, (255, 250, 220), 0.65)
        pen.stroke([(-half + 2, hem - 6), (0, hem - 3.5), (half - 2, hem - 6)], trim, 2.4, 0.9)
        for i in range(7):
            pen.flat(star((i - 3) * half * 0.25, mid + ((i * 7) % 5 - 1) * 4.4, 3.4), (255, 246, 190), 0.95)


def bodice(pen: Pen, garment: str, dress):
    """The upper part of the dress: bare shoulders with straps, off the shoulder, or with sleeves and a collar."""
    pen.fill(smooth(mirrored([(0, -59), (4, -58), (10.4, -52), (7.8, -38), (0, -37)]), tension=0.7), SKIN, 0.6)
    if garment in ("strap_dress", "gown"):
        top = [(0, -47.4), (4.4, -49.4), (9.4, -47.6), (7.8, -38), (0, -36.6)]
    else:
        top = [(0, -50.4), (4.4, -55.4), (10.6, -52.6), (9.4, -46), (7.8, -38), (0, -36.6)]
    pen.fill(smooth(mirrored(top), tension=0.6), dress)
    trim = mix(dress, (255, 252, 240), 0.75) if sum(dress) < 650 else (214, 190, 140)
    if garment == "strap_dress":
        for side in (-1, 1):
            pen.stroke([(side * 5.6, -48), (side * 6, -54)], hsv(dress, 1, 0.9), 2.4)
    elif garment == "gown":
        pen.stroke([(-8.6, -47), (-4.4, -48.6), (0, -46.8), (4.4, -48.6), (8.6, -47)], trim, 1.8)
    else:
        pen.stroke([(-5.4, -55), (0, -48.6), (5.4, -55)], trim, 2.2)
    pen.fill(box(-8.2, -41, 8.2, -36.6, 1), trim if garment == "long_dress" else hsv(dress, 1.0, 0.7), 0.5, 0.5)


def arms(pen: Pen, garment: str, dress, pose: Pose, flaw=None):
    for side, (elbow, hand) in zip((-1, 1), (pose.left, pose.right), strict=True):
        points = [(side * x, y) for x, y in (SHOULDER, elbow, hand)]
        if garment == "long_dress":
            pen.limb(points, hsv(dress, 1, 0.93), 8)
        else:
            pen.limb(points, SKIN, 6)
            if garment != "strap_dress":
                pen.fill(oval(side * 10.4, -51, 5.4, 5), dress, 0.8)
        mitten(pen, *points[-1], flaw)


def mitten(pen: Pen, x: float, y: float, flaw=None, rgb=SKIN):
    """A round hand; or, with that flaw, far too many fingers."""
    pen.note(pen.hands, x - 4.4, y - 4.4, x + 4.4, y + 4.4)
    if flaw and flaw.kind in ("deform", "fingers"):
        flaw.hand(pen, x, y)
    pen.fill(oval(x, y, 4.2), rgb, 0.4, 0.8)


def sleeper_behind(pen: Pen, scene, desk: float):
    """The sleeper's hair, back and skirt, to be drawn before the desk whose top is at y = `desk`."""
    dress = DRESS[scene.color]
    with pen.placed(13, desk - 10, turn=-66):
        back_hair(pen, HAIR[scene.hair_color], scene.hair_length)
    for x in (14, 24):
        pen.limb([(x, desk + 8), (x, -4)], SKIN, 6.4)
        pen.fill(oval(x - 1, -2.6, 5.4, 3.6), mix(dress, DARK, 0.45), 0.6)
    hem = {"dress": -12, "strap_dress": -14}.get(scene.garment, -4)
    pen.fill(smooth([(4, desk + 2), (32, desk + 2), (34, hem), (19, hem + 1), (3, hem)], tension=0.5), dress)
    pen.fill(smooth([(0, desk + 3), (6, desk - 10), (18, desk - 19), (29, desk - 13), (34, desk + 3)]), dress)
    if scene.garment in ("strap_dress", "gown"):
        pen.fill(smooth([(7, desk - 13), (16, desk - 18.4), (23, desk - 15), (15, desk - 9)]), SKIN, 0.5, 0.6)


def sleeper_before(pen: Pen, scene, desk: float, flaw=None):
    """Her head and arms on the desk."""
    sleeve = hsv(DRESS[scene.color], 1, 0.93) if scene.garment == "long_dress" else SKIN
    pen.limb([(27, desk - 5), (12, desk + 1), (-22, desk + 1)], sleeve, 8)
    with pen.placed(13, desk - 10, turn=-66):
        head(pen, HAIR[scene.hair_color], scene.hair_length, "closed", "small", 0, flaw)
    pen.limb([(30, desk - 3), (22, desk + 4), (2, desk + 3.4)], hsv(sleeve, 1, 0.95), 8)
    mitten(pen, 0, desk + 3.4, flaw)


def prince(pen: Pen, action: str = "stand", tilt: float = 0.0, look: float = 0.0, seated: bool = False, flaw=None):
    """The prince in silver armour; seated on a horse only his upper half is drawn."""
    hem = -30 if seated else -6
    pen.fill(smooth(mirrored([(0, -54), (9, -54), (16, -38), (20, hem), (0, hem + 3)]), tension=0.8), CAPE)
    if not seated:
        for side in (-1, 1):
            pen.limb([(side * 5, -32), (side * 5.6, -14)], mix(SILVER, (90, 100, 130), 0.3), 7.6)
            pen.limb([(side * 5.8, -14), (side * 6, -6)], SILVER, 9)
            pen.fill(oval(side * 7, -3.2, 6.2, 3.8), (132, 142, 160), 1)
    armour(pen)
    pose = POSES["talk"] if action == "talk" else Pose(ASIDE, LOW) if seated else Pose(DOWN, ASIDE)
    if not pose.above:
        metal_arms(pen, pose, flaw)
        side, (x, y) = (-1, pose.left[1]) if seated else (1, pose.right[1])
        sword(pen, side * x, y, turn=side * 16)
    with pen.placed(0, NECK, turn=tilt):
        head(pen, HAIR["brown"], "prince", "open", pose.mouth, look, flaw)
        tips = [(0, -52), (5, -45), (11, -51), (12, -38), (0, -36.4)]
        pen.fill(poly(*mirrored(tips)), GOLD, 0.8, 0.7)
    if pose.above:
        metal_arms(pen, pose, flaw)


def metal_arms(pen: Pen, pose: Pose, flaw=None):
    for side, (elbow, hand) in zip((-1, 1), (pose.left, pose.right), strict=True):
        pen.limb([(side * 10, -51), (side * elbow[0], elbow[1]), (side * hand[0], hand[1])], SILVER, 7.4)
        pen.fill(oval(side * 11, -52, 6, 5), SILVER, 1.3)
        mitten(pen, side * hand[0], hand[1], flaw, (150, 158, 176))


def armour(pen: Pen):
    pen.fill(box(-3.4, -60, 3.4, -53, 1), SKIN, 0.5, 0.6)
    plate = [(0, -53), (4, -55), (11, -53), (10, -44), (8, -37), (0, -36)]
    pen.fill(smooth(mirrored(plate), tension=0.6), SILVER, 1.4)
    tassets = [(0, -38), (8.6, -38), (12, -26), (5, -28.6), (0, -25)]
    pen.fill(poly(*mirrored(tassets)), mix(SILVER, (110, 120, 150), 0.25), 1.2)
    pen.fill(box(-8.6, -40, 8.6, -36.4, 1), LEATHER, 0.5, 0.5)
    pen.stroke([(-7.6, -50.6), (-7, -43)], WHITE, 2, 0.85)
    pen.stroke([(-6, -48), (0, -45), (6, -48)], GOLD, 2)


def sword(pen: Pen, x: float, y: float, turn: float):
    with pen.placed(x, y, turn=turn):
        pen.fill(poly((-2.4, -4), (-2.4, -34), (0, -39), (2.4, -34), (2.4, -4)), (232, 238, 246), 0.8, 0.9)
        pen.fill(box(-6.4, -6, 6.4, -3, 1), GOLD, 0.6, 0.7)
        pen.limb([(0, -2), (0, 5)], LEATHER, 3)
        pen.fill(oval(0, 7, 2.4), GOLD, 0.6, 0.6)
