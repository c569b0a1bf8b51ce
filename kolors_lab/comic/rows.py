"""What is read of a story whatever shape it has: rows of named texts, parts said above them, what is not used."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from kolors_lab.comic.words import AROUND, MARKUP, NAMES, is_numbering, key_of, label_of, only_counts
from kolors_lab.core.errors import DataError
from kolors_lab.core.language import _

Row = tuple[str, dict[str, Any]]  # where it stands, and its texts by column


@dataclass
class Answer:
    """What was read: rows, parts said above them, and what was not used: things with a name, and mere prose."""

    rows: list[Row]
    said: dict[str, str] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)
    prose: list[str] = field(default_factory=list)
    rest: str = ""  # the text around the rows, each line in its place


def named(record: Any, where: str, n: int) -> tuple[dict[str, Any], list[str]]:
    """A record with our names for its columns, and the columns that are not used; others stay, as a scene's own parts.

    Of two captions or prompts the first that says something counts; a bare number is no caption.
    """
    row: dict[str, Any] = {}
    unused = []
    for column, value in _flat(record if isinstance(record, Mapping) else {"prompt": record}):
        name = key_of(column)
        text = _text(value)
        if name == "scene" and only_counts(text, n):
            row.setdefault("scene", "")
        elif name and row.get(name) and text:
            unused.append(column)
        elif name:
            row[name] = row.get(name) or text
        elif near := get_close_matches(column, NAMES, 1, 0.8):
            raise DataError(
                "{where}: a column is called {column}; is {near} meant?", where=where, column=column, near=near[0]
            )
        elif text and not is_numbering(column):
            row[column.strip()] = text
    if isinstance(record, Mapping) and row.get("prompt"):
        row.setdefault("scene", "")
    return row, unused


def _flat(record: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    """The columns of a record, those of an object within it beside them: {"prompt": {"positive": …, "negative": …}}."""
    for column, value in record.items():
        if not isinstance(value, Mapping):
            yield str(column), value
            continue
        for inner, part in value.items():
            own = key_of(str(inner))
            yield (str(inner) if own else str(column) if key_of(str(column)) else str(inner)), part


def _text(value: Any) -> str:
    """A cell as text; a list of texts becomes one with commas, what pandas calls missing nothing."""
    if isinstance(value, list):
        return "，".join(text for text in map(_text, value) if text)
    return "" if value is None or value != value else str(value).strip()


def said(lines: Sequence[str]) -> tuple[dict[str, str], list[str], list[str]]:
    """What stands above the scenes: parts, `# 衣服：绿色长裙`, `- **衣服** = 绿色长裙`; nothing unused; prose."""
    found, prose = {}, []
    for n, line in enumerate(lines):
        plain = line.strip().strip('"').rstrip(",;\t")  # spreadsheets fill a line up with commas
        label = label_of(plain) or label_of(plain.replace("=", "：", 1))
        if label and label[1] and not re.search(r"[\s|{}]", label[0]):
            found[label[0]] = label[1]
        elif plain.strip(MARKUP):
            prose.append(quoted(n, plain))
    return found, [], prose


def quoted(n: int, line: str) -> str:
    return _("line {n} “{text}”").format(n=n + 1, text=line.strip(AROUND)[:40])
