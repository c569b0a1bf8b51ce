"""Train the ControlNet for edges that goes with tiny-kolors, by the library's own trainer, on pictures of the world.

    python data/make/build.py models.control_net --steps 2500

Its picture set and its run lie in build/; a training that was killed is taken up by the same command. It learns beside
the UNet that it will be used with, so it comes last; its card is written by hand, with the figures that
benchmarks/control.py finds.
"""

import argparse
import csv
import random
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


def write_set(folder: Path, scenes: list[Scene]) -> Path:
    """The scenes drawn, with their captions, as a folder to learn from; the trainer makes their control pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, rows = random.Random(0), [("file_name", "text")]
    for n, scene in enumerate(scenes):
        if not (folder / f"{n}.png").exists():
            render(scene).save(folder / f"{n}.png")
        rows.append((f"{n}.png", caption(scene, rng)))
    with (folder / "metadata.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return folder


def save(run: Path, folder: Path) -> None:
    """The trained net in half precision, without where it came from."""
    net = ControlNetModel.from_pretrained(run / "controlnet").half()
    net.register_to_config(_name_or_path="")
    net.save_pretrained(folder)


def main(options: argparse.Namespace) -> None:
    data = write_set(BUILD / "control_set", training_scenes(1, options.count))
    config = TrainConfig(
        method="controlnet", data=str(data), out=str(BUILD / "control_run"), steps=options.steps, batch_size=8, seed=0,
        learning_rate=1e-3, lr_scheduler="constant_with_warmup", checkpoint_every=250,
    )  # fmt: skip
    if not (BUILD / "control_run/controlnet").exists():
        train(config, load_pipeline(replace(get_preset("tiny"), model=str(found("tiny-kolors")))))
    save(BUILD / "control_run", made("tiny-control"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--count", type=int, default=4000, help="pictures (%(default)s)")
    main(parser.parse_args())
