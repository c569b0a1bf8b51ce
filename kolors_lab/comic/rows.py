"""What is read of a story whatever shape it has: rows of named texts, parts said above them, what is not used."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import reduce
from typing import Any

from kolors_lab.comic.words import (
    AROUND,
    MARKUP,
    NAMES,
    is_numbering,
    joined,
    key_of,
    label_of,
    only_counts,
    settings_in,
)
from kolors_lab.core.errors import DataError
from kolors_lab.core.language import _

Row = tuple[str, dict[str, str]]  # where it stands, and its texts by column
ALIKE = "(?:相同|一致|一样)"
SAME = re.compile(
    rf"同[上前]\w{{0,6}}|[与和][上前]\w{{0,8}}{ALIKE}|same(?: as (?:above|before))?|ditto|[〃″]|\^\^", re.I
)
LEANS = re.compile(rf"[（(]?(?:同[上前第]|[同与和]场景\s?\w|[与和][上前第]\w{{0,8}}{ALIKE}|same as )", re.I)
SIGNS = re.compile(r"[-—–./\\…·。]{1,6}")  # in a cell that says nothing
NOTHING = re.compile(rf"{SIGNS.pattern}|无|暂无|略|省略|none|null|n/?a", re.I)


@dataclass
class Answer:
    """What was read: rows, parts said above them, what was not used (things with a name, and mere prose), and what was
    told apart by a rule that its writer may not know."""

    rows: list[Row]
    said: dict[str, str] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)
    prose: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    rest: str = ""  # the text around the rows, each line in its place


def named(record: Any, where: str, n: int) -> tuple[dict[str, str], list[str]]:
    """A record with our names for its columns, and the columns that are not used; others stay, as a scene's own parts.

    Of two captions or prompts the first that says something counts; a bare number is no caption.
    """
    row: dict[str, str] = {}
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
    take_settings(row, where)
    return row, unused


def take_settings(row: dict[str, str], where: str) -> None:
    """Put the settings that stand in brackets in a caption or prompt where they belong. DataError where the row says
    another value itself."""
    for column in (name for name in ("scene", "prompt") if name in row):
        row[column], found = settings_in(row[column], column == "scene")
        for name, value in found.items():
            if (row.get(name) or value).removesuffix(".0") != value:  # pandas makes 41.0 of 41
                raise DataError(
                    "{where}: {name} is {one}, and {other} in brackets; leave one of them out",
                    where=where, name=name, one=row[name], other=value,
                )  # fmt: skip
            row[name] = value


def place(name: str, where: str) -> str:
    """A line or scene of a story, with the story's name before it."""
    return _("{top}: {at}").format(top=name, at=where)


def take_records(answer: Answer, records: Iterable[Any], start: str = "") -> None:
    """Add each record as a scene; what is wrong with one is said with `start` before its number."""
    for n, record in enumerate(records, 1):
        scene = _("scene {n}").format(n=n)
        row, unused = named(record, f"{start}{scene}", n)
        answer.rows.append((scene, row))
        answer.unused += [f"{scene} “{column}”" for column in unused]


def _flat(record: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    """The columns of a record, those of an object within it beside them: {"prompt": {"positive": …, "negative": …}}."""
    for column, value in record.items():
        if not isinstance(value, Mapping):
            yield str(column), value
            continue
        for inner, part in value.items():
            own = key_of(str(inner))
            yield (str(inner) if own else str(column) if key_of(str(column)) else str(inner)), part


def settle(rows: Sequence[Row], name: str) -> list[Row]:
    """The rows with 同上 replaced by what the row above says, and 无 or a dash by nothing.

    DataError for a text that leans on another scene and adds to it: nobody can draw `同上，夜晚`.
    """
    settled: list[Row] = []
    for where, row in rows:
        above, texts = settled[-1][1] if settled else {}, dict(row)
        for column, text in row.items():
            plain = text.strip("()（）。. ")
            if above.get(column) and SAME.fullmatch(plain):
                texts[column] = above[column]
            elif column in ("prompt", "negative_prompt") and LEANS.match(text):
                raise DataError(
                    "{name}: {where}: {column} “{text}” leans on another scene; write out what it says",
                    name=name,
                    where=where,
                    column=column,
                    text=text[:40],
                )
            elif (SIGNS if column == "scene" else NOTHING).fullmatch(plain or text.strip()):
                texts[column] = ""
        settled.append((where, texts))
    return settled


def _text(value: Any) -> str:
    """A cell as one line; a list of texts becomes one with commas, what pandas calls missing nothing."""
    if isinstance(value, list):
        return "，".join(text for text in map(_text, value) if text)
    text = "" if value is None or value != value else str(value)
    return reduce(joined, map(str.strip, text.strip().splitlines()), "")


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
