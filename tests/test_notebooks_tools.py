"""What notebooks take out of their cells: sets, batches, units; and their set-up cell without a project."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import make_set
from PIL import Image

from kolors_course import units
from kolors_course.sets import captioned, write_set
from kolors_lab.core.errors import DataError
from kolors_lab.dataset.folder import read_examples
from kolors_lab.models.presets import get_preset
from kolors_lab.sampling.ksampler import KSampler

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "00_start_here.ipynb"


def preset_of(folder, **fields):
    return replace(get_preset("tiny"), dataset=str(folder), **fields)


def test_pictures_that_are_large_enough_come_first_and_nothing_is_said(tmp_path, capsys):
    folder = make_set(tmp_path / "set", count=5, side=160)
    Image.new("RGB", (32, 32)).save(folder / "train" / "0.png")
    found = captioned(preset_of(folder), 3)
    assert [image.size for image, _ in found] == [(160, 160)] * 3
    assert all(text for _, text in found)
    assert not capsys.readouterr().out


def test_too_few_large_pictures_are_filled_up_with_enlarged_ones_and_that_is_said(tmp_path, capsys):
    folder = make_set(tmp_path / "set", count=5, side=160)
    for n in (1, 2, 3, 4):
        Image.new("RGB", (64 + n, 64 + n)).save(folder / "train" / f"{n}.png")
    found = captioned(preset_of(folder, min_size=160), 3)
    assert [image.size for image, _ in found] == [(160, 160)] * 3
    assert "only 1 of 3 pictures have 160 px" in capsys.readouterr().out


def test_a_set_that_is_too_small_or_has_no_sharp_picture_is_an_error_that_counts(tmp_path):
    folder = make_set(tmp_path / "set", count=2, side=160)
    with pytest.raises(DataError, match="2 pictures can be used, this notebook needs 3"):
        captioned(preset_of(folder), 3)
    for n in range(2):
        Image.new("RGB", (160, 160)).save(folder / "train" / f"{n}.png")
    with pytest.raises(DataError, match="0 pictures can be used"):
        captioned(preset_of(folder), 1, sharp=True)


def test_a_set_that_was_written_is_read_again_with_its_captions(tmp_path):
    pictures = [(Image.new("RGB", (8, 8), colour), text) for colour, text in (("red", "红，方"), ("blue", "蓝"))]
    read = read_examples(write_set(tmp_path / "set", pictures))
    assert [example.text for example in read] == ["红，方", "蓝"]
    assert [Image.open(example.image).getpixel((0, 0)) for example in read] == [(255, 0, 0), (0, 0, 255)]


def test_no_more_pictures_at_once_than_in_a_training_batch(monkeypatch):
    calls = []
    monkeypatch.setattr(units, "generate_batch", lambda pipe, texts, against, settings: calls.append(texts) or texts)
    settings = [KSampler(seed=n) for n in range(5)]
    drawn = units.draw_all(None, replace(get_preset("tiny"), batch_size=2), list("abcde"), "", settings)
    assert drawn == list("abcde")
    assert calls == [["a", "b"], ["c", "d"], ["e"]]


def test_pictures_of_a_training_become_one_number_and_three_of_them_an_interval():
    rows = [
        {"seed": seed, "condition": condition, "score": score}
        for seed, pairs in {"0": (6.0, 6.2), "1": (6.4, 6.0)}.items()
        for condition, score in zip(("base", "lora"), pairs, strict=True)
        for _ in range(12)
    ]
    assert units.by_training(rows, "lora") == pytest.approx([0.2, -0.4])
    mean, half = units.mean_and_half([1.0, 2.0, 3.0])
    assert (mean, half) == (2.0, pytest.approx(4.303 / 3**0.5, abs=1e-3))


def test_the_set_up_cell_says_in_one_line_that_there_is_no_project(tmp_path, monkeypatch, capsys):
    from IPython.core.interactiveshell import InteractiveShell

    [cell] = [c for c in json.loads(NOTEBOOK.read_text("utf-8"))["cells"] if "setup" in c["metadata"].get("tags", ())]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    result = InteractiveShell().run_cell("".join(cell["source"]))
    assert not result.success
    [line] = capsys.readouterr().out.strip().splitlines()
    assert "/kaggle/working/kolors_lab" in line and "see the README" in line
