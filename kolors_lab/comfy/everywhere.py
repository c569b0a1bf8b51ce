"""cg-use-everywhere's nodes, which broadcast what they get to every input of its type that nothing is linked to.

What the extension noted in the file (`extra.ue_links`) counts; without it inputs are matched as it does: by type, a
seed to inputs called so, two prompts by their inputs' names. Rules of other kinds (patterns, groups, colours) are not
followed: an input that they might reach is refused or named.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from kolors_lab.core.errors import DataError

INPUT = "-10"  # the border of a subgraph that links come in by, as a node
SEED = "Seed Everywhere"
EVERYWHERE = ("Anything Everywhere", "Anything Everywhere3", "Anything Everywhere?", "Prompts Everywhere", SEED)
PROMPTS = (  # the extension's own patterns for the first and the second input
    re.compile(r"(?:_|\b)pos(?:itive|_|\b)|^prompt|正面", re.IGNORECASE),
    re.compile(r"(?:_|\b)neg(?:ative|_|\b)|负面", re.IGNORECASE),
)
ANY = re.compile("")
MOST = 100  # broadcasts; each is held against every input
RULES = (
    "title_regex", "input_regex", "prompt_regex", "negative_regex", "group_regex", "group_restricted",
    "color_restricted", "priority", "priority_boost",
)  # fmt: skip


class Sender(NamedTuple):
    """What one input of a broadcasting node sends: the link or, of a seed, the node that it comes from; to which
    inputs; what counts most; and whether it has rules that are not followed here."""

    node: str
    source: tuple[str, int]
    kind: str
    names: re.Pattern
    rank: int
    ruled: bool


class Broadcast(NamedTuple):
    """Where inputs get from what is broadcast, by node and input; several senders, of which none can be told to be
    the one meant, by node and input; and broadcasting nodes that reach no input."""

    sources: dict[tuple[str, str], tuple[str, int]]
    unsure: dict[tuple[str, str], list[str]]
    idle: list[str]


def broadcast(data: Mapping[str, Any], links: Mapping[object, tuple[str, int]], off: tuple[int, ...]) -> Broadcast:
    """What the broadcasting nodes of a workflow or subgraph send where. `off`: the modes of nodes that do not count.

    Raises DataError for more than MOST broadcasts.
    """
    nodes = {str(node["id"]): node for node in data["nodes"]}
    live = {key: node for key, node in nodes.items() if node.get("mode", 0) not in off}
    nodes[INPUT] = {"outputs": data.get("inputs")}
    senders = [sender for key, node in live.items() for sender in _senders(key, node, nodes, links)]
    if len(senders) > MOST:
        raise DataError("more than {most} broadcasts: no workflow that can run; take it apart", most=MOST)
    noted = _noted(data, live, nodes)
    found = Broadcast({}, {}, [])
    if not senders and not noted:
        return found
    reached = set()
    for key, node in live.items():
        for place, slot in enumerate(() if node["type"] in EVERYWHERE else node.get("inputs") or ()):
            if slot.get("link") in links or not _takes(node, slot):
                continue
            if (key, place) in noted:
                controller, found.sources[key, slot["name"]] = noted[key, place]
                reached.add(controller)
            elif fits := _best(key, slot, senders, nodes, off):
                reached |= {sender.node for sender in fits}
                if len({sender.source for sender in fits}) == 1 and not any(sender.ruled for sender in fits):
                    found.sources[key, slot["name"]] = fits[0].source
                else:
                    found.unsure[key, slot["name"]] = list(dict.fromkeys(sender.node for sender in fits))
    found.idle.extend(dict.fromkeys(sender.node for sender in senders if sender.node not in reached))
    return found


def _senders(key: str, node: dict, nodes: Mapping[str, dict], links: Mapping[object, tuple]) -> Iterator[Sender]:
    """What a node sends: one that broadcasts, or since 7.4 all outputs of any node that is set to."""
    ruled = _is_ruled(node)
    if node["type"] == SEED:
        yield Sender(key, (key, 0), "INT", re.compile("seed|随机种", re.IGNORECASE), 1, ruled)
    elif node["type"] in EVERYWHERE:
        prompts = node["type"] == "Prompts Everywhere"
        for place, slot in enumerate(node.get("inputs") or ()):
            if (source := links.get(slot.get("link"))) is not None and not slot.get("widget"):
                outputs = (nodes.get(source[0]) or {}).get("outputs") or ()
                origin = outputs[source[1]].get("type", "*") if source[1] < len(outputs) else "*"
                kind = origin if slot["type"] == "*" else slot["type"]
                names = PROMPTS[place > 0] if prompts else ANY
                yield Sender(key, source, str(kind), names, int(prompts), ruled)
    elif (node.get("properties") or {}).get("ue_convert"):
        for place, slot in enumerate(node.get("outputs") or ()):
            yield Sender(key, (key, place), str(slot["type"]), ANY, 0, ruled)


def _is_ruled(node: dict) -> bool:
    """Whether a broadcasting node has rules of its own; `.*` is none."""
    properties = node.get("properties") or {}
    rules = {**properties, **(properties.get("ue_properties") or {})}
    said = [rules.get(name) for name in RULES]
    if node["type"] == "Anything Everywhere?" and "ue_properties" not in properties:
        values = node.get("widgets_values") or ()
        said += values.values() if isinstance(values, dict) else values
    return any(value not in (None, "", ".*", 0) for value in said)


def _noted(
    data: Mapping[str, Any], live: Mapping[str, dict], nodes: Mapping[str, dict]
) -> dict[tuple[str, int], tuple[str, tuple[str, int]]]:
    """The broadcasting node and the source of each input, by node and place, as the extension itself noted them."""
    links = (data.get("extra") or {}).get("ue_links") or ()
    return {
        (str(link["downstream"]), int(link["downstream_slot"])): (
            str(link["controller"]), (str(link["upstream"]), int(link["upstream_slot"])),
        )
        for link in links if str(link["controller"]) in live and str(link["upstream"]) in nodes
    }  # fmt: skip


def _takes(node: dict, slot: dict) -> bool:
    """Whether an input may be broadcast to. A widget has its own value: it is open only where it was made an input,
    which older files say by listing it at all, newer ones, which list every widget, by a mark."""
    properties = node.get("properties") or {}
    marks = {**properties, **(properties.get("ue_properties") or {})}
    if marks.get("rejects_ue_links") or (marks.get("input_ue_unconnectable") or {}).get(slot["name"]):
        return False
    listed = "localized_name" not in slot and "widget_ue_connectable" not in marks
    return not slot.get("widget") or listed or bool((marks.get("widget_ue_connectable") or {}).get(slot["name"]))


def _best(key: str, slot: dict, senders: list[Sender], nodes: Mapping[str, dict], off: tuple[int, ...]) -> list[Sender]:
    """The senders that fit an input and count most; one from a muted node only where there is no other."""
    label = str(slot.get("label") or slot["name"])
    fits = [
        sender for sender in senders
        if sender.kind == slot.get("type") and sender.source[0] != key and sender.names.search(label)
    ]  # fmt: skip
    running = [sender for sender in fits if (nodes.get(sender.source[0]) or {}).get("mode", 0) not in off] or fits
    most = max((sender.rank for sender in running), default=0)
    return [sender for sender in running if sender.rank == most or sender.ruled]
