"""A workflow's graph: the order in which its nodes run, what would stop them, what does not run, and its text.

A graph is ComfyUI's API form: {id: {"class_type", "inputs", "_meta"}}, an input being a value or a link [id, slot].
"""

from __future__ import annotations

import graphlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import PurePosixPath, PureWindowsPath
from types import NoneType
from typing import Any

from kolors_lab.comfy.elsewhere import PASSING, reason
from kolors_lab.comfy.nodes import NODES, kind_of
from kolors_lab.comfy.registry import Link, Widget
from kolors_lab.comfy.texts import encoded, text_fault
from kolors_lab.core.errors import DataError, KolorsLabError, SettingError
from kolors_lab.core.language import _
from kolors_lab.prompts.syntax import choose, parse

SHOWN = 12  # lines of one kind at most; the rest is counted
LONGEST = 60  # characters of a value in a line
MANY = 100  # faults of a workflow, after which no more are looked for


class Graph(dict[str, dict[str, Any]]):
    """Nodes by id; `notes` says what was read and is not in the graph."""

    notes: tuple[str, ...] = ()


def is_link(value: object) -> bool:
    """Whether an input comes from another node: [id, slot]."""
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and type(value[1]) is int


def name_of(graph: Mapping[str, dict], node: str) -> str:
    """`node 14 (KolorsSampler)`, as every message calls it."""
    return called(short(node), short(graph[node]["class_type"]))


def called(key: object, kind: object) -> str:
    """A node by its id and type."""
    return _("node {id} ({kind})").format(id=key, kind=kind)


def _told(at: str, why: str) -> str:
    return _("{at}: {why}").format(at=at, why=why)


def _wrong(name: str, value: Any, fault: str) -> str:
    return _told(f"{name} = {short(value)!r}", fault)


@contextmanager
def within(graph: Mapping[str, dict], node: str) -> Iterator[None]:
    """Errors in here name the node. A value that a workflow has and may not have is a DataError."""
    try:
        yield
    except KolorsLabError as error:
        kind = DataError if isinstance(error, SettingError) else type(error)
        raise kind("{at}: {why}", at=name_of(graph, node), why=error) from error


def is_required(class_type: str, name: str) -> bool:
    """Whether a node cannot run unless its input `name` is linked; of an unknown node every linked one counts, of a
    switch none."""
    kind = NODES[class_type].inputs.get(name) if class_type in NODES else Link("*")
    return isinstance(kind, Link) and not kind.optional and class_type not in PASSING


def ends(graph: Mapping[str, dict]) -> list[str]:
    """The nodes that save or show pictures; without those that nothing is linked to, unless there are no others."""
    found = [key for key, node in graph.items() if kind_of(node).pictures]
    return [key for key in found if any(map(is_link, graph[key]["inputs"].values()))] or found


def sources(graph: Mapping[str, dict], key: str) -> Iterator[str]:
    """The nodes of the graph that a node takes from."""
    return (v[0] for v in graph[key]["inputs"].values() if is_link(v) and v[0] in graph)


def upstream(graph: Mapping[str, dict], wanted: list[str], known: set[str] | None = None) -> set[str]:
    """`wanted` and all that they need, without the `known`."""
    found: set[str] = set()
    wanted = list(wanted)
    while wanted:
        if (key := wanted.pop()) not in found and not (known and key in known):
            found.add(key)
            wanted += sources(graph, key)
    return found


def running_order(graph: Mapping[str, dict]) -> list[str]:
    """The nodes that the pictures need (all, if there are none), each behind those it needs. DataError for a cycle."""
    return _in_order(graph, upstream(graph, ends(graph) or list(graph)))


def _in_order(graph: Mapping[str, dict], needed: set[str]) -> list[str]:
    """These nodes, each behind those it takes from. DataError for a cycle."""
    try:
        order = graphlib.TopologicalSorter({key: set(sources(graph, key)) for key in graph if key in needed})
        return list(order.static_order())
    except graphlib.CycleError as error:
        names = [name_of(graph, key) for key in error.args[1][::-1]]
        circle = " → ".join(names if len(names) <= SHOWN else [*names[: SHOWN - 1], "…", names[-1]])
        raise DataError(
            "{circle}: a node cannot need its own result; take one of these links away", circle=circle
        ) from error


def filled(graph: Mapping[str, dict]) -> Graph:
    """The graph with the values of its constant nodes in the inputs that they are linked to. DataError for a value that
    such a node cannot hold, and for a circle of them."""
    new = Graph({key: {**node, "inputs": dict(node["inputs"])} for key, node in graph.items()})
    new.notes = getattr(graph, "notes", ())
    values = _constants(graph)
    for node in new.values():
        _fill(node, values)
    return new


def _fill(node: dict[str, Any], values: Mapping[str, tuple]) -> None:
    for name, value in node["inputs"].items():
        given = values.get(value[0], ()) if is_link(value) and name not in kind_of(node).links else ()
        if given and 0 <= value[1] < len(given):
            node["inputs"][name] = given[value[1]]


def _constants(graph: Mapping[str, dict]) -> dict[str, tuple]:
    """What each constant node gives that another node takes a value from; those that need a result are left out."""
    held = {key for key, node in graph.items() if kind_of(node).constant}
    taken = {source for key in graph if key not in held for source in sources(graph, key) if source in held}
    found: dict[str, tuple] = {}
    for key in _in_order(graph, upstream(graph, sorted(taken))) if taken else ():
        if key in held and all(source in found for source in sources(graph, key)):
            node = {**graph[key], "inputs": dict(graph[key]["inputs"])}
            _fill(node, found)
            found[key] = _constant(name_of(graph, key), node)
    return found


def _constant(at: str, node: Mapping[str, Any]) -> tuple:
    known = kind_of(node)
    values = {name: widget.cast(node["inputs"].get(name, widget.default)) for name, widget in known.widgets.items()}
    for name, widget in known.widgets.items():
        if fault := widget.fault(values[name]):
            raise DataError("{at}: {why}", at=at, why=_wrong(name, values[name], fault))
    given = known.run(None, **values)
    for text in given:
        if isinstance(text, str) and (fault := Widget().fault(text)):  # one replacement can make 10,000 times as much
            raise DataError("{at}: {why}", at=at, why=fault)
    return given


# What would stop it ---------------------------------------------------------------------------------------------------


def check(graph: Mapping[str, dict]) -> None:
    """Raise DataError with the first of the `faults`, and how many more there are."""
    found = faults(graph)
    if len(found) > 1:
        raise DataError("{first} (and {count} more)", first=found[0], count=len(found) - 1)
    if found:
        raise DataError(found[0])


def faults(graph: Mapping[str, dict]) -> list[str]:
    """All that would stop a run of the graph, a line each with node id, type and what would help."""
    return [_told(name_of(graph, key), why) if key else why for key, why in faults_by_node(graph)]


def faults_by_node(graph: Mapping[str, dict]) -> list[tuple[str | None, str]]:
    """The faults, each behind the id of its node; None: of no single one."""
    try:
        graph = filled(graph)
        order = running_order(graph)
    except DataError as error:
        return [node_of(graph, error)]
    found: list[tuple[str | None, str]] = []
    for at, key in enumerate(order):
        if len(found) > MANY:
            left = _("{count} more nodes are not looked at before these are right").format(count=len(order) - at)
            return [*found, (None, left)]
        found += [(key, fault) for fault in _node_faults(graph, key)]
    if not found and not ends(graph):
        found = [(None, _("the workflow draws nothing: it needs a SaveImage or PreviewImage that is not muted"))]
    return found


def node_of(graph: Mapping[str, dict], error: KolorsLabError) -> tuple[str | None, str]:
    """The node that an error names with its {at}, and what is wrong there; (None, the message) if it names none."""
    at, why = error.values.get("at"), error.values.get("why")
    key = next((key for key in graph if name_of(graph, key) == at), None)
    return key, str(why if key and why else error)


def _node_faults(graph: Graph, key: str) -> list[str]:
    class_type, inputs = graph[key]["class_type"], graph[key]["inputs"]
    if class_type not in NODES:
        return [reason(class_type)]
    found = link_faults(graph, key)
    for name, widget in NODES[class_type].widgets.items():
        value = inputs.get(name)
        fault = _("must be given") if value is None else widget.fault(value)
        if is_link(value):
            linked = _("comes from node {id}; only a primitive can set it here: turn it back into a widget")
            fault = linked.format(id=short(value[0]))
        elif not fault and isinstance(value, str) and not widget.folder:
            fault = text_fault(name, value)
        if fault:
            found.append(_wrong(name, value, fault))
    texts = encoded({key: graph[key]}) if not found else ()
    found += [why for _node, name, syntax in texts if (why := _syntax_fault(name, inputs[name], syntax))]
    found += [_wrong(name, value, fault) for name, value in rows(graph[key]) if (fault := _row_fault(value))]
    if escapes(str(inputs.get("filename_prefix", ""))):
        told = _("filename_prefix = {prefix!r} leads out of the folder; give a plain name")
        found.append(told.format(prefix=inputs["filename_prefix"]))
    return found


def _syntax_fault(name: str, text: str, syntax: str) -> str | None:
    """What of a text cannot be read, some choice of its `{a|b}` made."""
    try:
        parse(choose(text, 0), syntax)
    except KolorsLabError as error:
        return _told(name, str(error)) if name == "negative_prompt" else str(error)
    return None


def rows(node: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The further inputs, lora_1, lora_2, …, of a node that takes any number of them."""
    return [(name, value) for name, value in node["inputs"].items() if kind_of(node).is_row(name)]


def _row_fault(value: Any) -> str | None:
    strength = value.get("strength") if isinstance(value, dict) else None
    named = isinstance(value, dict) and isinstance(value.get("lora"), (str, NoneType))  # None: a place that is free
    whole = named and isinstance(strength, (int, float)) and -100 <= strength <= 100
    return None if whole else _('must be like {"on": true, "lora": "name.safetensors", "strength": 1.0}')


def link_faults(graph: Mapping[str, dict], key: str) -> list[str]:
    """What is wrong with the links of a node; of its other inputs that are linked, whether they lead anywhere."""
    inputs = graph[key]["inputs"]
    links = {name: Link("*") for name, value in inputs.items() if is_link(value)} | kind_of(graph[key]).links
    return [fault for name, kind in links.items() if (fault := _link_fault(graph, inputs.get(name), name, kind))]


def _link_fault(graph: Mapping[str, dict], value: Any, name: str, wanted: Link) -> str | None:
    if value is None:
        told = _("its input {name} is not linked; it takes a {kind}").format(name=name, kind=wanted.kind)
        return None if wanted.optional else told
    if not is_link(value):
        told = _("its input {name} = {value!r} must be a link to a node, like ['3', 0]")
        return told.format(name=name, value=short(value))
    if value[0] not in graph:
        told = _("its input {name} comes from node {id}, which is not in the workflow; link it again")
        return told.format(name=name, id=short(value[0]))
    source = graph[value[0]]
    if source["class_type"] not in NODES:
        return None  # that node is named itself
    at, outputs = name_of(graph, value[0]), kind_of(source).outputs
    if not 0 <= value[1] < len(outputs):
        told = _("its input {name} comes from output {slot} of {at}, which has {count}")
        return told.format(name=name, slot=value[1], at=at, count=len(outputs))
    given = outputs[value[1]]
    fits = wanted.kind in (given, "*") or (given, wanted.kind) == ("CHATGLM3MODEL", "CLIP")
    told = _("its input {name} takes a {kind}, but {at} gives a {given}")
    return None if fits else told.format(name=name, kind=wanted.kind, at=at, given=given)


def escapes(path: str) -> bool:
    """Whether a path, in any system's spelling, is absolute or climbs out of its folder."""
    parts = path.replace("\\", "/").split("/")
    absolute = PurePosixPath(path).is_absolute() or PureWindowsPath(path).drive or path.startswith(("/", "\\", "~"))
    return bool(absolute) or ".." in parts or "\0" in path


# What does not run ----------------------------------------------------------------------------------------------------


def unused(graph: Mapping[str, dict]) -> list[str]:
    """What is in the graph and does nothing here, a line each: ends that are no pictures with all that only they need,
    and inputs that their nodes do not have."""
    needed = upstream(graph, ends(graph))
    if not needed:
        return []
    taken = {source for key in graph for source in sources(graph, key)}
    idle = [key for key in graph if key not in needed]
    place, told, lines = {key: n for n, key in enumerate(graph)}, set(needed), []
    for key in sorted(idle, key=taken.__contains__):  # those behind all others first; what is left stands in a circle
        if key not in told:
            alone = upstream(graph, [key], told)
            told |= alone
            lines.append(_end(graph, key, sorted(alone - {key}, key=place.__getitem__)) if len(lines) < SHOWN else "")
    return bounded(lines) + bounded(_extras(graph, needed))


def _end(graph: Mapping[str, dict], key: str, alone: list[str]) -> str:
    why = _("no picture needs it") if graph[key]["class_type"] in NODES else _("there is no such node here")
    why = _("nothing is linked to it") if kind_of(graph[key]).pictures else why
    ids, more = ", ".join(map(short, alone[:SHOWN])), len(alone) - SHOWN
    told = _("{at} does not run: {why}, nor what only it needs: node {ids}") if alone else _("{at} does not run: {why}")
    if more > 0:
        told = _("{at} does not run: {why}, nor what only it needs: node {ids} and {more} more")
    return told.format(at=name_of(graph, key), why=why, ids=ids, more=more)


def _extras(graph: Mapping[str, dict], needed: set[str]) -> list[str]:
    return [
        _("{at}: not used, since it has no such input: {names}").format(at=name_of(graph, key), names=", ".join(extra))
        for key, node in graph.items()
        if key in needed and (extra := unknown_inputs(node))
    ]


BUTTONS = {  # of the editor, which some files carry as inputs
    "upload", "choose file to upload", "PowerLoraLoaderHeaderWidget", "➕ Add Lora",
}  # fmt: skip


def unknown_inputs(node: Mapping[str, Any]) -> list[str]:
    """Inputs that a known node does not have, as `name = value`."""
    if (known := NODES.get(node["class_type"])) is None:
        return []
    names = [name for name in node["inputs"] if not known.knows(name) and name not in BUTTONS]
    return [f"{short(name)} = {short(node['inputs'][name])!r}" for name in names]


def bounded(lines: list[str]) -> list[str]:
    """At most SHOWN lines; what more there is is counted."""
    more = _("and {count} more such lines").format(count=len(lines) - SHOWN)
    return lines if len(lines) <= SHOWN else [*lines[:SHOWN], more]


# As text --------------------------------------------------------------------------------------------------------------


def describe(graph: Mapping[str, dict]) -> list[str]:
    """A line for each node, in running order: id, type, settings, and which nodes it takes from. DataError: a cycle."""
    order = running_order(graph)
    needed = set(order)
    lines = []
    for key in (*order, *(key for key in graph if key not in needed)):
        inputs = graph[key]["inputs"]
        values = [f"{short(name)}={short(value)}" for name, value in inputs.items() if not is_link(value)]
        links = [f"{short(name)} ← {short(value[0])}" for name, value in inputs.items() if is_link(value)]
        idle = [] if key in needed else [_("no picture needs it")]
        about = "; ".join(part for part in (", ".join(values), ", ".join(links), *idle) if part)
        lines.append(f"{short(key):>4}  {short(graph[key]['class_type']):28}{about}".rstrip())
    return lines


def short(value: Any) -> Any:
    """A value fit for a line, a text by its first LONGEST characters."""
    huge = isinstance(value, int) and abs(value) > 10**30
    if not isinstance(value, (str, list, dict)) and not huge:
        return value
    text = " ".join(str(value)[: 20 * LONGEST].split())
    text = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
