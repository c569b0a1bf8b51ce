"""JSON and YAML in a chat model's answer → rows of named texts, in whatever they are wrapped."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from kolors_lab.comic.listing import TONGUES, one
from kolors_lab.comic.rows import Answer, place, quoted, said, take_records
from kolors_lab.comic.words import MARKUP, key_of
from kolors_lab.core.errors import DataError
from kolors_lab.core.language import _

VALUE = re.compile(r"(?:[\[{]\s{0,99}){1,9}[\"“']")  # where a JSON object or list may begin
LOOSE, DEEP, TRIALS = 100_000, 9, 3  # JSON that is not strict: characters, levels, and attempts in vain
KEY = r"[\"']?[\w ]{1,30}[\"']?:(?=\s)"
BLOCK = re.compile(  # a list of objects of two keys at least; a bullet a line is no YAML
    rf"^([ \t]{{0,20}})- {KEY}[^\n]*\n(?:[ \t]*\n)?\1[ \t]+{KEY}[^\n]*\n?(?:\1[ \t]+[^\n]*\n?|\1- [^\n]*\n?|[ \t]*\n)*",
    re.MULTILINE,
)
KEYS = re.compile(rf"^[ \t]*(?:- )?({KEY})", re.MULTILINE)

Value = tuple[Any, int, int]  # what stands there, where it begins in the text and where it ends


def read_json(text: str, name: str) -> Answer | None:
    """The scenes of the JSON in a text; None where there is none. DataError: broken, or without a prompt."""
    values = list(_json_values(text, name))
    answer = _collected(values, text, name) if values else None
    if answer and not answer.rows:
        raise DataError("{name}: no prompt found in its JSON; each scene needs a prompt", name=name)
    return answer


def read_yaml(text: str, name: str) -> Answer | None:
    """The scenes of the YAML list in a text; None where there is none, or several: bullets of a list look alike.

    DataError: broken.
    """
    blocks = [block for block in BLOCK.finditer(text) if "prompt" in map(key_of, KEYS.findall(block[0]))]
    if len(blocks) != 1:
        return None
    answer = _collected([_yaml_value(blocks[0], text, name)], text, name)
    answer.said, _nothing, answer.prose = said(answer.rest.splitlines())
    return answer


def _collected(values: list[Value], text: str, name: str) -> Answer:
    """The scenes of what stands in a text, and the text around it. DataError: two stories."""
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
    for _value, start, end in reversed(values):
        text = text[:start] + "\n" * text.count("\n", start, end) + text[end:]
    answer.rest = text
    answer.prose = [quoted(n, line) for n, line in enumerate(text.splitlines()) if line.strip(MARKUP)]
    take_records(answer, scenes, place(name, ""))
    return answer


def _json_values(text: str, name: str) -> Iterator[Value]:
    """Each JSON object or list in a text, where it begins and ends. DataError: not whole, or a thing said twice."""
    decoder, place = json.JSONDecoder(object_pairs_hook=_pairs, strict=False), 0  # line breaks may stand in texts
    trials = 0
    while start := VALUE.search(text, place):
        try:
            value, place = decoder.raw_decode(text, start.start())
        except RecursionError:
            raise DataError("{name}: JSON nested too deeply to be a story", name=name) from None
        except ValueError as error:
            found = _loose_value(text[start.start() :][:LOOSE]) if trials < TRIALS else None
            trials += not found
            if not found and start[0].endswith("'"):  # a quote in prose
                place = start.end()
                continue
            if not found:
                raise DataError(
                    "{name}: not whole JSON ({error}); mend it (or, if a chat model wrote this, ask for it again)",
                    name=name,
                    error=error,
                ) from error
            value, place = found[0], start.start() + found[1]
        yield value, start.start(), place


def _loose_value(text: str) -> tuple[Any, int] | None:
    """What a text begins with, as JavaScript and Python write it: '…', a comma too many, # remarks; and its length.

    All of that is YAML. None where it is none, or where a quote within a text would have cut it in pieces.
    """
    import yaml

    depth = 0
    try:
        for event in yaml.parse(text, yaml.BaseLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if (
                depth > DEEP
                or isinstance(event, yaml.AliasEvent)
                or (
                    isinstance(event, yaml.ScalarEvent) and event.style is None and re.search("^$|['\"“”]", event.value)
                )
            ):
                return None
            if isinstance(event, yaml.CollectionEndEvent) and not depth:
                end = event.end_mark.index
                return _plain(yaml.compose(text[:end], yaml.BaseLoader)), end
    except (yaml.YAMLError, ValueError, RecursionError):
        pass
    return None


def _yaml_value(block: re.Match, text: str, name: str) -> Value:
    """The YAML list of a block, and where it stands; every text in it stays as it is written. DataError: broken."""
    import yaml

    try:
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(block[0])):  # a bomb can be made of them
            raise ValueError(_("it refers to itself with *"))
        return _plain(yaml.compose(block[0], yaml.BaseLoader)), block.start(), block.end()
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DataError(
            "{name}: line {n}: the list that begins here is not whole YAML ({error}); put each text in quotes",
            name=name,
            n=text.count("\n", 0, block.start()) + 1,
            error=" ".join(str(error).split())[:200],
        ) from error


def _plain(node: Any) -> Any:
    """What a YAML node says: lists, objects, and texts as they are written."""
    if isinstance(node.value, str):
        return node.value
    if node.id == "sequence":
        return [_plain(item) for item in node.value]
    return _pairs([(str(_plain(key)), _plain(value)) for key, value in node.value])


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
