"""What each improvement of a training brings: switched on alone against a plain one, after equally many pictures.

    python benchmarks/improvements.py             # the rows that data/measured/improvements.csv lacks
    python benchmarks/improvements.py --only plain lion

Plain is the camp's command as far as `tiny` allows: AdamW at a constant rate, captions and pictures as they are, every
timestep weighing the same. Rate, alpha, batch and layers are the preset's; one row has the camp's. A seed fixes first
weights, noise, timesteps and order, so that rows of one seed are pairs. Notebook 07 reads the table. Its columns:

    validation_loss  unweighted, over 16 held-out pictures at eight fixed timesteps each
    called           share of 16 pictures, drawn from the held-out captions, that the classifier calls 二次元
    score, fit       their mean practice score, and the mean cosine of picture and caption
    seconds          processor time of the training steps, on one thread
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from pathlib import Path
from statistics import fmean

import torch

from kolors_lab.core.files import data_dir
from kolors_lab.dataset.cleaning import CleanConfig, clean
from kolors_lab.dataset.sets import read_sets
from kolors_lab.lora.adapter import add_lora, unload_lora
from kolors_lab.models.loading import load_pipeline
from kolors_lab.models.presets import get_preset
from kolors_lab.models.processes import start_processes
from kolors_lab.sampling.ksampler import KSampler
from kolors_lab.sampling.pipeline import generate_batch
from kolors_lab.scoring.aesthetics import load_scorer, score_images
from kolors_lab.scoring.clip import classify, load_eyes
from kolors_lab.training.config import TrainConfig, resolve
from kolors_lab.training.latent_cache import encode
from kolors_lab.training.loop import Training
from kolors_lab.training.loss import loss
from kolors_lab.training.validation import validation_loss

RESULT = data_dir() / "measured" / "improvements.csv"
SEEDS, STEPS, HELD_OUT, DRAWING_STEPS = (0, 1, 2), 60, 0.1, 8
MEASURES = ("validation_loss", "called", "score", "fit", "seconds")
PLAIN = {"lr_scheduler": "constant", "snr_gamma": None, "caption_dropout": 0.0, "steps": STEPS}
CAMP = {"learning_rate": 1e-4, "target_modules": ("attention",), "alpha": 4.0, "batch_size": 1, "steps": 4 * STEPS}
ROWS = {  # name: what differs from plain; all see 240 pictures
    "plain": {},
    "our defaults": {"lr_scheduler": "cosine", "snr_gamma": 5.0, "caption_dropout": 0.15},
    "the camp's": CAMP,
    "cosine": {"lr_scheduler": "cosine"},
    "caption dropout": {"caption_dropout": 0.15},
    "min-SNR": {"snr_gamma": 5.0},
    "augmentation": {"variants": 4},
    "attention only": {"target_modules": ("attention",)},
    "lion": {"optimizer": "lion"},
    "prodigy": {"optimizer": "prodigy"},
    "growing batch": {"batch_size": 2, "batch_growth": "0.5:6"},
    "trigger word": {"caption_delete": ("日系动漫", "风格")},
    "moving average": {"ema_decay": 0.95},
    "rsLoRA": {"use_rslora": True},
    "DoRA": {"use_dora": True},
    "noise offset": {"noise_offset": 0.05},
    "on plateau": {"lr_scheduler": "reduce_on_plateau"},
    "double batch": {"batch_size": 8, "steps": STEPS // 2},
}


def clean_set() -> str:
    """The embedded set as `make run` cleaned it, or cleaned now."""
    if not (folder := data_dir().parent / "runs/baseline/clean").exists():
        folder = Path(tempfile.mkdtemp()) / "clean"
        clean(CleanConfig(preset="tiny", out=str(folder)))
    return str(folder)


class Bench:
    """Trains and judges; held-out pictures, captions and seeds are the same for every training."""

    def __init__(self, data: str):
        self.data, self.preset, self.processes = data, get_preset("tiny"), start_processes()
        self.pipe, self.scorer, self.eyes = load_pipeline(self.preset), load_scorer(self.preset), load_eyes(self.preset)
        held = read_sets(config := TrainConfig(data=data, held_out=HELD_OUT))[1]
        self.prompts, self.held = [e.text for e in held], self.encoded(held, config.plain())

    def encoded(self, examples, config):
        return encode(self.pipe, examples, self.preset.size, self.processes.device, config=config)

    def run(self, name: str, seed: int) -> dict[str, float]:
        """The measures of one row with one seed."""
        config = TrainConfig(data=self.data, held_out=HELD_OUT, seed=seed, **PLAIN | ROWS[name])
        config, unet = resolve(config, self.preset), self.pipe.unet
        examples = self.encoded(read_sets(config)[0], config)
        dora, rslora = config.use_dora, config.use_rslora
        add_lora(unet, config.rank, config.alpha, config.target_modules, seed, use_dora=dora, use_rslora=rslora)
        training = Training(unet.train(), self.pipe.scheduler, examples, config, self.processes)
        start = time.process_time()
        for _ in range(config.steps):
            training.take_step()
        seconds = time.process_time() - start
        unet.eval()
        with torch.no_grad(), training.averaged():
            value = validation_loss(training, self.held, lambda *args: loss(*args[:-1], None))
            settings = [KSampler(seed=n, steps=DRAWING_STEPS) for n in range(len(self.prompts))]
            pictures = generate_batch(self.pipe, self.prompts, [""] * len(settings), settings)
        unload_lora(self.pipe)
        called = [seen["style"] == "anime" for seen in classify(pictures, self.preset)]
        means = map(fmean, (called, score_images(self.scorer, pictures), self.eyes.fit(pictures, self.prompts)))
        return dict(zip(MEASURES, (value, *means, seconds), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW")
    rows = list(csv.DictReader(RESULT.open(encoding="utf-8"))) if RESULT.exists() else []
    done = {(row["row"], row["seed"]) for row in rows}
    todo = [(name, seed) for name in parser.parse_args().only for seed in SEEDS if (name, str(seed)) not in done]
    bench = Bench(clean_set()) if todo else None
    for name, seed in todo:  # written one by one, so that a run may be cut short and go on later
        row = {"row": name, "seed": seed, **{k: f"{v:.5g}" for k, v in bench.run(name, seed).items()}}
        rows.append(row)
        with RESULT.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, row, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        print(row, flush=True)


if __name__ == "__main__":
    main()
