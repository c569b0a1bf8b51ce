"""All ten places by name: functions of a pen, of what comes by lot, and of which of three palettes."""

from world import indoors, outdoors

PLACES = {
    "academy": indoors.academy, "peach": outdoors.peach, "wild": outdoors.wild, "river": outdoors.river,
    "living": indoors.living, "concert": indoors.concert, "night": outdoors.night, "practice": indoors.practice,
    "fitting": indoors.fitting, "stage": indoors.stage,
}  # fmt: skip
