"""Casting: takes ranked, the choice in a file that people may change, and nothing made twice."""

import csv
import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
from helpers import failure, make_story, use_stand_ins
from PIL import Image

from kolors_lab.cli import main
from kolors_lab.comic import casting
from kolors_lab.comic import panels as story
from kolors_lab.comic.casting import CastConfig, Take, cast, choose
from kolors_lab.comic.panels import StoryConfig
from kolors_lab.core.errors import DataError, SettingError
from kolors_lab.sampling.metadata import read_settings


class Eyes:
    """In place of Chinese-CLIP: the redder a picture, the better it fits; all are alike."""

    def fit(self, images, texts):
        assert all("白马" in text for text in texts)
        return [image.convert("RGB").resize((1, 1)).getpixel((0, 0))[0] / 255 for image in images]

    def likeness(self, images):
        import numpy as np

        return np.ones((len(images), len(images)))


@pytest.fixture
def config(monkeypatch, pipe_folder, tmp_path):
    use_stand_ins(monkeypatch, pipe_folder, tmp_path / "stand-ins")
    monkeypatch.setattr(casting, "load_eyes", lambda preset: Eyes())
    return CastConfig(story=str(make_story(tmp_path / "s.csv", 3)), out=str(tmp_path / "run"), takes=2, steps=1)


def seeds_drawn(monkeypatch):
    drawn, draw = [], story.generate_batch
    monkeypatch.setattr(story, "generate_batch", lambda *a, **k: drawn.extend(s.seed for s in a[3]) or draw(*a, **k))
    return drawn


def test_a_casting_ranks_is_changed_by_hand_and_runs_again(config, pipe, tmp_path, monkeypatch):
    drawn, out = seeds_drawn(monkeypatch), tmp_path / "run"
    first = cast(config, pipe=pipe)
    assert drawn == [0, 1, 1, 2, 2, 3]  # two for each of three scenes, the first its own
    assert [[take.rank for take in mine] for mine in first.takes] == [[1, 2]] * 3
    assert first.seeds == [mine[0].seed for mine in first.takes]
    assert [read_settings(out / "panels" / f"{n}.png")["seed"] for n in (1, 2, 3)] == first.seeds
    assert all(Image.open(sheet).text["Title"].startswith(f"{n}") for n, sheet in enumerate(first.sheets, 1))

    other = first.takes[1][1].seed
    choose(out, 2, other)
    text = (out / "cast.csv").read_text(encoding="utf-8-sig")
    (out / "cast.csv").write_text(
        text.replace(f"3,第3格,{first.seeds[2]},", "3,第3格,77,"), encoding="utf-8"
    )  # by hand
    drawn.clear()
    again = cast(config, pipe=pipe)
    assert drawn == [77]  # and nothing else
    assert again.seeds == [first.seeds[0], other, 77]
    assert [read_settings(out / "panels" / f"{n}.png")["seed"] for n in (1, 2, 3)] == again.seeds

    drawn.clear()
    monkeypatch.setattr(casting, "load_eyes", lambda preset: pytest.fail("all figures are known"))
    assert cast(config, lambda *_: None, None).seeds == again.seeds
    story.story(StoryConfig(**{k: v for k, v in vars(config).items() if k != "takes"} | {"layout": "strip"}))
    assert not drawn  # the page in another layout shows the panels that were chosen
    assert Image.open(out / "page.png").height > 2 * Image.open(out / "page.png").width

    make_story(tmp_path / "s.csv", 1).write_text("scene,prompt\n别的故事,白马\n", encoding="utf-8")
    assert [s.seed for s in story.chosen(out, story.read_story(config.story))] == [0]  # the file is another story's


def test_ranks_add_up(tmp_path, monkeypatch):
    figures = [[6.0, 0.1, 0.5], [5.0, 0.3, 0.6], [4.0, 0.2, 0.7], [5.5, 0.2, 0.1]]
    monkeypatch.setattr(casting, "_figures", lambda *_: figures)
    files = {tmp_path / "1" / f"{seed}.png": {"seed": seed} for seed in range(4)}
    (mine,) = casting._ranked(files, None, tmp_path)
    assert [(take.seed, take.rank) for take in mine] == [(1, 1), (2, 2), (0, 3), (3, 4)]
    assert mine[0] == Take(1, 1, tmp_path / "1" / "1.png", 5.0, 0.3, 0.6, 1)


def test_what_a_user_put_there_stays(config, pipe, tmp_path):
    mine = tmp_path / "run" / "takes" / "1" / "0.png"
    mine.parent.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(mine)
    with pytest.raises(DataError, match=r"takes/1/0\.png"):
        cast(config, pipe=pipe)
    assert Image.open(mine).size == (8, 8)
    (tmp_path / "run" / "cast.csv").write_text("panel,scene,seed\nfirst,a,1\n", encoding="utf-8")
    with pytest.raises(DataError, match="line 2: panel 'first' is no whole number"):
        cast(config, pipe=pipe)
    (tmp_path / "run" / "cast.csv").unlink()
    with pytest.raises(DataError, match="run the casting first"):
        choose(tmp_path / "run", 1, 0)
    with pytest.raises(SettingError, match="takes = 0"):
        replace(config, takes=0)


def test_a_choice_that_is_no_seed_is_one_line(config, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    with (tmp_path / "run" / "cast.csv").open("w", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("panel", "scene", "seed", "best"), (1, "第1格", "seven", 0)])
    command = ["story", "cast", "--story", config.story, "--out", config.out]
    assert main(command) == 2
    assert "cast.csv: line 2: seed 'seven'" in failure(capsys)
    file = tmp_path / "run" / "cast.csv"
    head = "panel,scene,seed,best\n"
    for content, said in (
        (f"{head}1,第1格,{'9' * 5000},0".encode(), "line 2: seed '99999999999999999999' is no"),
        (f"{head}1,第1格".encode(), "line 2: seed '' is no"),
        (f"{head}1,{'x' * 140_000},3,0".encode(), "cast.csv: no CSV"),
        (f"{head}1,第1格,3,0".encode("gbk"), "cast.csv: not UTF-8 text; in GBK it begins"),
        (b"\0\0\0", "cast.csv: holds NUL"),
    ):
        file.write_bytes(content)
        assert main(command) == 2
        assert said in failure(capsys)


@pytest.mark.parametrize("content", ["{", "5", "[]", "{}", "[" * 100_000, '{"key": 5, "figures": 5}', None])
def test_damaged_figures_are_made_anew(tmp_path, monkeypatch, content):
    """Whatever figures.json says, a take has three numbers."""
    Image.new("RGB", (8, 8)).save(tmp_path / "1.png")
    monkeypatch.setattr(casting, "load_eyes", lambda preset: Eyes())
    monkeypatch.setattr(casting, "load_scorer", lambda preset: None)
    monkeypatch.setattr(casting, "score_images", lambda scorer, images: [6.0] * len(images))
    files, known = {tmp_path / "1.png": {"prompt": "白马"}}, tmp_path / "figures.json"
    preset = SimpleNamespace(scorer="a", clip="b")
    good = casting._figures(files, [1], preset, known)
    if content is None:
        record = json.loads(known.read_text())
        content = json.dumps(record | {"figures": [[1, "x"]]})
    known.write_text(content)
    assert casting._figures(files, [1], preset, known) == good == [[6.0, 0.0, 0.0]]
