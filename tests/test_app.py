"""The page for a friend: what its buttons do, and the page itself in a headless Chromium."""

from __future__ import annotations

import numpy as np
import pytest
from browser import PATIENCE, chromium
from helpers import make_lora
from PIL import Image

from kolors_lab.core.errors import DataError, SettingError
from kolors_lab.core.fields import label
from kolors_lab.lora.writing import write_lora
from kolors_lab.sampling.metadata import read_settings
from kolors_lab.sampling.pipeline import generate
from kolors_lab.serve.app import FILES, ROWS, AppConfig, Desk, app, run_app

VALUES = {
    "prompt": "白马", "negative_prompt": "夜空", "lora": "", "lora_strength": 1.0, "seed": 3, "steps": 2, "cfg": 4.0,
    "sampler_name": "euler", "scheduler": "karras", "width": 64, "height": 64,
}  # fmt: skip


@pytest.fixture
def config(pipe_folder, loaded, tmp_path):
    (tmp_path / "loras").mkdir()
    write_lora(make_lora(loaded.unet, ("to_q", "to_v"), 8), tmp_path / "loras/pastel.safetensors")
    return AppConfig(preset=str(pipe_folder), loras=str(tmp_path / "loras"))


def same(one, other):
    return np.array_equal(np.asarray(one.convert("RGB")), np.asarray(other.convert("RGB")))


def test_draw_makes_the_picture_of_the_form(config, loaded):
    assert set(VALUES) == {name for row in ROWS for name in row}
    desk, steps = Desk(config, loaded), []
    plain = desk.draw(VALUES, lambda step, total: steps.append((step, total)))
    sampled = {name: VALUES[name] for name in ("seed", "steps", "cfg", "sampler_name", "scheduler", "width", "height")}
    assert same(Image.open(plain), generate(loaded, "白马", "夜空", **sampled))
    assert steps == [(1, 2), (2, 2)] and read_settings(plain)["seed"] == 3
    worn = desk.draw(VALUES | {"lora": "pastel"}, lambda *_: None)
    assert not same(Image.open(plain), Image.open(worn)) and "pastel" in read_settings(worn)["lora"]


def test_only_the_last_drawings_files_are_kept(config, loaded):
    desk = Desk(config, loaded)
    first = desk.folder()
    for _ in range(desk.kept.maxlen):
        assert first.is_dir()
        desk.folder()
    assert not first.exists()


def test_a_story_is_told_from_the_table(config, loaded):
    desk = Desk(config, loaded)
    rows = [["第一格", "白马", "", 1], ["", None, "", ""], ["第二格", "王子", "夜空", 2]]
    page, panels = desk.story(rows, "故事", "", 1.0, lambda *_: None)
    assert Image.open(page).width > 128
    assert [read_settings(panel)["scene"] for panel in panels] == ["第一格", "第二格"]
    with pytest.raises(DataError, match="prompt"):
        desk.story([["第一格", "", "", 1]], "", "", 1.0, lambda *_: None)


def test_a_studio_is_two_files(tmp_path, capsys):
    assert run_app(AppConfig(write=str(tmp_path / "studio"))) == str(tmp_path / "studio")
    assert {file.name: file.read_text() for file in (tmp_path / "studio").iterdir()} == FILES
    compile(FILES["app.py"], "app.py", "exec")
    run_app(AppConfig(write=str(tmp_path / "studio")))  # the same again changes nothing
    (tmp_path / "studio/app.py").write_text("mine")
    with pytest.raises(DataError, match="stays"):
        run_app(AppConfig(write=str(tmp_path / "studio")))
    assert (tmp_path / "studio/app.py").read_text() == "mine"


def test_others_need_a_key():
    with pytest.raises(SettingError, match="--key"):
        AppConfig(host="0.0.0.0")
    with pytest.raises(SettingError, match="12"):
        AppConfig(host="0.0.0.0", key="short")


def test_the_page_in_a_browser(config, loaded, tmp_path):
    browser = chromium()
    pytest.importorskip("gradio")
    from playwright.sync_api import sync_playwright

    page = app(config, loaded)
    _, address, _ = page.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1")
    try:
        with sync_playwright() as play:
            chrome = play.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
            view = chrome.new_page(viewport={"width": 1280, "height": 1400})
            view.set_default_timeout(PATIENCE)
            view.goto(address)
            draws(view, tmp_path)
            reads(view, tmp_path)
            tells(view, tmp_path)
            chrome.close()
    finally:
        page.close()


def field(view, name):
    return view.get_by_label(label(name)).locator("visible=true").first


def put(view, name, value):
    from playwright.sync_api import expect

    place = field(view, name)
    expect(place).not_to_have_value("", timeout=PATIENCE)  # the page sets its own value while it builds itself
    place.fill(value)
    place.blur()
    expect(place).to_have_value(value, timeout=PATIENCE)


def draws(view, folder):
    for name, value in {"prompt": "白马，王子", "seed": "7", "steps": "2", "width": "64", "height": "64"}.items():
        put(view, name, value)
    view.screenshot(path=folder / "form.png", full_page=True)
    put(view, "width", "65")
    view.get_by_role("button", name="生成 Generate").click()
    view.get_by_text("must be a multiple of 8").first.wait_for()
    put(view, "width", "64")
    view.get_by_role("button", name="生成 Generate").click()
    image = view.locator("img[src*='picture.png']").first
    image.wait_for()
    view.screenshot(path=folder / "drawn.png", full_page=True)
    (folder / "saved.png").write_bytes(view.request.get(image.get_attribute("src")).body())
    settings = read_settings(folder / "saved.png")
    assert (settings["prompt"], settings["seed"], settings["width"]) == ("白马，王子", 7, 64)


def reads(view, folder):
    put(view, "seed", "1")
    view.get_by_role("tab", name="读图 Read a picture").click()
    view.locator("input[type=file]").first.set_input_files(folder / "saved.png")
    view.locator("a[download='saved.png']").wait_for()  # it lies there; the bar that names it before is gone at once
    view.get_by_role("button", name="读取").click()
    view.wait_for_function("[...document.querySelectorAll('textarea')].some(area => area.value.includes('Seed: 7'))")
    view.screenshot(path=folder / "read.png", full_page=True)
    view.get_by_role("tab", name="画一张 Draw").click()
    assert field(view, "seed").input_value() == "7"


def tells(view, folder):
    view.get_by_role("tab", name="讲故事 Tell a story").click()
    view.get_by_text("旁白 scene").first.wait_for()
    view.screenshot(path=folder / "story.png", full_page=True)
    view.get_by_role("button", name="讲故事 Tell it").click()
    view.locator("img[src*='page.png']").first.wait_for()
    view.locator("img[src*='8.png']").first.wait_for()
    view.screenshot(path=folder / "told.png", full_page=True)
