"""The white horse and those who ride it; hooves at y = 0."""

from world.colors import BLUSH, DARK, DRESS, GOLD, HAIR, LEATHER, SILVER, WHITE
from world.figures import POSES, arms, bodice, prince
from world.heads import back_hair, head
from world.pen import Pen, box, hsv, mix, oval, poly, smooth

COAT, SHADE, MANE = (250, 249, 250), (212, 212, 228), (196, 200, 224)
TAIL = [(-30, -45), (-40, -42), (-46, -28), (-44, -12), (-40, -20), (-36, -32), (-30, -36)]
NECK = [(16, -44), (26, -60), (33, -72), (42, -68), (41, -52), (35, -40), (26, -28), (14, -30)]
BODY = [
    (-32, -40), (-22, -47), (0, -45), (18, -47), (28, -40), (27, -28), (10, -23), (-8, -23), (-26, -26), (-33, -32),
]  # fmt: skip
HEAD = [(29, -74), (38, -79), (47, -70), (53, -61), (51, -55), (45, -54), (36, -58), (30, -65)]
HAIR_OF_NECK = [(34, -81), (26, -76), (18, -60), (12, -46), (19, -44), (26, -54), (31, -65), (35, -73)]


def horse(pen: Pen, saddle: bool, stride: float = 0.0):
    """A white horse that looks to the right, hooves at y = 0, its back at about y = -46."""
    pen.fill(smooth(TAIL), MANE)
    for x, step in ((-21, 1), (17, -1)):  # far legs
        leg(pen, x + 7, stride * step, SHADE)
    pen.fill(smooth(NECK, tension=0.8), COAT)
    pen.fill(smooth(BODY), COAT)
    for x, step in ((-26, -1), (19, 1)):
        leg(pen, x, stride * step, COAT)
    pen.fill(poly((30, -74), (31, -86), (38, -77)), COAT, 0.8, 0.8)
    pen.fill(smooth(HEAD, tension=0.8), COAT)
    pen.fill(smooth(HAIR_OF_NECK), MANE)
    pen.flat(oval(40.4, -69, 2.6, 3.4), DARK)
    pen.flat(oval(39.6, -70.4, 1.1), WHITE)
    pen.flat(oval(49.6, -59, 1.4), (150, 120, 130))
    pen.flat(oval(43, -61.6, 3, 2), BLUSH, 0.4)
    pen.stroke([(34, -75), (35, -62), (38, -58)], LEATHER, 1.8)
    if saddle:
        pen.stroke([(45, -56), (28, -50), (8, -50)], LEATHER, 1.8)
        cloth = [(-14, -47), (0, -48.6), (14, -47), (15, -33), (0, -30), (-15, -33)]
        pen.fill(smooth(cloth, tension=0.7), (176, 50, 62))
        pen.stroke([(-12, -34.6), (0, -32), (12, -34.6)], GOLD, 2)


def leg(pen: Pen, x: float, bend: float, coat):
    pen.limb([(x, -32), (x + bend * 3, -16), (x + bend * 1.4, -4)], coat, 7)
    pen.fill(box(x + bend * 1.4 - 4, -5.4, x + bend * 1.4 + 4.4, 0, 1.2), (124, 112, 118), 0.8, 0.8)


def riders(pen: Pen, scene, tilt: float, flaw=None):
    """Who sits on the horse: the prince alone, or the girl side-saddle before him."""
    pair = scene.who == "couple_rider"
    at, size = (-18, 0.8) if pair else (-6, 0.86)
    with pen.placed(at, -46 + 30 * size, size):
        prince(pen, "ride", tilt, 0.2 if pair else 0.5, seated=True, flaw=flaw)
    pen.limb([(at + 2, -48), (at + 8, -36), (at + 5, -24)], mix(SILVER, (90, 100, 130), 0.2), 7)
    pen.fill(oval(at + 8, -21, 5.6, 3.6), (132, 142, 160), 1, 0.8)
    if pair:
        lady(pen, scene, tilt, flaw)


def lady(pen: Pen, scene, tilt: float, flaw=None):
    """The girl on the saddle, from the waist up like anyone, her skirt over the horse's flank."""
    hair, dress, size = HAIR[scene.hair_color], DRESS[scene.color], 0.8
    with pen.placed(14, -46 + 34 * size, size):
        with pen.placed(0, -56, turn=-tilt):
            back_hair(pen, hair, scene.hair_length)
        gown = [(-9, -40), (8, -40), (17, -28), (20, -6), (8, -2), (-3, -6), (-10, -26)]
        pen.fill(smooth(gown), dress)
        pen.stroke([(5, -36), (10, -24), (10, -8)], hsv(dress, 1.1, 0.78), 1.9, 0.5)
        pen.fill(oval(13, -1, 5, 3.2), mix(dress, DARK, 0.45), 0.5, 0.7)
        bodice(pen, scene.garment, dress)
        arms(pen, scene.garment, dress, POSES["ride"], flaw)
        with pen.placed(0, -56, turn=-tilt):
            head(pen, hair, scene.hair_length, "open", "smile", 0.2, flaw)
