"""ComfyUI workflows on a preset's model, without ComfyUI.

kolors-lab comfy run workflow.json --preset tiny --out runs/comfy

What could stop a run is found before anything runs, and what is changed to fit the preset is said.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from kolors_lab.comfy.drawing import draw
from kolors_lab.comfy.executor import Job, Workbench, prompts_of
from kolors_lab.comfy.graph import Graph, check, describe, escapes, faults, is_link, name_of, running_order
from kolors_lab.comfy.nodes import NODES
from kolors_lab.comfy.reader import read_forms, read_workflow
from kolors_lab.comfy.settings import settings_of
from kolors_lab.comfy.writer import chunks, outward, to_ui
from kolors_lab.core.errors import DataError, ModelError, SettingError
from kolors_lab.core.files import replacing
from kolors_lab.models.loading import check_bits
from kolors_lab.models.presets import get_preset
from kolors_lab.sampling.ksampler import check_name
from kolors_lab.sampling.metadata import write_picture

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL import Image

    from kolors_lab.models.presets import Preset

LORAS = {"lora_name": "model", "lora_path": "kolors_model"}  # the widget with the file: the input that a skip passes on
SIZES = ("width", "height", "crop_w", "crop_h", "target_width", "target_height")
WEIGHTS = ("model", "chatglm3_checkpoint", "unet_name", "ckpt_name", "vae_name")


@dataclass(frozen=True)
class ComfyShowConfig:
    """A ComfyUI workflow: its nodes in running order, their settings, and what would stop it here.

    Args:
        file: a workflow's .json (the editor's or the API's), or a PNG that carries one
        out: a PNG to draw the graph into, or none
    """

    file: str
    out: str | None = None


@dataclass(frozen=True)
class ComfyRunConfig:
    """Run a ComfyUI workflow on a preset's model; its pictures carry the workflow again.

    Args:
        file: a workflow's .json (the editor's or the API's), or a PNG that carries one
        preset: tiny, kolors, or a folder that holds a KolorsPipeline, in place of the weights that the file names
        out: the folder for the pictures; none there is replaced
        loras: the folder of the LoRA files; only their names in the workflow count, not its paths
        missing_loras: a LoRA that is not there: refuse the workflow, or skip it and say so
        images: the folder of the pictures that LoadImage takes
        text_encoder_bits: 4 or 8: the text encoder in so many bits (CUDA, needs bitsandbytes), for a small card
    """

    file: str
    preset: str = "tiny"
    out: str = "runs/comfy"
    loras: str | None = None
    missing_loras: str = "refuse"
    images: str | None = None
    text_encoder_bits: int | None = None

    def __post_init__(self):
        check_name("missing_loras", self.missing_loras, ("refuse", "skip"))
        check_bits("text_encoder_bits", self.text_encoder_bits)


@dataclass(frozen=True)
class ComfyExportConfig:
    """Write the workflow of a picture as a file that ComfyUI opens.

    Args:
        picture: a PNG made here or by ComfyUI
        out: the .json to write; one of that name is replaced
        format: ui, as the editor saves it, or api, as it runs
    """

    picture: str
    out: str = "workflow.json"
    format: str = "ui"

    def __post_init__(self):
        check_name("format", self.format, ("ui", "api"))


# Before anything runs -------------------------------------------------------------------------------------------------


def fit(
    graph: Graph,
    preset: Preset,
    loras: str | Path | None = None,
    missing_loras: str = "refuse",
    images: str | Path | None = None,
) -> Job:
    """A workflow checked and made to fit the preset: its sizes, its `{a|b}` choices, its files found in the folders.

    Raises DataError, with node id and type, for all that could stop it, files included.
    """
    check(graph)
    graph = {key: {**graph[key], "inputs": dict(graph[key]["inputs"])} for key in running_order(graph)}
    named = dict.fromkeys(
        str(node["inputs"][name])
        for node in graph.values()
        for name in WEIGHTS
        if name in node["inputs"] and not is_link(node["inputs"][name])
    )
    notes = [f"weights: {', '.join(named)} → those of {preset.name}"] if named else []
    notes += _fit_sizes(graph, preset.size)
    _settle_texts(graph)
    files: dict[str, Path] = {}
    for key in list(graph):
        if widget := next((name for name in LORAS if name in graph[key]["inputs"]), None):
            notes += _find_lora(graph, key, widget, loras, missing_loras == "skip", files)
        elif graph[key]["class_type"] == "LoadImage":
            files[key] = _find_image(graph, key, images)
    return Job(graph, files, tuple(notes))


def _fit_sizes(graph: Graph, own: int) -> list[str]:
    """Scale all sizes alike to latents of the model's own area, unless the factor would be within 1/2 and 2."""
    sized = [node["inputs"] for node in graph.values() if node["class_type"] in ("EmptyLatentImage", "KolorsSampler")]
    if not sized:
        return []
    width, height = sized[0]["width"], sized[0]["height"]
    scale = own / (width * height) ** 0.5
    if 0.5 <= scale <= 2:
        return []
    for node in graph.values():
        for name in set(SIZES) & NODES[node["class_type"]].widgets.keys():
            value = node["inputs"][name]
            least = 0 if not value or name.startswith("crop") else 64
            node["inputs"][name] = max(least, round(value * scale / 8) * 8)
    now = f"{sized[0]['width']} x {sized[0]['height']}"
    return [f"sizes: all times {scale:.3g}, {width} x {height} → {now}, since the model's own size is {own} px"]


def _settle_texts(graph: Graph) -> None:
    """`{a|b}` by lot, from the seed of the first sampler: equal workflows choose alike. DataError for a bad weight."""
    from kolors_lab.prompts.syntax import choose, parse

    inputs = [node["inputs"] for node in graph.values()]
    seed = next((each[name] for each in inputs for name in ("seed", "noise_seed") if name in each), 0)
    for key, node in graph.items():
        syntax = "plain" if node["class_type"] == "KolorsTextEncode" else node["inputs"].get("prompt_syntax", "comfyui")
        for name in {"text", "prompt", "negative_prompt"} & node["inputs"].keys():
            try:
                text = node["inputs"][name] = choose(node["inputs"][name], seed)
                parse(text, syntax)
            except SettingError as error:
                raise DataError(f"{name_of(graph, key)}: {error}") from error


def _find_lora(
    graph: Graph, key: str, widget: str, folder: str | Path | None, skip: bool, files: dict[str, Path]
) -> list[str]:
    """Put the node's LoRA file into `files`, or bypass the node where it may be skipped; returns what to tell."""
    from kolors_lab.lora.formats import read_lora

    name = str(graph[key]["inputs"][widget]).replace("\\", "/").rpartition("/")[2]
    file = _inside(folder, name) or _inside(folder, Path(name).stem + ".safetensors")
    if file:
        try:
            read_lora(file, graph[key]["inputs"].get("lora_alpha"))  # damage and pickles with code are found now
        except ModelError as error:
            raise ModelError(f"{name_of(graph, key)}: {error}") from error
        files[key] = file
        return [] if file.name == name else [f"{name_of(graph, key)}: {file.name} in place of {name}"]
    where = f"is not in {folder}" if folder else "is needed: say with --loras which folder it is in"
    if not skip:
        raise DataError(f"{name_of(graph, key)}: LoRA {name} {where}; or leave it out with --missing_loras skip")
    note = f"{name_of(graph, key)}: LoRA {name} is missing and left out"
    passed = {"MODEL": LORAS[widget], "KOLORSMODEL": LORAS[widget], "CLIP": "clip"}
    outputs = NODES[graph[key]["class_type"]].outputs
    gone = graph.pop(key)["inputs"]
    for node in graph.values():
        for put, value in node["inputs"].items():
            if is_link(value) and value[0] == key:
                node["inputs"][put] = gone.get(passed[outputs[value[1]]])
    return [note]


def _find_image(graph: Graph, key: str, folder: str | Path | None) -> Path:
    """The picture that a LoadImage names, in the folder or one within it, checked."""
    from kolors_lab.core.images import open_image

    name, at = str(graph[key]["inputs"]["image"]), name_of(graph, key)
    for place in ("input", "output", "temp"):  # ComfyUI's folders
        name = name.removesuffix(f" [{place}]")
    if escapes(name):
        raise DataError(f"{at}: image = {name!r} leads out of the folder of pictures; give a plain name")
    file = _inside(folder, name)
    if file is None:
        where = f"is not in {folder}" if folder else "is needed: say with --images which folder it is in"
        raise DataError(f"{at}: picture {name} {where}")
    try:
        open_image(file)
    except DataError as error:
        raise DataError(f"{at}: {error}") from error
    return file


def _inside(folder: str | Path | None, name: str) -> Path | None:
    """The file `name` in the folder; None where there is none or a symlink leads out."""
    if not folder or not name.strip(". "):
        return None
    file = Path(folder, name)
    return file if file.is_file() and file.resolve().is_relative_to(Path(folder).resolve()) else None


# The commands ---------------------------------------------------------------------------------------------------------


def comfy_show(config: ComfyShowConfig) -> list[str]:
    """The workflow in lines: its nodes, and what would stop it. Raises DataError."""
    graph = read_workflow(config.file)
    lines = [*describe(graph), *(f"cannot run here: {fault}" for fault in faults(graph))]
    if config.out:
        with replacing(config.out) as temporary:
            draw(graph).savefig(temporary, format="png", dpi=110)
        lines.append(config.out)
    return lines


def comfy_run(
    config: ComfyRunConfig,
    on_step: Callable[[int, int], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> list[Path]:
    """Run a workflow and write its pictures; returns their files. `say` hears what was changed to fit the preset.

    Raises KolorsLabError, before anything runs, for what cannot be run.
    """
    from kolors_lab.sampling.pipeline import load_for

    preset = get_preset(config.preset)
    job = fit(read_workflow(config.file), preset, config.loras, config.missing_loras, config.images)
    for note in job.notes:
        (say or (lambda _: None))(note)
    pipe = load_for(preset, prompts_of(job.graph), config.text_encoder_bits)
    return save_pictures(job, Workbench(pipe).run(job, on_step), config.out, preset.name)


def save_pictures(job: Job, pictures: dict[str, list[Image.Image]], folder: str | Path, model: str) -> list[Path]:
    """Write the pictures of a run as `prefix_00001_.png`, numbers going on, each with the workflow that was run."""
    files: list[Path] = []
    for key, images in pictures.items():
        prefix = job.graph[key]["inputs"].get("filename_prefix", "preview")
        for index, image in enumerate(images):
            settings = {"model": model, **settings_of(job.graph, key, index), "width": image.width}
            settings |= {"height": image.height}
            file = next(f for n in count(1) if not (f := Path(folder, f"{prefix}_{n:05}_.png")).exists())
            files.append(write_picture(image, file, settings, chunks(outward(job.graph))))
    return files


def comfy_export(config: ComfyExportConfig) -> Path:
    """Write the workflow that a picture carries, or a .json of the other form, for ComfyUI. Raises DataError."""
    forms = read_forms(config.picture)
    wanted = {"ui": "workflow", "api": "prompt"}[config.format]
    if wanted in forms:
        data = forms[wanted]
    else:
        graph = outward(read_workflow(config.picture))
        data = graph if config.format == "api" else to_ui(graph)
    with replacing(config.out) as temporary:
        temporary.write_text(json.dumps(data, ensure_ascii=False, indent=2), encoding="utf-8")
    return Path(config.out)
