"""PromptLab as a learner uses it: type, move, click, in a real JupyterLab in a headless Chromium."""

from __future__ import annotations

from browser import opened, run_all, save_and_reload, write_notebook

from kolors_lab.generate import read_settings

KEPT = ".jp-OutputArea-output img[src^='data:image/jpeg']"  # a picture of the notebook itself, no widget
WIDTH = f'document.querySelector("{KEPT}").naturalWidth'
LIVE = ".jp-OutputArea-output .widget-image"
CODE = "[...document.querySelectorAll('.widget-textarea textarea')].at(-1).value"


def test_prompt_lab(pipe_folder, tmp_path):
    notebook = write_notebook(
        tmp_path / "lab.ipynb",
        "from kolors_lab.lab import PromptLab\nfrom kolors_lab.models import get_preset, load_pipeline",
        f"pipe = load_pipeline(get_preset({str(pipe_folder)!r}))",
        f"PromptLab({str(pipe_folder)!r}, pipe, out='lab', steps=2, width=64, height=64)",
    )
    with opened(notebook) as page:
        run_all(page)
        prompt = page.get_by_label("提示词 prompt", exact=True)
        prompt.fill("王子，(白马:1.3)")
        prompt.blur()
        steps = page.locator(".noUi-handle").first
        steps.press("ArrowRight")
        page.wait_for_function(f"{CODE}.includes('steps=3') && {CODE}.includes('王子，(白马:1.3)')")
        before = page.locator(LIVE).get_attribute("src")

        page.get_by_role("button", name="生成 Generate").click()
        page.locator(KEPT).wait_for()
        assert page.locator(LIVE).get_attribute("src") != before
        settings = read_settings(tmp_path / "lab/001.png")
        assert (settings["prompt"], settings["steps"]) == ("王子，(白马:1.3)", 3)

        width = page.evaluate(WIDTH)
        page.get_by_role("button", name="Same again").click()
        page.wait_for_function(f"{WIDTH} > {width}")
        page.screenshot(path=tmp_path / "lab.png")

        steps.press("End")
        page.get_by_role("button", name="生成 Generate").click()
        page.get_by_text(" / 60").wait_for()
        page.get_by_role("button", name="停止 Stop").click()
        page.get_by_text("停下了 stopped").wait_for()
        assert not (tmp_path / "lab/003.png").exists()

        save_and_reload(page)
        page.locator(KEPT).wait_for()
        assert page.evaluate(WIDTH) == 2 * width
        page.screenshot(path=tmp_path / "reloaded.png")
