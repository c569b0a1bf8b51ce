"""Copies of the course's notebooks in one language: their text lies in cells tagged `zh` and `en`, one source for both.

kolors-lab course --lang zh my-course
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from kolors_lab.core.errors import DataError, SettingError
from kolors_lab.core.files import replacing

LANGUAGES = ("zh", "en")


@dataclass(frozen=True)
class CourseConfig:
    """Copy the course's notebooks with their text in one language, outputs included."""

    folder: str
    """folder to write; notebooks that are there already stay"""
    lang: str = "zh"
    """language to keep: "zh" or "en"; code is the same in both"""

    def __post_init__(self):
        if self.lang not in LANGUAGES:
            raise SettingError(f"lang = {self.lang!r}: must be one of {', '.join(LANGUAGES)}")


def notebooks_dir() -> Path:
    """The notebooks of this checkout. DataError in an installed wheel, which does not carry them."""
    folder = Path(__file__).resolve().parents[1]
    if not any(folder.glob("*.ipynb")):
        raise DataError(f"{folder}: no notebooks here; they come with a checkout, not with the installed package")
    return folder


def course(config: CourseConfig) -> Path:
    """Write every notebook, and the glossary, to `config.folder`; return it. DataError where one is in the way."""
    out, files = Path(config.folder), sorted(f for f in notebooks_dir().iterdir() if f.suffix in (".ipynb", ".md"))
    for file in files:
        if (out / file.name).exists():
            raise DataError(f"{out / file.name} is there already, so it stays; choose a new folder")
    for file in files:
        text = file.read_text(encoding="utf-8")
        with replacing(out / file.name) as part:
            part.write_text(one_language(text, config.lang) if file.suffix == ".ipynb" else text, encoding="utf-8")
    return out


def one_language(notebook: str, lang: str) -> str:
    """The notebook (JSON text) without the cells of the other language."""
    content = json.loads(notebook)
    other = set(LANGUAGES) - {lang}
    content["cells"] = [cell for cell in content["cells"] if not other & set(cell["metadata"].get("tags", ()))]
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"
