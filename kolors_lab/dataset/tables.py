"""Tables of pictures and captions, line by line: metadata.jsonl, metadata.csv, ControlNet's lists of pairs."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from kolors_lab.core.errors import DataError
from kolors_lab.core.files import parse_json, read_text
from kolors_lab.core.language import _

PAIRS = ("prompt.json", "prompt.jsonl")  # lists of pairs, source and target
REPEATS = "repeats"  # juice's column: how often a picture is drawn in a round, where one comes more often than others


def way() -> str:
    """How a text that is not UTF-8 can be read, for `read_text`."""
    return _("`kolors-lab juice --encoding {}` reads it, or save it again as UTF-8")


class Row(NamedTuple):
    """One line: its number, the picture's path as it is written, the caption, the repeats, and what is not used."""

    line: int
    image: str
    text: str
    repeats: int = 1
    others: tuple[str, ...] = ()


def read_jsonl(file: Path, encoding: str | None = None) -> Iterator[Row]:
    """Rows like {"text": "…", "image": ["1.jpg"]}, or {"text": "…", "file_name": "1.jpg"} as `datasets` has it."""
    like = '{"text": "...", "image": ["train/1.jpg"]}'
    for number, row in _objects(file, encoding, like):
        with _reading(file, number, like):
            image = row["file_name"] if "file_name" in row and "image" not in row else row["image"]
            image = image[0] if isinstance(image, list) and len(image) == 1 else image
            others = tuple(key for key in row if key not in ("image", "file_name", "text", REPEATS) and row[key])
            if "text" not in row and others:
                told = _("the caption must be called text; there is {names}")
                raise ValueError(told.format(names=", ".join(others)[:80]))
            text = row.get("text") or ""
            if not (isinstance(image, str) and image and isinstance(text, str)):
                raise ValueError(_("image must be one path and text a string"))
            repeats = _repeats(row.get(REPEATS))
        yield Row(number, image, text, repeats, others)


def read_targets(file: Path, encoding: str | None = None) -> Iterator[Row]:
    """The pictures to learn of a list of pairs."""
    return (Row(line, target, prompt) for line, _, target, prompt in read_pairs(file, encoding))


def read_pairs(file: Path, encoding: str | None = None) -> Iterator[tuple[int, str, str, str]]:
    """(line, source, target, prompt) of a list as ControlNet's fill50k has it, one JSON object a line."""
    like = '{"source": "…", "target": "…", "prompt": "…"}'
    for number, row in _objects(file, encoding, like):
        with _reading(file, number, like):
            source, target, prompt = (row[name] for name in ("source", "target", "prompt"))
            if not all(isinstance(value, str) and value for value in (source, target, prompt)):
                raise ValueError(_("all three must be text"))
        yield number, source, target, prompt


def _objects(file: Path, encoding: str | None, like: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(read_text(file, otherwise=encoding, way=way()).split("\n"), 1):
        if not line.strip():  # not splitlines: JSON may hold U+2028
            continue
        with _reading(file, number, like):
            if not isinstance(row := parse_json(line), dict):
                raise ValueError(_("no object"))
        yield number, row


@contextmanager
def _reading(file: Path, line: int, like: str) -> Iterator[None]:
    """A key that is missing and a value that is wrong are a DataError that names the line and says what it is like."""
    try:
        yield
    except (ValueError, KeyError) as error:
        reason = _("no {name}").format(name=error) if isinstance(error, KeyError) else error
        raise DataError(
            "{file} line {line}: not like {like} ({reason})", file=file, line=line, like=like, reason=reason
        ) from error


def read_csv(file: Path, encoding: str | None = None) -> Iterator[Row]:
    """Rows of the columns file_name,text and, where juice wrote it, repeats, in capitals or not.

    Between the columns stand commas, or the semicolons or tabs that spreadsheets write.
    """
    text = read_text(file, otherwise=encoding, way=way())
    mark = max(",;\t", key=text.partition("\n")[0].count)
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=mark)
    try:
        names = rows.fieldnames = _columns(rows.fieldnames or ())
        if not {"file_name", "text"} <= set(names):
            raise DataError(
                "{file} line 1: needs the columns file_name,text; has {names}", file=file, names=",".join(names)[:200]
            )
        others = tuple(name for name in names if name not in ("file_name", "text", REPEATS))
        for row in rows:
            if not row["file_name"] or None in row:
                raise DataError(
                    "{file} line {line}: needs a file_name and a text; put texts that hold {mark!r} in quotes",
                    file=file,
                    line=rows.line_num,
                    mark=mark,
                )
            try:
                repeats = _repeats(row.get(REPEATS))
            except ValueError as error:
                raise DataError("{file} line {line}: {error}", file=file, line=rows.line_num, error=error) from error
            yield Row(rows.line_num, row["file_name"], row["text"] or "", repeats, others)
    except csv.Error as error:
        raise DataError("{file} line {line}: not CSV ({error})", file=file, line=rows.line_num, error=error) from error


def _columns(names: Sequence[str]) -> list[str]:
    """The columns with ours as we write them; one that is there as we write it stays the only one."""
    ours = {"file_name", "text", REPEATS} - {*names}
    found = [name.strip().lower() for name in names]
    return [key if key in ours and found.count(key) == 1 else name for name, key in zip(names, found, strict=True)]


def _repeats(value: Any) -> int:
    """ValueError for what is no whole number from 1 to 999, as a folder's name may say it."""
    if value is None or value == "":
        return 1
    if isinstance(value, bool) or not re.fullmatch("[1-9][0-9]{0,2}", str(value)):
        raise ValueError(_("repeats {value!r} is no whole number from 1 to 999").format(value=str(value)[:40]))
    return int(value)


READERS = {"metadata.jsonl": read_jsonl, "metadata.csv": read_csv} | dict.fromkeys(PAIRS, read_targets)
