"""A notebook in a real JupyterLab in a headless Chromium, for tests of what a learner clicks.

with opened(write_notebook(folder / "lab.ipynb", "PromptLab('tiny')")) as page:
    run_all(page)
    page.get_by_label("提示词 prompt").fill("白马")
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

if TYPE_CHECKING:
    from playwright.sync_api import Page

NAMES = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 300_000  # ms; a machine with other work to do is slow to start a kernel


def chromium() -> str:
    """The system's Chromium; skips the test, with one line, where it or playwright is missing."""
    if not importlib.util.find_spec("playwright"):
        pytest.skip("playwright is not installed")
    browser = next((found for name in NAMES if (found := shutil.which(name))), None)
    if not browser:
        pytest.skip("no Chromium on this machine")
    return browser


def write_notebook(file: Path, *cells: str) -> Path:
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}  # without one JupyterLab asks which
    nbformat.write(new_notebook(cells=[new_code_cell(cell) for cell in cells], metadata=kernel), file)
    return file


@contextmanager
def opened(notebook: Path, width: int = 1280, height: int = 1000) -> Iterator[Page]:
    """The notebook open in JupyterLab, its kernel ready. The server and all it keeps live in the notebook's folder."""
    browser = chromium()
    from playwright.sync_api import sync_playwright

    with serving(notebook.parent) as address, sync_playwright() as play:
        chrome = play.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        page = chrome.new_page(viewport={"width": width, "height": height})
        page.set_default_timeout(PATIENCE)
        page.goto(f"{address}/lab/tree/{notebook.name}?reset")
        ready(page)
        yield page
        chrome.close()


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """A JupyterLab server for `folder` without password; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {f"JUPYTER_{name}_DIR": str(folder / ".jupyter" / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    package = str(Path(__file__).parents[1])
    environment = os.environ | own | {"IPYTHONDIR": str(folder / ".ipython"), "PYTHONPATH": package}
    settings = folder / ".jupyter" / "settings"
    settings.mkdir(parents=True)
    (settings / "overrides.json").write_text('{"@jupyterlab/apputils-extension:notification": {"fetchNews": "false"}}')
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--expose-app-in-browser", f"--port={port}",
        "--ServerApp.port_retries=0", "--IdentityProvider.token=", f"--ServerApp.root_dir={folder}",
        f"--LabApp.app_settings_dir={settings}", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]  # fmt: skip
    server = subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        said = []
        for line in server.stderr:
            said.append(line)
            if "is running at" in line:
                break
        else:
            raise RuntimeError(f"JupyterLab did not start: {''.join(said[-5:])}")
        threading.Thread(target=server.stderr.read, daemon=True).start()  # a full pipe would hold the server up
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(PATIENCE / 1000)


def ready(page: Page) -> None:
    """Returns when the notebook stands there and its kernel answers; a cell run before asks which kernel to take."""
    page.locator(".jp-Notebook").wait_for()
    page.evaluate(
        """async () => {
            const context = window.jupyterapp.shell.currentWidget.sessionContext
            await context.ready
            await context.session.kernel.info
        }"""
    )


def run_all(page: Page) -> None:
    """Run every cell; returns when the last one is done."""
    page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")


def save_and_reload(page: Page) -> None:
    page.evaluate("window.jupyterapp.commands.execute('docmanager:save')")
    page.reload()
    ready(page)
