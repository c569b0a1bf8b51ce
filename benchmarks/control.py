"""Bars of control, repair and one heroine on the embedded model; each figure as a line, and a CSV in --out.

    python benchmarks/control.py control --seeds 0 1 2 --zeros    # a ControlNet from edges, and how it came to obey
    python benchmarks/control.py repair --pictures 96
    python benchmarks/control.py heroine --stories 24
    python benchmarks/control.py tags --pictures 96
    python benchmarks/control.py control --steps 2 2 --pictures 4 --scenes 8    # does it run at all?

Notebook 12 reads control-steps.csv as data/measured/control.csv.

Bars: edge F1 against the control of 0.6 and twice that without it; who, place, colours still right in 90 %. Of panels
with a broken face 70 % whole after repair, of whole ones 3 % harmed at most. The heroine's likeness rises with the
interval above 0 over 24 stories, at 2 % less prompt fit at most. Tags are right on 85 % of held-out pictures.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "data/make"))

from world.captions import caption  # noqa: E402
from world.draw import render  # noqa: E402
from world.scenes import (  # noqa: E402
    COLOR,
    FRAMING,
    HAIR_COLOR,
    HAIR_LENGTH,
    PLACE,
    STYLE,
    UNSEEN_STYLE,
    WHO,
    asked,
    training_scenes,
)

from kolors_lab.comic.look import Look, LookConfig  # noqa: E402
from kolors_lab.comic.panels import tell_story  # noqa: E402
from kolors_lab.comic.script import read_story  # noqa: E402
from kolors_lab.core.files import data_dir  # noqa: E402
from kolors_lab.core.images import open_image  # noqa: E402
from kolors_lab.core.stats import interval  # noqa: E402
from kolors_lab.dataset.captions import parts  # noqa: E402
from kolors_lab.models.loading import load_pipeline  # noqa: E402
from kolors_lab.models.presets import get_preset  # noqa: E402
from kolors_lab.sampling.control import Control, canny, edge_f1, load_control_net  # noqa: E402
from kolors_lab.sampling.ksampler import KSampler  # noqa: E402
from kolors_lab.sampling.pipeline import generate_batch  # noqa: E402
from kolors_lab.sampling.repair import mend  # noqa: E402
from kolors_lab.scoring.clip import classify, load_eyes  # noqa: E402
from kolors_lab.scoring.faces import find_faces, intact_of, probe_folder  # noqa: E402
from kolors_lab.scoring.likeness import gain, heroine_boxes, series  # noqa: E402
from kolors_lab.scoring.tagging import TaggingConfig, tagger, word_groups  # noqa: E402
from kolors_lab.training import control as trainer  # noqa: E402
from kolors_lab.training.config import TrainConfig  # noqa: E402
from kolors_lab.training.control import new_net  # noqa: E402
from kolors_lab.training.loop import train  # noqa: E402

STEPS, RATE, EVERY = (1000, 1500), 1e-3, 250  # of a learner's ControlNet: see `teach`
BATCH, ASKED = 8, ("who", "place", "color", "hair_color")


def write(out: Path, name: str, rows: list[dict]) -> None:
    """A table of figures, and each of its lines on the screen."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / f"{name}.csv").open("w", encoding="utf-8", newline="") as stream:
        table = csv.DictWriter(stream, rows[0])
        table.writeheader()
        table.writerows(rows)
    for row in rows:
        print(
            "  ".join(
                f"{key} {value:.3f}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()
            )
        )


def draw(pipe, prompts: list[str], steps: int, controls: list | None = None, net=None, **how) -> list:
    """A picture for each prompt, from noise of its own, after its control if there are controls; `how` is Control's."""
    images = []
    for first in range(0, len(prompts), BATCH):
        part = slice(first, first + BATCH)
        settings = [KSampler(seed=first + n, steps=steps) for n in range(len(prompts[part]))]
        control = Control(net, controls[part], **how) if controls else None
        images += generate_batch(pipe, prompts[part], [""] * len(settings), settings, control=control)
    return images


# Control -------------------------------------------------------------------------------------------------------------


def write_set(folder: Path, scenes: list) -> Path:
    """The scenes drawn, with their captions, as a folder to learn from; the trainer makes their control pictures.

    Always drawn anew: pictures of an earlier world, left there, would be taken for this one's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    words, rows = random.Random(0), [("file_name", "text")]
    with ProcessPoolExecutor(torch.get_num_threads()) as pool:
        for n, image in enumerate(pool.map(render, scenes, chunksize=16)):
            image.save(folder / f"{n}.png")
            rows.append((f"{n}.png", caption(scenes[n], words)))
    with (folder / "metadata.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return folder


def teach(pipe, data: Path, out: Path, seed: int, steps: Sequence[int] = STEPS) -> list[Path]:
    """Train as whoever has pictures would, by `train`; the folders of the goes, out/first and out/second.

    Two goes, the second from where the first one ended, at half the rate and down to nothing: at the full rate the net
    fell apart behind step 1,200. A go of no steps is left out.
    """
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


def f1(images: list, controls: list, reach: int = 0) -> float:
    """Mean edge F1 of pictures against the edges of their controls."""
    return float(np.nanmean([edge_f1(i, canny(c), reach) for i, c in zip(images, controls, strict=True)]))


def decoded(pipe, images: list) -> list:
    """The pictures, encoded and decoded by the VAE: what of their edges nothing that it decodes can keep."""
    pixels = torch.stack([torch.from_numpy(np.array(image)) for image in images]).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        return pipe.image_processor.postprocess(pipe.vae(pixels.to(pipe.vae.dtype)).sample)


def figures(images: list, controls: list) -> dict[str, float]:
    """Edge F1 to the pixel, and with edges one pixel beside taken as right."""
    return {"f1": f1(images, controls), "f1_near": f1(images, controls, reach=1)}


def right(images: list, scenes: list, preset) -> dict[str, float]:
    """For each attribute the share of pictures that show what their scene, which says it, asks for."""
    answers, shares = classify(images, preset), {}
    for name in ASKED:
        told = [(a[name], getattr(s, name)) for a, s in zip(answers, scenes, strict=True) if asked(s, name)]
        shares[name] = sum(one == other for one, other in told) / max(len(told), 1)
    return shares


def at_zeros(unet, seed: int):
    """A new net as in the paper, whose hint encoder ends in a zero convolution, too."""
    net = new_net(unet, seed)
    torch.nn.init.zeros_(net.controlnet_cond_embedding.conv_out.weight)
    return net


def over_steps(pipe, goes: list[Path], draw_with, controls: list) -> list[dict]:
    """How well each checkpoint's pictures, `draw_with(net)`, keep to their controls, and its validation loss."""
    points, done = [], 0
    for run in goes:
        looks = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        losses = {row["step"]: row["validation_loss"] for row in looks if "validation_loss" in row}
        for step, loss in losses.items():
            place = run / "checkpoints" / f"step-{step:06d}"
            if place.is_dir():  # a look at the very end may have none
                images = draw_with(load_control_net(place, pipe.unet))
                told = {"edge_f1": f1(images, controls), "near_f1": f1(images, controls, reach=1)}
                points.append({"step": done + step} | told | {"validation_loss": loss})
        done += max(row["step"] for row in looks)
    return points


def control(args: argparse.Namespace) -> None:
    """Train ControlNets on edges; how well pictures keep to their control, over steps and at the end."""
    preset = get_preset("tiny")
    pipe, steps, curve, ends = load_pipeline(preset, dtype=torch.float32), args.drawing or preset.steps, [], []
    scenes = training_scenes(99, args.pictures)
    rng = random.Random(1)
    prompts, controls = [caption(s, rng, complete=True) for s in scenes], [render(s) for s in scenes]
    plain, few = draw(pipe, prompts, steps), slice(min(24, len(prompts)))
    draw_few = partial(draw, pipe, prompts[few], steps, controls[few])
    data = args.out / "edges"
    begun = [("random", seed, args.steps) for seed in args.seeds] + [("zeros", 0, (args.steps[0], 0))] * args.zeros
    if begun:
        write_set(data, training_scenes(1, args.scenes))
    for start, seed, counts in begun:
        trainer.new_net = new_net if start == "random" else at_zeros
        out = args.out / f"net-{start}-{seed}"
        goes = teach(pipe, data, out, seed, counts)
        points = over_steps(pipe, goes, draw_few, controls[few])
        curve += [{"start": start, "seed": seed} | point for point in points]
        folder = goes[-1] / "controlnet"
        drawn = draw(pipe, prompts, steps, controls, load_control_net(folder, pipe.unet))
        ends.append({"net": f"{start} {seed}"} | figures(drawn, controls) | right(drawn, scenes, preset))
    if curve:
        write(args.out, "control-steps", curve)
    net = load_control_net(args.net, pipe.unet)
    for strength, end in ((0.7, 0.9), (1.0, 1.0)):  # Kwai's own settings, and all that it can do
        drawn = draw(pipe, prompts, steps, controls, net, strength=strength, end=end)
        name = f"{args.net.name} at {strength} until {end}"
        ends.append({"net": name} | figures(drawn, controls) | right(drawn, scenes, preset))
    for name, images in (("none", plain), ("the VAE's own", decoded(pipe, controls))):
        ends.append({"net": name} | figures(images, controls) | right(images, scenes, preset))
    write(args.out, "control", ends)


# Repair --------------------------------------------------------------------------------------------------------------


def repair(args: argparse.Namespace) -> None:
    """Of full-figure panels: broken faces made whole, whole ones harmed."""
    preset = get_preset("tiny")
    pipe, steps, rng = load_pipeline(preset, dtype=torch.float32), args.drawing or preset.steps, random.Random(2)
    scenes = [replace(s, framing="full") for s in training_scenes(98, 4 * args.pictures) if s.who == "girl"]
    prompts = [caption(scene, rng, complete=True) for scene in scenes[: args.pictures]]
    rows = []
    for n, (prompt, image) in enumerate(zip(prompts, draw(pipe, prompts, steps), strict=True)):
        (faces,) = find_faces([image], probe_folder())
        before = intact_of(faces)
        if not faces:
            rows.append({"panel": n, "found": 0, "before": before, "after": before})
            continue
        after = mend(pipe, image, faces[0].box, preset, {"prompt": prompt, "seed": n, "steps": steps}, args.denoise)
        rows.append(
            {"panel": n, "found": 1, "before": before, "after": intact_of(find_faces([after], probe_folder())[0])}
        )
    write(args.out, "repair", rows)
    broken, whole = ([r for r in rows if (r["before"] < 0.5) == kind and r["found"]] for kind in (True, False))
    healed = sum(r["after"] >= 0.5 for r in broken) / max(len(broken), 1)
    harmed = sum(r["after"] < 0.5 for r in whole) / max(len(whole), 1)
    missed = sum(not r["found"] for r in rows)
    print(f"broken {len(broken)}, healed {healed:.0%}; whole {len(whole)}, harmed {harmed:.0%}; no face found {missed}")


# One heroine ---------------------------------------------------------------------------------------------------------


def heroine(args: argparse.Namespace) -> None:
    """Stories without and with consistency, in pairs: likeness, style, copies, prompt fit."""
    preset = get_preset("tiny")
    pipe, eyes, rows = load_pipeline(preset, dtype=torch.float32), load_eyes(preset), []
    found = {strength: [] for strength in (0.0, *args.strengths)}
    fits = {strength: [] for strength in found}
    scripts = [read_story(file) for file in sorted((data_dir() / "stories").glob("*.csv"))]
    for n in range(args.stories):
        script = [replace(scene, seed=scene.seed + 1000 * (n // len(scripts))) for scene in scripts[n % len(scripts)]]
        for strength in found:
            look = Look.of(LookConfig(consistency=strength), script)
            out = args.out / "stories" / f"{n}-{strength:g}"
            images = [open_image(f) for f in tell_story(pipe, script, out, preset, steps=args.drawing, look=look)]
            one = series(images, eyes, heroine_boxes(images, preset))
            found[strength].append(one)
            fits[strength].append(float(np.mean(eyes.fit(images, [scene.prompt for scene in script]))))
            rows.append({"story": n, "consistency": strength, "heroine": one.heroine, "style": one.style,
                         "copies": one.copies, "fit": fits[strength][-1]})  # fmt: skip
    write(args.out, "heroine", rows)
    for strength in args.strengths:
        for figure in ("heroine", "style", "copies"):
            mean, low, high = gain(found[0.0], found[strength], figure)
            print(f"consistency {strength:g}: {figure} {mean:+.3f} ({low:+.3f} … {high:+.3f})")
        lost = [b / a - 1 for a, b in zip(fits[0.0], fits[strength], strict=True)]
        low, high = interval(lost)
        print(f"consistency {strength:g}: prompt fit {np.mean(lost):+.1%} ({low:+.1%} … {high:+.1%})")


# Tags ----------------------------------------------------------------------------------------------------------------


def tags(args: argparse.Namespace) -> None:
    """For each group of the built-in word list the share of held-out pictures of which it says what they show."""
    config = TaggingConfig(tag=True, preset="tiny", sure=0.0)
    scenes, groups = training_scenes(97, args.pictures), word_groups(config)
    propose = tagger(config, groups)
    told = [parts(propose(render(scene))[0]) for scene in scenes]
    order = (WHO, HAIR_COLOR, HAIR_LENGTH, COLOR, PLACE, FRAMING, (*STYLE, UNSEEN_STYLE))  # as WORLD's groups
    names, rows = ("who", "hair_color", "hair_length", "color", "place", "framing", "style"), []
    for name, values, group in zip(names, order, groups, strict=True):
        shown = [(scene, found) for scene, found in zip(scenes, told, strict=True) if asked(scene, name)]
        right = [group[values.index(getattr(scene, name))] in found for scene, found in shown]
        rows.append({"group": name, "pictures": len(shown), "right": float(np.mean(right))})
    write(args.out, "tags", rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("control", "repair", "heroine", "tags"))
    parser.add_argument("--out", type=Path, default=Path("runs/control-bars"))
    parser.add_argument(
        "--net", type=Path, default=data_dir() / "tiny-control", help="a ControlNet to measure as it is"
    )
    parser.add_argument("--seeds", type=int, nargs="*", default=[], help="train ControlNets of these seeds as well")
    parser.add_argument("--steps", type=int, nargs=2, default=STEPS, help="of a ControlNet's two goes")
    parser.add_argument("--zeros", action="store_true", help="train the first go from the paper's zeros as well")
    parser.add_argument("--scenes", type=int, default=4000, help="pictures it learns from")
    parser.add_argument("--pictures", type=int, default=96, help="that are drawn and measured")
    parser.add_argument("--stories", type=int, default=24)
    parser.add_argument("--strengths", type=float, nargs="+", default=[0.5, 1.0])
    parser.add_argument("--denoise", type=float, default=0.5)
    parser.add_argument("--drawing", type=int, help="sampling steps; the preset's if not given")
    args = parser.parse_args()
    {"control": control, "repair": repair, "heroine": heroine, "tags": tags}[args.what](args)


if __name__ == "__main__":
    main()
