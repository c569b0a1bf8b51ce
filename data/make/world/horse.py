"""The white horse and those who ride it; hooves at y = 0."""

from world.figures import DRESS, GOLD, LEATHER, SILVER, bodice, both_arms, prince
from world.heads import BLUSH, DARK, HAIR, back_hair, head
from world.pen import Pen, box, hsv, mix, oval, poly, smooth


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
