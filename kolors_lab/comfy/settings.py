"""What a workflow says of one of its pictures, as settings."""

from __future__ import annotations

from typing import Any

from kolors_lab.comfy.graph import PICTURES, Graph, is_link
from kolors_lab.comfy.nodes import KIJAI_SCHEDULERS
from kolors_lab.core.errors import DataError

SAMPLERS = ("KSampler", "KSamplerAdvanced", "KolorsSampler")


def settings_of(graph: Graph, output: str | None = None, index: int = 0) -> dict[str, Any]:
    """The settings of one picture of a graph, as far as its last sampler has them: what `workflow_api` takes.

    `output` is the node that shows or saves it (the first if None), `index` its place in the batch.
    Raises DataError where no sampler leads to it, or nodes that are not known here lie between.
    """
    try:
        return _settings(graph, output, index)
    except (KeyError, TypeError) as error:
        raise DataError(f"the settings cannot be told: a node on the way is not known here ({error!r})") from error


def _settings(graph: Graph, output: str | None, index: int) -> dict[str, Any]:
    key = output or next((key for key, node in graph.items() if node["class_type"] in PICTURES), "")
    while (node := graph.get(key)) and node["class_type"] not in SAMPLERS:
        links = [node["inputs"].get(name) for name in ("images", "samples", "pixels", "image")]
        key = next((link[0] for link in links if is_link(link)), "")
    if not node:
        raise DataError("no sampler leads to a picture in this workflow; it has nothing like a prompt and a seed")
    inputs = node["inputs"]
    names = ("steps", "cfg", "sampler_name", "scheduler", "denoise")
    settings = {name: inputs[name] for name in names if name in inputs}
    settings |= {"seed": inputs.get("seed", inputs.get("noise_seed")), **_texts(graph, inputs, index)}
    if node["class_type"] == "KolorsSampler":
        sampler, scheduler = KIJAI_SCHEDULERS[inputs["scheduler"]]
        settings |= {"sampler_name": sampler, "scheduler": scheduler, "denoise": inputs["denoise_strength"]}
    return settings | _size(graph, inputs) | _last_lora(graph, inputs)


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
    positive, negative = (graph[inputs[name][0]]["inputs"] for name in ("positive", "negative"))
    syntax = positive.get("prompt_syntax", "comfyui")
    return {"prompt": positive["text"], "negative_prompt": negative["text"], "prompt_syntax": syntax}


def _size(graph: Graph, inputs: dict[str, Any]) -> dict[str, Any]:
    """Size and batch as far as the sampler, or the empty latent image before it, says them."""
    source = inputs if "width" in inputs else graph[inputs["latent_image"][0]]["inputs"]
    names = {"width": "width", "height": "height", "batch_size": "batch"}
    return {ours: source[name] for name, ours in names.items() if name in source}


def _last_lora(graph: Graph, inputs: dict[str, Any]) -> dict[str, Any]:
    source = graph[(inputs.get("model") or inputs.get("kolors_model"))[0]]["inputs"]
    if "lora_name" not in source:
        return {}
    return {"lora": source["lora_name"], "lora_strength": source["strength_model"]}
