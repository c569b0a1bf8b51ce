"""Run notebooks from a fresh kernel in an empty folder and store their outputs, without what this machine would leave.

.venv/bin/python .ci/store_notebooks.py                    # `make notebooks`: all of them
.venv/bin/python .ci/store_notebooks.py notebooks/00*.ipynb
"""

import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbval.plugin import coalesce_streams

METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def store(file: Path) -> None:
    """Execute one notebook; it is written only if every cell ran."""
    notebook, start = nbformat.read(file, as_version=4), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:  # nothing of an earlier run can help
        client = NotebookClient(notebook, timeout=1200, record_timing=False, extra_arguments=["--log-level=ERROR"])
        client.execute(cwd=folder)
    for cell in notebook.cells:
        cell.metadata = {"tags": cell.metadata.tags} if cell.metadata.get("tags") else {}
        if cell.cell_type == "code":
            cell.outputs = coalesce_streams(cell.outputs)
    notebook.metadata = nbformat.from_dict(METADATA)
    nbformat.write(notebook, file)
    print(f"{file.name}: {time.monotonic() - start:.0f} s, {file.stat().st_size / 1024:.0f} kB", flush=True)


if __name__ == "__main__":
    chosen = [Path(name) for name in sys.argv[1:]]
    for file in chosen or sorted(Path(__file__).parents[1].glob("notebooks/*.ipynb")):
        store(file)
