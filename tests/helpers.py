"""Stand-ins with random weights for the trained models, and small sets, for the tests of the upper modules."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

MEASURE = """<script>addEventListener("load", () => { document.title = JSON.stringify({
  broken: [...document.images].filter(image => !image.naturalWidth).length, images: document.images.length,
  overflow: Math.max(0, document.documentElement.scrollWidth - innerWidth)}) })</script>"""


def make_scorer(folder: Path, level: float = 6.5) -> Path:
    """An AestheticsPredictorV2Linear folder with random weights whose scores lie within 0.5 of `level`."""
    import torch
    from aesthetics_predictor import AestheticsPredictorV2Linear
    from transformers import CLIPImageProcessor, CLIPVisionConfig

    torch.manual_seed(0)
    model = AestheticsPredictorV2Linear(
        CLIPVisionConfig(
            hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=32,
            patch_size=16, projection_dim=16,
        )
    )  # fmt: skip
    torch.nn.init.constant_(model.layers[-1].bias, level)
    model.save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def make_set(folder: Path, count: int = 6, side: int = 160) -> Path:
    """A raw set in the baseline's layout: `count` sharp pictures, each unlike the others."""
    (folder / "train").mkdir(parents=True)
    rows = []
    for n in range(count):
        image = Image.new("RGB", (side, side), ("red", "navy", "green", "orange")[n % 4])
        draw = ImageDraw.Draw(image)
        for k in range(2 * n + 3):
            x, y = (37 * (n + 1) * (k + 1)) % side, (53 * (n + 2) * (k + 1)) % side
            draw.rectangle((x - 20, y - 20, x + 20, y + 20), fill=("white", "black", "yellow")[(n + k) % 3])
        image.save(folder / "train" / f"{n}.png")
        rows.append({"text": "二次元，少女", "image": [f"train/{n}.png"]})
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (folder / "metadata.jsonl").write_text(text, encoding="utf-8")
    return folder


def make_story(file: Path, count: int = 8) -> Path:
    lines = [f"第{n + 1}格,二次元，少女，白马，{n},模糊,{n}" for n in range(count)]
    file.write_text("\n".join(("scene,prompt,negative_prompt,seed", *lines)), encoding="utf-8")
    return file


def use_stand_ins(monkeypatch, pipe_folder: Path, folder: Path, level: float = 6.5):
    """Make the preset `tiny` a model, a scorer and a set with random weights and very few steps; returns it."""
    from kolors_lab.models import presets as models

    preset = replace(
        models.get_preset(str(pipe_folder)), name="tiny", scorer=str(make_scorer(folder / "scorer", level)),
        dataset=str(make_set(folder / "raw")), steps=2, train_steps=3, batch_size=2,
    )  # fmt: skip
    monkeypatch.setitem(models.PRESETS, "tiny", lambda: preset)
    return preset


def failure(capsys) -> str:
    """The one line that a failed command left on stderr, beside progress bars."""
    lines = capsys.readouterr().err.replace("\r", "\n").splitlines()
    (line,) = [line for line in lines if line.startswith("kolors-lab: ")]
    assert not any("Traceback" in line for line in lines)
    return line


def in_browser(page: Path, folder: Path, width: int) -> dict[str, int]:
    """What a headless Chromium makes of an HTML file in a window `width` px wide: `images`, of them `broken`, and by
    how many px the page is wider than the window. Skips where there is no Chromium."""
    names = ("chromium", "chromium-browser", "google-chrome")
    browser = next((found for name in names if (found := shutil.which(name))), None)
    if not browser:
        pytest.skip("no Chromium on this machine")
    copy = folder / f"{width}.html"
    copy.write_text(page.read_text(encoding="utf-8") + MEASURE, encoding="utf-8")
    quiet = ("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run")
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", *quiet, f"--user-data-dir={folder / 'profile'}",
        f"--window-size={width},900", "--dump-dom", copy.as_uri(),
    ]  # fmt: skip
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    return json.loads(re.search("<title>(.*?)</title>", dom)[1])


def make_lora(unet, targets, alpha: float, rank: int = 8, seed: int = 0, keep: bool = False, **settings):
    """A LoRA of random weights, none of them zero, for a UNet; `keep`: it stays on the UNet."""
    import torch

    from kolors_lab.lora.adapter import add_lora, get_lora

    add_lora(unet, rank, alpha, targets, seed, **settings)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in unet.named_parameters():
        if parameter.requires_grad and "magnitude" not in name:
            parameter.data.normal_(0, 0.3, generator=generator)
        elif parameter.requires_grad:
            parameter.data.mul_(1.1)
    lora = get_lora(unet, {"trigger_word": "二次元"})
    if not keep:
        unet.delete_adapters("kolors_lab")
    return lora
