"""Kolors' full size with random weights, through what a learner runs first, each command in a process of its own: a
training that is cut off and goes on, one picture of two steps, its score by a random ViT-L predictor, the LoRA
converted, doctor. Of each it prints seconds and the most anonymous memory (mapped files are the system's to drop), and
compares that with the plan. --room kills a command that takes more, as a container would.

    python benchmarks/full_size_check.py FOLDER --size 512 --room 14
    python benchmarks/full_size_check.py FOLDER --shapes small --size 128    (a rehearsal, a minute)
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from kolors_folder import SHAPES, make_folder
from PIL import Image

from kolors_lab.cli import STOPPED
from kolors_lab.lora.reading import read_lora
from kolors_lab.models.device import pick_device
from kolors_lab.models.hub import raw_folder
from kolors_lab.models.memory import plan, tensor_shapes
from kolors_lab.models.presets import ATTENTION, GIB, get_preset
from kolors_lab.training.config import TrainConfig, resolve
from kolors_lab.training.stages import plan_training

SLACK = GIB // 2  # what a command may take beyond its plan


def run(name: str, command: list[str], room: float, planned: int | None = None, until: Path | None = None) -> None:
    """Run `kolors-lab COMMAND`; print its seconds and peak beside the plan. With `until`, a run's folder, it is sent
    SIGTERM after its first checkpoint. Ends the script where it fails, takes over `room` GiB or more than the plan."""
    start, peak, stopped = time.monotonic(), 0, False
    process = subprocess.Popen([sys.executable, "-m", "kolors_lab", *command])
    while process.poll() is None:
        peak = max(peak, anonymous(process.pid))
        if peak > room * GIB:
            process.kill()
            sys.exit(f"{name}: took more than {room:g} GiB")
        if until and not stopped and any(until.glob("checkpoints/*.state")):
            process.terminate()
            stopped = True
        time.sleep(0.2)
    beside = f"  planned {planned / GIB:6.2f} GiB" if planned else ""
    print(f"{name:10} {time.monotonic() - start:7.0f} s  {peak / GIB:6.2f} GiB{beside}", flush=True)
    if process.returncode != (STOPPED if until else 0):
        sys.exit(f"{name}: ended with {process.returncode}")
    if planned and peak > planned + SLACK:
        sys.exit(f"{name}: took more than its plan")


def anonymous(pid: int) -> int:
    """Bytes of the process that are no file's."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (OSError, ProcessLookupError):
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("Anonymous:")), 0)


def picture_set(folder: Path, size: int) -> Path:
    """Two pictures with captions, as juice leaves them."""
    (folder / "train").mkdir(parents=True)
    for n in range(2):
        Image.effect_noise((size, size), 96).convert("RGB").save(folder / "train" / f"{n}.jpg")
    rows = "".join(f"{n}.jpg,二次元，少女{n}\n" for n in range(2))
    (folder / "train" / "metadata.csv").write_text(f"file_name,text\n{rows}", encoding="utf-8")
    return folder


def random_predictor(folder: Path) -> None:
    """The challenge's predictor in its full shape (ViT-L/14), with random weights."""
    from aesthetics_predictor import AestheticsPredictorV2Linear
    from transformers import CLIPImageProcessor, CLIPVisionConfig

    config = CLIPVisionConfig(
        hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, patch_size=14,
        projection_dim=768,
    )  # fmt: skip
    AestheticsPredictorV2Linear(config).save_pretrained(folder)
    CLIPImageProcessor().save_pretrained(folder)


def stand_in(repo: str) -> Path:
    """The folder where something fetched would lie, marked as whole."""
    folder = raw_folder(repo)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metadata.jsonl").touch()
    return folder


def check_lora(file: Path, model: Path) -> None:
    """Ends the script unless the LoRA has all of the UNet's attention layers, by their names, in float32."""
    ends = tuple(f".{end}.weight" for end in ATTENTION)
    wanted = {name[5:-7] for name in tensor_shapes(model, "unet") if name.endswith(ends)}
    layers = read_lora(file).layers
    odd = [name for name, layer in layers.items() if layer.down.dtype != torch.float32 or name not in wanted]
    if odd or not wanted <= set(layers):
        sys.exit(f"{file}: {len(layers)} layers of {len(wanted)}, not as they should be: {odd[:3]}")
    print(f"LoRA       {len(layers)} layers by their names, in float32")


def main(options: argparse.Namespace) -> None:
    model, size, room = make_folder(options.folder, options.shapes), options.size, options.room
    preset = replace(get_preset(str(model)), size=size)
    config = resolve(TrainConfig(steps=3, target_modules=("attention",)), preset)
    drawing, training = plan(preset, pick_device()), plan_training(preset, config, pick_device())
    print(f"draw: {drawing}, peak {drawing.peak / GIB:.1f} GiB\ntrain: {training}, peak {training.peak / GIB:.1f} GiB")
    with tempfile.TemporaryDirectory(dir=options.folder.resolve().parent) as folder:
        work = Path(folder)
        os.environ |= {"KOLORS_LAB_CACHE": f"{work}/cache", "MODELSCOPE_CACHE": f"{work}/modelscope"}
        if not Path(preset.scorer).is_dir():
            random_predictor(stand_in(preset.scorer))
            stand_in(preset.dataset)
        out, lora, pixels = work / "run", work / "run/lora.safetensors", str(size)
        where = ["--preset", str(model), "--data", str(picture_set(work / "set", size)), "--out", str(out)]
        how = ["--size", pixels, "--steps", "3", "--checkpoint_every", "1", "--target_modules", "attention"]
        run("train", ["train", *where, *how], room, training.peak, out)
        run("resume", ["train", "--resume", str(out)], room, training.peak)
        check_lora(lora, model)
        how = ["--steps", "2", "--width", pixels, "--height", pixels, "--lora", str(lora)]
        (work / "panels").mkdir()
        picture = ["--preset", str(model), *how, "--out", f"{work}/panels/1.png"]
        run("generate", ["generate", *picture], room, drawing.peak)
        run("score", ["score", f"{work}/panels", "--preset", str(model)], room)
        run("convert", ["lora", "convert", str(lora), f"{work}/comfyui.safetensors", "--to", "comfyui"], room)
        run("doctor", ["doctor", "--preset", str(model), "--size", pixels], room)
    print("full size: all is well")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shapes", choices=SHAPES, default="full", help="%(default)s")
    parser.add_argument("--size", type=int, default=512, help="px of the pictures (%(default)s)")
    parser.add_argument("--room", type=float, default=14, help="GiB that a command may take (%(default)s)")
    main(parser.parse_args())
