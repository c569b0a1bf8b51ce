"""ComfyUI workflows: the editor's form (UI 0.4 and 1.0), the form that runs (API), and the PNGs that carry either.

    graph = read_workflow("workflow.json")  # or a PNG, ComfyUI's or one of ours
    print(*describe(graph), *faults(graph), sep="\\n")

A graph is ComfyUI's API form: {id: {"class_type", "inputs", "_meta"}}, an input being a value or a link [id, slot].
All that is read is brought to it by `normalise`, and only it is checked, run and written. Nothing is run here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .errors import DataError
from .graph import PICTURES, Graph, is_link, is_required, layout
from .nodes import CONTROL, KIJAI_SCHEDULERS, NODES, NOTES, VIRTUAL
from .prompts import choose

LIMIT = 20 * 2**20  # bytes; a workflow of a thousand nodes has one
CHUNKS = ("prompt", "workflow")  # of a PNG; the seed in `prompt` is the one used, `workflow` may hold the next one
SAMPLERS = ("KSampler", "KSamplerAdvanced", "KolorsSampler")
MUTED, BYPASSED = 2, 4  # modes of the editor
OURS = "kolors_lab"  # where a node keeps what ComfyUI has no word for: `_meta` (API), `properties` (UI)
STAND_IN = {"leading": "ddim_uniform"}  # our scheduler: ComfyUI's nearest, the same sigmas at 20, 25 and 50 steps
_CUT = object()  # an input whose source is muted


# Reading --------------------------------------------------------------------------------------------------------------


def read_workflow(file: str | Path) -> Graph:
    """The workflow in a .json of either form or in a PNG, as a graph. Raises DataError."""
    forms = read_forms(file)
    try:
        return normalise(next(forms[chunk] for chunk in CHUNKS if chunk in forms))
    except DataError as error:
        raise DataError(f"{file}: {error}") from error


def read_forms(file: str | Path) -> dict[str, Any]:
    """What a file holds as it stands there: a PNG's chunks `prompt` (API) and `workflow` (UI), or a .json under one of
    these names. Raises DataError."""
    file = Path(file)
    try:
        if file.suffix.lower() == ".png":
            texts = _png_texts(file)
        elif (size := file.stat().st_size) > LIMIT:
            raise DataError(f"{file}: {size / 2**20:.0f} MB are no workflow; {LIMIT >> 20} MB at most are read")
        else:
            texts = {"": file.read_text(encoding="utf-8-sig")}
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is no text; give a workflow's .json or a PNG that carries one") from error
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}") from error
    forms = {chunk: _parse(text, file) for chunk, text in texts.items()}
    if "" in forms:
        whole = forms.pop("")
        forms["workflow" if isinstance(whole, dict) and "nodes" in whole else "prompt"] = whole
    elif OURS in forms and not any(chunk in forms for chunk in CHUNKS):  # a picture of ours older than these chunks
        forms["prompt"] = workflow_api(forms[OURS])
    if not any(chunk in forms for chunk in CHUNKS):
        raise DataError(f"{file} carries no workflow; ComfyUI's PNGs and ours do, unless a program has stripped them")
    return forms


def _png_texts(file: Path) -> dict[str, str]:
    from PIL import Image, UnidentifiedImageError
    from PIL.PngImagePlugin import iTXt

    try:
        with Image.open(file, formats=("PNG",)) as image:
            image.load()  # some writers put their text behind the pixels
            texts = {key: image.text[key] for key in (*CHUNKS, OURS) if key in image.text}
    except (UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{file} cannot be read as a PNG ({error})") from error
    except OSError as error:
        if error.errno:  # the file, not what is in it
            raise
        raise DataError(f"{file} is cut short or damaged ({error}); get it again") from error
    return {key: text if isinstance(text, iTXt) else _as_utf8(text) for key, text in texts.items()}


def _as_utf8(text: str) -> str:
    """tEXt is Latin-1 by the standard, and Pillow reads it so; some programs write raw UTF-8 into it."""
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text


def _parse(text: str, file: Path) -> Any:
    if len(text) > LIMIT:
        raise DataError(f"{file}: {len(text) >> 20} MB of text are no workflow; {LIMIT >> 20} MB at most are read")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file} holds no JSON ({error})") from error


# One form -------------------------------------------------------------------------------------------------------------


def normalise(data: Any) -> Graph:
    """Either form as a graph: links followed through reroutes, primitives and bypassed nodes, notes and muted nodes
    gone, values cast, those left out filled in. Raises DataError for anything that is no workflow or damaged."""
    if isinstance(data, dict) and isinstance(data.get("prompt"), dict):
        data = data["prompt"]  # what a browser sends to ComfyUI
    try:
        if isinstance(data, dict) and isinstance(data.get("nodes"), list):
            graph = _Editor(data).graph()
        elif isinstance(data, dict) and data and all("class_type" in node for node in data.values()):
            graph = {str(key): _api_node(node) for key, node in data.items() if node["class_type"] not in NOTES}
        else:
            raise DataError("holds no workflow: neither nodes and links, as the editor saves, nor a class_type each")
    except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
        raise DataError(f"the workflow is damaged ({error!r}); save it again in ComfyUI") from error
    for node in graph.values():
        _complete(node)
    return graph


def _api_node(node: dict) -> dict[str, Any]:
    inputs = {
        name: [str(value[0]), value[1]] if isinstance(value, list) and len(value) == 2 else value
        for name, value in node["inputs"].items()
    }
    return {"class_type": str(node["class_type"]), "inputs": inputs, "_meta": dict(node.get("_meta") or {})}


def _complete(node: dict[str, Any]) -> None:
    """Cast values, fill in defaults, and put our own words back where ComfyUI was given a stand-in for them."""
    inputs, ours = node["inputs"], node["_meta"].pop(OURS, None) or {}
    for name, widget in (NODES[node["class_type"]].widgets if node["class_type"] in NODES else {}).items():
        if not is_link(value := inputs.get(name, widget.default)) and value is not None:
            inputs[name] = widget.cast(value)
    if inputs.get("scheduler") == STAND_IN.get(ours.get("scheduler")) is not None:  # unless changed in ComfyUI
        inputs["scheduler"] = ours["scheduler"]
    if "prompt_syntax" in ours:
        inputs["prompt_syntax"] = ours["prompt_syntax"]


class _Editor:
    """A workflow as the editor saves it."""

    def __init__(self, data: dict):
        self.nodes = {str(node["id"]): node for node in data["nodes"]}
        self.links = dict(self._link(link) for link in data.get("links") or ())
        self.cut: set[str] = set()  # nodes that lack a muted one

    @staticmethod
    def _link(link: list | dict) -> tuple[object, tuple[str, int]]:
        """Version 0.4 has lists, 1.0 objects."""
        if isinstance(link, dict):
            return link["id"], (str(link["origin_id"]), int(link["origin_slot"]))
        return link[0], (str(link[1]), int(link[2]))

    def graph(self) -> Graph:
        graph = {
            key: self.node(key, node)
            for key, node in self.nodes.items()
            if node["type"] not in VIRTUAL and node.get("mode", 0) not in (MUTED, BYPASSED)
        }
        gone = self.cut
        while more := {key for key in graph.keys() - gone if self.needs(graph[key], gone)}:
            gone |= more
        kept = {key: node for key, node in graph.items() if key not in gone}
        for node in kept.values():
            node["inputs"] = {k: v for k, v in node["inputs"].items() if not (is_link(v) and v[0] in gone)}
        return kept

    @staticmethod
    def needs(node: dict, gone: set[str]) -> bool:
        sources = {name for name, value in node["inputs"].items() if is_link(value) and value[0] in gone}
        return any(is_required(node["class_type"], name) for name in sources)

    def node(self, key: str, node: dict) -> dict[str, Any]:
        inputs = self.values(node)
        for slot in node.get("inputs") or ():
            source = None if slot.get("link") is None else self.source(slot["link"], f"node {key} ({node['type']})")
            if source is _CUT and is_required(node["type"], slot["name"]):
                self.cut.add(key)
            elif source is not None and source is not _CUT:
                inputs[slot["name"]] = source
        meta = {"title": node.get("title") or node["type"]}
        if isinstance(ours := (node.get("properties") or {}).get(OURS), dict):
            meta[OURS] = ours
        return {"class_type": node["type"], "inputs": inputs, "_meta": meta}

    @staticmethod
    def values(node: dict) -> dict[str, Any]:
        """Widgets by name: values in the order of the node's inputs, one more behind a seed if it is a control word.

        A widget turned into an input still holds its place.
        """
        given = node.get("widgets_values") or []
        if isinstance(given, dict):
            return dict(given)
        if node["type"] not in NODES:
            return {f"value {n}": value for n, value in enumerate(given, 1)}
        rest, values = list(given), {}
        for name, widget in NODES[node["type"]].widgets.items():
            if rest:
                values[name] = rest.pop(0)
            if widget.is_seed and rest and rest[0] in CONTROL:
                rest.pop(0)
        return values

    def source(self, link: object, at: str) -> Any:
        """Where a link comes from: [id, slot], a primitive's value, _CUT if muted, None if nothing is linked."""
        seen = set()
        while link is not None:
            if link in seen:
                raise DataError(f"{at}: its link runs in a circle of reroutes; link it to a node that computes")
            seen.add(link)
            key, slot = self.links.get(link, (None, 0))
            if key not in self.nodes:
                raise DataError(f"{at}: its link {link} comes from nowhere; link that input again in ComfyUI")
            node = self.nodes[key]
            if node.get("mode", 0) == MUTED:
                return _CUT
            if node["type"] == "PrimitiveNode":
                return node["widgets_values"][0]
            if node["type"] == "Reroute":
                link = node["inputs"][0].get("link")
            elif node.get("mode", 0) == BYPASSED:
                link = self.passed(node, slot)
            else:
                return [key, slot]
        return None

    @staticmethod
    def passed(node: dict, slot: int) -> object:
        """The link that a bypassed node passes on at `slot`: of an input of that output's type, the same slot first."""
        kind, inputs = node["outputs"][slot]["type"], node.get("inputs") or []
        same = [
            put for put in (*inputs[slot : slot + 1], *inputs) if put["type"] == kind and put.get("link") is not None
        ]
        return same[0]["link"] if same else None


# Writing --------------------------------------------------------------------------------------------------------------


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
    if settings.get("lora"):
        name, strength = _plain_name(settings["lora"]), settings.get("lora_strength", 1.0)
        graph["10"] = _node("LoraLoaderModelOnly", model=model, lora_name=name, strength_model=strength)
        model = ["10", 0]
    knobs = {"sampler_name": "euler", "scheduler": "leading", "denoise": 1.0}
    knobs = {name: settings.get(name, knobs.get(name)) for name in ("seed", "steps", "cfg", *knobs)}
    links = {"model": model, "positive": ["4", 0], "negative": ["5", 0]}
    graph |= _start(settings)
    graph["7"] = _node("KSampler", **links, latent_image=["6", 0], **knobs)
    if hires := settings.get("hires"):
        size = {side: round(settings[side] * hires / 8) * 8 for side in ("width", "height")}
        graph["11"] = _node("LatentUpscale", samples=["7", 0], upscale_method="bilinear", **size, crop="disabled")
        again = knobs | {"denoise": settings["hires_denoise"]}
        graph["12"] = _node("KSampler", **links, latent_image=["11", 0], **again)
    graph["8"] = _node("VAEDecode", samples=["12" if hires else "7", 0], vae=["3", 0])
    graph["9"] = _node("SaveImage", images=["8", 0], filename_prefix="kolors_lab")
    return outward(graph)


def workflow_ui(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of one picture as a workflow that ComfyUI's editor opens (UI 0.4)."""
    return to_ui(workflow_api(settings))


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


def outward(graph: Graph) -> Graph:
    """The graph in ComfyUI's words only; what it has none for rides along in `_meta`, where `normalise` finds it."""
    told = {}
    for key, node in graph.items():
        inputs, ours = dict(node["inputs"]), {}
        if inputs.get("scheduler") in STAND_IN:
            ours["scheduler"] = inputs["scheduler"]
            inputs["scheduler"] = STAND_IN[inputs["scheduler"]]
        if "prompt_syntax" in inputs:
            ours["prompt_syntax"] = inputs.pop("prompt_syntax")
        told[key] = {**node, "inputs": inputs, "_meta": node["_meta"] | ({OURS: ours} if ours else {})}
    return told


def to_ui(graph: Graph) -> dict[str, Any]:
    """A graph in the API form as the editor's (UI 0.4), each node in a column right of those it takes from."""
    numbers = {key: int(key) for key in graph if key.isdecimal()}
    for key in graph:  # a subgraph's node is called 12:3
        numbers.setdefault(key, max(numbers.values(), default=0) + 1)
    places = layout(graph)
    nodes = {key: _ui_node(node, numbers[key], places[key]) for key, node in graph.items()}
    links: list[list] = []
    for key, node in graph.items():
        for put in nodes[key]["inputs"]:
            source, slot = node["inputs"][put["name"]]
            put["link"] = len(links) + 1
            links.append(
                [put["link"], numbers[source], slot, numbers[key], nodes[key]["inputs"].index(put), put["type"]]
            )
            nodes[source]["outputs"][slot]["links"].append(put["link"])
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
    known, inputs = NODES[node["class_type"]], node["inputs"]
    values = []
    for name, widget in known.widgets.items():
        values += [inputs[name], *(["fixed"] if widget.is_seed else [])]
    return {
        "id": number,
        "type": node["class_type"],
        "pos": [60 + 360 * place[0], 60 + 300 * place[1]],
        "size": [320, 60 + 26 * len(known.inputs)],
        "flags": {},
        "order": place[0],
        "mode": 0,
        "inputs": [{"name": n, "type": t.rstrip("?"), "link": None} for n, t in known.links.items() if n in inputs],
        "outputs": [{"name": kind, "type": kind, "links": [], "slot_index": n} for n, kind in enumerate(known.outputs)],
        "properties": {"Node name for S&R": node["class_type"]} | {k: v for k, v in node["_meta"].items() if k == OURS},
        "widgets_values": values,
    }
