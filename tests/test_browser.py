"""The labs as a learner uses them: type, move, click, in a real JupyterLab in a headless Chromium."""

from __future__ import annotations

from browser import opened, run_all, save_and_reload, write_notebook

from kolors_lab.generate import read_settings

KEPT = ".jp-OutputArea-output img[src^='data:image/jpeg']"  # a picture of the notebook itself, no widget
LIVE = ".jp-OutputArea-output .widget-image"
WIDTH = f'document.querySelector("{KEPT}").naturalWidth'


def test_prompt_lab(pipe_folder, tmp_path):
    lab = f"PromptLab({str(pipe_folder)!r}, out='lab', steps=2, width=64, height=64)"
    notebook = write_notebook(tmp_path / "lab.ipynb", "from kolors_lab.lab import PromptLab", lab)
    with opened(notebook) as page:
        run_all(page)
        code = page.locator(".widget-textarea", has_text="code:").locator("textarea")
        prompt = page.get_by_label("提示词 prompt", exact=True)
        prompt.fill("王子，(白马:1.3)")
        prompt.blur()
        page.locator(".noUi-handle").first.press("ArrowRight")
        page.wait_for_function(f"{VALUE_OF_CODE}.includes('steps=3')")
        assert "王子，(白马:1.3)" in code.input_value()
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

        page.locator(".noUi-handle").first.press("End")
        page.get_by_role("button", name="生成 Generate").click()
        page.get_by_text(" / 60").wait_for()
        page.get_by_role("button", name="停止 Stop").click()
        page.get_by_text("停下了 stopped").wait_for()

        save_and_reload(page)
        page.locator(KEPT).wait_for()
        assert page.evaluate(WIDTH) == 2 * width
        page.screenshot(path=tmp_path / "reloaded.png")


VALUE_OF_CODE = "[...document.querySelectorAll('.widget-textarea')].at(-1).querySelector('textarea').value"
