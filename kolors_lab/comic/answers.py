"""A story's text, as people write it and chat models answer it → rows of named texts, and what was passed over.

Four shapes, tried in this order: JSON, Markdown tables, CSV, a numbered list (`listing`).
"""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from kolors_lab.comic.listing import TONGUES, one, read_list
from kolors_lab.comic.rows import Answer, named, quoted, said
from kolors_lab.comic.words import (
    MARKUP,
    SHARED,
    clean,
    key_of,
    label_of,
    number_of,
)
from kolors_lab.core.errors import DataError
from kolors_lab.core.language import _

LONGEST, LONGEST_LINE, MOST = 1 << 20, 50_000, 1000  # characters of a text and of a line, scenes
THOUGHT = re.compile(r"</think(?:ing)?>", re.IGNORECASE)  # its opening tag may be missing
FENCE = re.compile(r"^[ \t>]{0,9}(?:```|~~~).*$\n?", re.MULTILINE)
VALUE = re.compile(r'(?:[\[{]\s{0,99}){1,9}["“]')  # where a JSON object or list may begin
FULL_WIDTH = str.maketrans("｛｝｜", "{}|")


def shapes() -> str:
    """The shapes that a story may have."""
    return _("a table (CSV or Markdown) with the columns scene,prompt,negative_prompt,seed, a numbered list, or JSON")


def read_answer(text: str, name: str) -> Answer:
    """The rows of a story's text. DataError, naming the line, for what is not understood or too much."""
    if len(text) > LONGEST:
        raise DataError(
            "{name}: {count} characters; a story has at most {most}", name=name, count=len(text), most=LONGEST
        )
    text = _without_thoughts(text, name).translate(FULL_WIDTH)
    for n, line in enumerate(text.splitlines(), 1):
        if len(line) > LONGEST_LINE:
            raise DataError(
                "{name}: line {n}: {count} characters; a line has at most {most}",
                name=name,
                n=n,
                count=len(line),
                most=LONGEST_LINE,
            )
    for reader in (_json, _markdown, _csv, _list):
        if (answer := reader(text, name)) is not None:
            if len(answer.rows) > MOST:
                raise DataError(
                    "{name}: {count} scenes; a story has at most {most}", name=name, count=len(answer.rows), most=MOST
                )
            _check_alone(answer, name)
            _share(answer, text)
            return answer
    raise DataError("{name}: no story found in it; give {shapes}", name=name, shapes=shapes())


def _without_thoughts(text: str, name: str) -> str:
    """Without a <think> block and the fences of code; line numbers stay."""
    for last in list(THOUGHT.finditer(text))[-1:]:
        text = "\n" * text.count("\n", 0, last.end()) + text[last.end() :]
    if re.search("<think(?:ing)?>", text, re.IGNORECASE):
        raise DataError(
            "{name}: the chat model was still thinking when its answer ended; ask for the answer again", name=name
        )
    return FENCE.sub(lambda fence: "\n" * fence[0].count("\n"), text)


def _check_alone(answer: Answer, name: str) -> None:
    """DataError where the text around the rows tells a story, too: a table, a list with labels, a longer list."""
    other = None
    with contextlib.suppress(DataError):  # what cannot be read is prose
        if table := _markdown(answer.rest, name):
            other = table.rows[0][0]
        elif found := read_list(answer.rest, name):
            scenes = found[0]
            more = scenes[0].labelled or len(scenes) > len(answer.rows)
            other = _("line {n}").format(n=scenes[0].line) if more else None
    if other:
        raise DataError(
            "{name}: the scenes from {other} on stand beside others; {hint}", name=name, other=other, hint=one()
        )


def _share(answer: Answer, text: str) -> None:
    """Give every row without one the negative prompt that is said once for all, above or below the scenes."""
    above = next((words for part, words in answer.said.items() if key_of(part) == "negative_prompt"), "")
    lines = text.splitlines()
    for n, line in enumerate(lines):
        label = label_of(line)
        if not above and label and SHARED.search(label[0]) and key_of(label[0]) == "negative_prompt":
            above = label[1] or next(
                (clean(words.strip(MARKUP)) for words in lines[n + 1 :] if words.strip(MARKUP)), ""
            )
    for _where, row in answer.rows:
        if above and not row.get("negative_prompt"):
            row["negative_prompt"] = above


# JSON -----------------------------------------------------------------------------------------------------------------


def _json(text: str, name: str) -> Answer | None:
    values = list(_values(text, name))
    if not values:
        return None
    answer, scenes = Answer([]), []
    whole = [value for value, _, _ in values]
    try:
        stories = [place for value, place, _ in values if not _has_prompt(value) and _holds_scenes(value)]
        if len(stories) > 1:
            places = ", ".join(str(text.count("\n", 0, place) + 1) for place in stories[:9])
            raise DataError("{name}: lists begin in lines {places}; {hint}", name=name, places=places, hint=one())
        _collect(whole[0] if len(whole) == 1 else whole, scenes, answer)
    except RecursionError:
        raise DataError("{name}: JSON nested too deeply to be a story", name=name) from None
    if not scenes:
        raise DataError("{name}: no prompt found in its JSON; each scene needs a prompt", name=name)
    for _value, start, end in reversed(values):
        text = text[:start] + "\n" * text.count("\n", start, end) + text[end:]
    answer.rest = text
    answer.prose = [quoted(n, line) for n, line in enumerate(text.splitlines()) if line.strip(MARKUP)]
    for n, record in enumerate(scenes, 1):
        scene = _("scene {n}").format(n=n)
        row, unused = named(record, f"{name}: {scene}", n)
        answer.rows.append((scene, row))
        answer.unused += [f"{scene} “{column}”" for column in unused]
    return answer


def _values(text: str, name: str) -> Iterator[tuple[Any, int, int]]:
    """Each JSON object or list in a text, where it begins and ends. DataError: not whole, or a thing said twice."""
    decoder, place = json.JSONDecoder(object_pairs_hook=_pairs), 0
    while start := VALUE.search(text, place):
        try:
            value, place = decoder.raw_decode(text, start.start())
        except RecursionError:
            raise DataError("{name}: JSON nested too deeply to be a story", name=name) from None
        except ValueError as error:
            raise DataError(
                "{name}: not whole JSON ({error}); ask the chat model for it again", name=name, error=error
            ) from error
        yield value, start.start(), place


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [key for key, _ in pairs]
        twice = next(key for key in names if names.count(key) > 1)
        raise ValueError(_("{key!r} stands twice in one object").format(key=twice))
    return found


def _collect(value: Any, scenes: list[Any], answer: Answer) -> None:
    """The objects with a prompt, in their order, whatever they are wrapped in; texts beside them are parts."""
    if isinstance(value, Mapping) and (rows := _parallel(value) or _by_caption(value)):
        scenes += rows
        answer.said |= {key: text for key, text in value.items() if isinstance(text, str)}
    elif isinstance(value, Mapping) and _has_prompt(value):
        scenes.append(value)
    elif isinstance(value, Mapping):
        groups = {key: item for key, item in value.items() if isinstance(item, Mapping | list)}
        holds = {key: item for key, item in groups.items() if _holds_scenes(item)}
        beside = {key: item for key, item in groups.items() if key not in holds} if holds else {}
        for part in (value, *(item for item in beside.values() if isinstance(item, Mapping))):
            answer.said |= {key: text for key, text in part.items() if isinstance(text, str)}
        answer.unused += [f"“{key}”" for key, item in beside.items() if isinstance(item, list)]
        for item in (holds or groups).values():
            _collect(item, scenes, answer)
    elif isinstance(value, list) and (any(map(_has_prompt, value)) or all(isinstance(item, str) for item in value)):
        scenes += value  # those without a prompt are scenes, too: that it is missing is said later
    elif isinstance(value, list):
        for item in value:
            _collect(item, scenes, answer)


def _parallel(value: Mapping[str, Any]) -> list[dict[str, Any]]:
    """{"scenes": ["上课", …], "prompts": ["…", …]} as one record a scene; none where it is not of this shape."""
    lists = {key: item for key, item in value.items() if isinstance(item, list)}
    prompts = [item for key, item in lists.items() if key_of(key) == "prompt" and not key.lower().endswith("prompt")]
    if not prompts or any(isinstance(item, Mapping | list) for item in prompts[0]):
        return []
    columns = {key.rstrip("sS"): item for key, item in lists.items() if len(item) == len(prompts[0])}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _by_caption(value: Mapping[str, Any]) -> list[dict[str, Any]]:
    """{"prompts": {"上课": "…", "入梦": "…"}} as one record a scene; none where it is not of this shape."""
    tables = (item for key, item in value.items() if key_of(key) == "prompt" and isinstance(item, Mapping))
    table: Mapping[str, Any] = next(tables, {})
    plain = all(isinstance(text, str) and not key_of(key) and key.lower() not in TONGUES for key, text in table.items())
    return [{"scene": key, "prompt": text} for key, text in table.items()] if plain and len(table) > 1 else []


def _has_prompt(value: Any) -> bool:
    return isinstance(value, Mapping) and any(key_of(str(key)) == "prompt" for key in value)


def _holds_scenes(value: Any) -> bool:
    inside = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return _has_prompt(value) or any(map(_holds_scenes, inside))


# Tables ---------------------------------------------------------------------------------------------------------------


def _markdown(text: str, name: str) -> Answer | None:
    lines = text.splitlines()
    rules = [n for n, line in enumerate(lines) if n and _is_rule(line) and "|" in lines[n - 1]]
    drawn = [rule for rule in rules if "prompt" in map(key_of, _cells(lines[rule - 1]))]
    if not drawn:
        return None
    answer, used = Answer([], *said(lines[: drawn[0] - 1])), set(range(drawn[0] + 1))
    first = [lines[rule + 1 : rule + 2] for rule in drawn]
    counted = [rule for rule, row in zip(drawn, first, strict=True) if row and number_of(_cells(row[0])[0]) == 1]
    if len(counted) > 1:  # a draft and a better one? Acts go on counting
        places = ", ".join(map(str, counted[:9]))
        raise DataError("{name}: tables begin in lines {places}; {hint}", name=name, places=places, hint=one())
    for rule in drawn:
        header = _header(_cells(lines[rule - 1]), name, rule)
        for n in itertools.takewhile(lambda n: "|" in lines[n], range(rule + 1, len(lines))):
            cells = _cells(lines[n])
            if len(cells) > len(header):
                raise DataError(
                    "{name}: line {n}: {count} cells instead of {wanted}; write \\| for the character within a cell",
                    name=name,
                    n=n + 1,
                    count=len(cells),
                    wanted=len(header),
                )
            _table_row(answer, dict(zip(header, cells, strict=False)), name, n + 1)
            used |= {rule - 1, rule, n}
    answer.prose += [quoted(n, line) for n, line in enumerate(lines) if n not in used and line.strip(MARKUP)]
    answer.rest = "\n".join("" if n in used else line for n, line in enumerate(lines))
    return answer


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
    return "|" in line and all(re.fullmatch(":?-+:?", cell.strip()) for cell in line.strip().strip("|").split("|"))


def _cells(line: str) -> list[str]:
    inner = re.sub(r"^\|", "", line.strip())
    inner = re.sub(r"(?<!\\)\|$", "", inner)
    return [clean(cell.replace("\\|", "|")) for cell in re.split(r"(?<!\\)\|", inner)]


def _csv(text: str, name: str) -> Answer | None:
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
    answer, reader = Answer([], *said(lines[:above])), csv.reader(lines[above + 1 :], delimiter=mark)
    try:
        for cells in reader:
            line = above + 1 + reader.line_num
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


def _table_row(answer: Answer, cells: dict[str, str], name: str, line: int) -> None:
    where = _("line {n}").format(n=line)
    row, unused = named(cells, f"{name}: {where}", len(answer.rows) + 1)
    answer.rows.append((where, {"scene": ""} | row))
    columns = [_("column “{column}”").format(column=column) for column in unused]
    answer.unused += [column for column in columns if column not in answer.unused]


# A list ---------------------------------------------------------------------------------------------------------------


def _list(text: str, name: str) -> Answer | None:
    found = read_list(text, name)
    if not found:
        return None
    scenes, above, behind = found
    answer = Answer([], *said(text.splitlines()[:above]))
    for scene in scenes:
        row = {"scene": ""} | scene.row if scene.labelled else scene.row
        answer.rows.append((_("scene {n}").format(n=scene.number), row))
        answer.unused += scene.unused
    answer.prose += behind
    return answer
