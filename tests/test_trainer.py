"""TrainLab without a browser: what its buttons do, and that what a training gives stays."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from PIL import Image

from kolors_lab.notebook.trainer import TrainLab

SMALL = {"steps": 2, "batch_size": 2, "rank": 4, "lr_warmup_steps": 0, "sample_every": 2, "sample_prompts": ("白马",)}


@pytest.fixture
def lab(pipe, pipe_folder, pictures, tmp_path):
    return TrainLab(pictures, pipe, preset=str(pipe_folder), out=str(tmp_path / "run"), **SMALL)


def test_a_click_trains_and_shows_loss_and_pictures_on_the_way(lab, tmp_path):
    before = Image.open(io.BytesIO(lab.picture.value))
    lab.box.children[0].children[0].click()
    assert "saved: " in lab.status.value and (tmp_path / "run/lora.safetensors").exists() and not lab.busy
    curve = Image.open(io.BytesIO(lab.picture.value))
    assert curve.size != before.size and list((tmp_path / "run/samples").glob("*.png"))
    assert "train(TrainConfig(" in lab.code.value and "rank=4" in lab.code.value
    lab.box.children[0].children[0].click()  # again into the same folder
    assert "already holds a lora.safetensors" in lab.status.value and not lab.busy


def test_stopped_it_keeps_what_it_has_learned(lab, tmp_path):
    lab.form.update(steps=50)
    lab.show = lambda rows, files: lab.box.children[0].children[1].click()  # as soon as the first loss is there
    lab.train()
    steps = [json.loads(line)["step"] for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert len(steps) < 5 and (tmp_path / "run/lora.safetensors").exists()


def test_the_captions_stand_beside_their_pictures(lab, pictures, tmp_path):
    lab.box.children[0].children[2].click()
    files = [file for file in Path(pictures).rglob("*") if file.suffix in (".jpg", ".png")]
    assert lab.captions.value.count("<img") == len(files) and f"{len(files)} 张图 pictures" in lab.status.value
    lab.form.widgets["data"].value = str(tmp_path / "gone")
    lab.box.children[0].children[2].click()
    assert "gone" in lab.status.value
