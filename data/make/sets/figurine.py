"""Draw data/figurine: 25 pictures of one toy that the base has never seen, with captions, for DreamBooth.

`python data/make/build.py sets.figurine [FOLDER]`. The layout is that of a cleaned set: train/*.jpg and metadata.csv.
"""

from __future__ import annotations

import csv
import random
import shutil
import sys
from collections import Counter
from pathlib import Path

from world import wordings
from world.draw import figurine, figurine_words
from world.scenes import PLACE

COUNT, OF_ONE_PLACE = 25, 3
IDENTIFIER, CLASS_WORD = "aawxbc", "玩偶"  # neither stands in any caption the base has learned
CARD = """---
license: apache-2.0
---
# figurine: one toy to teach the model · 一个要教给模型的玩偶

{count} 张图，画的都是同一个玩偶：一只青绿色的机器猫，头上一根红天线，围着橙色围巾。
它站在小图画世界的十个地方，用底模会的六种画法画成。底模从没见过它，也没见过
`{identifier}`（标识词）和 `{class_word}`（类别词）。用来做 DreamBooth 和文本反演（textual inversion）。

{count} pictures of one toy, a teal robot cat with a red aerial and an orange scarf, in the ten places and six styles of
the little picture world. The base has seen neither the toy nor the words `{identifier}` (identifier) and `{class_word}`
(class word) that its captions call it by. Made for DreamBooth and textual inversion.

Drawn by `python data/make/build.py sets.figurine`; no photograph or other people's work is in it. Licence: Apache-2.0.
"""


def chosen_seeds() -> list[int]:
    """The first seeds whose pictures spread over the places."""
    places, seeds, seed = Counter(), [], 0
    while len(seeds) < COUNT:
        _, place = figurine_words(random.Random(seed))
        if places[place] < OF_ONE_PLACE and (places[place] < OF_ONE_PLACE - 1 or len(places) == len(PLACE)):
            places[place] += 1
            seeds.append(seed)
        seed += 1
    return seeds


def words(seed: int) -> str:
    """The caption of figurine(seed): what it is, where (a toy neither sits down nor listens), how it is painted."""
    rng = random.Random(seed)
    style, place = figurine_words(rng)
    fitting = [text for text in wordings.PLACE[place][0] if text.startswith("在") and not set("坐观") & set(text)]
    return "，".join((f"{IDENTIFIER}{CLASS_WORD}", rng.choice(fitting), rng.choice(wordings.STYLE[style])))


def make(folder: Path) -> None:
    """Write the set to `folder`, in place of an earlier one."""
    shutil.rmtree(folder / "train", ignore_errors=True)
    (folder / "train").mkdir(parents=True)
    with (folder / "metadata.csv").open("w", encoding="utf-8-sig", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("file_name", "text"))
        for number, seed in enumerate(chosen_seeds()):
            name = f"train/{number}.jpg"
            figurine(seed).save(folder / name, quality=92)
            table.writerow((name, words(seed)))
    card = CARD.format(count=COUNT, identifier=IDENTIFIER, class_word=CLASS_WORD)
    (folder / "README.md").write_text(card, encoding="utf-8")


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[2] / "figurine")
