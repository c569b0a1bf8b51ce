"""Grids: the web UI's ranges, what is drawn and what is kept, the sheet; samplers against each other."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from kolors_lab.core.errors import SettingError
from kolors_lab.pictures.grids import RECIPES, Axis, GridConfig, cells, grid, parse_axis, sheet
from kolors_lab.sampling.metadata import read_settings
from kolors_lab.sampling.pipeline import Stop, Stopped


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("steps=1-5", (1, 2, 3, 4, 5)),
        ("steps=1-9 (+3)", (1, 4, 7)),
        ("seed = 3-1", (3, 2, 1)),
        ("seed=9-1 (-4)", (9, 5, 1)),
        ("steps=1-10 [4]", (1, 4, 7, 10)),
        ("steps=5, 10-12, 5", (5, 10, 11, 12)),
        ("cfg=1-2 (+0.25)", (1, 1.25, 1.5, 1.75, 2)),
        ("cfg=1,7.5", (1, 7.5)),
        ("lora_strength=-0.5-1 [4]", (-0.5, 0, 0.5, 1)),
        ("denoise=0.1-0.3 (+0.1)", (0.1, 0.2, 0.3)),
        ("sampler_name=euler, dpmpp_2m", ("euler", "dpmpp_2m")),
        ('prompt=白马,"王子, 夜空"', ("白马", "王子, 夜空")),
        ("lora=None,a/b.safetensors", (None, "a/b.safetensors")),
    ],
)
def test_ranges_are_the_web_uis(text, values):
    numbers = isinstance(values[0], (int, float))
    assert parse_axis(text).values == (pytest.approx(values) if numbers else values)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"x": "speed=1-5"}, "must be like steps=5-20"),
        ({"x": "steps"}, "must be like"),
        ({"x": ""}, "x: it is empty"),
        ({"x": "steps=a-b"}, "'a-b' must be a whole number or a range"),
        ({"x": "steps=1.5"}, "'1.5' must be a whole number"),
        ({"x": "steps=1-9 (-2)"}, "never comes from 1 to 9"),
        ({"x": "cfg=1-9 (+0)"}, "never comes"),
        ({"x": "steps=0-2"}, "steps = 0"),
        ({"x": "sampler_name=eular"}, "nearest is euler"),
        ({"x": "steps=1-2", "y": "steps=3"}, "steps stands on two"),
        ({"x": "seed=0-99", "y": "steps=1-9"}, "900 pictures"),
        ({"x": "seed=0-99999999999"}, "at most 400"),
        ({"x": "lora_strength=0-1 [3]"}, "there is no LoRA"),
        ({"x": "prompt=龙,马"}, "'龙'.*does not stand in the prompt"),
    ],
)
def test_what_cannot_be_a_grid_is_said_before_anything_is_drawn(change, reason):
    with pytest.raises(SettingError, match=reason) as error:
        GridConfig(**change)
    assert "\n" not in str(error.value)


def test_costly_settings_change_least():
    config = GridConfig(prompt="白马", x="lora=None,a.safetensors", y="seed=0-1", z="prompt=白马,王子")
    drawn = [(cell.lora, cell.prompt, cell.seed) for cell in cells(config).values()]
    assert drawn == sorted(drawn, key=lambda one: (one[0] is not None, one[1] != "白马", one[2]))
    assert cells(config)[(1, 0, 1)].prompt == "王子" and cells(config)[(1, 0, 1)].lora == "a.safetensors"


def test_search_and_replace_reaches_both_prompts():
    config = GridConfig(prompt="紫色少女", negative_prompt="紫色", x="prompt=紫色,黑色")
    assert [(c.prompt, c.negative_prompt) for c in cells(config).values()] == [
        ("紫色少女", "紫色"),
        ("黑色少女", "黑色"),
    ]


def test_recipes_can_be_drawn():
    for x, y in RECIPES.values():
        assert len(cells(GridConfig(x=x, y=y, lora="a.safetensors"))) >= 5


@pytest.fixture
def config(pipe_folder, tmp_path):
    folder = str(tmp_path / "grid.png")
    return GridConfig(preset=str(pipe_folder), width=64, height=64, x="steps=1,2", y="cfg=1,4", out=folder)


def test_a_grid_that_was_stopped_goes_on_where_it_was(pipe, config, tmp_path):
    stop, counts = Stop(), []

    def on_step(done, total):
        counts.append((done, total))
        if len(counts) == 3:
            stop.set()

    with pytest.raises(Stopped):
        grid(config, pipe, on_step, stop=stop)
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "cells").iterdir()}
    assert len(before) == 3 and not (tmp_path / "grid.png").exists()
    assert grid(config, pipe).exists()
    after = {file: file.stat().st_mtime_ns for file in (tmp_path / "cells").iterdir()}
    assert len(after) == 4 and {file: after[file] for file in before} == before
    assert grid(config, pipe=None).exists()  # all of it is there: no model is needed


def test_each_picture_carries_its_own_settings_and_a_half_file_is_drawn_again(pipe, config, tmp_path):
    grid(config, pipe)
    files = sorted((tmp_path / "cells").iterdir())
    assert {(s["steps"], s["cfg"]) for s in map(read_settings, files)} == {(1, 1.0), (1, 4.0), (2, 1.0), (2, 4.0)}
    whole = files[0].read_bytes()
    files[0].write_bytes(whole[:100])
    grid(config, pipe)
    assert np.array_equal(np.asarray(Image.open(files[0])), np.asarray(Image.open(io.BytesIO(whole))))


def test_the_sheet_has_a_place_for_every_picture():
    given = [Axis("steps", (1, 2, 3)), Axis("prompt", ("王子", "白马")), Axis("cfg", (1.0, 2.0))]
    colors = {(x, y, z): (40 * x + 50, 90 * y + 50, 90 * z + 50) for x in range(3) for y in range(2) for z in range(2)}
    page = sheet({place: Image.new("RGB", (64, 48), color) for place, color in colors.items()}, given)
    counts = {color: n for n, color in page.getcolors(maxcolors=100_000)}
    assert all(counts[color] >= 64 * 48 for color in colors.values())
