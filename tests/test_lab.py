"""The labs without a browser: what the buttons do, and that the call they show does the same."""

from __future__ import annotations

import asyncio
import io
from datetime import datetime, timezone
from html import unescape
from pathlib import Path

import pytest
from helpers import make_lora
from PIL import Image

from kolors_lab.lora.writing import write_lora
from kolors_lab.notebook import labs
from kolors_lab.notebook.labs import GridLab, PromptLab
from kolors_lab.notebook.widgets import TASKS, uploaded
from kolors_lab.sampling.metadata import read_settings, write_picture

SMALL = {"steps": 1, "width": 64, "height": 64}


@pytest.fixture
def lab(pipe, pipe_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return PromptLab(str(pipe_folder), pipe, out="lab", **SMALL)


def said(lab) -> str:
    return lab.status.value


def test_a_click_draws_what_the_form_says_and_shows_the_call_that_does_the_same(lab):
    before = lab.picture.value
    lab.form.widgets["prompt"].value = "(王子:1.3)，白马"
    lab.form.widgets["sampler_name"].value = "dpmpp_2m"
    lab.form.widgets["control_after_generate"].value = "increment"
    lab.buttons.children[0].click()
    drawn = Path("lab/001.png").read_bytes()
    settings = read_settings("lab/001.png")
    assert (settings["prompt"], settings["sampler_name"], settings["seed"]) == ("(王子:1.3)，白马", "dpmpp_2m", 0)
    assert lab.picture.value != before and lab.form.value.seed == 1
    Path("lab/001.png").unlink()
    exec(lab.code.value, {})
    assert Path("lab/001.png").read_bytes() == drawn


def test_the_same_again_from_the_next_seed_and_back_by_the_history(lab):
    lab.generate()
    lab.form.widgets["prompt"].value = "夜空"
    lab.again()
    assert [read_settings(f"lab/00{n}.png")["seed"] for n in (1, 2)] == [0, 1]
    assert [tile.children[1].description for tile in lab.gallery.children] == ["002", "001"]
    first, last = lab.made[0].prompt, lab.picture.value
    lab.gallery.children[1].children[1].click()
    assert lab.picture.value != last and "back to 001: seed 0" in said(lab)
    assert lab.form.value.prompt == first and lab.form.value.seed == 0


def test_a_workflow_goes_out_and_comes_back(lab, pipe, pipe_folder):
    for click in (lab.buttons.children[3], lab.buttons.children[4]):
        click.click()
        assert "no picture yet" in said(lab)
    lab.form.update(prompt="王子", negative_prompt="模糊", seed=7, cfg=3.5, scheduler="karras")
    lab.generate()
    lab.save_workflow()
    for file in ("lab/001.json", "lab/001.png"):
        other = PromptLab(str(pipe_folder), pipe, out="other", **SMALL)
        other.load(file)
        value = other.form.value
        assert (value.prompt, value.negative_prompt, value.seed, value.cfg) == ("王子", "模糊", 7, 3.5)
        assert (value.steps, value.width, value.scheduler) == (1, 64, "karras")


def test_a_picture_is_drawn_over_and_drawn_larger(lab):
    lab.generate()
    lab.buttons.children[3].click()
    assert (lab.form.value.image, lab.form.value.denoise) == ("lab/001.png", 0.6)
    lab.form.update(hires=1.5, hires_denoise=0.3)
    lab.generate()
    settings = read_settings("lab/002.png")
    assert settings["image"].startswith("001.png:") and settings["hires_denoise"] == 0.3
    assert Image.open("lab/002.png").size == (96, 96)
    lab.form.update(image=None)
    lab.load("lab/002.png")
    assert lab.form.value.image is None and "give 001.png again" in said(lab) and lab.form.value.hires == 1.5
    lab.load("lab/001.png")
    assert (lab.form.value.hires, lab.form.value.denoise) == (1.0, 1.0)


def test_a_lora_tag_takes_its_file_from_the_labs_folder(pipe, pipe_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_lora(make_lora(pipe.unet, ("to_q",), 4.0), tmp_path / "mine/sub/ink.safetensors")
    lab = PromptLab(str(pipe_folder), pipe, loras="mine", out="lab", **SMALL)
    lab.form.widgets["prompt"].value = "少女，<lora:ink:0.7>"
    lab.generate()
    settings, drawn = read_settings("lab/001.png"), Path("lab/001.png").read_bytes()
    assert (settings["prompt"], settings["lora_strength"]) == ("少女", 0.7) and settings["lora"].startswith("ink.")
    Path("lab/001.png").unlink()
    exec(lab.code.value, {"pipe": pipe})
    assert Path("lab/001.png").read_bytes() == drawn
    lab.load("lab/001.png")
    assert Path(lab.form.value.lora) == Path("mine/sub/ink.safetensors")


def test_a_picture_of_another_s_is_loaded_as_far_as_it_goes_and_what_was_replaced_is_said(lab, tmp_path):
    found = {
        "model": "kolors", "prompt": "王子", "steps": 3, "cfg": 4.0, "lora": "girl.safetensors:0123456789ab",
        "lora_strength": 0.5, "repair": "faces",
    }  # fmt: skip
    write_picture(Image.new("RGB", (8, 8)), tmp_path / "girl.png", found)
    lab.load(tmp_path / "girl.png")
    assert (lab.form.value.prompt, lab.form.value.steps, lab.form.value.lora) == ("王子", 3, None)
    for line in (
        "loaded: girl.png", "replaced: prompt, steps, lora_strength", "LoRA girl.safetensors:0123456789ab: ",
        "not in the menu", "not used: repair", "another model: kolors",
    ):  # fmt: skip
        assert line in said(lab)
    lab.load(tmp_path / "girl.png")
    assert "nothing differs" in said(lab)


def test_a_workflow_s_lora_is_taken_by_its_name_and_that_is_said(pipe, pipe_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_lora(make_lora(pipe.unet, ("to_q",), 4.0), tmp_path / "mine/ink.safetensors")
    lab = PromptLab(str(pipe_folder), pipe, loras="mine", out="lab", **SMALL)
    write_picture(Image.new("RGB", (8, 8)), tmp_path / "a.png", {"prompt": "王子", "lora": "ink.safetensors"})
    lab.load(tmp_path / "a.png")
    assert Path(lab.form.value.lora) == Path("mine/ink.safetensors") and "taken by its name alone" in said(lab)
    write_picture(Image.new("RGB", (8, 8)), tmp_path / "b.png", {"prompt": "王子", "lora": "ink.safetensors:012345"})
    lab.load(tmp_path / "b.png")
    assert lab.form.value.lora is None and "there is another file" in said(lab)


def test_a_reader_without_a_kernel_sees_a_picture_of_the_window_and_what_to_do(lab, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, **_: shown.append(data))
    lab._ipython_display_()
    window, hint, _ = shown
    assert Image.open(io.BytesIO(window["image/jpeg"])).width > 600 and "VBox" not in window["text/plain"]
    assert window["application/vnd.jupyter.widget-view+json"]["model_id"] == lab.box.model_id
    assert "The kernel was restarted: run this cell again" in hint["text/html"]


def test_what_goes_wrong_is_said_in_a_line(lab, tmp_path):
    lab.form.widgets["prompt"].value = "少女 <lora:gone:0.8>"
    lab.buttons.children[0].click()
    assert "&lt;lora:gone&gt;: no such file in runs, which has none" in said(lab) and not Path("lab").exists()
    lab.form.widgets["prompt"].value = "(少女"
    lab.buttons.children[0].click()
    assert "character 1: this ( is never closed" in said(lab) and not lab.busy
    (tmp_path / "no.png").write_bytes(b"no picture")
    given = {"name": "../no.png", "content": memoryview(b"no picture"), "type": "", "size": 10}
    lab.upload.value = (given | {"last_modified": datetime.now(timezone.utc)},)
    assert "no.png" in said(lab) and not (tmp_path / "no.png").samefile(tmp_path / "lab/loaded/no.png")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), "the GPU's memory does not suffice"),
        (MemoryError(), "main memory does not suffice"),
        (OSError(28, "No space left on device", "001.png"), "001.png: No space left on device; free some space"),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
    ],
)
def test_whatever_goes_wrong_ends_in_a_line_and_the_button_comes_back(lab, monkeypatch, error, line):
    """As in a notebook, where the drawing runs beside the kernel's loop."""

    def fail(*_, **__):
        raise error

    async def click():
        lab.buttons.children[0].click()
        assert lab.busy
        await asyncio.gather(*TASKS)

    with monkeypatch.context() as patch:
        patch.setattr(labs, "generate_file", fail)
        asyncio.run(click())
    assert line in unescape(said(lab)) and not lab.busy
    lab.buttons.children[0].click()
    assert len(lab.made) == 1


def test_what_fails_after_the_drawing_is_a_line_too(lab, monkeypatch):
    monkeypatch.setattr(labs, "contact", lambda *_, **__: 1 / 0)
    lab.buttons.children[0].click()
    assert "division by zero" in said(lab) and not lab.busy


def test_files_come_in_from_either_ipywidgets():
    seven = {"a.png": {"metadata": {"name": "a.png"}, "content": b"x"}}
    eight = ({"name": "a.png", "content": memoryview(b"x")},)
    assert uploaded(seven) == uploaded(eight) == [("a.png", b"x")]


def test_grid_lab_draws_a_recipe_and_shows_its_call(pipe, pipe_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lab = GridLab(str(pipe_folder), pipe, **SMALL)
    lab.recipes.value = ("steps=4,8,16,32", "cfg=1,2.5,4,7")
    assert (lab.form.value.x, lab.form.value.y) == ("steps=4,8,16,32", "cfg=1,2.5,4,7")
    lab.form.update(x="seed=0,1", y="")
    lab.buttons.children[1].click()
    drawn = Path("runs/lab/grid.png").read_bytes()
    assert said(lab).count("grid.png") == 1 and len(list(Path("runs/lab/cells").iterdir())) == 2
    exec(lab.code.value, {})
    assert Path("runs/lab/grid.png").read_bytes() == drawn
    lab.form.widgets["x"].value = "seed=a"
    lab.buttons.children[1].click()
    assert "must be a whole number" in said(lab)
