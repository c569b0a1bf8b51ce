"""Stories: drawing panels that can be resumed and made again, and the page."""

from dataclasses import replace

import pytest
from helpers import in_browser, make_story, use_stand_ins
from PIL import Image, ImageFont

from kolors_lab.comic import panels as story
from kolors_lab.comic.page import make_html, make_page
from kolors_lab.comic.panels import StoryConfig, StoryScene, read_story, redraw, story_file, tell_story
from kolors_lab.core.errors import DataError, ModelError, SettingError
from kolors_lab.core.fonts import font, wrap
from kolors_lab.sampling.metadata import read_settings


def scenes(count):
    return [StoryScene(f"第{n}格", f"少女，{n}", "模糊", n) for n in range(count)]


def test_bundled_stories_have_eight_scenes_each():
    assert len(read_story(story_file(None))) == 8
    assert len(read_story(story_file(None).with_name("dream.csv"))) == 8


@pytest.fixture
def preset(monkeypatch, pipe_folder, tmp_path):
    return use_stand_ins(monkeypatch, pipe_folder, tmp_path / "stand-ins")


def test_panels_carry_their_settings_and_are_drawn_once(preset, pipe, tmp_path, monkeypatch):
    drawn, draw = [], story.generate_batch
    monkeypatch.setattr(story, "generate_batch", lambda *a, **k: drawn.append([s.seed for s in a[3]]) or draw(*a, **k))
    panels = tell_story(pipe, scenes(3), tmp_path, preset)
    assert [read_settings(p)["prompt"] for p in panels] == ["少女，0", "少女，1", "少女，2"]
    assert drawn == [[0, 1, 2]]
    panels[1].unlink()  # as after a closed session
    tell_story(pipe, scenes(3), tmp_path, preset)
    assert drawn == [[0, 1, 2], [1]]
    assert [read_settings(p)["batch"] for p in panels] == [3, 1, 3]
    tell_story(lambda: pytest.fail("nothing to draw, so nothing to load"), scenes(3), tmp_path, preset)


def test_panels_are_the_same_when_drawn_again_at_the_size_of_their_batch(preset, pipe, tmp_path):
    panels = tell_story(pipe, scenes(5), tmp_path, preset, together=3)
    settings = [read_settings(panel) for panel in panels]
    assert [one["batch"] for one in settings] == [3, 3, 3, 2, 2]
    for kept in ([0, 1, 2, 3, 4], [4, 1]):
        for n, image in zip(kept, redraw(pipe, [settings[n] for n in kept]), strict=True):
            assert image.tobytes() == Image.open(panels[n]).convert("RGB").tobytes()


def test_a_scenes_own_settings_reach_its_panel(preset, pipe, tmp_path):
    own = replace(scenes(2)[1], steps=1, width=64, height=128)
    steps = []
    panels = tell_story(pipe, [scenes(1)[0], own], tmp_path, preset, on_step=lambda *s: steps.append(s))
    assert [Image.open(panel).size for panel in panels] == [(128, 128), (64, 128)]
    assert [read_settings(panel)["steps"] for panel in panels] == [2, 1]
    assert steps == sorted(steps)
    assert steps[-1] == (2, 2)
    with pytest.raises(DataError, match=r"2\.png: 64 x 128 px, the first panel 128 x 128"):
        make_page(panels, ["一", "二"], tmp_path / "page.png")


def test_a_new_caption_costs_no_drawing(preset, pipe, tmp_path):
    (panel,) = tell_story(pipe, scenes(1), tmp_path, preset)
    before = Image.open(panel).tobytes()
    tell_story(lambda: pytest.fail("no drawing"), [replace(scenes(1)[0], scene="新标题")], tmp_path, preset)
    assert read_settings(panel)["scene"] == "新标题"
    assert Image.open(panel).tobytes() == before
    assert "trainedAlgorithmicMedia" in Image.open(panel).text["XML:com.adobe.xmp"]


def test_an_earlier_story_is_not_left_looking_current(preset, pipe, tmp_path):
    make_page(tell_story(pipe, scenes(4), tmp_path, preset), ["格"] * 4, tmp_path / "page.png")
    steps = []
    tell_story(
        pipe, [*scenes(1), StoryScene("新", "白马", "", 9)], tmp_path, preset, on_step=lambda *s: steps.append(s)
    )
    assert sorted(p.name for p in (tmp_path / "panels").iterdir()) == ["1.png", "2.png"]
    assert read_settings(tmp_path / "panels" / "2.png")["prompt"] == "白马"
    aside = [read_settings(p)["prompt"] for p in sorted((tmp_path / "earlier").iterdir())]
    assert aside == ["少女，1", "少女，2", "少女，3"]  # kept: drawing them may have taken an hour
    assert not (tmp_path / "page.png").exists()
    assert steps[-1] == (2, 2)


def test_the_users_own_picture_stays(preset, pipe, tmp_path):
    (tmp_path / "panels").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "panels" / "1.png")
    before = (tmp_path / "panels" / "1.png").read_bytes()
    with pytest.raises(DataError, match=r"1\.png"):
        tell_story(pipe, scenes(1), tmp_path, preset)
    assert (tmp_path / "panels" / "1.png").read_bytes() == before


@pytest.mark.parametrize("name", ["page.png", "page.html"])
def test_the_users_own_page_stays(preset, pipe, tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(DataError, match=name):
        tell_story(pipe, scenes(1), tmp_path, preset)
    assert (tmp_path / name).read_text() == "mine"


def test_a_bad_lora_costs_no_panel(preset, pipe, tmp_path):
    panels = tell_story(pipe, scenes(2), tmp_path / "out", preset)
    (tmp_path / "bad.safetensors").write_bytes(b"no LoRA")
    with pytest.raises(ModelError):
        tell_story(pipe, scenes(2), tmp_path / "out", preset, lora=tmp_path / "bad.safetensors")
    assert all(panel.exists() for panel in panels)


def test_story_writes_panels_and_page(preset, tmp_path):
    file = make_story(tmp_path / "my_story.csv", 2)
    page = story.story(StoryConfig(story=str(file), out=str(tmp_path / "out")))
    assert page == tmp_path / "out" / "page.png"
    assert Image.open(page).text["Title"] == "my story"
    assert (tmp_path / "out" / "panels" / "2.png").exists()
    assert "第2格" in (tmp_path / "out" / "page.html").read_text(encoding="utf-8")
    with pytest.raises(DataError, match="2 scenes, 8 are wanted; missing: 3, 4, 5, 6, 7, 8"):
        story.story(StoryConfig(story=str(file), count=8, out=str(tmp_path / "out")))
    assert page.exists()
    for wrong in ({"steps": 0}, {"layout": "round"}, {"together": 0}):
        with pytest.raises(SettingError, match=next(iter(wrong))):
            StoryConfig(**wrong)


@pytest.fixture
def panels(tmp_path):
    """Eight plain panels of 128 px, each of its own colour."""
    files = [tmp_path / f"{n}.png" for n in range(1, 9)]
    for n, file in enumerate(files):
        Image.new("RGB", (128, 128), (30 * n, 80, 120)).save(file)
    return files


CAPTIONS = [f"场景{n}" for n in range(1, 9)]


@pytest.mark.parametrize(("layout", "rows", "for_print"), [("grid", 2, False), ("grid", 2, True), ("strip", 8, False)])
def test_page_holds_every_panel_and_says_who_drew_it(panels, tmp_path, layout, rows, for_print):
    file = make_page(panels, CAPTIONS, tmp_path / "page.png", "标题", layout=layout, for_print=for_print)
    page = Image.open(file)
    colors = {color for _, color in page.convert("RGB").getcolors(page.width * page.height)}
    assert {(30 * n, 80, 120) for n in range(8)} <= colors
    assert (page.height > 2 * page.width) == (rows == 8)
    assert "由 AI 生成" in page.text["Comment"]
    assert "trainedAlgorithmicMedia" in page.text["XML:com.adobe.xmp"]
    if for_print:
        assert abs(page.width - 3508) < 4  # A4
        assert round(page.info["dpi"][0]) == 300


def test_captions_that_do_not_match_and_characters_without_a_glyph(panels, tmp_path):
    with pytest.raises(DataError, match="8 panels and 7 captions"):
        make_page(panels, CAPTIONS[1:], tmp_path / "page.png")
    with pytest.raises(DataError, match="no 𠮷"):
        make_page(panels, ["𠮷", *CAPTIONS[1:]], tmp_path / "page.png")
    with pytest.raises(DataError, match="no 𠮷"):  # before anything is loaded or drawn
        tell_story(pytest.fail, [StoryScene("𠮷", "少女")], tmp_path / "out", story.get_preset("tiny"))
    page = make_page(panels, ["🌸上课 ✨", *CAPTIONS[1:]], tmp_path / "page.png")
    assert Image.open(page).text["Description"].startswith("上课 / 场景2")


@pytest.mark.parametrize("layout", ["grid", "strip"])
def test_html_page_is_whole_in_a_browser(panels, tmp_path, layout):
    page = make_html(panels, ["第一格：她<笑>了", *CAPTIONS[1:]], tmp_path / "page.html", "标题", layout=layout)
    text = page.read_text(encoding="utf-8")
    assert "http" not in text  # nothing is fetched
    for words in ("标题", "她&lt;笑&gt;了", "由 AI 生成"):
        assert words in text
    assert in_browser(page, tmp_path, 400) == {"images": 8, "broken": 0, "overflow": 0}


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
    assert wrap("control_strength 0.3", face, face.getlength("control_strengt"), 3) == ["control_", "strength 0.3"]


def test_font_draws_every_character_of_both_stories():
    face = font(24)
    assert isinstance(face, ImageFont.FreeTypeFont)
    tofu = bytes(face.getmask("\uffff"))
    text = "".join(s.scene for name in ("idol.csv", "dream.csv") for s in read_story(story_file(None).with_name(name)))
    assert not [char for char in set(text) if bytes(face.getmask(char)) == tofu]
