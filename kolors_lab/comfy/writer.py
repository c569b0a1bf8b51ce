"""Workflows as files that ComfyUI opens: made of settings, in its own words, in either form."""

from __future__ import annotations

import json
from itertools import count
from typing import Any

from kolors_lab.comfy.drawing import layout
from kolors_lab.comfy.editor import OURS
from kolors_lab.comfy.graph import Graph, is_link, link_faults, name_of, short
from kolors_lab.comfy.nodes import NODES, kind_of
from kolors_lab.core.errors import DataError
from kolors_lab.prompts.syntax import choose
from kolors_lab.sampling.ksampler import scaled
from kolors_lab.sampling.metadata import loras_of

STAND_IN = {"leading": "ddim_uniform"}  # our scheduler: ComfyUI's nearest, the same sigmas at 20, 25 and 50 steps


def workflow_api(settings: dict[str, Any]) -> Graph:
    """The settings of one picture as a graph of MinusZone's Kolors nodes and ComfyUI's own, in the API form.

    `settings` are those a PNG of ours carries. LoRA and picture files go by their names.
    """
    model, seed = ["1", 0], settings["seed"]
    syntax = {"prompt_syntax": settings.get("prompt_syntax", "webui")}
    texts = [choose(settings.get(name, ""), seed) for name in ("prompt", "negative_prompt")]
    graph = {
        "1": _node("MZ_KolorsUNETLoaderV2", unet_name="kolors_unet_fp16.safetensors"),
        "2": _node("MZ_ChatGLM3Loader", chatglm3_checkpoint="chatglm3-fp16.safetensors"),
        "3": _node("VAELoader", vae_name="sdxl.vae.safetensors"),
        "4": _node("MZ_ChatGLM3_V2", chatglm3_model=["2", 0], text=texts[0], **syntax),
        "5": _node("MZ_ChatGLM3_V2", chatglm3_model=["2", 0], text=texts[1], **syntax),
    }
    for n, (mark, strength) in enumerate(loras_of(settings)):
        key = str(10 if n == 0 else 15 + n)
        lora = {"lora_name": _plain_name(mark), "strength_model": strength}
        graph[key] = _node("LoraLoaderModelOnly", model=model, **lora)
        model = [key, 0]
    knobs = {"sampler_name": "euler", "scheduler": "leading", "denoise": 1.0}
    knobs = {name: settings.get(name, knobs.get(name)) for name in ("seed", "steps", "cfg", *knobs)}
    links = {"model": model, "positive": ["4", 0], "negative": ["5", 0]}
    graph |= _start(settings)
    graph["7"] = _node("KSampler", **links, latent_image=["6", 0], **knobs)
    if hires := settings.get("hires"):
        size = {side: scaled(settings[side], hires) for side in ("width", "height")}
        graph["11"] = _node("LatentUpscale", samples=["7", 0], upscale_method="bilinear", **size, crop="disabled")
        again = knobs | {"denoise": settings["hires_denoise"]}
        graph["12"] = _node("KSampler", **links, latent_image=["11", 0], **again)
    graph["8"] = _node("VAEDecode", samples=["12" if hires else "7", 0], vae=["3", 0])
    graph["9"] = _node("SaveImage", images=["8", 0], filename_prefix="kolors_lab")
    return outward(graph)


def _node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs, "_meta": {"title": class_type}}


def _plain_name(mark: str) -> str:
    """`name.safetensors` of `name.safetensors:0123456789ab`."""
    return mark.rpartition(":")[0] or mark


def _start(settings: dict[str, Any]) -> Graph:
    """What sampling starts from, as node 6: nothing, or a picture cut to the size."""
    size, batch = {"width": settings["width"], "height": settings["height"]}, settings.get("batch", 1)
    if not settings.get("image"):
        return {"6": _node("EmptyLatentImage", **size, batch_size=batch)}
    scale = {"upscale_method": "bicubic", **size, "crop": "center"}
    return {
        "13": _node("LoadImage", image=_plain_name(settings["image"])),
        "14": _node("ImageScale", image=["13", 0], **scale),
        "15": _node("VAEEncode", pixels=["14", 0], vae=["3", 0]),
        "6": _node("RepeatLatentBatch", samples=["15", 0], amount=batch),
    }


def outward(graph: Graph) -> Graph:
    """The graph in ComfyUI's words only; what it has none for rides along in `_meta`, where `normalise` finds it."""
    told = Graph()
    for key, node in graph.items():
        inputs, ours = dict(node["inputs"]), {}
        if isinstance(inputs.get("scheduler"), str) and inputs["scheduler"] in STAND_IN:
            ours["scheduler"] = inputs["scheduler"]
            inputs["scheduler"] = STAND_IN[inputs["scheduler"]]
        if "prompt_syntax" in inputs and node["class_type"] in NODES:
            ours["prompt_syntax"] = inputs.pop("prompt_syntax")
        told[key] = {**node, "inputs": inputs, "_meta": node["_meta"] | ({OURS: ours} if ours else {})}
    return told


def check_whole(graph: Graph) -> None:
    """Raise DataError, naming the node, for what ComfyUI would not run: links that are missing, lead nowhere or to the
    wrong kind, and values whose inputs are not known."""
    if not graph:
        raise DataError("the workflow holds no nodes: there is nothing to export")
    for key, node in graph.items():
        if found := link_faults(graph, key):
            raise DataError("{at}: {fault}; ComfyUI would not run it", at=name_of(graph, key), fault=found[0])
        if odd := [name for name, value in node["inputs"].items() if not is_json(value)]:
            raise DataError(
                "{at}: {name} = {value} holds NaN or Infinity, which no JSON has; write a number",
                at=name_of(graph, key), name=short(odd[0]), value=short(node["inputs"][odd[0]]),
            )  # fmt: skip
        if unnamed := [name for name in node["inputs"] if name.startswith("value ")]:
            raise DataError(
                "{at}: it is not known here which inputs its {count} values are for; export the API form in ComfyUI "
                "itself",
                at=name_of(graph, key),
                count=len(unnamed),
            )


def is_json(value: Any) -> bool:
    """Whether other programs can read a value: Python writes NaN into JSON, which has none."""
    try:
        return bool(json.dumps(value, allow_nan=False))
    except ValueError:
        return False


# The editor's form ----------------------------------------------------------------------------------------------------


def to_ui(graph: Graph) -> dict[str, Any]:
    """A graph in the API form as the editor's (UI 0.4), each node in a column right of those it takes from.

    Raises DataError for nodes that are not known here: how the editor draws them is not either.
    """
    if unknown := [key for key, node in graph.items() if node["class_type"] not in NODES]:
        raise DataError(
            "{at}: its slots are not known here; export it with --format api", at=name_of(graph, unknown[0])
        )
    numbers = {key: int(key) for key in graph if key.isdecimal()}
    free = count(max(numbers.values(), default=0) + 1)
    numbers |= {key: next(free) for key in graph if key not in numbers}  # a node of a subgraph is called 12:3
    places = layout(graph)
    nodes = {key: _ui_node(node, numbers[key], places[key]) for key, node in graph.items()}
    links: list[list] = []
    for key, node in graph.items():
        for slot, put in enumerate(nodes[key]["inputs"]):
            source, output = node["inputs"][put["name"]]
            put["link"] = len(links) + 1
            links.append([put["link"], numbers[source], output, numbers[key], slot, put["type"]])
            nodes[source]["outputs"][output]["links"].append(put["link"])
    return {
        "last_node_id": max(numbers.values()),
        "last_link_id": len(links),
        "nodes": list(nodes.values()),
        "links": links,
        "groups": [],
        "config": {},
        "extra": {},
        "version": 0.4,
    }


def _ui_node(node: dict[str, Any], number: int, place: tuple[int, int]) -> dict[str, Any]:
    known, inputs = kind_of(node), node["inputs"]
    values: list[Any] = []
    for name, widget in known.widgets.items():  # one that is linked still holds its place
        values += [widget.default if is_link(inputs.get(name)) else inputs.get(name, widget.default)]
        values += ["fixed"] if widget.is_seed else []
    values += [value for name, value in inputs.items() if known.is_row(name)]
    slots = [
        {"name": name, "type": KINDS.get(kind.kind, kind.kind), "link": None}
        | ({"widget": {"name": name}} if name in known.widgets else {})
        for name, kind in (known.links | known.widgets).items()
        if is_link(inputs.get(name))
    ]
    ours = {key: value for key, value in node["_meta"].items() if key == OURS}
    return {
        "id": number,
        "type": node["class_type"],
        "pos": [60 + 360 * place[0], 60 + 300 * place[1]],
        "size": [320, 60 + 26 * len(known.inputs)],
        "flags": {},
        "order": place[0],
        "mode": 0,
        "inputs": slots,
        "outputs": [{"name": kind, "type": kind, "links": [], "slot_index": n} for n, kind in enumerate(known.outputs)],
        "properties": {"Node name for S&R": node["class_type"]} | ours,
        "widgets_values": values,
    }


KINDS = {int: "INT", float: "FLOAT", str: "STRING", bool: "BOOLEAN"}
ONE_RUN = {"prompt", "seed", "steps", "cfg", "width", "height"}  # settings that a workflow can be made of


def chunks(graph: Graph) -> dict[str, str]:
    """The text chunks of a PNG that ComfyUI opens as this workflow, ASCII: `prompt` (API) and `workflow` (UI)."""
    return {"prompt": json.dumps(graph), "workflow": json.dumps(to_ui(graph))}
