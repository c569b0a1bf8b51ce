"""A workflow's graph: the order in which its nodes run, what would stop them, and how it looks, as text and drawn.

A graph is ComfyUI's API form: {id: {"class_type", "inputs", "_meta"}}, an input being a value or a link [id, slot].
"""

from __future__ import annotations

import graphlib
from pathlib import PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

from kolors_lab.comfy.nodes import NODES, nearest
from kolors_lab.core.errors import DataError

if TYPE_CHECKING:
    pass

PICTURES = ("SaveImage", "PreviewImage")


Graph = dict[str, dict[str, Any]]


def is_link(value: object) -> bool:
    """Whether an input comes from another node: [id, slot]."""
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], int)


def name_of(graph: Graph, node: str) -> str:
    """`node 14 (KolorsSampler)`, as every message calls it."""
    return f"node {node} ({graph[node]['class_type']})"


def is_required(class_type: str, name: str) -> bool:
    """Whether a node cannot run unless its input `name` is linked."""
    kind = NODES[class_type].inputs.get(name) if class_type in NODES else ""
    return isinstance(kind, str) and not kind.endswith("?")


def running_order(graph: Graph) -> list[str]:
    """The nodes that the pictures need (all, if there are none), each behind those it needs. DataError for a cycle."""
    sources = {
        key: {value[0] for value in node["inputs"].values() if is_link(value) and value[0] in graph}
        for key, node in graph.items()
    }
    wanted = [key for key, node in graph.items() if node["class_type"] in PICTURES] or list(graph)
    needed: set[str] = set()
    while wanted:
        if (key := wanted.pop()) not in needed:
            needed.add(key)
            wanted += sources[key]
    try:
        return list(graphlib.TopologicalSorter({key: sources[key] for key in graph if key in needed}).static_order())
    except graphlib.CycleError as error:
        circle = " → ".join(name_of(graph, key) for key in error.args[1][::-1])
        raise DataError(f"{circle}: a node cannot need its own result; take one of these links away") from error


def check(graph: Graph) -> None:
    """Raise DataError with the first of the `faults`, and how many more there are."""
    if found := faults(graph):
        raise DataError(found[0] + (f" (and {len(found) - 1} more)" if len(found) > 1 else ""))


def faults(graph: Graph) -> list[str]:
    """All that would stop a run of the graph, a line each with node id, type and what would help."""
    try:
        order = running_order(graph)
    except DataError as error:
        return [str(error)]
    found = [f"{name_of(graph, key)}: {fault}" for key in order for fault in _node_faults(graph, key)]
    if not found and not any(graph[key]["class_type"] in PICTURES for key in order):
        found = ["the workflow draws nothing: it needs a SaveImage or PreviewImage that is not muted"]
    return found


def _node_faults(graph: Graph, key: str) -> list[str]:
    class_type, inputs = graph[key]["class_type"], graph[key]["inputs"]
    if class_type not in NODES:
        return [
            f"no such node here; the nearest is {nearest(class_type, NODES)}. Replace, bypass or mute it in ComfyUI"
        ]
    known = NODES[class_type]
    found = [fault for name, kind in known.links.items() if (fault := _link_fault(graph, inputs.get(name), name, kind))]
    for name, widget in known.widgets.items():
        value = inputs.get(name)
        fault = "must be given" if value is None else widget.fault(value)
        if is_link(value):
            fault = f"comes from node {value[0]}; only a primitive can set it here: turn it back into a widget"
        if fault:
            found.append(f"{name} = {_short(value)!r}: {fault}")
    if escapes(str(inputs.get("filename_prefix", ""))):
        found.append(f"filename_prefix = {inputs['filename_prefix']!r} leads out of the folder; give a plain name")
    return found


def _link_fault(graph: Graph, value: Any, name: str, kind: str) -> str | None:
    if value is None:
        return None if kind.endswith("?") else f"its input {name} is not linked; it takes a {kind}"
    if not is_link(value):
        return f"its input {name} = {_short(value)!r} must be a link to a node, like ['3', 0]"
    if value[0] not in graph:
        return f"its input {name} comes from node {value[0]}, which is not in the workflow; link it again"
    source = graph[value[0]]["class_type"]
    outputs = NODES[source].outputs if source in NODES else None
    if outputs is None:
        return None  # that node is named itself
    if not 0 <= value[1] < len(outputs):
        return f"its input {name} comes from output {value[1]} of {name_of(graph, value[0])}, which has {len(outputs)}"
    given, wanted = outputs[value[1]], kind.rstrip("?")
    fits = given == wanted or (given, wanted) == ("CHATGLM3MODEL", "CLIP")
    return None if fits else f"its input {name} takes a {wanted}, but {name_of(graph, value[0])} gives a {given}"


def escapes(path: str) -> bool:
    """Whether a path, in any system's spelling, is absolute or climbs out of its folder."""
    parts = path.replace("\\", "/").split("/")
    absolute = PurePosixPath(path).is_absolute() or PureWindowsPath(path).drive or path.startswith(("/", "\\", "~"))
    return bool(absolute) or ".." in parts or "\0" in path


def describe(graph: Graph) -> list[str]:
    """A line for each node, in running order: id, type, settings, and which nodes it takes from."""
    order = running_order(graph)
    lines = []
    for key in (*order, *(key for key in graph if key not in order)):
        inputs = graph[key]["inputs"]
        values = [f"{name}={_short(value)}" for name, value in inputs.items() if not is_link(value)]
        links = [f"{name} ← {value[0]}" for name, value in inputs.items() if is_link(value)]
        idle = [] if key in order else ["no picture needs it"]
        about = "; ".join(part for part in (", ".join(values), ", ".join(links), *idle) if part)
        lines.append(f"{key:>4}  {graph[key]['class_type']:28}{about}".rstrip())
    return lines


def _short(value: Any, length: int = 60) -> Any:
    """A value fit for a line."""
    if not isinstance(value, (str, list, dict)):
        return value
    text = " ".join(str(value).split())
    return text if len(text) <= length else f"{text[:length]}…"
