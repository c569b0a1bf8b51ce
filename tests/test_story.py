"""Stories: reading the CSV, drawing panels that can be resumed, and the page."""

import pytest
from helpers import make_story, use_stand_ins
from PIL import Image, ImageFont

from kolors_lab import story
from kolors_lab.errors import DataError, ModelError, SettingError
from kolors_lab.generate import read_settings
from kolors_lab.page import font, make_page, wrap
from kolors_lab.story import StoryConfig, StoryScene, read_story, story_file, tell


def scenes(count):
    return [StoryScene(f"第{n}格", f"少女，{n}", "模糊", n) for n in range(count)]


def test_bundled_stories_have_eight_scenes_each():
    assert len(read_story(story_file(None))) == 8
    assert len(read_story(story_file(None).with_name("dream.csv"))) == 8


@pytest.fixture
def preset(monkeypatch, pipe_folder, tmp_path):
    return use_stand_ins(monkeypatch, pipe_folder, tmp_path / "stand-ins")


def test_panels_carry_their_settings_and_are_drawn_once(preset, pipe, tmp_path, monkeypatch):
    drawn, draw = [], story.generate
    monkeypatch.setattr(story, "generate", lambda *a, **k: drawn.append(k["seed"]) or draw(*a, **k))
    panels = tell(pipe, scenes(3), tmp_path, preset)
    assert [read_settings(p)["prompt"] for p in panels] == ["少女，0", "少女，1", "少女，2"]
    assert drawn == [0, 1, 2]
    panels[1].unlink()  # as after a closed session
    tell(pipe, scenes(3), tmp_path, preset)
    assert drawn == [0, 1, 2, 1]
    tell(lambda: pytest.fail("nothing to draw, so nothing to load"), scenes(3), tmp_path, preset)


def test_an_earlier_story_is_not_left_looking_current(preset, pipe, tmp_path):
    make_page(tell(pipe, scenes(4), tmp_path, preset), ["格"] * 4, tmp_path / "page.png")
    steps = []
    tell(pipe, [*scenes(1), StoryScene("新", "白马", "", 9)], tmp_path, preset, on_step=lambda *s: steps.append(s))
    assert sorted(p.name for p in (tmp_path / "panels").iterdir()) == ["1.png", "2.png"]
    assert read_settings(tmp_path / "panels" / "2.png")["prompt"] == "白马"
    assert not (tmp_path / "page.png").exists()
    assert steps[-1] == (2, 2)


def test_the_users_own_picture_stays(preset, pipe, tmp_path):
    (tmp_path / "panels").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "panels" / "1.png")
    before = (tmp_path / "panels" / "1.png").read_bytes()
    with pytest.raises(DataError, match=r"1\.png"):
        tell(pipe, scenes(1), tmp_path, preset)
    assert (tmp_path / "panels" / "1.png").read_bytes() == before


def test_the_users_own_page_stays(preset, pipe, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "page.png")
    with pytest.raises(DataError, match=r"page\.png"):
        tell(pipe, scenes(1), tmp_path, preset)
    assert Image.open(tmp_path / "page.png").size == (8, 8)


def test_a_bad_lora_costs_no_panel(preset, pipe, tmp_path):
    panels = tell(pipe, scenes(2), tmp_path / "out", preset)
    (tmp_path / "bad.safetensors").write_bytes(b"no LoRA")
    with pytest.raises(ModelError):
        tell(pipe, scenes(2), tmp_path / "out", preset, lora=tmp_path / "bad.safetensors")
    assert all(panel.exists() for panel in panels)


def test_story_writes_panels_and_page(preset, tmp_path):
    file = make_story(tmp_path / "my_story.csv", 2)
    page = story.story(StoryConfig(story=str(file), out=str(tmp_path / "out")))
    assert page == tmp_path / "out" / "page.png"
    assert Image.open(page).text["Title"] == "my story"
    assert (tmp_path / "out" / "panels" / "2.png").exists()
    with pytest.raises(SettingError, match="steps"):
        StoryConfig(steps=0)


def test_page_has_two_rows_of_four_and_says_who_drew_it(tmp_path):
    files = []
    for n in range(8):
        Image.new("RGB", (128, 128), (30 * n, 80, 120)).save(tmp_path / f"{n}.png")
        files.append(tmp_path / f"{n}.png")
    page = Image.open(make_page(files, [f"场景{n}" for n in range(8)], tmp_path / "page.png", "标题"))
    assert 1500 <= page.width <= 1800
    assert page.height < page.width
    assert "由 AI 生成" in page.text["Comment"]
    colors = {color for _, color in page.convert("RGB").getcolors(page.width * page.height)}
    assert {(30 * n, 80, 120) for n in range(8)} <= colors
    with pytest.raises(DataError, match="7 captions"):
        make_page(files, ["场景"] * 7, tmp_path / "page.png")


def test_captions_wrap_within_the_width_and_never_begin_with_punctuation():
    face = font(24)
    text = "她闭上眼睛，十指相扣，对着流星许下了一个长长的愿望：总有一天，要站在最亮的舞台上 singing for everyone"
    for width in range(120, 400, 20):
        lines = wrap(text, face, width, 20)
        assert "".join(lines).replace(" ", "") == text.replace(" ", "")
        assert all(line[0] not in "，。：" for line in lines)
        assert all(face.getlength(line) <= width for line in lines)
    short = wrap(text, face, 200, 2)
    assert len(short) == 2
    assert short[1].endswith("…")
    assert face.getlength(short[1]) <= 200


def test_font_draws_every_character_of_both_stories():
    face = font(24)
    assert isinstance(face, ImageFont.FreeTypeFont)
    tofu = bytes(face.getmask("\uffff"))
    text = "".join(s.scene for name in ("idol.csv", "dream.csv") for s in read_story(story_file(None).with_name(name)))
    assert not [char for char in set(text) if bytes(face.getmask(char)) == tofu]
