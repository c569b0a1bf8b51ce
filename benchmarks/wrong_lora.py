"""Does a LoRA of pictures gone wrong, called in the negative prompt, make pictures better? On tiny, over three seeds.

    python benchmarks/wrong_lora.py                 # adds what data/measured/wrong_lora.csv lacks, then tells

For each seed the base draws pictures that negative words with a weight have spoiled, and LoRAs learn them as "wrong":
one as https://huggingface.co/minimaxir/sdxl-wrong-lora did, all of them captioned by that word alone; one beside good
pictures of the same scenes, captions saying scene and, of the bad ones, "wrong". Then the same prompts from the same
noise under every condition: a line per picture, with its practice score and what the classifier calls its fault.
"""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path

import numpy as np

from kolors_lab.core.files import data_dir
from kolors_lab.core.stats import interval
from kolors_lab.lora.adapter import set_loras, unload_lora
from kolors_lab.models.loading import load_pipeline
from kolors_lab.models.presets import get_preset
from kolors_lab.prompts.formula import negative
from kolors_lab.sampling.ksampler import KSampler
from kolors_lab.sampling.pipeline import generate_batch
from kolors_lab.scoring.aesthetics import load_scorer, score_images
from kolors_lab.scoring.clip import classify
from kolors_lab.training.loop import TrainConfig, train

RESULT = data_dir() / "measured" / "wrong_lora.csv"
SEEDS, DRAWING, TRAINING, WORD = (0, 1, 2), 8, 60, "wrong"  # steps of a picture, of a LoRA
CONDITIONS = {  # name: (LoRA, negative prompt)
    "base": ("", ""),
    "base, words": ("", negative()),
    "base, wrong": ("", WORD),
    "bad only": ("bad only", ""),
    "bad only, wrong": ("bad only", WORD),
    "bad and good": ("bad and good", ""),
    "bad and good, wrong": ("bad and good", WORD),
    "bad and good, wrong and words": ("bad and good", f"{WORD}，{negative()}"),
}
COLUMNS = ("seed", "condition", "prompt", "score", "fault")
WHO = ("紫色短发少女", "黑色长发少女", "金色长发少女", "红色长发少女", "蓝色短发少女", "身披银甲的王子")
WHERE = ("站在桃花小路上", "在书院里", "在夜空下", "站在舞台上", "在客厅里", "在江畔")
STYLES = ("", "水墨画，", "油画，", "铅笔画，")
PAIRS = [(i, j) for i in range(6) for j in range(2)]
ASKED = [f"{STYLES[(i + j) % 4]}{WHO[i]}，{WHERE[(2 * i + j) % 6]}，上半身" for i, j in PAIRS]
SHOWN = [f"{WHO[i]}，{WHERE[(2 * i + j + 3) % 6]}，{('全身', '上半身')[j % 2]}" for i, j in PAIRS]


def draw(pipe, prompts: list[str], negative_prompt: str, seed: int) -> list:
    """A picture for each prompt, from noise of its own."""
    images = []
    for first in range(0, len(prompts), 8):
        texts = prompts[first : first + 8]
        noise = [1000 * seed + first + n for n in range(len(texts))]
        settings = [KSampler(seed=one, steps=DRAWING, cfg=4.0, width=128, height=128) for one in noise]
        images += generate_batch(pipe, texts, [negative_prompt] * len(texts), settings)
    return images


def wrong_lora(pipe, kind: str, seed: int, folder: Path) -> Path:
    """Draw what a LoRA of that kind is to learn, and train it."""
    (folder / "train").mkdir(parents=True)
    images = draw(pipe, [f"{text}，({negative()}:1.3)" for text in SHOWN], "", 100 + seed)
    captions = [WORD] * len(SHOWN)
    if kind == "bad and good":
        images += draw(pipe, SHOWN, negative(), 100 + seed)
        captions = [*(f"{WORD}，{text}" for text in SHOWN), *SHOWN]
    lines = [("file_name", "text"), *((f"train/{n}.png", text) for n, text in enumerate(captions))]
    with (folder / "metadata.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(lines)
    for n, image in enumerate(images):
        image.save(folder / f"train/{n}.png")
    settings = {"trigger_word": WORD, "caption_dropout": 0.0, "steps": TRAINING, "seed": seed}
    return train(TrainConfig(data=str(folder), out=str(folder / "lora"), **settings), pipe)


def rows() -> list[dict[str, str]]:
    """The table as far as there is one."""
    return list(csv.DictReader(RESULT.open(encoding="utf-8"))) if RESULT.exists() else []


def measure() -> None:
    """Add the conditions that the table lacks, each when it is whole."""
    preset = get_preset("tiny")
    pipe, scorer = load_pipeline(preset), load_scorer(preset)
    known = {(row["seed"], row["condition"]) for row in rows()}
    for seed in SEEDS:
        loras, missing = {"": None}, [name for name in CONDITIONS if (str(seed), name) not in known]
        with tempfile.TemporaryDirectory() as folder:
            for name in missing:
                kind, negative_prompt = CONDITIONS[name]
                if kind not in loras:
                    loras[kind] = wrong_lora(pipe, kind, seed, Path(folder) / kind)
                set_loras(pipe, [(loras[kind], 1.0)] if kind else [])
                images = draw(pipe, ASKED, negative_prompt, seed)
                unload_lora(pipe)  # the next training begins at the base
                RESULT.parent.mkdir(exist_ok=True)
                with RESULT.open("a", encoding="utf-8", newline="") as stream:
                    writer = csv.writer(stream, lineterminator="\n")
                    writer.writerows([] if stream.tell() else [COLUMNS])
                    seen = [one["spoil"] for one in classify(images, preset)]
                    for n, row in enumerate(zip(score_images(scorer, images), seen, strict=True)):
                        writer.writerow((seed, name, n, f"{row[0]:.3f}", row[1]))


def tell() -> None:
    """A line per condition: its mean score, the difference from the base's, picture by picture, and what is spoiled."""
    table = rows()
    scores = {name: [float(row["score"]) for row in table if row["condition"] == name] for name in CONDITIONS}
    for name, values in scores.items():
        gains = [mine - base for mine, base in zip(values, scores["base"], strict=True)]
        low, high = interval(gains)
        bad = sum(row["fault"] != "none" for row in table if row["condition"] == name)
        gain = f"{np.mean(gains):+.3f} ({low:+.3f} to {high:+.3f})"
        print(f"{name:32}{np.mean(values):8.3f}   {gain if name != 'base' else '':28}{bad:3} of {len(values)} spoiled")


if __name__ == "__main__":
    measure()
    tell()
