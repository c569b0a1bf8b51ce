"""Group nodes, which ComfyUI had before subgraphs, as subgraphs.

They name nothing: inputs, outputs and values of all their nodes stand one after the other on the host, the one node
that stands for them.
"""

from __future__ import annotations

from typing import Any

from kolors_lab.comfy.graph import called
from kolors_lab.comfy.nodes import NODES
from kolors_lab.core.errors import DataError
from kolors_lab.sampling.ksampler import CONTROLS


def as_subgraphs(groups: dict[str, dict]) -> dict[str, dict]:
    """Definitions by the types of their nodes, `workflow>name`; `is_group` marks them, inputs are called 0, 1, 2, …"""
    return {f"workflow{sign}{name}": _definition(group) for name, group in groups.items() for sign in ">/"}


def _definition(group: dict) -> dict:
    """A group as a subgraph. What is linked to nothing within is a slot of the host; so is an output that the group
    calls external."""
    links: list[dict] = []

    def link(origin: Any, slot: int, target: Any, place: int, kind: str) -> int:
        """Enter a link; its id."""
        ends = {"origin_id": origin, "origin_slot": slot, "target_id": target, "target_slot": place}
        links.append({"id": len(links) + 1, **ends, "type": kind})
        return len(links)

    inner = [row for row in group["links"] if row[0] is not None]  # node, slot, node, slot, id, type
    linked = {(row[2], row[3]): link(str(row[0]), row[1], str(row[2]), row[3], row[5]) for row in inner}
    used = {(row[0], row[1]) for row in inner} - {(row[0], row[1]) for row in group.get("external") or ()}
    nodes, puts, outs = [], [], []
    for index, node in enumerate(group["nodes"]):
        slots = [dict(slot) for slot in node.get("inputs") or ()]
        for place, slot in sorted(enumerate(slots), key=lambda item: bool(item[1].get("widget"))):  # widgets come last
            slot["link"] = linked.get((index, place))
            if slot["link"] is None:
                slot["link"] = link(-10, len(puts), str(index), place, slot["type"])
                puts.append({"name": len(puts), "linkIds": [slot["link"]]})
        for place, slot in enumerate(node.get("outputs") or ()):
            if (index, place) not in used:
                outs.append({"linkIds": [link(str(index), place, -20, len(outs), slot["type"])]})
        nodes.append({**node, "id": index, "inputs": slots})
    config = group.get("config") or {}
    return {"nodes": nodes, "links": links, "inputs": puts, "outputs": outs, "is_group": True, "config": config}


def values_within(definition: dict, host: dict) -> dict[str, dict[str, Any]]:
    """The values of a group node by node within and widget. DataError where it does not have the slots of its group, or
    values that cannot be told apart."""
    for side in ("inputs", "outputs"):
        if len(host.get(side) or ()) != len(definition[side]):
            raise _unlike(host, side)
    if isinstance(host.get("widgets_values"), dict):
        raise _unlike(host, "widgets_values")
    given = list(host.get("widgets_values") or ())
    found: dict[str, dict[str, Any]] = {}
    for node in definition["nodes"]:
        linked = {slot["name"] for slot in node["inputs"] if slot.get("widget")}
        shown = (definition["config"].get(str(node["id"])) or {}).get("input") or {}
        for name in _widgets(node, host):
            if name not in linked and given and (shown.get(name) or {}).get("visible", True):
                found.setdefault(str(node["id"]), {})[name] = given.pop(0)
                if given and (given[0] in CONTROLS or given[0] == name == "image"):  # LoadImage's button says so too
                    given.pop(0)
    if any(value not in (None, "") for value in given):
        raise _unlike(host, "widgets_values")
    return {node: {name: value for name, value in each.items() if value is not None} for node, each in found.items()}


def _unlike(host: dict, side: str) -> DataError:
    """What to raise where a host does not fit its group: only ComfyUI can tell then what it meant."""
    return DataError(
        "{at}: its {side} are not those of its group; in ComfyUI convert it to nodes and save again",
        at=called(host["id"], host["type"]),
        side=side,
    )


def _widgets(node: dict, host: dict) -> list[str]:
    """The widgets of a node within, in order. DataError where it has values and is not known here."""
    if node["type"] == "PrimitiveNode":
        return ["value"]
    if node["type"] in NODES:
        return list(NODES[node["type"]].widgets)
    if node.get("widgets_values"):
        raise DataError(
            "{at}: it holds a {kind}, unknown here; in ComfyUI convert it to nodes and save again",
            at=called(host["id"], host["type"]),
            kind=node["type"],
        )
    return []
