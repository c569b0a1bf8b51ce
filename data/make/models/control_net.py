"""Train the ControlNet for edges that goes with tiny-kolors, by the library's own trainer, on pictures of the world.

    python data/make/build.py models.control_net

Two goes, the second from where the first one ended, at half the rate and down to nothing: at the full rate the net
fell apart behind step 1,200. Its runs lie in build/; a training that was killed is taken up by the
same command. It learns beside the UNet that it will be used with, so it comes last; its card is written by hand, with
the figures that benchmarks/control.py finds.
"""

import argparse
import csv
import random
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from diffusers import ControlNetModel
from world.captions import caption
from world.draw import render
from world.scenes import Scene, training_scenes

from kolors_lab.models.loading import load_pipeline
from kolors_lab.models.presets import get_preset
from kolors_lab.training.config import TrainConfig
from kolors_lab.training.loop import train
from models.common import BUILD, found, made

STEPS, RATE, EVERY = (1000, 1500), 1e-3, 250


def write_set(folder: Path, scenes: list[Scene]) -> Path:
    """The scenes drawn, with their captions, as a folder to learn from; the trainer makes their control pictures.

    Always drawn anew: pictures of an earlier world, left there, would be taken for this one's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng, rows = random.Random(0), [("file_name", "text")]
    for n, scene in enumerate(scenes):
        render(scene).save(folder / f"{n}.png")
        rows.append((f"{n}.png", caption(scene, rng)))
    with (folder / "metadata.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return folder


def teach(pipe, data: Path, out: Path, seed: int, steps: Sequence[int] = STEPS) -> list[Path]:
    """The folders of the goes, out/first and out/second, a go of no steps left out."""
    both = {"method": "controlnet", "data": str(data), "batch_size": 8, "held_out": 0.02,
            "checkpoint_every": EVERY, "validate_every": EVERY}  # fmt: skip
    ways = {
        "first": {"seed": seed, "learning_rate": RATE, "lr_scheduler": "constant_with_warmup"},
        "second": {"seed": seed + 1, "learning_rate": RATE / 2, "init_net": str(out / "first/controlnet")},
    }
    goes = []
    for (name, way), count in zip(ways.items(), steps, strict=True):
        if count and not (out / name / "controlnet").exists():
            train(TrainConfig(out=str(out / name), steps=count, **both, **way), pipe, on_step=_tell)
        goes += [out / name] if count else []
    return goes


def _tell(step: int, steps: int, loss: float) -> None:
    if step % 100 == 0:
        print(f"{step} of {steps}, loss {loss:.4f}", file=sys.stderr)


def save(run: Path, folder: Path) -> None:
    """The trained net in half precision, without where it came from."""
    net = ControlNetModel.from_pretrained(run / "controlnet").half()
    net.register_to_config(_name_or_path="")
    net.save_pretrained(folder)


def main(options: argparse.Namespace) -> None:
    data = write_set(BUILD / "control_set", training_scenes(1, options.count))
    pipe = load_pipeline(replace(get_preset("tiny"), model=str(found("tiny-kolors"))))
    *_, last = teach(pipe, data, BUILD / "control_net", seed=0, steps=options.steps)
    save(last, made("tiny-control"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, nargs=2, default=STEPS, help="of the two goes (%(default)s)")
    parser.add_argument("--count", type=int, default=4000, help="pictures (%(default)s)")
    main(parser.parse_args())
