"""How much faster a folder is scored in batches than by the challenge's own function, and whether memory stays flat.

    python benchmarks/score.py                 # tiny, 512 pictures, two cores
    python benchmarks/score.py --vit-l 16      # the challenge's ViT-L/14 shape with random weights as well
    python benchmarks/score.py --flat 10000    # memory over so many pictures

The two ways take turns, and the median of the rounds counts: other work on the machine comes and goes.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image

from kolors_lab.core.files import data_dir
from kolors_lab.models.presets import Preset, get_preset
from kolors_lab.scoring.aesthetics import Scorer, load_scorer, score_folder, score_official

ROUNDS = 5


def make_pictures(folder: Path, count: int, side: int) -> Path:
    """`count` PNGs of the embedded set, cut to a square; beyond 64 they are links to the first ones."""
    folder.mkdir(parents=True)
    sources = sorted(file for file in (data_dir() / "anime_raw" / "train").glob("*.jpg") if _whole(file))
    for n in range(count):
        if n < 64:
            Image.open(sources[n]).convert("RGB").resize((side, side)).save(folder / f"{n:05}.png")
        else:
            os.link(folder / f"{n % 64:05}.png", folder / f"{n:05}.png")
    return folder


def _whole(file: Path) -> bool:
    try:
        Image.open(file).load()
    except OSError:
        return False
    return True


def vit_l() -> Scorer:
    """A predictor of the challenge's shape (CLIP ViT-L/14, 304 M parameters), random weights, fp32, on the CPU."""
    from aesthetics_predictor import AestheticsPredictorV2Linear
    from transformers import CLIPImageProcessor, CLIPVisionConfig

    config = CLIPVisionConfig(
        hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, image_size=224,
        patch_size=14, projection_dim=768,
    )  # fmt: skip
    return Scorer(AestheticsPredictorV2Linear(config).eval(), CLIPImageProcessor(), torch.device("cpu"))


def compare(name: str, preset: Preset, scorer: Scorer, folder: Path, rounds: int) -> float:
    """Print the times of both ways and return by how much the batches are faster."""
    ways: dict[str, Callable] = {
        "one by one": lambda: score_official(preset, folder, scorer),
        "batched": lambda: score_folder(preset, folder, scorer),
    }
    seconds, means = {way: [] for way in ways}, {}
    for way, run in ways.items():
        means[way] = run().mean  # also warms up
    for _ in range(rounds):
        for way, run in ways.items():
            start = time.perf_counter()
            run()
            seconds[way].append(time.perf_counter() - start)
    count = len(list(folder.iterdir()))
    for way, times in seconds.items():
        each = statistics.median(times) / count
        print(f"{name:6} {way:10} {1000 * each:8.2f} ms a picture, mean score {means[way]:.5f}")
    gain = statistics.median(a / b for a, b in zip(*seconds.values(), strict=True))
    print(f"{name:6} batched is {gain:.2f} times as fast")
    return gain


def flat(preset: Preset, scorer: Scorer, folder: Path) -> None:
    """Print the process's peak memory after a tenth of the folder and after all of it."""
    peaks: dict[int, float] = {}

    def on_step(done: int, total: int) -> None:
        if done == total or (not peaks and done >= total // 10):
            peaks[done] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    score_folder(preset, folder, scorer, on_step)
    (early, before), (late, after) = peaks.items()
    print(f"memory {before:.0f} MiB after {early} pictures, {after:.0f} MiB after {late}: {after - before:+.1f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=512, help="pictures for tiny (default: 512)")
    parser.add_argument("--vit-l", type=int, default=0, help="pictures for the full shape; 0: leave it out")
    parser.add_argument("--flat", type=int, default=0, help="pictures for the memory; 0: leave it out")
    options = parser.parse_args()
    tiny, cpu = get_preset("tiny"), torch.device("cpu")
    scorer = load_scorer(tiny, cpu)
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        if options.count:
            compare("tiny", tiny, scorer, make_pictures(root / "tiny", options.count, tiny.size), ROUNDS)
        if options.vit_l:
            compare("ViT-L", tiny, vit_l(), make_pictures(root / "large", options.vit_l, 1024), 2)
        if options.flat:
            flat(tiny, scorer, make_pictures(root / "flat", options.flat, tiny.size))


if __name__ == "__main__":
    main()
