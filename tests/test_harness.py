"""The harness that compares notebooks: it catches a changed promise, and only that."""

import base64
import io
import os
import subprocess
import sys
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_notebook, new_output
from PIL import Image

ROOT = Path(__file__).parents[1]


def cell(source: str, shown: str, *tags: str):
    """A code cell that was run and showed `shown`."""
    result = new_output("execute_result", {"text/plain": shown}, execution_count=1)
    return new_code_cell(source, outputs=[result], execution_count=1, metadata={"tags": list(tags)})


def drawing(stored: tuple[int, int, int], drawn: tuple[int, int, int]):
    """A cell that shows eight squares in a row, and had shown the last of them in the colour `stored`."""
    source = f"""from PIL import Image
page = Image.new("RGB", (256, 32), (200, 180, 160))
page.paste({drawn}, (224, 0, 256, 32))
page"""
    page = Image.new("RGB", (256, 32), (200, 180, 160))
    page.paste(stored, (224, 0, 256, 32))
    page.save(file := io.BytesIO(), "PNG")
    shown = {
        "text/plain": "<PIL.Image.Image image mode=RGB size=256x32>",
        "image/png": base64.b64encode(file.getvalue()).decode(),
    }
    result = new_output("execute_result", shown, execution_count=1)
    return new_code_cell(source, outputs=[result], execution_count=1)


def verdicts(folder: Path, cells: list) -> dict[int, str]:
    """What nbval says of each cell, as `make test-notebooks` runs it."""
    nbformat.write(new_notebook(cells=cells), folder / "promises.ipynb")
    nbval = ["--nbval", "--nbval-current-env", "--nbval-sanitize-with", str(ROOT / "tests/nbval_sanitize.cfg")]
    nbval += ["-p", "tests.nbval_pictures"]
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "--color=no", "-p", "no:cacheprovider", *nbval]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    said = subprocess.run([*command, str(folder)], capture_output=True, encoding="utf-8", cwd=folder, env=env)
    lines = [line for line in said.stdout.splitlines() if "::Cell" in line]
    return {int(line.split("Cell ")[1].split()[0]): line.split()[0] for line in lines}


def test_a_changed_promise_is_caught_and_nothing_else(tmp_path):
    cells = [
        cell("1 + 1", "2"),
        cell("1 + 2", "4"),
        cell("1 + 3", "5", "nbval-ignore-output"),
        cell("object()", "<object at 0x7f0123456789>"),
        cell("import sys; sys.stderr.write('a warning'); 1", "1"),
    ]
    assert verdicts(tmp_path, cells) == {0: "PASSED", 1: "FAILED", 2: "PASSED", 3: "PASSED", 4: "FAILED"}


def test_a_swapped_picture_is_caught_and_a_slightly_moved_one_is_not(tmp_path):
    cells = [
        drawing((90, 60, 120), (90, 60, 120)),
        drawing((90, 60, 120), (96, 66, 126)),
        drawing((90, 60, 120), (220, 90, 40)),
    ]
    assert verdicts(tmp_path, cells) == {0: "PASSED", 1: "PASSED", 2: "FAILED"}
