"""The labs as a learner uses them: type, move, click, in a real JupyterLab in a headless Chromium."""

from __future__ import annotations

from browser import opened, run_all, save_and_reload, write_notebook
from PIL import Image

from kolors_lab.comfy.reader import read_workflow
from kolors_lab.comfy.settings import settings_of
from kolors_lab.sampling.metadata import read_settings

KEPT = ".jp-OutputArea-output img[src^='data:image/jpeg']"  # a picture of the notebook itself, no widget
WIDTH = f'[...document.querySelectorAll("{KEPT}")].at(-1).naturalWidth'
LIVE = ".jp-OutputArea-output .widget-image >> nth=0"  # the gallery lies below
CODE = "[...document.querySelectorAll('.widget-textarea textarea')].at(-1).value"


def test_prompt_lab(pipe_folder, tmp_path):
    notebook = write_notebook(
        tmp_path / "lab.ipynb",
        "from kolors_lab import PromptLab, get_preset, load_pipeline",
        f"pipe = load_pipeline(get_preset({str(pipe_folder)!r}))",
        f"PromptLab({str(pipe_folder)!r}, pipe, out='lab', steps=2, width=64, height=64)",
    )
    with opened(notebook, 1366, 768) as page:
        run_all(page)
        prompt = page.get_by_label("提示词 prompt", exact=True)
        prompt.fill("王子，(白马:1.3)")
        prompt.blur()
        steps = page.locator(".noUi-handle").first
        steps.press("ArrowRight")
        page.wait_for_function(f"{CODE}.includes('steps=3') && {CODE}.includes('王子，(白马:1.3)')")
        before = page.locator(LIVE).get_attribute("src")

        page.get_by_role("button", name="生成 Generate").click()
        page.locator(KEPT).last.wait_for()
        assert page.locator(LIVE).get_attribute("src") != before
        settings = read_settings(tmp_path / "lab/001.png")
        assert (settings["prompt"], settings["steps"]) == ("王子，(白马:1.3)", 3)

        width = page.evaluate(WIDTH)
        page.get_by_role("button", name="Same again").click()
        page.wait_for_function(f"{WIDTH} > {width}")
        fits_one_screen(page)
        page.screenshot(path=tmp_path / "lab.png")
        copies_its_code(page)
        saves_and_loads(page, tmp_path)

        steps.press("End")
        page.get_by_role("button", name="生成 Generate").click()
        page.get_by_text(" / 60").wait_for()
        page.get_by_role("button", name="停止 Stop").click()
        page.get_by_text("停下了 stopped").wait_for()
        assert not (tmp_path / "lab/003.png").exists()

        save_and_reload(page)
        page.locator(KEPT).last.wait_for()
        assert page.evaluate(WIDTH) == 2 * width
        page.screenshot(path=tmp_path / "reloaded.png")


def fits_one_screen(page):
    """From the first button to the gallery all can be seen at once, and nothing is cut off at the right."""
    lab = page.locator(".kolors-lab")
    top = page.get_by_role("button", name="生成 Generate").bounding_box()
    last = page.get_by_role("button", name="002", exact=True).bounding_box()
    assert last["y"] + last["height"] - top["y"] < page.locator(".jp-NotebookPanel").bounding_box()["height"]
    assert lab.evaluate("box => box.scrollWidth <= box.clientWidth + 1")


def copies_its_code(page):
    page.get_by_text("the same as code").click()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy code").click()
    page.get_by_role("button", name="Copied").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == page.evaluate(CODE) and copied.startswith("from kolors_lab import GenerateConfig")


def saves_and_loads(page, folder):
    """A workflow is saved; it and a PNG come back by the upload button, in the form."""
    page.get_by_role("button", name="Save workflow").click()
    page.get_by_text("已保存 saved").wait_for()
    assert settings_of(read_workflow(folder / "lab/002.json"))["seed"] == 1
    prompt = page.get_by_label("提示词 prompt", exact=True)
    for file in ("lab/001.png", "lab/002.json"):
        prompt.fill("夜空")
        with page.expect_file_chooser() as chooser:
            page.get_by_role("button", name="载入 Load").click()
        chooser.value.set_files(folder / file)
        page.get_by_text(f"已载入 loaded: {file[4:]}").wait_for()
        assert prompt.input_value() == "王子，(白马:1.3)"


def test_grid_lab(pipe_folder, tmp_path):
    notebook = write_notebook(
        tmp_path / "grid.ipynb",
        "from kolors_lab import GridLab, get_preset, load_pipeline",
        f"pipe = load_pipeline(get_preset({str(pipe_folder)!r}))",
        f"GridLab({str(pipe_folder)!r}, pipe, out='grid.png', steps=1, width=64, height=64)",
    )
    with opened(notebook) as page:
        run_all(page)
        page.get_by_label("横轴 x", exact=True).wait_for()
        page.locator("select").filter(has_text="配方 recipes").select_option("seeds")
        page.wait_for_function(f"{CODE}.includes(\"x='seed=0-7'\")")
        across = page.get_by_label("横轴 x", exact=True)
        across.fill("seed=0,1")
        across.blur()
        page.wait_for_function(f"{CODE}.includes(\"x='seed=0,1'\")")
        before = page.locator(LIVE).get_attribute("src")

        page.get_by_role("button", name="画 Draw").click()
        page.locator(KEPT).last.wait_for()
        assert page.locator(LIVE).get_attribute("src") != before
        assert page.evaluate(WIDTH) == Image.open(tmp_path / "grid.png").width
        assert len(list((tmp_path / "cells").iterdir())) == 2
        page.screenshot(path=tmp_path / "grid_lab.png")

        across.fill("seed=oops")
        across.blur()
        page.get_by_text("must be a whole number or a range").first.wait_for()
        save_and_reload(page)
        page.locator(KEPT).last.wait_for()
