"""ComfyUI workflows: the editor's form (UI 0.4 and 1.0), the form that runs (API), and the pictures that carry either.

    graph = read_workflow("workflow.json")  # or a PNG, WebP or JPEG, ComfyUI's, another program's or one of ours
    print(*describe(graph), *faults(graph), sep="\\n")

A graph is ComfyUI's API form: {id: {"class_type", "inputs", "_meta"}}, an input being a value or a link [id, slot].
All that is read is brought to it by `normalise`, and only it is checked, run and written. Nothing is run here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kolors_lab.comfy.editor import MAX_NODES, NOTES, OURS, Editor
from kolors_lab.comfy.graph import Graph, bounded, faults, is_link, name_of, short
from kolors_lab.comfy.infotext import FOREIGN, foreign_settings
from kolors_lab.comfy.nodes import kind_of
from kolors_lab.comfy.switches import without_switches
from kolors_lab.comfy.writer import STAND_IN, workflow_api
from kolors_lab.core.carriers import picture_texts
from kolors_lab.core.errors import DataError
from kolors_lab.core.language import _

LIMIT = 20 * 2**20  # bytes; a workflow of a thousand nodes has one
MAX_DEPTH = 100  # lists and objects within one another
CHUNKS = ("prompt", "workflow")  # the seed in `prompt` is the one used, `workflow` may hold the next one


# Reading --------------------------------------------------------------------------------------------------------------


def read_workflow(file: str | Path) -> Graph:
    """The workflow in a .json of either form or in a picture, as a graph; its `notes` say what is not in it.

    Where one of a picture's two forms cannot be used the other one is. Raises DataError.
    """
    forms = read_forms(file)
    there = [chunk for chunk in CHUNKS if chunk in forms]
    found: dict[str, Graph] = {}
    broken: dict[str, Any] = {}
    for chunk in there:
        try:
            found[chunk] = normalise(forms[chunk])
        except DataError as error:
            broken[chunk] = error
            continue
        if len(there) == 1 or not (wrong := faults(found[chunk])):
            break
        broken[chunk] = wrong[0]
    if not found:
        raise DataError("{at}: {why}", at=file, why=next(iter(broken.values())))
    best = min(found, key=broken.__contains__)  # the first of those without a fault, else of all
    broken = {chunk: why for chunk, why in broken.items() if chunk not in found or best not in broken}
    graph = found[best]
    told = [_("its {chunk} cannot be used: {error}").format(chunk=name, error=error) for name, error in broken.items()]
    graph.notes = (*told, *forms.get("notes", ()), *graph.notes)
    return graph


def read_forms(file: str | Path) -> dict[str, Any]:
    """What a file holds as it stands there: a picture's `prompt` (API) and `workflow` (UI), or a .json under one of
    these names; `notes` for what could not be read of it. Raises DataError."""
    file = Path(file)
    try:
        texts = picture_texts(file, (*CHUNKS, OURS, *FOREIGN))
        if texts is None:
            return _json_form(file)
    except UnicodeDecodeError as error:
        raise DataError(
            "{file} is no text; give a workflow's .json or a picture that carries one", file=file
        ) from error
    except OSError as error:
        raise DataError("{file} cannot be read: {why}", file=file, why=error.strerror or error) from error
    forms: dict[str, Any] = {}
    broken = []
    for chunk in (chunk for chunk in (*CHUNKS, OURS) if chunk in texts):
        try:
            part = _("{file}: its {chunk}").format(file=file, chunk=chunk)
            if not (form := _parse(texts[chunk], part)):
                raise DataError("{file}: its {chunk} is empty", file=file, chunk=chunk)
            if not isinstance(form, dict):
                raise DataError("{file}: its {chunk} is no workflow", file=file, chunk=chunk)
            forms[chunk] = form
        except DataError as error:
            broken.append(error)
    if not any(chunk in forms for chunk in CHUNKS):
        forms |= _made_from_settings(file, forms, texts)
    if not any(chunk in forms for chunk in CHUNKS):
        if broken:
            raise broken[0]
        raise DataError(
            "{file} carries no workflow; ComfyUI's pictures and ours do, unless a program stripped them", file=file
        )
    notes = (*(_("a part cannot be used: {error}").format(error=error) for error in broken), *forms.pop("notes", ()))
    return forms | ({"notes": notes} if notes else {})


def _json_form(file: Path) -> dict[str, Any]:
    _check_size(file.stat().st_size, file)
    whole = _parse(file.read_text(encoding="utf-8-sig"), file)
    return {"workflow" if isinstance(whole, dict) and "nodes" in whole else "prompt": whole}


def _check_size(size: int, file: Path | str) -> None:
    if size > LIMIT:
        raise DataError(
            "{file}: {size:.0f} MB are no workflow; {most} MB at most are read",
            file=file, size=size / 2**20, most=LIMIT >> 20,
        )  # fmt: skip


def _made_from_settings(file: Path, forms: dict, texts: dict[str, str]) -> dict[str, Any]:
    """A graph of a picture that carries settings only: one of ours without chunks for ComfyUI, or another program's."""
    if isinstance(ours := forms.get(OURS), dict):
        try:
            return {"prompt": workflow_api(ours)}
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DataError("{file}: its settings make no workflow ({error!r})", file=file, error=error) from error
    if found := foreign_settings(texts, file):
        settings, notes = found
        return {"prompt": workflow_api(settings), "notes": notes}
    return {}


def _parse(text: str, file: Path | str) -> Any:
    _check_size(len(text), file)
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError("{file} holds no JSON ({error})", file=file, error=error) from error
    waiting = [(data, 0)]
    while waiting:
        value, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise DataError("{file}: its JSON is nested deeper than {most}: no workflow", file=file, most=MAX_DEPTH)
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        waiting += [(each, depth + 1) for each in inner]
    return data


# One form -------------------------------------------------------------------------------------------------------------


def normalise(data: Any) -> Graph:
    """Either form as a graph: links followed through reroutes, primitives, subgraphs and bypassed nodes, notes and
    muted nodes gone, values cast, those left out filled in. Raises DataError for what is no workflow or damaged."""
    if isinstance(data, dict) and isinstance(data.get("prompt"), dict):
        data = data["prompt"]  # what a browser sends to ComfyUI
    try:
        if isinstance(data, dict) and isinstance(data.get("nodes"), list):
            graph = without_switches(Editor(data).graph())
        elif isinstance(data, dict) and any(_is_node(node) for node in data.values()):
            graph = without_switches(_api_graph(data))
        else:
            raise DataError("holds no workflow: neither nodes and links, as the editor saves, nor a class_type each")
    except (KeyError, TypeError, IndexError, AttributeError, ValueError, OverflowError, RecursionError) as error:
        raise DataError("the workflow is damaged ({error!r:.100}); save it again in ComfyUI", error=error) from error
    told = [line for key, node in graph.items() for line in _complete(node, name_of(graph, key))]
    graph.notes = (*graph.notes, *bounded(told))
    return graph


def _is_node(value: Any) -> bool:
    return isinstance(value, dict) and "class_type" in value and isinstance(value.get("inputs"), dict)


def _api_graph(data: dict) -> Graph:
    if len(data) > MAX_NODES:
        raise DataError("more than {most} nodes: no workflow that can run; take it apart", most=MAX_NODES)
    if odd := next((key for key, node in data.items() if not _is_node(node)), None):
        raise DataError("{key} is no node: it has no class_type and no inputs; take it out", key=short(odd))
    graph = Graph((str(key), _api_node(node)) for key, node in data.items() if node["class_type"] not in NOTES)
    graph.notes = tuple(getattr(data, "notes", ()))
    return graph


def _api_node(node: dict) -> dict[str, Any]:
    meta = node.get("_meta") or {}
    inputs = {str(name): _api_value(value) for name, value in node["inputs"].items()}
    return {"class_type": str(node["class_type"]), "inputs": inputs, "_meta": dict(meta)}


def _api_value(value: Any) -> Any:
    """A link as [text, whole number]; a list that is a value comes wrapped as {"__value__": …}."""
    if isinstance(value, dict) and value.keys() == {"__value__"}:
        return value["__value__"]
    if isinstance(value, list) and len(value) == 2:
        return [str(value[0]) if isinstance(value[0], int) else value[0], value[1]]
    return value


def _complete(node: dict[str, Any], at: str) -> Iterator[str]:
    """Cast values, fill in defaults, and put our own words back where ComfyUI was given a stand-in for them. Tells of
    the defaults that decide the picture."""
    inputs, ours = node["inputs"], node["_meta"].pop(OURS, None)
    ours = ours if isinstance(ours, dict) else {}
    for name, widget in kind_of(node).widgets.items():
        value = widget.default if inputs.get(name) is None else inputs[name]
        if inputs.get(name) is None and value is not None and widget.kind in (int, float):
            yield _("{at}: {name} is not given; taken is {value}").format(at=at, name=name, value=value)
        if not is_link(value) and value is not None:
            inputs[name] = widget.cast(value)
    stand_in = STAND_IN.get(ours["scheduler"]) if isinstance(ours.get("scheduler"), str) else None
    if stand_in is not None and inputs.get("scheduler") == stand_in:  # unless changed in ComfyUI
        inputs["scheduler"] = ours["scheduler"]
    if isinstance(ours.get("prompt_syntax"), str):
        inputs["prompt_syntax"] = ours["prompt_syntax"]
