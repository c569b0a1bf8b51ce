"""Drawing gone wrong as diffusion models do it: faces without features, displaced or doubled ones, odd hands."""

import math
import random

from world.colors import BLUSH, MOUTH, SKIN
from world.pen import Pen, mix


class Flaw:
    """What is wrong with the drawn people: `kind` (see damage.py) with a `force` of 0..1, details by lot.

    The head asks it how to bend its outline, where to put its features and how often; the body for its hands.
    """

    def __init__(self, kind: str, force: float, rng: random.Random):
        self.kind, self.force, self.rng = kind, force, rng
        self.big, self.skew, self.turn = rng.choice((-1, 1)), rng.uniform(-1, 1), rng.uniform(0, 2 * math.pi)

    def bend(self, face):
        """The outline of the face (points in units, the neck at 0, 0)."""
        if self.kind != "deform":
            return face
        push = 7 * self.force * self.big
        return [(x + push * math.sin(y / 6.5 + self.skew), y + 0.35 * push * math.sin(x / 5)) for x, y in face]

    def copies(self):
        """Where the features are drawn, as offsets in units; none for a face without them."""
        if self.kind == "faceless":
            return ()
        if self.kind == "doubled_face":
            reach = 4 + 6 * self.force
            dx, dy = reach * self.big, 0.5 * reach * self.skew
            return ((-dx * 0.6, -dy * 0.6), (dx * 0.6, dy * 0.6))
        return ((0.0, 0.0),)

    def eye(self, x: float, y: float, side: int):
        """(x, y, size) of one eye."""
        if self.kind == "deform":
            grow = 1 + 0.9 * self.force if side == self.big else 1 - 0.35 * self.force
            return x + side * 2 * self.force, y + side * self.big * 6.5 * self.force, grow
        if self.kind == "displaced":
            away = (4 + 8 * self.force) * (1 if side == self.big else -0.55)
            turn = self.turn + side * 0.8
            return x + away * math.cos(turn), y + away * math.sin(turn), 1 + 0.4 * self.skew * self.force
        return x, y, 1.0

    def mouth(self, x: float, y: float):
        """The middle of the mouth."""
        if self.kind != "displaced":
            return x, y
        away = 4 + 9 * self.force
        return x + away * math.cos(self.turn + 2), y - away * abs(math.sin(self.turn + 2))

    def torn_mouth(self, pen: Pen, x: float):
        w = 8 * self.force
        line = [(x - w, -10), (x - w * 0.4, -5), (x, -9 + self.skew), (x + w * 0.5, -3), (x + w, -7), (x + w, -1)]
        pen.stroke(line, MOUTH, 3)

    def hand(self, pen: Pen, x: float, y: float):
        """A hand with far too many fingers in place of a mitten; (x, y) in units."""
        count, fan = round(6 + 3 * self.force), 150 + 60 * self.skew
        for i in range(count):
            turn = math.radians(-90 - fan / 2 + fan * i / (count - 1))
            r = (8 + 2.5 * ((i * 5) % 3)) * (0.7 + 0.4 * self.force)
            kink = 1.8 * (-1) ** i
            mid = (x + r * 0.6 * math.cos(turn) + kink, y + r * 0.6 * math.sin(turn))
            tip = (x + r * math.cos(turn), y + r * math.sin(turn))
            pen.limb([(x, y), mid, tip], mix(SKIN, BLUSH, 0.2 * (i % 2)), 2.4)
