"""Who stands where: the people and animals of a scene, placed for its framing and look."""

import random

from world import figures, horse, props
from world.indoors import sofa
from world.look import Look
from world.pen import Pen
from world.scenes import Scene

GROUND = 118  # y of the ground in units; below it there is a strip of it
AT_DESK = ("listen", "sleep", "wake", "write")
DESK_TOP = -33
TALL = 99.5  # units from feet to crown


def cast(pen: Pen, scene: Scene, look: Look, rng: random.Random, flaw=None):
    """Draws them all."""
    tilt = rng.uniform(-5, 5)
    if scene.who in ("horse", "rider", "couple_rider"):
        _mounted(pen, scene, look, rng, tilt, flaw)
    elif scene.who == "couple":
        _couple(pen, scene, look, tilt, flaw)
    else:
        x, foot, size = stand_at(pen, scene, look)
        with pen.placed(x, foot, size, mirror=look.side > 0 or (look.side == 0 and look.mirror)):
            _single(pen, scene, tilt, rng, flaw)


def stand_at(pen: Pen, scene: Scene, look: Look) -> tuple[float, float, float]:
    """(x, y of the feet, size) of a single figure; half figures are cut by the lower edge."""
    extra = 1.08 if scene.action == "sleep" and scene.who == "girl" else 1.0  # her head lies on its side
    if scene.framing == "full":
        return 64 + look.side * 21, GROUND - 2 * (1 - look.near), (0.98 + 0.08 * look.near) * extra
    size = (1.5 + 0.13 * look.near) * extra
    tall = TALL + (7 if scene.who == "prince" else 0)  # his crown
    return 64 + look.side * 11, pen.view[3] - 116 - 3 * look.near + tall * size, size


def _single(pen: Pen, scene: Scene, tilt: float, rng: random.Random, flaw):
    """A girl or prince alone; the origin is on the ground below them. A prince only ever stands."""
    if scene.who == "prince":
        figures.prince(pen, "stand", tilt, 0.0, flaw=flaw)
        return
    action = scene.action if scene.action in figures.POSES or scene.action in AT_DESK else "stand"
    if action in AT_DESK:
        _at_desk(pen, scene, tilt, flaw)
    elif action == "bored":
        sofa(pen, 0, -20)
        figures.girl(pen, scene, "bored", tilt * 0.5, lift=6, flaw=flaw)
    else:
        figures.girl(pen, scene, action, tilt, flaw=flaw)
    props.signs(pen, action, rng, 1.0 if scene.framing == "full" else 0.8)


def _at_desk(pen: Pen, scene: Scene, tilt: float, flaw):
    if scene.action == "sleep":
        figures.sleeper_behind(pen, scene, DESK_TOP)
        props.desk(pen, DESK_TOP, "sleep")
        figures.sleeper_before(pen, scene, DESK_TOP, flaw)
        for x, y, r in ((12, -66, 3.4), (21, -78, 4.6), (32, -92, 6)):
            props.zee(pen, x, y, r)
        return
    if scene.action == "listen":
        props.teacher(pen)
    figures.girl(pen, scene, scene.action, tilt, flaw=flaw)
    props.desk(pen, DESK_TOP, scene.action)


def _couple(pen: Pen, scene: Scene, look: Look, tilt: float, flaw):
    """Girl and prince side by side, turned to each other, a speech bubble between them."""
    half = scene.framing == "half"
    size = 1.4 + 0.04 * look.near if half else 0.97 + 0.06 * look.near
    foot = pen.view[3] - 104 + TALL * size if half else GROUND
    middle, gap = 64 + look.side * (3 if half else 11), 30 if half else 23
    girl_side = 1 if look.mirror else -1
    for side in (-girl_side, girl_side):
        with pen.placed(middle + side * gap, foot, size, mirror=side == 1):
            if side == girl_side:
                figures.girl(pen, scene, "talk", tilt * 0.4, flaw=flaw)
            else:
                figures.prince(pen, "talk", 2, 0.8, flaw=flaw)
    top = foot - TALL * size - (12 if half else 7)
    with pen.placed(middle, top, 1.3 if half else 1.0):
        props.bubble(pen, 0, 0, 13, 8, girl_side * 6)
        props.heart(pen, 0, 0, 4.6)


def _mounted(pen: Pen, scene: Scene, look: Look, rng: random.Random, tilt: float, flaw):
    """A horse with or without riders; half figures are shown from the horse's back up."""
    size = (1.16 if scene.who == "horse" else 1.03) + 0.04 * look.near
    foot = GROUND
    if scene.framing == "half":
        size, foot = size * 1.42, pen.view[3] - 118 + (105 if scene.who != "horse" else 86) * size * 1.42
    x = 64 + look.side * 5 - (3 if not look.mirror else -3)
    with pen.placed(x, foot, size, mirror=look.mirror):
        horse.horse(pen, scene.who != "horse", rng.uniform(-1, 1))
        if scene.who != "horse":
            horse.riders(pen, scene, tilt * 0.6, flaw)
