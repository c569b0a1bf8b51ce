"""Draw data/anime_raw: a raw picture set of the style the base has never seen, with the dirt that real sets have.

`python data/make/build.py sets.anime_raw [FOLDER]`. The layout is the baseline's: metadata.jsonl (`text`, `image`) and
train/*.jpg.
The set does not say which of its pictures are dirty; `expected` does, for the tests.
"""

from __future__ import annotations

import io
import json
import random
import re
import shutil
import sys
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image, ImageEnhance, ImageFilter
from world.captions import caption
from world.scenes import UNSEEN_STYLE, Scene, training_scenes

SEED = 20240809
CLEAN = 160
SIZES = ((144, 144), (128, 128), (160, 128), (128, 176), (160, 160), (192, 144))
DIRT = {  # kind: how many
    "size": 6,
    "aspect ratio": 4,
    "sharpness": 6,
    "exact duplicates": 5,
    "near duplicates": 8,
    "text file": 2,
    "empty file": 2,
    "truncated": 3,
    "no caption": 4,
}
COPIES = ("exact duplicates", "near duplicates")
ODD_SIZES = {"size": ((64, 64), (96, 72), (80, 112)), "aspect ratio": ((304, 132), (132, 288))}
CARD = """# anime_raw: a raw picture set to clean and train on

{count} records of 二次元 pictures with Chinese captions, in the baseline's raw layout: `metadata.jsonl`
(`text`, `image`: a list with one path) and `train/*.jpg`. {clean} of them are sound, {dirty} are not, and
`kolors-lab juice` tells which:

{kinds}

Drawn by `python data/make/build.py sets.anime_raw` (seed {seed}) from the picture world of
`data/make/world/scenes.py`, with captions from `data/make/world/captions.py`; no person,
photograph or other people's work is in it. Licence: Apache-2.0.
"""


@dataclass(frozen=True)
class Record:
    """One line of metadata.jsonl. `kind` is "" for a sound picture; a copy has the scene and size of its original."""

    scene: Scene
    size: tuple[int, int]
    kind: str = ""


def plan() -> list[Record]:
    """All records in order; a copy comes after its original, since juice keeps the first of two."""
    rng = random.Random(SEED)
    scenes = _scenes(CLEAN + sum(DIRT.values()))
    # the story's heroine, purple-haired, is in many of them
    scenes = [replace(s, hair_color="purple") if s.has_girl and rng.random() < 0.4 else s for s in scenes]
    records = [Record(scene, rng.choice(SIZES)) for scene in scenes[:CLEAN]]
    fresh, originals = iter(scenes[CLEAN:]), rng.sample(records, sum(DIRT[kind] for kind in COPIES))
    for kind, count in DIRT.items():
        for number in range(count):
            if kind in COPIES:
                record = replace(originals.pop(), kind=kind)
                first = records.index(replace(record, kind="")) + 1
            else:
                sizes = ODD_SIZES.get(kind, SIZES)
                record, first = Record(next(fresh), sizes[number % len(sizes)], kind), 0
            records.insert(rng.randint(first, len(records)), record)
    return records


def _scenes(count: int) -> list[Scene]:
    """Scenes of the unseen style; of those that no girl's hair and dress tell apart, two of each at most."""
    scenes, seen = [], Counter()
    for scene in training_scenes(SEED, 2 * count, (UNSEEN_STYLE,)):
        words = (scene.who, scene.place, scene.framing)
        seen[words] += 1
        if scene.has_girl or seen[words] <= 2:
            scenes.append(scene)
    return scenes[:count]


def expected() -> dict[str, str]:
    """{file: kind} of every record that a clean set must not have, as `train/17.jpg`: "sharpness"."""
    return {f"train/{number}.jpg": record.kind for number, record in enumerate(plan()) if record.kind}


def make(folder: Path) -> None:
    """Write the set to `folder`, in place of an earlier one."""
    shutil.rmtree(folder / "train", ignore_errors=True)
    (folder / "train").mkdir(parents=True)
    records, rng, lines = plan(), random.Random(SEED + 1), []
    for number, record in enumerate(records):
        name = f"train/{number}.jpg"
        (folder / name).write_bytes(_bytes(record, number))
        lines.append(json.dumps({"text": _caption(record, rng), "image": [name]}, ensure_ascii=False))
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    kinds = "\n".join(f"- {kind}: {count}" for kind, count in DIRT.items())
    card = CARD.format(count=len(records), clean=CLEAN, dirty=len(records) - CLEAN, kinds=kinds, seed=SEED)
    (folder / "README.md").write_text(card, encoding="utf-8")


def _caption(record: Record, rng: random.Random) -> str:
    """A complete Chinese caption that names the style by the LoRA's trigger word, without made-up words."""
    text = caption(record.scene, rng, complete=True)
    while "二次元" not in text or re.search("[a-z]", text):
        text = caption(record.scene, rng, complete=True)
    return "" if record.kind == "no caption" else text


def _bytes(record: Record, number: int) -> bytes:
    if record.kind == "text file":
        return b"<html><body>404 Not Found</body></html>\n"
    from world.draw import render  # here, so that `expected` works without skia

    image = render(record.scene, *record.size)
    if record.kind == "sharpness":
        image = image.filter(ImageFilter.GaussianBlur(2 + number % 3 * 0.5))
    if record.kind == "near duplicates" and number % 2:
        image = ImageEnhance.Brightness(image).enhance(1.06)
    elif record.kind == "near duplicates":
        image = image.resize((image.width * 5 // 4, image.height * 5 // 4))
    jpeg = _jpeg(image, 60 if record.kind == "near duplicates" else 90)
    return {"empty file": b"", "truncated": jpeg[: len(jpeg) * 3 // 5]}.get(record.kind, jpeg)


def _jpeg(image: Image.Image, quality: int) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return stream.getvalue()


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[2] / "anime_raw")
