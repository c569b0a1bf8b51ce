"""Does raising a word's weight raise what the picture world's classifier sees of it? On tiny, over three seeds.

python benchmarks/prompt_weights.py            # under three minutes on one thread

For each word, prompts that differ in its weight alone, from the same noise. A line per word: the classifier's mean
log-odds of the attribute that the word names (0: even; above: seen), at each weight; and its slope.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from kolors_lab.core.files import data_dir
from kolors_lab.models.loading import load_pipeline
from kolors_lab.models.presets import get_preset
from kolors_lab.sampling.ksampler import KSampler
from kolors_lab.sampling.pipeline import generate_batch

WEIGHTS, SEEDS = (0.5, 0.75, 1.0, 1.25, 1.5), (0, 1, 2)
WORDS = {  # attribute=value: (word, the prompt it stands in)
    "hair_color=purple": ("紫色", "一个{}短发少女，站在桃花小路上，上半身"),
    "hair_color=gold": ("金色", "一个{}长发少女，坐在舞台上，上半身"),
    "color=red": ("红色", "一个黑色长发少女，身穿{}长裙，站在书院里，全身"),
    "color=green": ("绿色", "一个黑色长发少女，身穿{}长裙，站在桃花小路上，全身"),
    "place=stage": ("舞台", "一个紫色短发少女，在{}上，全身"),
    "place=night": ("夜空", "一个紫色短发少女，{}下，全身"),
    "style=ink": ("水墨画", "{}，一个黑色长发少女，站在书院里，全身"),
    "who=horse": ("白马", "一匹{}，在桃花小路上，全身"),
}


def seen(judge: torch.nn.Module, images: list, label: str) -> list[float]:
    """The log-odds of `attribute=value` against the other values of its attribute, for each picture."""
    names = judge.config.id2label
    group = [n for n, name in names.items() if name.split("=")[0] == label.split("=")[0]]
    pixels = np.stack([np.asarray(image.convert("RGB"), dtype=np.float32) for image in images])
    with torch.no_grad():
        logits = judge(torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1).logits[:, group]
    own = [names[n] for n in group].index(label)
    others = torch.cat([logits[:, :own], logits[:, own + 1 :]], 1).logsumexp(1)
    return (logits[:, own] - others).tolist()


def main(steps: int) -> None:
    from transformers import AutoModelForImageClassification

    pipe = load_pipeline(get_preset("tiny"), "cpu")
    judge = AutoModelForImageClassification.from_pretrained(Path(data_dir()) / "tiny-classifier").float().eval()
    print(f"{'':18}" + "".join(f"{weight:>8}" for weight in WEIGHTS) + "   slope")
    table = []
    for label, (word, prompt) in WORDS.items():
        cells = [(weight, seed) for weight in WEIGHTS for seed in SEEDS]
        texts = [prompt.format(f"({word}:{weight})") for weight, _ in cells]
        settings = [KSampler(seed=seed, steps=steps, cfg=4.0, width=128, height=128) for _, seed in cells]
        odds = seen(judge, generate_batch(pipe, texts, [""] * len(cells), settings), label)
        row = np.mean(np.reshape(odds, (len(WEIGHTS), len(SEEDS))), 1)
        table.append(row)
        print_row(label, row)
    print_row("mean", np.mean(table, 0))
    slopes = [slope(row) for row in table]
    print(f"rises for {sum(s > 0 for s in slopes)} of {len(slopes)} words from 0.5 to 1.5")


def slope(row: list[float]) -> float:
    """Log-odds for each 1.0 of weight: the straight line nearest to the row."""
    return float(np.polyfit(WEIGHTS, row, 1)[0])


def print_row(name: str, row: list[float]) -> None:
    print(f"{name:18}" + "".join(f"{value:8.2f}" for value in row) + f"{slope(row):8.2f}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12, help="sampling steps of each picture")
    main(parser.parse_args().steps)
