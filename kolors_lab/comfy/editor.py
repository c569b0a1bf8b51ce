"""The editor's form of a workflow (UI 0.4 and 1.0) as a graph: what ComfyUI's page does before it queues.

Links are followed through reroutes, Set and Get nodes, broadcasts, primitives, bypassed nodes and the borders of
subgraphs; notes and muted nodes go; the values of widgets find their inputs. Every link is followed only once, however
many lead on from it. What the host of a subgraph or a group gives to the nodes within is told by `hosts` and `groups`.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

from kolors_lab.comfy.everywhere import EVERYWHERE, INPUT, SEED, broadcast
from kolors_lab.comfy.graph import Graph, bounded, called, is_link, is_required, short
from kolors_lab.comfy.groups import as_subgraphs, values_within
from kolors_lab.comfy.hosts import CONTROL_NAMES, Hosts, Proxy
from kolors_lab.comfy.nodes import NODES, kind_of
from kolors_lab.comfy.registry import MAX_TEXT, Node
from kolors_lab.comfy.texts import without_comments
from kolors_lab.core.errors import DataError
from kolors_lab.core.language import _
from kolors_lab.sampling.ksampler import CONTROLS

OURS = "kolors_lab"  # where a node keeps what ComfyUI has no word for: `_meta` (API), `properties` (UI)
MAX_NODES = 50_000  # with all that subgraphs hold, as often as they are used
MAX_DEPTH = 32  # of subgraphs within subgraphs
MUTED, BYPASSED = 2, 4  # modes
REROUTES = ("Reroute", "Reroute (rgthree)", "SetNode")
NOTES = ("Note", "MarkdownNote", "Label (rgthree)", "Bookmark (rgthree)")
BUTTONS = (  # rgthree's, which only press other nodes' buttons
    "Fast Muter (rgthree)", "Fast Bypasser (rgthree)", "Fast Groups Muter (rgthree)",
    "Fast Groups Bypasser (rgthree)", "Fast Actions Button (rgthree)", "Mute / Bypass Repeater (rgthree)",
    "Mute / Bypass Relay (rgthree)", "Random Unmuter (rgthree)", "Node Collector (rgthree)",
)  # fmt: skip
# The editor's own: nothing of them is computed
VIRTUAL = {*REROUTES, *NOTES, *BUTTONS, *EVERYWHERE, "PrimitiveNode", "GetNode"}
PREVIEWS = ("videopreview", "preview")  # what previews leave among values by name
UPLOAD = (None, "", "image")  # what the button for a file leaves behind the last value


class _Muted(NamedTuple):
    """A link that comes from a muted node, `node` as messages call it."""

    node: str


class _Found(NamedTuple):
    """Where a link comes from in the end: [id, slot], a primitive's value, _Muted, or None where nothing is linked."""

    value: Any


class _Scope:
    """The nodes of the workflow, or of one use of a subgraph: ids in the graph are `prefix` and their own.

    `host` is the node in `parent` that stands for the subgraph. `values`: what it gives, by node within and widget.
    """

    def __init__(self, data: dict, prefix: str = "", parent: _Scope | None = None, host: dict | None = None):
        self.data, self.prefix, self.parent = data, prefix, parent
        self.depth: int = parent.depth + 1 if parent else 0
        self.nodes = {str(node["id"]): node for node in data["nodes"]}
        if len(self.nodes) < len(data["nodes"]):
            twice = Counter(str(node["id"]) for node in data["nodes"]).most_common(1)[0][0]
            raise DataError(
                "node {id}: two nodes have this id; save the workflow again in ComfyUI", id=f"{prefix}{twice}"
            )
        self.links = dict(_link(link) for link in data.get("links") or () if link)  # litegraph leaves holes
        self.values: dict[str, dict[str | Proxy, Any]] = {}
        self.sent = broadcast(data, self.links, (MUTED, BYPASSED))
        self.links |= {("broadcast", *source): source for source in self.sent.sources.values()}
        slots, by_place = (host or {}).get("inputs") or (), data.get("is_group")
        self.host_links = {
            n if by_place else slot["name"]: parent.link_into(str(host["id"]), slot) if parent and host else None
            for n, slot in enumerate(slots)
        }
        setters = [(_first_value(node), _link_into(node)) for node in data["nodes"] if node["type"] == "SetNode"]
        # of several of one name the first that is linked
        self.kept = dict(setters) | {name: link for name, link in reversed(setters) if link is not None}

    def name_of(self, key: str) -> str:
        """A node of this scope, as every message calls it."""
        return called(self.prefix + key, short(self.nodes[key]["type"]))

    def link_into(self, key: str, slot: dict) -> object:
        """The link of an input, or else that of what is broadcast to it."""
        source = self.sent.sources.get((key, slot["name"]))
        return slot.get("link") if source is None else ("broadcast", *source)

    def link_outside(self, slot: int) -> object:
        """The link in the parent that feeds the input `slot` of this subgraph."""
        return self.host_links.get(self.data["inputs"][slot]["name"])

    def link_within(self, slot: int) -> object:
        """The link in here that feeds the output `slot` of this subgraph."""
        return next(iter(self.data["outputs"][slot].get("linkIds") or ()), None)


def _link(link: list | dict) -> tuple[object, tuple[str, int]]:
    """Id, and node and slot that it comes from. Version 0.4 has lists, 1.0 and subgraphs objects."""
    if isinstance(link, dict):
        return link["id"], (str(link["origin_id"]), int(link["origin_slot"]))
    return link[0], (str(link[1]), int(link[2]))


def _link_into(node: dict) -> object:
    """The link into a node of one input."""
    return (node.get("inputs") or [{}])[0].get("link")


def _is_on(node: dict) -> bool:
    """Whether a node is neither muted nor bypassed."""
    return node.get("mode", 0) not in (MUTED, BYPASSED)


def _first_value(node: dict) -> object:
    """What the first widget of a primitive, SetNode or GetNode holds; None where that is no single value."""
    values = node.get("widgets_values")
    values = list(values.values()) if isinstance(values, dict) else values
    return values[0] if values and not isinstance(values[0], (list, dict)) else None


class Editor:
    """A workflow as the editor saves it; `graph()` is what it would run."""

    def __init__(self, data: dict):
        definitions = (data.get("definitions") or {}).get("subgraphs") or []
        self.definitions: dict[str, dict] = {definition["id"]: definition for definition in definitions}
        self.definitions |= as_subgraphs((data.get("extra") or {}).get("groupNodes") or {})
        self.hosts = Hosts(self.definitions)
        self.scopes: dict[str, _Scope] = {"": _Scope(data)}
        self.known: dict[tuple[str, object], Any] = {}  # where a link comes from in the end, by scope and link
        self.cut: dict[str, str] = {}  # nodes that lack a muted one: that one
        self.notes: list[str] = []
        self._open()

    def _open(self) -> None:
        """Make a scope for every use of a subgraph, however deep."""
        waiting, count = [self.scopes[""]], 0
        while waiting:
            scope = waiting.pop()
            self._hear(scope)
            count += len(scope.nodes)
            if scope.depth > MAX_DEPTH:
                raise DataError(
                    "subgraphs nest deeper than {most}: no workflow that can run; take it apart", most=MAX_DEPTH
                )
            if count > MAX_NODES:
                raise DataError("more than {most} nodes: no workflow that can run; take it apart", most=MAX_NODES)
            for key, node in scope.nodes.items():
                if node["type"] in self.definitions and _is_on(node):
                    inner = _Scope(self.definitions[node["type"]], f"{scope.prefix}{key}:", scope, node)
                    self.scopes[inner.prefix] = inner
                    self._hand_in(scope, key, inner)
                    waiting.append(inner)

    def _hand_in(self, scope: _Scope, key: str, inner: _Scope) -> None:
        """Give the nodes of a subgraph or group the values that their host, the node `key` of `scope`, has for them."""
        host = scope.nodes[key]
        if inner.data.get("is_group"):
            inner.values = values_within(inner.data, host)
            return
        inner.values, unused = self.hosts.values_within(host, inner.nodes, scope.values.get(key, {}))
        if unused:
            at = called(scope.prefix + key, _("subgraph"))
            self.notes.append(_("{at}: not used, for no such input: {values}").format(at=at, values=short(unused)))

    def _hear(self, scope: _Scope) -> None:
        """Tell of broadcasts that reach nothing and inputs that get several. DataError for one that is required."""
        for (key, name), senders in scope.sent.unsure.items():
            kind, at, names = scope.nodes[key]["type"], scope.name_of(key), ", ".join(map(scope.name_of, senders))
            if kind in NODES and is_required(kind, name):
                raise DataError(
                    "{at}: which broadcast its input {name} gets cannot be told: {senders}; in ComfyUI choose "
                    "“Convert to real links” and save again",
                    at=at, name=name, senders=names,
                )  # fmt: skip
            told = _("{at}: which broadcast its input {name} gets cannot be told: {senders}; it gets none")
            self.notes.append(told.format(at=at, name=name, senders=names))
        for key in scope.sent.idle:
            self.notes.append(_("{at}: no input is open to what it broadcasts").format(at=scope.name_of(key)))

    # The graph ----------------------------------------------------------------------------------------------------

    def graph(self) -> Graph:
        """All nodes that compute. `notes` tells what is left out."""
        graph = Graph(
            (scope.prefix + key, self._node(scope, key, node))
            for scope in self.scopes.values()
            for key, node in scope.nodes.items()
            if node["type"] not in VIRTUAL and node["type"] not in self.definitions and _is_on(node)
        )
        gone = self._needing_muted(graph)
        kept = Graph((key, node) for key, node in graph.items() if key not in gone)
        for node in kept.values():
            node["inputs"] = {k: v for k, v in node["inputs"].items() if not (is_link(v) and v[0] in gone)}
        kept.notes = tuple(bounded(self.notes))
        return kept

    def _needing_muted(self, graph: Graph) -> set[str]:
        """Nodes that cannot run without a muted one, however far behind it. The notes name them."""
        behind: dict[str, list[str]] = {}
        for key, node in graph.items():
            for name, value in node["inputs"].items():
                if is_link(value) and is_required(node["class_type"], name):
                    behind.setdefault(value[0], []).append(key)
        gone, waiting = dict(self.cut), list(self.cut)
        while waiting:
            key = waiting.pop()
            for other in behind.get(key, ()):
                if other not in gone:
                    gone[other] = gone[key]
                    waiting.append(other)
        self.notes += [
            _("{at} does not run: it needs {muted}, which is muted").format(
                at=called(key, short(graph[key]["class_type"])), muted=muted
            )
            for key, muted in gone.items()
        ]
        return set(gone)

    def _node(self, scope: _Scope, key: str, node: dict) -> dict[str, Any]:
        """A node as the graph has it. A link wins over the value of the widget that it goes into."""
        at = scope.name_of(key)
        inputs = self._values(scope, key, node, at)
        for slot in node.get("inputs") or ():
            link = scope.link_into(key, slot)
            source = None if link is None else self._source(scope, link, at)
            if isinstance(source, _Muted):
                if is_required(node["type"], slot["name"]):
                    self.cut[scope.prefix + key] = source.node
            elif source is not None:
                inputs[str(slot["name"])] = source
        made = {"class_type": str(node["type"]), "inputs": inputs}
        self._take_comments_out(made, at)
        meta = {"title": node.get("title") or node["type"]}
        if isinstance(ours := (node.get("properties") or {}).get(OURS), dict):
            meta[OURS] = ours
        return made | {"_meta": meta}

    def _values(self, scope: _Scope, key: str, node: dict, at: str) -> dict[str, Any]:
        """Widgets by name. What a host gives wins over what the node has by name, that over what it has in order."""
        given, named = node.get("widgets_values") or [], node.get("widgets_values_named") or {}
        if isinstance(given, dict):
            values = {name: value for name, value in given.items() if name not in (*CONTROL_NAMES, *PREVIEWS)}
        elif known := NODES.get(node["type"]):
            values, rest = _in_order(known, list(given))
            if rest := [value for value in rest if value not in UPLOAD and value not in named.values()]:
                told = _("{at}: not used, since it has no such widget: {values}")
                self.notes.append(told.format(at=at, values=short(rest)))
        else:
            values = _by_slots(node, list(given))
        values |= {name: value for name, value in named.items() if value is not None and name not in CONTROL_NAMES}
        values |= {str(name): value for name, value in scope.values.get(key, {}).items()}
        return values

    def _take_comments_out(self, node: dict[str, Any], at: str) -> None:
        """Make dynamic texts what the editor sends, those that come from primitives too."""
        inputs = node["inputs"]
        for name in (name for name, widget in kind_of(node).widgets.items() if widget.dynamic):
            if isinstance(text := inputs.get(name), str) and len(text) <= MAX_TEXT:
                inputs[name] = without_comments(text)
                if inputs[name] != text:
                    told = _("{at}: comments are taken out of {name}, as ComfyUI does")
                    self.notes.append(told.format(at=at, name=name))

    # Links --------------------------------------------------------------------------------------------------------

    def _source(self, scope: _Scope, link: object, at: str) -> Any:
        """Where a link comes from in the end, as in _Found. All links on the way there are known from then on."""
        trail: dict[tuple[str, object], None] = {}
        found: Any = None
        while link is not None:
            place = (scope.prefix, link)
            if place in self.known:
                found = self.known[place]
                break
            if place in trail:
                raise DataError("{at}: its link runs in a circle of reroutes; link it to a node that computes", at=at)
            trail[place] = None
            step = self._step(scope, link, at)
            if isinstance(step, _Found):
                found = step.value
                break
            scope, link = step
        self.known |= dict.fromkeys(trail, found)
        return found

    def _step(self, scope: _Scope, link: object, at: str) -> _Found | tuple[_Scope, object]:
        """One step up along a link: to another link, or its end."""
        key, slot = scope.links.get(link, (None, 0))
        if key == INPUT and scope.parent:
            return scope.parent, scope.link_outside(slot)
        if key not in scope.nodes:
            raise DataError(
                "{at}: its link {link} comes from nowhere; link that input again in ComfyUI", at=at, link=link
            )
        node = scope.nodes[key]
        kind, mode = node["type"], node.get("mode", 0)
        if mode == MUTED:
            return _Found(_Muted(scope.name_of(key)))
        if mode == BYPASSED:
            return scope, _passed(node, slot)
        if kind == SEED and (link_in := _link_into(node)) is not None:
            return scope, link_in
        if kind in ("PrimitiveNode", SEED):
            return _Found(scope.values.get(key, {}).get("value", _first_value(node)))
        if kind in REROUTES:
            return scope, _link_into(node)
        if kind == "GetNode":
            return self._kept(scope, key, _first_value(node))
        if kind in self.definitions:
            inner = self.scopes[f"{scope.prefix}{key}:"]
            return inner, inner.link_within(slot)
        return _Found([scope.prefix + key, slot])

    def _kept(self, scope: _Scope, key: str, name: object) -> _Found | tuple[_Scope, object]:
        """The step from a GetNode to the link into the SetNode of that name, here or in a scope around."""
        place: _Scope | None = scope
        while place:
            if name in place.kept:
                return place, place.kept[name]
            place = place.parent
        told = _("{at}: no SetNode keeps {name!r}")
        self.notes.append(told.format(at=scope.name_of(key), name=short(name)))
        return _Found(None)


def _in_order(known: Node, given: list) -> tuple[dict[str, Any], list]:
    """Widgets of a known node and what is left: values in the order of its inputs, one more behind a seed if that is a
    control word, which older files write as true or false. A widget turned into an input still holds its place."""
    if known.rows:
        loras = [value for value in given if isinstance(value, dict) and "lora" in value]
        return {f"lora_{n}": value for n, value in enumerate(loras, 1)}, []
    values: dict[str, Any] = {}
    for name, widget in known.widgets.items():
        if given:
            values[name] = given.pop(0)
        if widget.is_seed and given and (given[0] in CONTROLS or isinstance(given[0], bool)):
            given.pop(0)
    return {name: value for name, value in values.items() if value is not None}, given


def _by_slots(node: dict, given: list) -> dict[str, Any]:
    """Widgets of an unknown node, by the names of the inputs that newer files give them; else `value 1`, `value 2`."""
    names = [str(slot["widget"]["name"]) for slot in node.get("inputs") or () if slot.get("widget")]
    plain = [value for value in given if value not in CONTROLS]
    if len(names) == len(plain):
        return dict(zip(names, plain, strict=True))
    return {f"value {n}": value for n, value in enumerate(given, 1)}


def _passed(node: dict, slot: int) -> object:
    """The link that a bypassed node passes on at `slot`: of an input of that output's type, the same slot first."""
    kind, inputs = node["outputs"][slot]["type"], node.get("inputs") or []
    linked = [put for put in (*inputs[slot : slot + 1], *inputs) if put.get("link") is not None]
    fits = [put for put in linked if put["type"] == kind] or [put for put in linked if _agree(put["type"], kind)]
    return fits[0]["link"] if fits else None


def _agree(one: object, other: object) -> bool:
    """Whether two slots can be linked: `*` is of any type, `IMAGE,MASK` of either, and the case does not count."""
    types = [set(str(kind).lower().split(",")) for kind in (one, other)]
    return "*" in types[0] | types[1] or not types[0].isdisjoint(types[1])
