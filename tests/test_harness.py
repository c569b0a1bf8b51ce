"""The harness that compares notebooks: it catches a changed promise, and only that."""

import subprocess
import sys
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_notebook, new_output

ROOT = Path(__file__).parents[1]


def cell(source: str, shown: str, *tags: str):
    """A code cell that was run and showed `shown`."""
    result = new_output("execute_result", {"text/plain": shown}, execution_count=1)
    return new_code_cell(source, outputs=[result], execution_count=1, metadata={"tags": list(tags)})


def test_a_changed_promise_is_caught_and_nothing_else(tmp_path):
    cells = [
        cell("1 + 1", "2"),
        cell("1 + 2", "4"),
        cell("1 + 3", "5", "nbval-ignore-output"),
        cell("object()", "<object at 0x7f0123456789>"),
        cell("import sys; sys.stderr.write('a warning'); 1", "1"),
    ]
    nbformat.write(new_notebook(cells=cells), tmp_path / "promises.ipynb")
    nbval = ["--nbval", "--nbval-current-env", "--nbval-sanitize-with", str(ROOT / "tests/nbval_sanitize.cfg")]
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "--color=no", "-p", "no:cacheprovider", *nbval]
    said = subprocess.run([*command, str(tmp_path)], capture_output=True, encoding="utf-8", cwd=tmp_path, check=False)
    verdicts = {
        int(line.split("Cell ")[1].split()[0]): line.split()[0] for line in said.stdout.splitlines() if "::Cell" in line
    }
    assert verdicts == {0: "PASSED", 1: "FAILED", 2: "PASSED", 3: "PASSED", 4: "FAILED"}, said.stdout
