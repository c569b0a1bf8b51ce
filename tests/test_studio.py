"""The story studio: by its calls, and by mouse in a real JupyterLab in a headless Chromium."""

import re

import pytest
from browser import opened, run_all, save_and_reload, write_notebook
from helpers import use_stand_ins
from test_casting import Eyes

from kolors_lab.comic import casting
from kolors_lab.comic.panels import StoryConfig
from kolors_lab.comic.script import read_story
from kolors_lab.notebook.studio import StoryStudio, marked, stale
from kolors_lab.sampling.metadata import read_settings

STORY = """衣服：红色长裙

1、起：少女，{衣服}，站在书院
2、承：白马，站在桃花小路
"""


@pytest.fixture
def studio(monkeypatch, pipe_folder, pipe, tmp_path):
    use_stand_ins(monkeypatch, pipe_folder, tmp_path / "stand-ins")
    monkeypatch.setattr(casting, "load_eyes", lambda preset: Eyes())
    (tmp_path / "s.md").write_text(STORY, encoding="utf-8")
    config = StoryConfig(story=str(tmp_path / "s.md"), out=str(tmp_path / "out"), steps=1)
    return StoryStudio(config, pipe, takes=2)


def settings(studio):
    return [read_settings(studio.out / "panels" / f"{n}.png") for n in (1, 2)]


def test_what_is_edited_is_drawn_and_nothing_else(studio):
    studio.tell()
    assert [one["prompt"] for one in settings(studio)] == ["少女，红色长裙，站在书院", "白马，站在桃花小路"]
    assert (studio.out / "page.html").exists()
    studio.parts["衣服"].value = "蓝色长裙"
    assert [note.value for note in studio.notes] == [stale(), ""]  # the horse wears no dress
    studio.draw(1)
    assert [(one["prompt"], one["batch"]) for one in settings(studio)] == [
        ("少女，蓝色长裙，站在书院", 1), ("白马，站在桃花小路", 2)
    ]  # fmt: skip
    assert [note.value for note in studio.notes] == ["", ""]
    studio.draw(2, further=1)
    assert settings(studio)[1]["seed"] == 2
    again = StoryStudio(StoryConfig(out=str(studio.out)), studio.pipe)  # another day
    assert [row.value.seed for row in again.rows] == [0, 2]
    assert again.parts["衣服"].value == "蓝色长裙"


def test_a_casting_and_another_choice(studio, monkeypatch):
    monkeypatch.setattr(Eyes, "fit", lambda self, images, texts: [0.0] * len(images))
    studio.cast()
    assert [row.value.seed for row in studio.rows] == [one["seed"] for one in settings(studio)]
    which, seeds = studio.play.children
    which.value = 2
    (mark, first), (_bare, second) = seeds.options
    assert mark == f"✓ {first}" and "click a seed" in studio.status.value  # the one that plays is marked
    seeds.value = second  # as by a click
    assert settings(studio)[1]["seed"] == int(second)
    assert [label for label, _ in studio.play.children[1].options] == [first, f"✓ {second}"]
    assert f"2,承,{second},{first}" in (studio.out / "cast.csv").read_text(encoding="utf-8-sig")
    studio.rows[1].update(scene="新标题")
    studio.tell()
    assert settings(studio)[1] | {"scene": "新标题"} == settings(studio)[1]  # the choice goes with the scene
    assert settings(studio)[1]["seed"] == int(second)
    assert [scene.seed for scene in read_story(studio.file)] == [0, 1]


def test_a_wrong_value_is_a_line_and_nothing_is_drawn(studio):
    studio.rows[0].widgets["seed"].value = "many"
    studio.box.children[0].children[0].click()  # draw and page
    assert "seed = &#x27;many&#x27;" in studio.status.value
    assert not studio.out.exists()


@pytest.mark.parametrize(
    ("prompt", "line"),
    [
        (" ", "scene 1 has no prompt, nothing is saved"),
        ("白马 --ar 1:1", "nothing is saved: panel 1: “--ar” is an option"),
    ],
)
def test_what_could_not_be_opened_again_is_not_saved(studio, prompt, line):
    studio.tell()
    before = studio.file.read_bytes(), settings(studio)
    studio.rows[0].widgets["prompt"].value = prompt
    studio.box.children[0].children[0].click()
    assert line in studio.status.value and not studio.busy
    assert (studio.file.read_bytes(), settings(studio)) == before


def test_a_damaged_story_opens_with_its_line_marked_and_is_mended_there(studio):
    studio.tell()
    good = studio.file.read_text(encoding="utf-8-sig")
    damaged = good.replace("承,", "承,,,,,,", 1)
    studio.file.write_text(damaged, encoding="utf-8")
    again = StoryStudio(StoryConfig(out=str(studio.out), steps=1), studio.pipe)
    again._ipython_display_()
    button, status, where, text = again.box.children
    number = next(n for n, line in enumerate(damaged.splitlines(), 1) if "承,,," in line)
    assert f"line {number}" in status.value and re.search(rf"color:white[^>]*> *{number}  承", where.value)
    button.click()
    assert f"line {number}" in again.status.value  # not mended yet
    text.value = good
    button.click()
    assert [row.value.scene for row in again.rows] == ["起", "承"] and "line" not in again.status.value
    kept = sorted(studio.out.glob("story.damaged*.csv"))
    assert [file.read_text(encoding="utf-8") for file in kept] == [damaged, damaged]
    again.tell()
    assert settings(again)[1]["prompt"] == "白马，站在桃花小路"


def test_a_story_that_is_not_there_begins_with_two_lines(pipe, tmp_path):
    studio = StoryStudio(StoryConfig(story=str(tmp_path / "none.csv"), out=str(tmp_path / "out"), steps=1), pipe)
    button, status, _where, text = studio.box.children
    assert "none.csv" in status.value and "below are two lines" in status.value
    assert len(text.value.splitlines()) == 2
    button.click()
    assert len(studio.rows) == 2 and studio.status.value.find("none.csv") < 0
    said = [child.value for child in studio.box.children if "challenge wants 8" in str(getattr(child, "value", ""))]
    assert len(said) == 1 and "this story has 2 panels" in said[0]


def test_a_wrong_number_is_named_by_its_panel_until_it_is_mended(studio, monkeypatch):
    studio.rows[0].widgets["seed"].value = "-1"
    studio.box.children[0].children[0].click()
    assert "panel 1: seed = -1" in studio.status.value and "line 2" not in studio.status.value
    monkeypatch.setenv("KOLORS_LAB_LANG", "zh")
    studio.rows[1].widgets["prompt"].value += "，夜"
    assert "没有保存：第 1 格：seed = -1：应为 0 到 18446744073709551615 的整数" in studio.status.value
    studio.rows[0].widgets["seed"].value = "5"
    assert "seed" not in studio.status.value


def test_the_wrong_line_is_marked_in_whichever_language_the_error_is():
    text = "一\n二\n三"
    assert "color:white" in marked(text, "story.csv: line 2: no number")
    assert marked(text, "story.csv：第 2 行：不是数") == marked(text, "story.csv: line 2: no number")
    assert marked(text, "第 2 格没有提示词") == ""


def test_typing_does_not_read_the_whole_model_each_time(studio, monkeypatch):
    read = []
    monkeypatch.setattr("kolors_lab.models.identity._tensors", lambda file: read.append(file) or ["x"])
    for letter in "白马白":
        studio.rows[0].widgets["prompt"].value += letter
    assert read == []


def test_a_drawing_that_breaks_off_is_a_line_and_the_next_one_goes(studio, monkeypatch):
    monkeypatch.setattr("kolors_lab.comic.panels.generate_batch", lambda *_, **__: 1 / 0)
    studio.draw(1)
    assert "division by zero" in studio.status.value and not studio.busy


def test_in_a_browser(pipe_folder, tmp_path):
    (tmp_path / "s.md").write_text(STORY, encoding="utf-8")
    config = f"StoryConfig(preset={str(pipe_folder)!r}, story='s.md', out='out', steps=1)"
    notebook = write_notebook(
        tmp_path / "studio.ipynb",
        "from kolors_lab.comic.panels import StoryConfig\nfrom kolors_lab.notebook.studio import StoryStudio",
        f"StoryStudio({config})",
    )
    kept = ".jp-OutputArea-output img[src^='data:image/jpeg']"
    with opened(notebook) as page:
        run_all(page)
        page.get_by_role("button", name="Draw and page").click()
        page.locator(kept).last.wait_for()  # the page in the cell's own output
        dress = page.get_by_label("{衣服}")
        dress.fill("蓝色长裙")
        dress.blur()
        page.get_by_text("changed, not drawn yet").wait_for()
        page.get_by_role("button", name="画第 1 格 Draw").click()
        page.get_by_text("panel 1 is drawn").wait_for()
        assert page.get_by_text("changed, not drawn yet").count() == 0
        page.get_by_role("button", name="Next seed").nth(1).click()
        page.get_by_text("panel 2 is drawn").wait_for()
        page.get_by_label("cfg").fill("much")
        page.get_by_label("cfg").blur()
        page.get_by_text(re.compile("cfg = 'much'")).first.wait_for()
        page.screenshot(path=tmp_path / "studio.png")
        save_and_reload(page)
        page.locator(kept).last.wait_for()
        assert "Error displaying widget" not in page.content()
    panels = [read_settings(tmp_path / "out" / "panels" / f"{n}.png") for n in (1, 2)]
    assert [(one["prompt"].split("，")[1], one["seed"]) for one in panels] == [("蓝色长裙", 0), ("站在桃花小路", 2)]
