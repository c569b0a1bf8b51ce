"""What a seed decides and words leave open: where the figure stands, how near, the hour, the colours of the place.

It is worked out from the seed alone, so that captions can say what the picture will show without drawing it.
"""

import random
from dataclasses import dataclass

HOURS = ("morning", "noon", "dusk")
LAMPLIT = ("concert", "night", "stage")  # no daylight there, hence no hour
SIDES = (-1, 0, 1)  # left, middle, right


@dataclass(frozen=True)
class Look:
    """`side` -1, 0, 1: left, middle, right. `near` 0..1: how near the figure. `pan` -1..1: where the viewer stands."""

    side: int
    near: float
    pan: float
    mirror: bool
    hour: str
    palette: int


def look_of(seed: int) -> Look:
    """The look that belongs to a scene's seed."""
    rng = random.Random(seed ^ 0x5EED_0A88)
    return Look(
        rng.choice(SIDES), rng.random(), rng.uniform(-1, 1), rng.random() < 0.5, rng.choice(HOURS), rng.randrange(3)
    )


def hour_of(place: str, look: Look) -> str:
    """The hour that a picture of `place` shows; empty where lamps or stars make the light."""
    return "" if place in LAMPLIT else look.hour
