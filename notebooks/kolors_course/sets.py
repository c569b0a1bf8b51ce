"""Small picture sets that the notebooks train on: what they are made of is 02's matter, so it is not in their cells."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kolors_lab.core.errors import DataError, FetchError, ModelError
from kolors_lab.core.files import data_dir
from kolors_lab.core.images import open_image
from kolors_lab.dataset.folder import read_examples
from kolors_lab.dataset.measures import sharpness
from kolors_lab.models.presets import local_path

if TYPE_CHECKING:
    from diffusers import KolorsPipeline
    from PIL.Image import Image

    from kolors_lab.models.presets import Preset

Captioned = tuple["Image", str]
KWAI_EDGES = "Kwai-Kolors/Kolors-ControlNet-Canny"


def captioned(preset: Preset, count: int, sharp: bool = False) -> list[Captioned]:
    """The first `count` pictures of the preset's raw set that open, have a caption and are large enough, with it.

    `sharp` asks for sharpness and a shape near a square as well. Where too few are large enough, the largest of the
    others follow, enlarged to the preset's `min_size`, and a line says so. DataError if the set has fewer in all.
    """
    large, small = [], []
    for example in read_examples(local_path(preset.dataset)):
        if len(large) == count:
            break
        try:
            image = open_image(example.image)
        except DataError:  # a raw set has a few broken files
            continue
        if example.text and (not sharp or _is_sharp(image, preset)):
            (large if min(image.size) >= preset.min_size else small).append((image, example.text))
    if len(large) + len(small) < count:
        raise DataError(
            f"{preset.dataset}: {len(large) + len(small)} pictures can be used, this notebook needs {count}"
        )
    if len(large) == count:
        return large
    print(
        f"够 {preset.min_size} 像素的只有 {len(large)} 张，其余是放大的，只作演示 "
        f"only {len(large)} of {count} pictures have {preset.min_size} px; the others are enlarged, to demonstrate with"
    )
    small.sort(key=lambda pair: -min(pair[0].size))
    return large + [(_enlarged(image, preset.min_size), text) for image, text in small[: count - len(large)]]


def _is_sharp(image: Image, preset: Preset) -> bool:
    return 0.8 < image.width / image.height < 1.25 and sharpness(image, preset.min_size) >= preset.min_sharpness


def _enlarged(image: Image, side: int) -> Image:
    """Its shorter side `side` px long."""
    from PIL import ImageOps

    return ImageOps.cover(image, (side, side))


def write_set(folder: Path, pictures: Sequence[Captioned]) -> Path:
    """Write a training set as the challenge's baseline does: train/*.png and metadata.csv. Returns the folder."""
    (folder / "train").mkdir(parents=True, exist_ok=True)
    with (folder / "metadata.csv").open("w", encoding="utf-8-sig", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(("file_name", "text"))
        for number, (image, text) in enumerate(pictures):
            image.save(folder / "train" / f"{number}.png")
            table.writerow((f"train/{number}.png", text))
    return folder


def edge_net(preset: Preset, pipe: KolorsPipeline, place: Path) -> Path | str:
    """Notebook 12: the ControlNet for edges that goes with the pipeline: the embedded one, for Kolors Kwai's own.

    For a small model that the embedded one was not made for, a new one, which has no effect, is written to `place`, and
    a line says so.
    """
    from kolors_lab.sampling.control import load_control_net
    from kolors_lab.training.control import new_net

    folder = data_dir() / "tiny-control" if preset.practice else KWAI_EDGES
    try:
        load_control_net(folder, pipe.unet)
    except (FetchError, ModelError):
        if not preset.practice:
            raise
        print(
            f"没有给 {preset.name} 训练过的 ControlNet，用一个新的，它不起作用 "
            f"no ControlNet was trained for {preset.name}: here is a new one, which has no effect"
        )
        new_net(pipe.unet, seed=0).save_pretrained(place)
        return place
    return folder
