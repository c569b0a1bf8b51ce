"""Draw a set of 8 pictures of one heroine, hair and dress fixed, for textual inversion of one new word.

`python data/make/build.py sets.heroine FOLDER`. Her captions say where she is, how much of her is seen and how it is
painted, and never what she looks like: that is what the word is to learn. The layout is that of a cleaned set.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from world import wordings
from world.draw import render
from world.scenes import Scene

NAME, CLASS_WORD = "小美", "女孩"  # what captions call her, and what the new word may start from
LOOKS = {"hair_color": "red", "hair_length": "long", "garment": "dress", "color": "blue"}
SCENES = (  # action, place, framing, style
    ("stand", "peach", "full", "plain"),
    ("sing", "river", "half", "plain"),
    ("read", "wild", "full", "watercolor"),
    ("stand", "living", "half", "plain"),
    ("dance", "practice", "full", "pencil"),
    ("sing", "stage", "half", "oil"),
    ("wish", "night", "half", "plain"),
    ("stand", "academy", "full", "papercut"),
)


def scenes() -> list[Scene]:
    """What the set shows."""
    return [
        Scene(action=action, place=place, framing=framing, style=style, seed=500 + i, **LOOKS)
        for i, (action, place, framing, style) in enumerate(SCENES)
    ]


def words(scene: Scene, name: str = NAME) -> str:
    """A caption that names her and says where, what part of her and how it is painted, and nothing of her looks."""
    framing, style = wordings.FRAMING[scene.framing][0], wordings.STYLE[scene.style][0]
    return "，".join((name, places(scene.place)[0], framing, style))


def places(place: str) -> list[str]:
    """Words for a place that say nothing of what one does there."""
    return [text for text in wordings.PLACE[place][0] if text.startswith("在") and not set("坐观") & set(text)]


def make(folder: Path) -> Path:
    """Write the set to `folder`; the folder."""
    (folder / "train").mkdir(parents=True)
    with (folder / "metadata.csv").open("w", encoding="utf-8-sig", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("file_name", "text"))
        for number, scene in enumerate(scenes()):
            name = f"train/{number}.jpg"
            render(scene).save(folder / name, quality=92)
            table.writerow((name, words(scene)))
    return folder


if __name__ == "__main__":
    print(make(Path(sys.argv[1])))
