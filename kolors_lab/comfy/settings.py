"""What a workflow says of one of its pictures, as settings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kolors_lab.comfy.files import NO_LORA
from kolors_lab.comfy.graph import Graph, ends, filled, is_link, rows
from kolors_lab.comfy.nodes import kind_of
from kolors_lab.comfy.nodes.sampling import KIJAI_SCHEDULERS
from kolors_lab.core.errors import DataError
from kolors_lab.sampling.ksampler import scaled

PARTS = ("noise", "guider", "sampler", "sigmas")  # what a sampler in parts is put together of
ON = ("images", "samples", "pixels", "image", "latent_image")  # the way up from a picture to its sampler
SIDES = ("width", "height")
HOPS = 100


def settings_of(graph: Graph, output: str | None = None, index: int = 0) -> dict[str, Any]:
    """The settings of one picture of a graph, as far as its last sampler has them: what `workflow_api` takes. Two
    samplers that are one picture drawn larger are `hires`, and the sizes are those of the first.

    `output` is the node that shows or saves it (the first if None), `index` its place in the batch.
    Raises DataError where no sampler leads to it, or nodes that are not known here lie between.
    """
    try:
        return _settings(filled(graph), output, index)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise DataError(
            "the settings cannot be told: a node on the way is not known here ({error!r})", error=error
        ) from error


def _settings(graph: Graph, output: str | None, index: int) -> dict[str, Any]:
    first = output or next(iter(ends(graph)), "")
    sampler = next(filter(_is_sampler, _upwards(graph, [first, 0], ON)), None)
    if sampler is None:
        raise DataError("no sampler leads to a picture in this workflow; it has nothing like a prompt and a seed")
    if (first := _first_pass(graph, sampler)) is not None:
        hires = {"hires": _enlarged(graph, first, sampler), "hires_denoise": sampler["inputs"]["denoise"]}
        return _of_sampler(graph, first, index) | hires
    return _of_sampler(graph, sampler, index)


def _of_sampler(graph: Graph, sampler: dict[str, Any], index: int) -> dict[str, Any]:
    inputs = put_together(graph, sampler["inputs"])
    names = ("steps", "cfg", "sampler_name", "scheduler", "denoise")
    settings = {name: inputs[name] for name in names if name in inputs}
    settings |= {"seed": inputs.get("seed", inputs.get("noise_seed", 0)), **_texts(graph, inputs, index)}
    if "denoise_strength" in inputs:
        sampler, scheduler = KIJAI_SCHEDULERS[inputs["scheduler"]]
        settings |= {"sampler_name": sampler, "scheduler": scheduler, "denoise": inputs["denoise_strength"]}
    return settings | _size(graph, inputs) | _loras(graph, inputs)


def _first_pass(graph: Graph, sampler: dict[str, Any]) -> dict[str, Any] | None:
    """The sampler of which this one is the second pass, as `hires` draws it: all but denoise is the same, and all that
    happens to the latents in between is that they grow. None for any other."""
    way = _upwards(graph, sampler["inputs"].get("latent_image"), ("samples",))
    between, first = next(way, None), next(way, None)
    if not between or not first or between["class_type"] != "LatentUpscale" or first["class_type"] != "KSampler":
        return None
    own = {"latent_image": None, "denoise": None}
    alike = first["inputs"] | own == sampler["inputs"] | own and between["inputs"]["upscale_method"] == "bilinear"
    return first if alike and _enlarged(graph, first, sampler) else None


def _enlarged(graph: Graph, first: dict[str, Any], second: dict[str, Any]) -> float | None:
    """How many times larger the second sampler draws; None where its picture has another shape or is no larger."""
    before, after = ([_size(graph, each["inputs"]).get(side) for side in SIDES] for each in (first, second))
    if not all(type(side) is int and side > 0 for side in (*before, *after)):
        return None
    factor = after[0] / before[0]
    fits = all(scaled(was, factor) == side for was, side in zip(before, after, strict=True))
    return factor if 1 < factor <= 4 and fits else None


def _upwards(graph: Graph, link: Any, names: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """The node at a link and those above, each linked to the first of these inputs that is; at most HOPS."""
    for _ in range(HOPS):
        if not is_link(link) or link[0] not in graph:
            return
        yield graph[link[0]]
        link = next((up for name in names if is_link(up := graph[link[0]]["inputs"].get(name))), None)


def _is_sampler(node: dict[str, Any]) -> bool:
    known = kind_of(node)
    return "LATENT" in known.outputs and bool({"steps", "sigmas"} & known.inputs.keys())


def put_together(graph: Graph, inputs: dict[str, Any]) -> dict[str, Any]:
    """The inputs of a sampler and of its parts as if they were one node's."""
    inputs = dict(inputs)
    for name in PARTS:
        for _ in range(HOPS):
            if not is_link(link := inputs.pop(name, None)):
                break
            inputs = graph[link[0]]["inputs"] | inputs  # a part may have parts: sigmas that were split
    if "conditioning" in inputs:
        inputs |= {"positive": inputs["conditioning"], "negative": None, "cfg": 1.0}
    return inputs


def _texts(graph: Graph, inputs: dict[str, Any], index: int) -> dict[str, Any]:
    if "kolors_embeds" in inputs:
        both = graph[inputs["kolors_embeds"][0]]["inputs"]
        each = [text for text in both["prompt"].split("|") for _ in range(both["num_images_per_prompt"])]
        return {
            "prompt": each[index % len(each)],
            "negative_prompt": both["negative_prompt"],
            "prompt_syntax": "plain",
            "batch": len(each),
        }
    positive = _encoder(graph, inputs["positive"])
    if "kolors_embeds" in positive:
        return _texts(graph, {"kolors_embeds": positive["kolors_embeds"]}, index)
    negative = _encoder(graph, inputs["negative"]) if inputs["negative"] else {}
    syntax = positive.get("prompt_syntax", "comfyui")
    return {"prompt": positive["text"], "negative_prompt": negative.get("text", ""), "prompt_syntax": syntax}


def _size(graph: Graph, inputs: dict[str, Any]) -> dict[str, Any]:
    """Size and batch as far as the sampler, or the empty latent image before it, says them."""
    source = inputs if "width" in inputs else graph[inputs["latent_image"][0]]["inputs"]
    names = {"width": "width", "height": "height", "batch_size": "batch"}
    return {ours: source[name] for name, ours in names.items() if name in source}


def _encoder(graph: Graph, link: list) -> dict[str, Any]:
    """The inputs of the node that encodes a text, above those that put something else on it, such as a ControlNet."""
    for _ in range(HOPS):
        inputs = graph[link[0]]["inputs"]
        if "text" in inputs or "kolors_embeds" in inputs:
            break
        link = inputs["conditioning"] if "conditioning" in inputs else inputs[("positive", "negative")[link[1]]]
    return inputs


def _loras(graph: Graph, inputs: dict[str, Any]) -> dict[str, Any]:
    """The one LoRA as `lora` and `lora_strength`, several as `loras`, pairs of both, the first put on first."""
    found: list[tuple[str, float]] = []
    for node in _upwards(graph, inputs.get("model") or inputs.get("kolors_model"), ("model", "kolors_model")):
        stack = list(_upwards(graph, node["inputs"].get("lora_stack"), ("lora_stack",)))
        own = [pair for part in (*stack[::-1], node) for pair in _own_loras(part) if pair[0] not in NO_LORA]
        found = own + found
    if len(found) == 1:
        return {"lora": found[0][0], "lora_strength": found[0][1]}
    return {"loras": found} if found else {}


def _own_loras(node: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """What a node puts on itself, each with its strength for the model."""
    inputs = node["inputs"]
    for name, widget in kind_of(node).widgets.items():
        if widget.folder == "loras" and name != "lora_path" and inputs.get(widget.switch, "On") == "On":
            lists = name.replace("lora_name_", "model_weight_").replace("lora_", "strength_")
            yield inputs[name], inputs["strength_model" if name == "lora_name" else lists]
    yield from ((row["lora"], row["strength"]) for _, row in rows(node) if row.get("on", True))
