"""Run the notebooks on a preset that is not tiny: Kolors' layout at 256 px, random weights, batches of one, four steps,
no classifier, and a raw set of which nine tenths are too small. What is tied to tiny breaks here, in minutes.

    python benchmarks/portable.py                       # `make test-portable`: all of them
    python benchmarks/portable.py notebooks/06*.ipynb

Figures and pictures mean nothing here; that every cell runs is what counts. Exit code 1 where one does not.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
from pathlib import Path

import kolors_folder
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).parents[1]
kolors_folder.SHAPES["middle"] = {"text_encoder": {}, "unet": {"sample_size": 32}, "vae": {"sample_size": 256}}
MIN_SIZE = 160  # px: 26 of the 196 pictures of the raw set that open, before anything else is looked at
DIAL = """
from dataclasses import replace

from kolors_lab.models import presets

PRESET = "middle"
presets.PRESETS[PRESET] = lambda: replace(
    presets.get_preset({folder!r}), name=PRESET, min_size={min_size}, classifier=None, target_modules=presets.ATTENTION,
    steps=4, train_steps=24, batch_size=1, learning_rate=1e-4,
)
"""


def run(file: Path, folder: Path) -> str:
    """Run one notebook with its dial turned; "" or, where a cell fails, its number and the last line of the error."""
    notebook = nbformat.read(file, as_version=4)
    dial = next(cell for cell in notebook.cells if cell.cell_type == "code")
    dial.source = DIAL.format(folder=str(folder), min_size=MIN_SIZE)
    with tempfile.TemporaryDirectory() as place:
        try:
            NotebookClient(notebook, timeout=1200, extra_arguments=["--log-level=ERROR"]).execute(cwd=place)
        except CellExecutionError as error:
            number = next(n for n, c in enumerate(notebook.cells) if any(o.output_type == "error" for o in outputs(c)))
            return f"cell {number}: {re.sub(chr(27) + r'[^m]*m', '', str(error)).strip().splitlines()[-1]}"
    return ""


def outputs(cell: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return cell.get("outputs", [])


def main(files: list[Path]) -> int:
    broken = 0
    with tempfile.TemporaryDirectory() as place:
        folder = kolors_folder.make_folder(Path(place, "middle"), "middle")
        for file in files:
            start = time.monotonic()
            fault = run(file, folder)
            broken += bool(fault)
            print(f"{file.name}: {fault or 'every cell runs'} ({time.monotonic() - start:.0f} s)", flush=True)
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main([Path(name) for name in sys.argv[1:]] or sorted(ROOT.glob("notebooks/*.ipynb"))))
