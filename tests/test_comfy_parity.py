"""The graph of an editor's file is the one that Comfy-Org's own converter makes of it (comfy-cli)."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path

import pytest
from comfy_cli.workflow_to_api import convert_ui_to_api
from test_workflow import SETTINGS, kijai
from workflows import decorate, object_info

from kolors_lab.comfy.everywhere import SEED
from kolors_lab.comfy.graph import is_link, is_required
from kolors_lab.comfy.nodes import NODES
from kolors_lab.comfy.reader import normalise
from kolors_lab.comfy.writer import outward, to_ui, workflow_api

CASES = Path(__file__).parent / "cases" / "comfy"
ON_PURPOSE = {  # where the converter does otherwise than the editor, and so do we
    "ui_boolean_control_default_like.json": "it takes the true of older files for the number of steps",
    "widgets_values_named_ui_hole.json": "it does not read values by name",
    "subgraph_ui.json": "it leaves the values of the older proxyWidgets to a migration",
}


def runs(graph: dict) -> dict:
    """Ids, types and inputs, without nodes that lack what they need: the converter keeps those behind a muted node,
    and ComfyUI's server then refuses them; here they are taken out while reading, and named."""
    while lost := {
        key for key, node in graph.items()
        if any(is_required(node["class_type"], name) and name not in node["inputs"] for name in links_of(node))
        or any(is_link(value) and value[0] not in graph for value in node["inputs"].values())
    }:  # fmt: skip
        graph = {key: node for key, node in graph.items() if key not in lost}
    return {key: (node["class_type"], _comfyuis(node["inputs"])) for key, node in graph.items()}


def _comfyuis(inputs: dict) -> dict:
    """Inputs without our own word, which the converter does not carry over."""
    return {name: value for name, value in inputs.items() if name != "prompt_syntax"}


def links_of(node: dict) -> list[str]:
    return list(NODES[node["class_type"]].links) if node["class_type"] in NODES else []


def both(data: dict) -> tuple[dict, dict]:
    theirs = convert_ui_to_api(deepcopy(data), object_info())
    return runs(normalise(data)), runs(normalise(theirs))


@pytest.mark.parametrize("file", sorted(CASES.glob("*.json")), ids=lambda file: file.stem)
def test_files_from_the_wild_come_to_the_same_graph(file):
    data = json.loads(file.read_text(encoding="utf-8"))
    if "nodes" not in data:
        pytest.skip("the API's form already")
    ours, theirs = both(data)
    assert (ours == theirs) == (file.name not in ON_PURPOSE)


@pytest.mark.parametrize("seed", range(40))
def test_whatever_users_do_to_a_workflow_comes_to_the_same_graph(seed):
    settings = SETTINGS | {"hires": 1.5, "hires_denoise": 0.5, "lora": "a.safetensors", "scheduler": "karras"}
    plain = to_ui(workflow_api(settings))
    ours, theirs = both(decorate(deepcopy(plain), seed))
    assert ours == theirs
    assert sorted(map(repr, values(ours))) == sorted(map(repr, values(runs(normalise(plain)))))


def values(graph: dict) -> list:
    """Types and what is set in the nodes, without ids, which subgraphs change."""
    return [
        (kind, sorted((name, value) for name, value in inputs.items() if not is_link(value)))
        for kind, inputs in graph.values()
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(10))
def test_kijais_workflow_too(seed):
    data = kijai()
    ours, theirs = both(decorate(data, seed, 8))
    assert ours == theirs


@pytest.mark.parametrize("name", sorted(NODES))
def test_every_node_that_is_known_reads_as_the_converter_reads_it(name):
    known = NODES[name]
    if known.rows:
        pytest.skip("its list of rows has names of its own there")
    if name == SEED:
        pytest.skip("in an editor's file it is what it broadcasts, and goes with it")
    graph = {"1": {"class_type": name, "inputs": {}, "_meta": {"title": name}}}
    for number, (put, widget) in enumerate(known.widgets.items()):
        plain = {int: 8 * number + 64, float: number / 10, str: f"text {number}", bool: False}
        graph["1"]["inputs"][put] = widget.choices[-1] if widget.choices else plain[widget.kind]
    ours = normalise(to_ui(graph))
    theirs = normalise(convert_ui_to_api(to_ui(graph), object_info()))
    assert ours["1"]["inputs"] == theirs["1"]["inputs"] == normalise(outward(normalise(graph)))["1"]["inputs"]
