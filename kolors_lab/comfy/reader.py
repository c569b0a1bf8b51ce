"""ComfyUI workflows: the editor's form (UI 0.4 and 1.0), the form that runs (API), and the PNGs that carry either.

    graph = read_workflow("workflow.json")  # or a PNG, ComfyUI's or one of ours
    print(*describe(graph), *faults(graph), sep="\\n")

A graph is ComfyUI's API form: {id: {"class_type", "inputs", "_meta"}}, an input being a value or a link [id, slot].
All that is read is brought to it by `normalise`, and only it is checked, run and written. Nothing is run here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kolors_lab.comfy.graph import Graph, is_link, is_required
from kolors_lab.comfy.nodes import CONTROL, NODES, NOTES, VIRTUAL
from kolors_lab.comfy.writer import OURS, STAND_IN, workflow_api
from kolors_lab.core.errors import DataError

LIMIT = 20 * 2**20  # bytes; a workflow of a thousand nodes has one
CHUNKS = ("prompt", "workflow")  # of a PNG; the seed in `prompt` is the one used, `workflow` may hold the next one
MUTED, BYPASSED = 2, 4  # modes of the editor
_CUT = object()  # an input whose source is muted


# Reading --------------------------------------------------------------------------------------------------------------


def read_workflow(file: str | Path) -> Graph:
    """The workflow in a .json of either form or in a PNG, as a graph. Raises DataError."""
    forms = read_forms(file)
    try:
        return normalise(next(forms[chunk] for chunk in CHUNKS if chunk in forms))
    except DataError as error:
        raise DataError(f"{file}: {error}") from error


def read_forms(file: str | Path) -> dict[str, Any]:
    """What a file holds as it stands there: a PNG's chunks `prompt` (API) and `workflow` (UI), or a .json under one of
    these names. Raises DataError."""
    file = Path(file)
    try:
        if file.suffix.lower() == ".png":
            texts = _png_texts(file)
        elif (size := file.stat().st_size) > LIMIT:
            raise DataError(f"{file}: {size / 2**20:.0f} MB are no workflow; {LIMIT >> 20} MB at most are read")
        else:
            texts = {"": file.read_text(encoding="utf-8-sig")}
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is no text; give a workflow's .json or a PNG that carries one") from error
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}") from error
    forms = {chunk: _parse(text, file) for chunk, text in texts.items()}
    if "" in forms:
        whole = forms.pop("")
        forms["workflow" if isinstance(whole, dict) and "nodes" in whole else "prompt"] = whole
    elif OURS in forms and not any(chunk in forms for chunk in CHUNKS):  # a picture of ours older than these chunks
        forms["prompt"] = workflow_api(forms[OURS])
    if not any(chunk in forms for chunk in CHUNKS):
        raise DataError(f"{file} carries no workflow; ComfyUI's PNGs and ours do, unless a program has stripped them")
    return forms


def _png_texts(file: Path) -> dict[str, str]:
    from PIL import Image, UnidentifiedImageError
    from PIL.PngImagePlugin import iTXt

    try:
        with Image.open(file, formats=("PNG",)) as image:
            image.load()  # some writers put their text behind the pixels
            texts = {key: image.text[key] for key in (*CHUNKS, OURS) if key in image.text}
    except (UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{file} cannot be read as a PNG ({error})") from error
    except OSError as error:
        if error.errno:  # the file, not what is in it
            raise
        raise DataError(f"{file} is cut short or damaged ({error}); get it again") from error
    return {key: text if isinstance(text, iTXt) else _as_utf8(text) for key, text in texts.items()}


def _as_utf8(text: str) -> str:
    """tEXt is Latin-1 by the standard, and Pillow reads it so; some programs write raw UTF-8 into it."""
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text


def _parse(text: str, file: Path) -> Any:
    if len(text) > LIMIT:
        raise DataError(f"{file}: {len(text) >> 20} MB of text are no workflow; {LIMIT >> 20} MB at most are read")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file} holds no JSON ({error})") from error


# One form -------------------------------------------------------------------------------------------------------------


def normalise(data: Any) -> Graph:
    """Either form as a graph: links followed through reroutes, primitives and bypassed nodes, notes and muted nodes
    gone, values cast, those left out filled in. Raises DataError for anything that is no workflow or damaged."""
    if isinstance(data, dict) and isinstance(data.get("prompt"), dict):
        data = data["prompt"]  # what a browser sends to ComfyUI
    try:
        if isinstance(data, dict) and isinstance(data.get("nodes"), list):
            graph = _Editor(data).graph()
        elif isinstance(data, dict) and data and all("class_type" in node for node in data.values()):
            graph = {str(key): _api_node(node) for key, node in data.items() if node["class_type"] not in NOTES}
        else:
            raise DataError("holds no workflow: neither nodes and links, as the editor saves, nor a class_type each")
    except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
        raise DataError(f"the workflow is damaged ({error!r}); save it again in ComfyUI") from error
    for node in graph.values():
        _complete(node)
    return graph


def _api_node(node: dict) -> dict[str, Any]:
    inputs = {
        name: [str(value[0]), value[1]] if isinstance(value, list) and len(value) == 2 else value
        for name, value in node["inputs"].items()
    }
    return {"class_type": str(node["class_type"]), "inputs": inputs, "_meta": dict(node.get("_meta") or {})}


def _complete(node: dict[str, Any]) -> None:
    """Cast values, fill in defaults, and put our own words back where ComfyUI was given a stand-in for them."""
    inputs, ours = node["inputs"], node["_meta"].pop(OURS, None) or {}
    for name, widget in (NODES[node["class_type"]].widgets if node["class_type"] in NODES else {}).items():
        if not is_link(value := inputs.get(name, widget.default)) and value is not None:
            inputs[name] = widget.cast(value)
    if inputs.get("scheduler") == STAND_IN.get(ours.get("scheduler")) is not None:  # unless changed in ComfyUI
        inputs["scheduler"] = ours["scheduler"]
    if "prompt_syntax" in ours:
        inputs["prompt_syntax"] = ours["prompt_syntax"]


class _Editor:
    """A workflow as the editor saves it."""

    def __init__(self, data: dict):
        self.nodes = {str(node["id"]): node for node in data["nodes"]}
        self.links = dict(self._link(link) for link in data.get("links") or ())
        self.cut: set[str] = set()  # nodes that lack a muted one

    @staticmethod
    def _link(link: list | dict) -> tuple[object, tuple[str, int]]:
        """Version 0.4 has lists, 1.0 objects."""
        if isinstance(link, dict):
            return link["id"], (str(link["origin_id"]), int(link["origin_slot"]))
        return link[0], (str(link[1]), int(link[2]))

    def graph(self) -> Graph:
        graph = {
            key: self.node(key, node)
            for key, node in self.nodes.items()
            if node["type"] not in VIRTUAL and node.get("mode", 0) not in (MUTED, BYPASSED)
        }
        gone = self.cut
        while more := {key for key in graph.keys() - gone if self.needs(graph[key], gone)}:
            gone |= more
        kept = {key: node for key, node in graph.items() if key not in gone}
        for node in kept.values():
            node["inputs"] = {k: v for k, v in node["inputs"].items() if not (is_link(v) and v[0] in gone)}
        return kept

    @staticmethod
    def needs(node: dict, gone: set[str]) -> bool:
        sources = {name for name, value in node["inputs"].items() if is_link(value) and value[0] in gone}
        return any(is_required(node["class_type"], name) for name in sources)

    def node(self, key: str, node: dict) -> dict[str, Any]:
        inputs = self.values(node)
        for slot in node.get("inputs") or ():
            source = None if slot.get("link") is None else self.source(slot["link"], f"node {key} ({node['type']})")
            if source is _CUT and is_required(node["type"], slot["name"]):
                self.cut.add(key)
            elif source is not None and source is not _CUT:
                inputs[slot["name"]] = source
        meta = {"title": node.get("title") or node["type"]}
        if isinstance(ours := (node.get("properties") or {}).get(OURS), dict):
            meta[OURS] = ours
        return {"class_type": node["type"], "inputs": inputs, "_meta": meta}

    @staticmethod
    def values(node: dict) -> dict[str, Any]:
        """Widgets by name: values in the order of the node's inputs, one more behind a seed if it is a control word.

        A widget turned into an input still holds its place.
        """
        given = node.get("widgets_values") or []
        if isinstance(given, dict):
            return dict(given)
        if node["type"] not in NODES:
            return {f"value {n}": value for n, value in enumerate(given, 1)}
        rest, values = list(given), {}
        for name, widget in NODES[node["type"]].widgets.items():
            if rest:
                values[name] = rest.pop(0)
            if widget.is_seed and rest and rest[0] in CONTROL:
                rest.pop(0)
        return values

    def source(self, link: object, at: str) -> Any:
        """Where a link comes from: [id, slot], a primitive's value, _CUT if muted, None if nothing is linked."""
        seen = set()
        while link is not None:
            if link in seen:
                raise DataError(f"{at}: its link runs in a circle of reroutes; link it to a node that computes")
            seen.add(link)
            key, slot = self.links.get(link, (None, 0))
            if key not in self.nodes:
                raise DataError(f"{at}: its link {link} comes from nowhere; link that input again in ComfyUI")
            node = self.nodes[key]
            if node.get("mode", 0) == MUTED:
                return _CUT
            if node["type"] == "PrimitiveNode":
                return node["widgets_values"][0]
            if node["type"] == "Reroute":
                link = node["inputs"][0].get("link")
            elif node.get("mode", 0) == BYPASSED:
                link = self.passed(node, slot)
            else:
                return [key, slot]
        return None

    @staticmethod
    def passed(node: dict, slot: int) -> object:
        """The link that a bypassed node passes on at `slot`: of an input of that output's type, the same slot first."""
        kind, inputs = node["outputs"][slot]["type"], node.get("inputs") or []
        same = [
            put for put in (*inputs[slot : slot + 1], *inputs) if put["type"] == kind and put.get("link") is not None
        ]
        return same[0]["link"] if same else None


# Writing --------------------------------------------------------------------------------------------------------------
