"""Which way of teaching the model one toy finds it again: 5, 15 or 25 pictures, prior preservation, textual inversion.

    python benchmarks/dreambooth.py                       # every row, three seeds; what dreambooth.csv holds is kept
    python benchmarks/dreambooth.py --only "25 pictures" --seeds 1 --out FOLDER

Each learner is asked for the toy, for its class by the plain class word, and for a girl, in places and styles that no
training picture had together. `figurine-probe`, which never saw a generated picture, says where the toy is. Notebook
08 shows the table and the first seed's pictures.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import shutil
import tempfile
import time
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from PIL import Image

from kolors_lab.core.files import data_dir
from kolors_lab.dataset.folder import read_examples
from kolors_lab.lora.adapter import load_lora, unload_lora
from kolors_lab.models.loading import load_pipeline
from kolors_lab.models.presets import get_preset
from kolors_lab.prompts.formula import negative
from kolors_lab.sampling.ksampler import KSampler
from kolors_lab.sampling.pipeline import generate_batch
from kolors_lab.sampling.vocabulary import load_word, remove_words
from kolors_lab.scoring.clip import classify
from kolors_lab.training.inversion import InversionConfig, invert
from kolors_lab.training.loop import TrainConfig, train

IDENTIFIER, CLASS_WORD, OTHER = "sks", "玩偶", "黑色长发女孩"
STEPS, BATCH = 600, 8
CFG, STRENGTH = 3.0, 1.3  # strong guidance pulls a subject towards what the base knows, and burns it
ROWS = {  # pictures, and what is set beside; None: textual inversion
    "no LoRA": (0, {}),
    "5 pictures": (5, {}),
    "15 pictures": (15, {}),
    "25 pictures": (25, {}),
    "25 pictures, prior": (25, {"class_word": CLASS_WORD, "class_pictures": 12, "steps": 1200}),
    "25 pictures, one new word": (25, None),
}
FIELDS = ("row", "seed", "subject", "class", "other", "seconds", "kilobytes")


def settings(data: Path | str, seed: int, out: Path | str, **given) -> TrainConfig:
    """The training of a toy: longer than a style's, since the base knows none of its shapes."""
    return TrainConfig(data=str(data), out=str(out), seed=seed, trigger_word=IDENTIFIER, **{"steps": STEPS} | given)


def scenes(count: int = 25) -> list[str]:
    """Place and style of captions of the set, each place with the style of another caption."""
    parts = [example.text.split("，", 2) for example in read_examples(data_dir() / "figurine")][:count]
    return [f"{place}，{style}" for (_, place, _), (_, _, style) in zip(parts, parts[7:] + parts[:7], strict=True)]


def draw(pipe, subject: str, seed: int = 0) -> list[Image.Image]:
    """The subject in all scenes, with the camp's negative prompt."""
    preset = get_preset("tiny")
    prompts, images = [f"{subject}，{scene}" for scene in scenes()], []
    for first in range(0, len(prompts), BATCH):
        texts = prompts[first : first + BATCH]
        seeds = range(1000 * seed + first, 1000 * seed + first + len(texts))
        samplers = [KSampler(seed=each, steps=preset.steps, cfg=CFG) for each in seeds]
        images += generate_batch(pipe, texts, [negative()] * len(texts), samplers)
    return images


def share(images: Sequence[Image.Image]) -> float:
    """The share of pictures that show the toy."""
    found = classify(images, replace(get_preset("tiny"), classifier=str(data_dir() / "figurine-probe")))
    return sum(answer["figure"] == "yes" for answer in found) / len(found)


def strip(series: Sequence[Sequence[Image.Image]], file: Path) -> None:
    """The first four pictures of each series side by side, 96 px each, as a JPEG."""
    shown = [image.resize((96, 96)) for images in series for image in images[:4]]
    page = Image.new("RGB", (96 * len(shown), 96))
    for column, image in enumerate(shown):
        page.paste(image, (96 * column, 0))
    page.save(file, quality=88)


def first_pictures(count: int, folder: Path) -> Path:
    """The first `count` pictures of the set, in a folder of their own."""
    source = data_dir() / "figurine"
    (folder / "train").mkdir(parents=True)
    with (source / "metadata.csv").open(encoding="utf-8-sig") as file:
        lines = file.read().splitlines()[: count + 1]
    (folder / "metadata.csv").write_text("\n".join(lines), encoding="utf-8-sig")
    for line in lines[1:]:
        name = line.split(",", 1)[0]
        shutil.copy(source / name, folder / name)
    return folder


@contextmanager
def taught(pipe, name: str, seed: int, folder: Path):
    """The pipeline as the row of that name leaves it; gives seconds, bytes of the file, and what to call the toy."""
    count, given = ROWS[name]
    start, file, subject = time.perf_counter(), None, IDENTIFIER + CLASS_WORD
    if not count:
        yield 0.0, 0, subject
        return
    data = first_pictures(count, folder / "data")
    if given is None:
        file = invert(InversionConfig(data=str(data), out=str(folder / "word"), seed=seed), pipe)
        seconds, subject = time.perf_counter() - start, load_word(pipe, file)
    else:
        file = train(settings(data, seed, folder / "train", **given))
        seconds = time.perf_counter() - start
        load_lora(pipe, file, STRENGTH)
    try:
        yield seconds, file.stat().st_size, subject
    finally:
        unload_lora(pipe)
        remove_words(pipe)


def run(names: Sequence[str], seeds: int, out: Path) -> None:
    """Add a line to `out`/dreambooth.csv for every row and seed that it lacks, and the first seed's pictures."""
    table, known = out / "dreambooth.csv", set()
    if table.exists():
        with table.open(encoding="utf-8") as file:
            known = {(line["row"], line["seed"]) for line in csv.DictReader(file)}
    else:
        out.mkdir(parents=True, exist_ok=True)
        table.write_text(",".join(FIELDS) + "\n", encoding="utf-8")
    pipe = load_pipeline(get_preset("tiny"))
    for name, seed in itertools.product(names, range(seeds)):
        if (name, str(seed)) in known:
            continue
        with (
            tempfile.TemporaryDirectory() as folder,
            taught(pipe, name, seed, Path(folder)) as (seconds, size, subject),
        ):
            series = [draw(pipe, asked, seed) for asked in (subject, CLASS_WORD, OTHER)]
        if seed == 0:
            strip(series, out / f"dreambooth-{list(ROWS).index(name)}.jpg")
        line = [name, seed, *(f"{share(images):.2f}" for images in series), round(seconds), round(size / 1000)]
        with table.open("a", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerow(line)
        print(*line, sep="\t", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=data_dir() / "measured")
    options = parser.parse_args()
    run(options.only, options.seeds, options.out)


if __name__ == "__main__":
    main()
