"""Copies of the course in one language: notebooks have cells tagged `zh` and `en`, pages a section for each language.

kolors-lab course --lang zh my-course
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from kolors_course.chinese import code_in_chinese
from kolors_lab.core.errors import DataError, SettingError
from kolors_lab.core.files import replacing

LANGUAGES = ("zh", "en")
SECTION = re.compile(r'^<a id="(zh|en)"></a>\n+## .*\n', re.MULTILINE)  # where a page's half begins


@dataclass(frozen=True)
class CourseConfig:
    """Copy the course's notebooks with their text in one language, outputs included."""

    folder: str
    """folder to write; notebooks that are there already stay"""
    lang: str = "zh"
    """language to keep: "zh" or "en"; in "zh" what code prints and its comments are Chinese as well"""

    def __post_init__(self):
        if self.lang not in LANGUAGES:
            raise SettingError(f"lang = {self.lang!r}: must be one of {', '.join(LANGUAGES)}")


def notebooks_dir() -> Path:
    """The notebooks and pages: those that an installed package carries, else those of this checkout."""
    inside = Path(__file__).resolve().parent / "notebooks"
    return inside if inside.is_dir() else inside.parents[1]


def course(config: CourseConfig) -> Path:
    """Write every notebook and page to `config.folder`, which git then ignores; return it.

    DataError where one of them is in the way.
    """
    out, files = Path(config.folder), sorted(f for f in notebooks_dir().iterdir() if f.suffix in (".ipynb", ".md"))
    for file in files:
        if (out / file.name).exists():
            raise DataError(f"{out / file.name} is there already, so it stays; choose a new folder")
    for file in files:
        text = file.read_text(encoding="utf-8")
        text = one_page(text, config.lang) if file.suffix == ".md" else one_language(text, config.lang, file.stem)
        with replacing(out / file.name) as part:
            part.write_text(text, encoding="utf-8")
    with replacing(out / ".gitignore") as part:
        part.write_text("*\n", encoding="utf-8")
    return out


def one_language(notebook: str, lang: str, stem: str) -> str:
    """The notebook of that name (JSON text) without cells of the other language; in "zh" its code is Chinese, too."""
    content = json.loads(notebook)
    other = set(LANGUAGES) - {lang}
    content["cells"] = [cell for cell in content["cells"] if not other & set(cell["metadata"].get("tags", ()))]
    if lang == "zh":
        code_in_chinese([cell for cell in content["cells"] if cell["cell_type"] == "code"], stem)
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


def one_page(page: str, lang: str) -> str:
    """A Markdown page in one language: its section of that language, or of the glossary's table the meanings."""
    title, rest = page.split("\n", 1)
    title = "# " + _half(title.removeprefix("# "), lang)
    _head, *sections = SECTION.split(rest)
    if not sections:
        rows = [line for line in rest.splitlines() if line.startswith("|")]
        about = [line for line in rest.splitlines() if line not in rows and _is(line, lang)]
        return "\n".join([title, *about, *glossary(rows, lang)]) + "\n"
    text = dict(zip(sections[::2], sections[1::2], strict=True))[lang]
    text = re.sub(r"^#(#+ )", r"\1", text.strip(), flags=re.MULTILINE)  # its headings stand right below the title
    return f"{title}\n\n{text}\n"


def glossary(rows: list[str], lang: str) -> list[str]:
    """The glossary's table with what the words mean in one language; in "zh" the Chinese words come first, by pinyin.

    GB 2312 numbers the common characters by their pinyin.
    """
    head, line, *words = [[cell.strip() for cell in row.strip().strip("|").split("|")] for row in rows]
    table = [[english, chinese, _half(meaning, lang)] for english, chinese, meaning in (head, *words)]
    if lang == "zh":
        table = [[chinese, english, meaning] for english, chinese, meaning in table]
        table[1:] = sorted(table[1:], key=lambda cells: cells[0].lower().encode("gb18030"))
    return [f"| {' | '.join(cells)} |" for cells in (table[0], line, *table[1:])]


def _half(text: str, lang: str) -> str:
    """Of "词汇表 · Glossary", in either order, the half in that language."""
    halves = sorted(text.split(" · "), key=_chinese)
    return halves[-1] if lang == "zh" else halves[0]


def _is(line: str, lang: str) -> bool:
    return not line.strip() or (_chinese(line) > 0.3) == (lang == "zh")


def _chinese(text: str) -> float:
    """Which share of a text's letters is Chinese, 0 to 1."""
    letters = [char for char in text if char.isalpha()]
    return sum(char > "\u3000" for char in letters) / max(1, len(letters))
