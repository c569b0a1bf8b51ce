"""Markdown tables and CSV in a chat model's answer → rows of named texts."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from kolors_lab.comic.listing import one
from kolors_lab.comic.rows import Answer, named, place, quoted, said
from kolors_lab.comic.words import MARKUP, clean, joined, key_of, number_of
from kolors_lab.core.errors import DataError
from kolors_lab.core.language import _


def read_markdown(text: str, name: str) -> Answer | None:
    """The rows of the Markdown tables in a text that have a column prompt; None where there is none."""
    lines = text.splitlines()
    rules = [n for n, line in enumerate(lines) if n and _is_rule(line) and "|" in lines[n - 1]]
    drawn = [rule for rule in rules if "prompt" in map(key_of, _cells(lines[rule - 1]))]
    if not drawn:
        return _turned(lines, rules, name)
    answer, used = Answer([], *said(lines[: drawn[0] - 1])), set(range(drawn[0] + 1))
    first = [lines[rule + 1 : rule + 2] for rule in drawn]
    counted = [rule for rule, row in zip(drawn, first, strict=True) if row and number_of(_cells(row[0])[0]) == 1]
    if len(counted) > 1:  # a draft and a better one? Acts go on counting
        places = ", ".join(map(str, counted[:9]))
        raise DataError("{name}: tables begin in lines {places}; {hint}", name=name, places=places, hint=one())
    for rule in drawn:
        header = _header(_cells(lines[rule - 1]), name, rule)
        for n in _rows_below(lines, rule):
            cells = _cells(lines[n])
            if len(cells) > len(header):
                raise _too_many(name, n, len(cells), len(header))
            _table_row(answer, dict(zip(header, cells, strict=False)), name, n + 1)
            used |= {rule - 1, rule, n}
    return _around(answer, lines, used)


def _rows_below(lines: Sequence[str], rule: int) -> Iterator[int]:
    """The lines of a table below its rule. An empty line ends it unless rows go on behind it."""
    for n in range(rule + 1, len(lines)):
        header = any(map(_is_rule, lines[n + 1 : n + 2]))
        if lines[n].strip() and ("|" not in lines[n] or header or (not lines[n - 1].strip() and lines[n][:1] != "|")):
            return
        if lines[n].strip():
            yield n


def _turned(lines: Sequence[str], rules: Sequence[int], name: str) -> Answer | None:
    """The rows of a table that has a column for each scene, and the prompts in a row; None where there is none."""
    for rule in rules:
        places = [rule - 1, *_rows_below(lines, rule)]
        table = [_cells(lines[n]) for n in places]
        column = [key_of(cells[0]) for cells in table]
        if "prompt" not in column or len(table[0]) < 3:
            continue
        prompts = table[column.index("prompt")]
        if uneven := next((n for n, cells in zip(places, table, strict=True) if len(cells) != len(prompts)), None):
            raise _too_many(name, uneven, len(_cells(lines[uneven])), len(prompts))
        answer = Answer([], *said(lines[: rule - 1]))
        names = _header([cells[0] for cells in table], name, rule)
        for cells in list(zip(*table, strict=True))[1:]:
            _table_row(answer, dict(zip(names, cells, strict=True)), name, places[column.index("prompt")] + 1)
        return _around(answer, lines, {*range(rule + 1), *places})
    return None


def _around(answer: Answer, lines: Sequence[str], used: set[int]) -> Answer:
    """The answer with what stands around its tables."""
    answer.prose += [quoted(n, line) for n, line in enumerate(lines) if n not in used and line.strip(MARKUP)]
    answer.rest = "\n".join("" if n in used else line for n, line in enumerate(lines))
    return answer


def _too_many(name: str, n: int, count: int, wanted: int) -> DataError:
    return DataError(
        "{name}: line {n}: {count} cells instead of {wanted}; write \\| for the character within a cell",
        name=name, n=n + 1, count=count, wanted=wanted,
    )  # fmt: skip


def _header(cells: list[str], name: str, line: int) -> list[str]:
    """The columns' names. DataError for one that stands there twice: only the last would be read."""
    if twice := [cell for cell, count in Counter(cells).items() if count > 1 and cell]:
        raise DataError(
            "{name}: line {line}: the column {column} stands there twice; leave one out",
            name=name,
            line=line,
            column=twice[0],
        )
    return cells


def _is_rule(line: str) -> bool:
    """|---|:---:|"""
    return "|" in line and all(re.fullmatch(":?[-—–]+:?", cell.strip()) for cell in line.strip().strip("|").split("|"))


def _cells(line: str) -> list[str]:
    inner = re.sub(r"^\|", "", line.strip())
    inner = re.sub(r"(?<!\\)\|$", "", inner)
    return [clean(cell.replace("\\|", "|")) for cell in re.split(r"(?<!\\)\|", inner)]


def read_csv(text: str, name: str) -> Answer | None:
    """The rows of a CSV with our columns; None where there is none. DataError: a row of another width."""
    lines = text.splitlines(keepends=True)
    marks = [max(",\t;", key=line.count) for line in lines]
    headers = [[clean(cell) for cell in line.split(mark)] for line, mark in zip(lines, marks, strict=True)]
    names = [
        [key_of(cell) for cell in header if not re.search("[:：]", cell)] for header in headers
    ]  # `Seed: 42` is none
    above = next((n for n, header in enumerate(names) if sum(map(bool, header)) > 1), None)
    if above is None:
        return None
    header, mark = headers[above], marks[above]
    if "prompt" not in map(key_of, header):
        raise DataError(
            "{name}: line {line}: no column prompt; the columns are scene,prompt,negative_prompt,seed",
            name=name,
            line=above + 1,
        )
    _header(header, name, above + 1)
    apart = {n for n, line in enumerate(lines) if not line.strip()}
    answer = Answer([], *said(lines[:above]))
    reader = csv.reader(lines[above + 1 :], delimiter=mark, skipinitialspace=mark != "\t")
    try:
        for cells in reader:
            line = above + 1 + reader.line_num
            if len(cells) == 1 < len(header) and line - 2 in apart:  # `Here you are!` behind an empty line
                answer.prose.append(quoted(line - 1, lines[line - 1].strip()))
                apart.add(line - 1)
                continue
            if list(map(clean, cells)) == header:
                places = f"{above + 1}, {line}"
                raise DataError("{name}: tables begin in lines {places}; {hint}", name=name, places=places, hint=one())
            if len(cells) > len(header) and (prompt := _rest_of(lines[line - 1], header, mark)):
                told = _("line {n}: more commas than columns; all behind the first is the prompt: “{text}”")
                answer.told.append(told.format(n=line, text=prompt if len(prompt) <= 40 else f"{prompt[:40]}…"))
                cells = [cells[0], prompt]
            if any(cell.strip() for cell in cells) and len(cells) != len(header):
                raise DataError(
                    "{name}: line {n}: {count} columns instead of {wanted}; put text with a comma in quotes",
                    name=name,
                    n=line,
                    count=len(cells),
                    wanted=len(header),
                )
            if any(cell.strip() for cell in cells):
                _table_row(answer, dict(zip(header, cells, strict=True)), name, line)
    except csv.Error as error:
        raise DataError(
            "{name}: line {line}: no CSV ({error})", name=name, line=above + 1 + reader.line_num, error=error
        ) from error
    return answer


def _rest_of(line: str, header: Sequence[str], mark: str) -> str:
    """What stands behind the first comma of a line without quotes, where the header has the prompt as the second column
    of two: its commas part words. Else "", since nobody can tell which comma parts the columns."""
    keys = [key_of(column) for column in header]
    sure = len(keys) == 2 and keys[1] == "prompt" != keys[0] and '"' not in line
    return line.split(mark, 1)[1].strip().rstrip(f"{mark} ") if sure else ""


def _table_row(answer: Answer, cells: dict[str, str], name: str, line: int) -> None:
    where = _("line {n}").format(n=line)
    row, unused = named(cells, place(name, where), len(answer.rows) + 1)
    above = answer.rows[-1][1].get("prompt", "") if answer.rows else ""
    if above.endswith(("，", ",", "、")) and [text for text in row.values() if text] == [row.get("prompt")]:
        answer.rows[-1][1]["prompt"] = joined(above, row["prompt"])  # a row that only goes on with the prompt above
        return
    answer.rows.append((where, {"scene": ""} | row))
    columns = [_("column “{column}”").format(column=column) for column in unused]
    answer.unused += [column for column in columns if column not in answer.unused]
