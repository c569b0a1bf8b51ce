"""The labs without a browser: what the buttons do, and that the call they show does the same."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest

from kolors_lab.generate import read_settings
from kolors_lab.lab import GridLab, PromptLab

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
    assert [line.split(":")[0] for line, _ in lab.history.options][1:] == ["001", "002"]
    first = lab.made[0].prompt
    lab.history.value = 0
    assert lab.form.value.prompt == first and lab.form.value.seed == 0


def test_a_workflow_goes_out_and_comes_back(lab, pipe, pipe_folder):
    lab.buttons.children[3].click()
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


def test_what_goes_wrong_is_said_in_a_line(lab, tmp_path):
    lab.form.widgets["prompt"].value = "少女 <lora:gone:0.8>"
    lab.buttons.children[0].click()
    assert "&lt;lora:gone&gt;: no such file in the menu" in said(lab) and not Path("lab").exists()
    lab.form.widgets["prompt"].value = "(少女"
    lab.buttons.children[0].click()
    assert "character 1: this ( is never closed" in said(lab) and not lab.busy
    (tmp_path / "no.png").write_bytes(b"no picture")
    given = {"name": "../no.png", "content": memoryview(b"no picture"), "type": "", "size": 10}
    lab.upload.value = (given | {"last_modified": datetime.now(timezone.utc)},)
    assert "no.png" in said(lab) and not (tmp_path / "no.png").samefile(tmp_path / "lab/loaded/no.png")


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
