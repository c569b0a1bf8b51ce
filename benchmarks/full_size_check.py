"""Kolors at its full size on this machine, without its weights: by hand, with 20 GB of disk.

Makes the folder of random weights, then runs what a learner runs first, each command in a process of its own: doctor,
two training steps, one picture of two steps, the LoRA converted, a score by a random ViT-L predictor. Of each it
prints seconds and the most anonymous memory (mapped files are the system's to drop), beside the plan. --room kills a
command that takes more, as a container would.

    python benchmarks/full_size_check.py FOLDER --size 512 --room 14
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from kolors_folder import make_folder
from PIL import Image

from kolors_lab.models.device import pick_device
from kolors_lab.models.memory import memory_plan
from kolors_lab.models.presets import GIB, get_preset


def run(name: str, command: list[str], room: float) -> None:
    """Run `kolors-lab COMMAND`; print its seconds and peak. Ends the script where it fails or takes over `room` GiB."""
    start, peak = time.monotonic(), 0
    process = subprocess.Popen([sys.executable, "-m", "kolors_lab", *command])
    while process.poll() is None:
        peak = max(peak, anonymous(process.pid))
        if peak > room * GIB:
            process.kill()
            sys.exit(f"{name}: took more than {room:g} GiB")
        time.sleep(0.2)
    print(f"{name:10} {time.monotonic() - start:7.0f} s  {peak / GIB:6.2f} GiB", flush=True)
    if process.returncode:
        sys.exit(f"{name}: ended with {process.returncode}")


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


def random_predictor(folder: Path) -> Path:
    """The challenge's predictor in its full shape (ViT-L/14), with random weights."""
    from aesthetics_predictor import AestheticsPredictorV2Linear
    from transformers import CLIPImageProcessor, CLIPVisionConfig

    config = CLIPVisionConfig(
        hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, patch_size=14,
        projection_dim=768,
    )  # fmt: skip
    AestheticsPredictorV2Linear(config).save_pretrained(folder)
    CLIPImageProcessor().save_pretrained(folder)
    return folder


def main(options: argparse.Namespace) -> None:
    from kolors_lab.scoring.aesthetics import score_folder

    model, size = str(make_folder(options.folder)), options.size
    print(memory_plan(replace(get_preset(model), size=size), pick_device()))
    with tempfile.TemporaryDirectory() as work:
        data, out = picture_set(Path(work) / "set", size), Path(work) / "run"
        train = ["train", "--preset", model, "--data", str(data), "--out", str(out), "--checkpoint_every", "1"]
        run("doctor", ["doctor", "--preset", model], options.room)
        run("train", [*train, "--steps", "2"], options.room)
        sides = ["--width", str(size), "--height", str(size)]
        lora = ["--lora", str(out / "lora.safetensors")]
        picture = ["generate", "--preset", model, "--steps", "2", *sides, *lora, "--out", f"{work}/1.png"]
        run("generate", picture, options.room)
        run("convert", ["lora", "convert", lora[1], "--out", f"{work}/comfyui.safetensors"], options.room)
        preset = replace(get_preset(model), scorer=str(random_predictor(Path(work) / "predictor")))
        (Path(work) / "panels").mkdir()
        (Path(work) / "1.png").rename(Path(work) / "panels" / "1.png")
        print(f"score      {score_folder(preset, Path(work) / 'panels').mean:.2f} by a random predictor")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=1024, help="px of the picture (%(default)s)")
    parser.add_argument("--room", type=float, default=14, help="GiB that a command may take (%(default)s)")
    main(parser.parse_args())
