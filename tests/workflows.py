"""Workflows in the editor's form for the tests: built by hand, and decorated as the editor's users do."""

from __future__ import annotations

import random
from typing import Any

from kolors_lab.comfy.nodes import NODES
from kolors_lab.comfy.registry import Widget


def node(number: Any, kind: str, values: Any = None, inputs: tuple = (), outputs: tuple = (), **more: Any) -> dict:
    """A node of the editor; `inputs` are (name, type, link) or (name, type, link, widget)."""
    slots = [
        {"name": put[0], "type": put[1], "link": put[2]} | ({"widget": {"name": put[3]}} if len(put) > 3 else {})
        for put in inputs
    ]
    return {
        "id": number, "type": kind, "mode": 0, "widgets_values": values, "inputs": slots,
        "outputs": [{"name": of, "type": of} for of in outputs],
    } | more  # fmt: skip


def object_info() -> dict[str, dict]:
    """What a running ComfyUI says of the nodes that are known here (`/object_info`)."""
    info = {}
    for name, known in NODES.items():
        required = {put: _spec(put, kind) for put, kind in known.inputs.items() if not _optional(kind)}
        optional = {put: _spec(put, kind) for put, kind in known.inputs.items() if _optional(kind)}
        order = {"required": list(required), "optional": list(optional)}
        info[name] = {"input": {"required": required, "optional": optional}, "input_order": order, "name": name}
    return info


def _optional(kind: Any) -> bool:
    return not isinstance(kind, Widget) and kind.optional


def _spec(name: str, kind: Any) -> list:
    if not isinstance(kind, Widget):
        return [kind.kind]
    options: dict[str, Any] = {} if kind.default is None else {"default": kind.default}
    options |= {"control_after_generate": True} if kind.is_seed else {}
    options |= {"dynamicPrompts": True} if kind.dynamic else {}
    if kind.choices:
        return [list(kind.choices), options]
    return [{int: "INT", float: "FLOAT", str: "STRING", bool: "BOOLEAN"}.get(kind.kind, "*"), options]


# What users do to a workflow, each a change that must not change what runs --------------------------------------------


def decorate(ui: dict, seed: int, times: int = 12) -> dict:
    """The workflow with so many changes chosen at random, none of which changes what it draws."""
    chosen = random.Random(seed)
    for _ in range(times):
        chosen.choice((reroute, set_and_get, primitive, note, enclose, bypassed_lora))(ui, chosen)
    return ui


def _free(ui: dict) -> int:
    return max(int(each["id"]) for each in ui["nodes"]) + 1


def _between(ui: dict, link: list, kind: str, **more: Any) -> dict:
    """Put a node of one input and one output into a link."""
    number, new = _free(ui), max(each[0] for each in ui["links"]) + 1
    added = node(number, kind, None, (("", link[5], new),), (link[5],)) | more
    ui["nodes"].append(added)
    ui["links"].append([new, link[1], link[2], number, 0, link[5]])
    link[1:3] = [number, 0]
    return added


def reroute(ui: dict, chosen: random.Random) -> None:
    _between(ui, chosen.choice(ui["links"]), "Reroute")


def bypassed_lora(ui: dict, chosen: random.Random) -> None:
    if links := [link for link in ui["links"] if link[5] == "MODEL"]:
        added = _between(ui, chosen.choice(links), "LoraLoaderModelOnly", mode=4, widgets_values=["a", 0.5])
        added["inputs"][0]["name"] = "model"


def set_and_get(ui: dict, chosen: random.Random) -> None:
    link, name = chosen.choice(ui["links"]), f"name {_free(ui)}"
    setter = _between(ui, link, "SetNode", widgets_values=[name])
    getter = node(_free(ui), "GetNode", [name], (), (link[5],))
    ui["nodes"].append(getter)
    link[1:3] = [getter["id"], 0]
    assert setter["inputs"][0]["link"] != link[0]


def primitive(ui: dict, chosen: random.Random) -> None:
    """A seed, or a text, that a primitive holds. The widget keeps the same value, as it does once it ran; where they
    differ the editor takes the primitive's, and the converter the widget's."""
    names = {"KSampler": "seed", "MZ_ChatGLM3_V2": "text"}
    free = [
        each for each in ui["nodes"]
        if each["type"] in names and not any(slot["name"] == names[each["type"]] for slot in each["inputs"])
    ]  # fmt: skip
    if not free:
        return
    target = chosen.choice(free)
    name, number, link = names[target["type"]], _free(ui), max(each[0] for each in ui["links"]) + 1
    kind = "INT" if name == "seed" else "STRING"
    ui["nodes"].append(node(number, "PrimitiveNode", [target["widgets_values"][0], "fixed"], (), (kind,)))
    target["inputs"].append({"name": name, "type": kind, "link": link, "widget": {"name": name}})
    ui["links"].append([link, number, 0, target["id"], len(target["inputs"]) - 1, kind])


def note(ui: dict, chosen: random.Random) -> None:
    ui["nodes"].append(node(_free(ui), chosen.choice(("Note", "MarkdownNote")), ["a note"]))


def enclose(ui: dict, chosen: random.Random) -> None:
    """Put one node into a subgraph of its own, its first widget promoted."""
    free = [each for each in ui["nodes"] if each["type"] in NODES and each.get("mode") == 0 and not is_inner(each)]
    inner = chosen.choice(free)
    number, key = _free(ui), f"{chosen.getrandbits(32):08x}-1111-4222-8333-{_free(ui):012x}"
    links: list[dict] = []
    puts, outs, host_slots, values = [], [], [], []
    for slot, put in enumerate(inner["inputs"]):
        links.append(_inside(len(links) + 1, -10, len(puts), inner["id"], slot, put["type"]))
        puts.append({"name": f"in {slot}", "type": put["type"], "linkIds": [len(links)]})
        host_slots.append({**put, "name": f"in {slot}"})
        if put.get("widget"):
            values.append("not this one")  # the link from outside wins
    known = NODES[inner["type"]]
    name = next(iter(known.widgets), None)
    if name and not any(put["name"] == name for put in inner["inputs"]):
        links.append(_inside(len(links) + 1, -10, len(puts), inner["id"], len(inner["inputs"]), "*"))
        puts.append({"name": "promoted", "type": "*", "linkIds": [len(links)]})
        host_slots.append({"name": "promoted", "type": "*", "link": None, "widget": {"name": "promoted"}})
        values.append(inner["widgets_values"][0])
        inner["inputs"].append({"name": name, "type": "*", "link": None, "widget": {"name": name}})
        inner["widgets_values"][0] = "not this one"
    for slot, put in enumerate(inner["inputs"]):
        put["link"] = slot + 1
    for slot, out in enumerate(inner["outputs"]):
        links.append(_inside(len(links) + 1, inner["id"], slot, -20, slot, out["type"]))
        outs.append({"name": out["name"], "type": out["type"], "linkIds": [len(links)]})
    host = node(number, key, values) | {"inputs": host_slots, "outputs": [dict(out) for out in inner["outputs"]]}
    for link in ui["links"]:
        link[1] = number if link[1] == inner["id"] else link[1]
        link[3] = number if link[3] == inner["id"] else link[3]
    ui["nodes"] = [host if each is inner else each for each in ui["nodes"]]
    definition = {"id": key, "nodes": [inner], "links": links, "inputs": puts, "outputs": outs}
    ui.setdefault("definitions", {"subgraphs": []})["subgraphs"].append(definition)


def _inside(number: int, origin: Any, slot: int, target: Any, place: int, kind: str) -> dict:
    return {
        "id": number, "origin_id": origin, "origin_slot": slot, "target_id": target, "target_slot": place,
        "type": kind,
    }  # fmt: skip


def is_inner(each: dict) -> bool:
    return len(each["type"]) == 36
