"""The code of a Chinese copy: what it prints and writes on figures, and its comments, by the table chinese.txt.

Names in pictures, settings and files stay English, for the library and other programs know them.
"""

from __future__ import annotations

import ast
import os
import re
import unicodedata
from functools import partial
from itertools import chain
from pathlib import Path

from kolors_lab.core.figures import chinese_letters
from kolors_lab.core.language import VARIABLE

TABLE = Path(__file__).with_name("chinese.txt")
EXERCISE = "exercise"  # the tag of cells with a check
SETUP = "setup"  # the section for the cell of that tag, the same in every notebook
BEGIN = "from kolors_course.chinese import speak; speak()  # 库说中文，图上也写得出中文"
Text = str | tuple[str, ...]  # of one with values in it, what stands before, between and after them
WORD = re.compile("[A-Za-z]{2}")
FIELD = re.compile(r"\{[^{}]*\}")  # of str.format
WIDTH = re.compile(r"^(.?[<>^])?\d*")  # of a format, with what fills it up


def speak() -> None:
    """What a Chinese copy begins with: figures can show Chinese, and the library speaks it unless told otherwise."""
    os.environ.setdefault(VARIABLE, "zh")
    chinese_letters()


def table() -> dict[str, dict[str, str]]:
    """For each notebook, by the stem of its name, the lines of code that its Chinese copy has another for."""
    sections: dict[str, dict[str, str]] = {}
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            lines = sections.setdefault(line.strip("[]"), {})
        elif line.startswith("- "):
            given = line[2:]
        elif line.startswith("+ "):
            lines[given] = line[2:]
    return sections


def code_in_chinese(cells: list[dict], stem: str) -> None:
    """Put code cells of a notebook into Chinese, and likewise the printed text that is stored with them.

    Pictures stay as stored, and so do the library's own messages: these are Chinese once the cell is run.
    """
    sections = table()
    common, own = sections[SETUP], sections.get(stem, {})
    known: dict[str, dict[Text, Text]] = {}  # what comes of a cell's texts, by the names that the cell gives
    for cell in cells:
        before = "".join(cell["source"])
        if SETUP in cell["metadata"].get("tags", ()):
            cell["source"] = _lines(f"{translated(before, common)}\n{BEGIN}")
            continue
        after = translated(before, own)
        cell["source"] = _lines(after)
        pairs = zip(parts(before)[1], parts(after)[1], strict=True)
        texts = {text: other for text, other in pairs if text != other}
        for name in _given(before):
            known.setdefault(name, {}).update(texts)
        if EXERCISE not in cell["metadata"].get("tags", ()):  # which prints the library's words
            for name in _used(before):
                texts = known.get(name, {}) | texts
            _tell(cell["outputs"], texts)


def _given(code: str) -> set[str]:
    """Names of a cell's functions, of variables that it sets, and of those of which it sets a key."""
    body = ast.parse(code).body
    targets = [target for node in body if isinstance(node, ast.Assign) for target in node.targets]
    names = {getattr(getattr(target, "value", target), "id", "") for target in targets}
    return names | {node.name for node in body if isinstance(node, ast.FunctionDef)}


def _used(code: str) -> list[str]:
    return [node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)]


def _tell(outputs: list[dict], texts: dict[Text, Text]) -> None:
    for output in outputs:
        holder, key = (output, "text") if "text" in output else (output.get("data", {}), "text/plain")
        if key in holder:
            holder[key] = _lines(_told("".join(holder[key]), texts))


def translated(code: str, lines: dict[str, str]) -> str:
    """Code with those lines (without indentation) exchanged."""
    return "\n".join(
        line[: len(line) - len(line.lstrip())] + lines.get(line.strip(), line.strip()) for line in code.split("\n")
    )


def parts(code: str) -> tuple[str, list[Text]]:
    """What code does, with its texts and the widths of its formats left blank; and the texts, in order."""
    blank = _Blank()
    return ast.dump(blank.visit(ast.parse(code))), blank.texts


class _Blank(ast.NodeTransformer):
    def __init__(self):
        self.texts: list[Text] = []

    def visit_Constant(self, node):
        if isinstance(node.value, str):
            self.texts.append(tuple(FIELD.split(node.value)) if FIELD.search(node.value) else node.value)
            node.value = ""
        return node

    def visit_JoinedStr(self, node):
        held, between = [], [""]
        for part in node.values:
            if isinstance(part, ast.Constant):
                between[-1] += part.value
            else:
                held.append(self.visit(part))
                between.append("")
        self.texts.append(tuple(between))
        node.values = held
        return node

    def visit_FormattedValue(self, node):
        self.visit(node.value)
        for part in getattr(node.format_spec, "values", ()):
            if isinstance(part, ast.Constant):
                part.value = WIDTH.sub("", part.value)
        return node


def _told(text: str, others: dict[Text, Text]) -> str:
    """Printed text with those texts exchanged, columns kept."""
    for between, other in others.items():
        if isinstance(between, tuple) and WORD.search("".join(between)):
            *before, after = map(re.escape, between)
            last = "(.+?)" if after else r"(\S+)"  # a value with nothing behind it ends where a space is
            given = "(.+?)".join(before) + last + after
            text = re.sub(given, partial(_around, other), text)
    words = {word: other for word, other in others.items() if isinstance(word, str) and WORD.search(word)}
    if not words:
        return text
    longest = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    return re.sub(rf"( *)(?<![A-Za-z.])({longest})(?![A-Za-z]|'s)", lambda match: _column(match, words), text)


def _around(other: tuple[str, ...], match: re.Match) -> str:
    """The values of a match with those texts before, between and after them."""
    return "".join(chain(*zip(other, (*match.groups(), ""), strict=True)))


def _column(match: re.Match, words: dict[str, str]) -> str:
    before, word = match.groups()
    other = words[word]
    if len(before) > 1 and not word.startswith(" "):  # a column with its words on the right
        return " " * max(1, len(before) + _columns(word) - _columns(other)) + other
    if match.string.startswith("  ", match.end()) and not word.endswith(" "):
        other = other.rstrip("　")  # which fill up a column where it is made
        other += " " * (_columns(word) - _columns(other))
    return before + other


def _columns(text: str) -> int:
    return sum(1 + (unicodedata.east_asian_width(char) in "WF") for char in text)


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)
