"""One toy taught in every way there is: does the model find it again, what does it forget, what does it cost.

    python benchmarks/dreambooth.py                       # every row, three seeds; what dreambooth.csv holds is kept
    python benchmarks/dreambooth.py --only "LoRA, prior" --seeds 1 --out FOLDER
    python benchmarks/dreambooth.py --costs               # time, memory and file of the four ways, one after the other

Each learner is asked for the toy, for its class by the plain class word, and for a girl, each place with the style of
another training picture (two pairs come to ones that were trained), at the preset's own guidance and strength 1.
`figurine-probe`, which never saw a generated picture, says where the toy is. Notebook 08 shows the tables and the first
seed's pictures.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import multiprocessing
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
import torch
from diffusers import UNet2DConditionModel
from PIL import Image
from safetensors.torch import load_file, save_file

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
from kolors_lab.training.methods import METHODS, Method

IDENTIFIER, CLASS_WORD, OTHER = "aawxbc", "玩偶", "黑色长发女孩"
BATCH = 8
FIELDS = ("row", "seed", "subject", "class", "other")
COSTS = ("way", "trained", "kilobytes", "milliseconds", "mebibytes")


@dataclass(frozen=True)
class Way:
    """How the toy is taught: from so many of its pictures, by a method of `train` or by a "word", with settings."""

    pictures: int
    method: str = "lora"
    settings: dict[str, Any] = field(default_factory=lambda: {"steps": 600})


PRIOR = {"class_word": CLASS_WORD, "class_pictures": 12, "steps": 1200}
ROWS = {
    "no training": Way(0),
    "LoRA": Way(25),
    "LoRA, prior": Way(25, settings=PRIOR),
    "full fine-tuning, prior": Way(25, "full", PRIOR),
    "hypernetwork, prior": Way(25, "hypernetwork", PRIOR),
    "one new word": Way(25, "word", {"steps": 300}),
}
FOUR = {"LoRA": "LoRA, prior", "full fine-tuning": "full fine-tuning, prior",
        "hypernetwork": "hypernetwork, prior", "one new word": "one new word"}  # fmt: skip


# The fourth way, twenty lines that notebook 08 explains ---------------------------------------------------------------


class Hypernetwork(torch.nn.Module):
    """Bends the text on its way into a layer; at first by nothing."""

    def __init__(self, width):
        super().__init__()
        first, last = torch.nn.Linear(width, 2 * width), torch.nn.Linear(2 * width, width)
        torch.nn.init.zeros_(last.weight)
        torch.nn.init.zeros_(last.bias)
        self.net = torch.nn.Sequential(first, torch.nn.SiLU(), last)

    def forward(self, layer, args):
        return (args[0] + self.net(args[0].float()).to(args[0].dtype),)


def attach(unet):
    """A small net in front of all keys and values of cross-attention: where the UNet reads the text."""
    for name, layer in unet.named_modules():
        if name.endswith(("attn2.to_k", "attn2.to_v")):
            layer.hyper = Hypernetwork(layer.in_features).to(layer.weight.device)
            layer.hook = layer.register_forward_pre_hook(layer.hyper)
    return unet


def detach(unet):
    for layer in [layer for layer in unet.modules() if hasattr(layer, "hyper")]:
        layer.hook.remove()
        del layer.hook, layer.hyper


def begin(pipe, config):
    pipe.unet.requires_grad_(False)
    return attach(pipe.unet).train()


def write(unet, file, header):
    save_file({name: weight for name, weight in unet.state_dict().items() if ".hyper." in name}, file, header)
    return file


METHODS["hypernetwork"] = Method("hypernetwork.safetensors", 1.0, begin, write, lambda pipe, unet: detach(pipe.unet))


# Teaching and drawing ------------------------------------------------------------------------------------------------


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
        samplers = [KSampler(seed=each).resolve(preset) for each in seeds]
        images += generate_batch(pipe, texts, [negative()] * len(texts), samplers)
    return images


def share(images: Sequence[Image.Image], probe: str = str(data_dir() / "figurine-probe")) -> float:
    """The share of pictures that show the toy."""
    found = classify(images, replace(get_preset("tiny"), classifier=probe))
    return sum(seen["figure"] == "yes" for seen in found) / len(found)


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


def learn(pipe, way: Way, seed: int, folder: Path, on_step=None) -> Path:
    """What training leaves: a LoRA's, a hypernetwork's or a word's file, or the folder of a UNet."""
    given = {"data": str(first_pictures(way.pictures, folder / "data")), "out": str(folder / "run"), "seed": seed}
    if way.method == "word":
        return invert(InversionConfig(**given | way.settings), pipe, on_step)
    return train(TrainConfig(**given, method=way.method, trigger_word=IDENTIFIER, **way.settings), pipe, on_step)


@contextmanager
def taught(pipe, way: Way, seed: int, folder: Path):
    """The pipeline as the way leaves it; gives what to call the toy."""
    subject, unet = IDENTIFIER + CLASS_WORD, pipe.unet
    if way.pictures:
        result = learn(pipe, way, seed, folder)
        if way.method == "lora":
            load_lora(pipe, result)
        elif way.method == "word":
            subject = load_word(pipe, result)
        elif way.method == "full":
            pipe.unet = UNet2DConditionModel.from_pretrained(result, torch_dtype=unet.dtype).to(unet.device)
        else:
            attach(unet).load_state_dict(load_file(result), strict=False)
    try:
        yield subject
    finally:
        pipe.unet = unet
        unload_lora(pipe)
        remove_words(pipe)
        detach(unet)


def run(names: Sequence[str], seeds: Sequence[int], out: Path) -> None:
    """Add a line to `out`/dreambooth.csv for every row and seed that it lacks, and the first seed's pictures."""
    table, known = out / "dreambooth.csv", set()
    if table.exists():
        with table.open(encoding="utf-8") as file:
            known = {(line["row"], line["seed"]) for line in csv.DictReader(file)}
    else:
        out.mkdir(parents=True, exist_ok=True)
        table.write_text(",".join(FIELDS) + "\n", encoding="utf-8")
    pipe = load_pipeline(get_preset("tiny"), dtype=torch.float32)
    for name, seed in itertools.product(names, seeds):
        if (name, str(seed)) in known:
            continue
        with tempfile.TemporaryDirectory() as folder, taught(pipe, ROWS[name], seed, Path(folder)) as subject:
            series = [draw(pipe, asked, seed) for asked in (subject, CLASS_WORD, OTHER)]
        if seed == 0:
            strip(series, out / f"dreambooth-{list(ROWS).index(name)}.jpg")
        line = [name, seed, *(f"{share(images):.2f}" for images in series)]
        with table.open("a", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerow(line)
        print(*line, sep="\t", flush=True)


# What it costs -------------------------------------------------------------------------------------------------------


def cost(way: Way, steps: int) -> dict[str, float]:
    """Numbers that learn, kB of what is kept, ms of a step, and MiB that the process grew by while it learned."""
    pipe = load_pipeline(get_preset("tiny"), dtype=torch.float32)
    held, ends = psutil.Process().memory_info().rss, []
    short = replace(way, settings={"steps": steps})
    with tempfile.TemporaryDirectory() as folder:
        result = learn(pipe, short, 0, Path(folder), lambda *_: ends.append(time.perf_counter()))
        files = sorted(result.rglob("*.safetensors")) if result.is_dir() else [result]
        return {
            "trained": sum(tensor.numel() for file in files for tensor in load_file(file).values()),
            "kilobytes": round(sum(file.stat().st_size for file in files) / 1000, 1),
            "milliseconds": round(1000 * statistics.median(b - a for a, b in itertools.pairwise(ends))),
            "mebibytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - held / 2**20),
        }


def costs(out: Path, steps: int = 30) -> None:
    """Write `out`/dreambooth-costs.csv, every way in a process of its own."""
    with (out / "dreambooth-costs.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, COSTS, lineterminator="\n")
        table.writeheader()
        for name, row in FOUR.items():
            with multiprocessing.get_context("spawn").Pool(1) as alone:
                found = {"way": name} | alone.apply(cost, (ROWS[row], steps))
            table.writerow(found)
            print(*found.values(), sep="\t", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--costs", action="store_true", help="time, memory and size of the four ways instead")
    parser.add_argument("--out", type=Path, default=data_dir() / "measured")
    options = parser.parse_args()
    if options.costs:
        costs(options.out)
    else:
        run(options.only, options.seeds, options.out)


if __name__ == "__main__":
    main()
