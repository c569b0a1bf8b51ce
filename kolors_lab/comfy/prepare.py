"""ComfyUI workflows on a preset's model, without ComfyUI.

kolors-lab comfy run workflow.json --preset tiny --out runs/comfy

What could stop a run is found before anything runs, and what is changed to fit the preset is said.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from kolors_lab.comfy.drawing import draw
from kolors_lab.comfy.executor import Job, Workbench
from kolors_lab.comfy.files import find_files
from kolors_lab.comfy.graph import Graph, check, describe, faults, filled, name_of, running_order, unused, within
from kolors_lab.comfy.nodes import kind_of
from kolors_lab.comfy.reader import normalise, read_forms, read_workflow
from kolors_lab.comfy.settings import settings_of
from kolors_lab.comfy.texts import encoded, file_prefix, unknown_tokens
from kolors_lab.comfy.writer import check_whole, chunks, is_json, outward, to_ui
from kolors_lab.core.errors import DataError, check_name
from kolors_lab.core.fields import OneOf, check_fields
from kolors_lab.core.files import replacing, writing
from kolors_lab.core.language import _
from kolors_lab.models.loading import check_bits
from kolors_lab.models.presets import get_preset, preset_of
from kolors_lab.prompts.syntax import choose, parse
from kolors_lab.sampling.ksampler import scaled
from kolors_lab.sampling.loading import load_for
from kolors_lab.sampling.metadata import write_picture

if TYPE_CHECKING:
    from collections.abc import Callable

    from diffusers import KolorsPipeline
    from PIL import Image

    from kolors_lab.models.presets import Preset

SIZES = ("width", "height", "crop_w", "crop_h", "target_width", "target_height")
MISSING = ("refuse", "skip")  # what to do about a LoRA that is not there


@dataclass(frozen=True)
class ComfyShowConfig:
    """A ComfyUI workflow: its nodes in running order, their settings, and what would stop it here.

    Args:
        file: a workflow's .json (the editor's or the API's), or a PNG, WebP or JPEG that carries one
        out: a PNG to draw the graph into, or none
    """

    file: str
    out: str | None = None


@dataclass(frozen=True)
class ComfyRunConfig:
    """Run a ComfyUI workflow on a preset's model; its pictures carry the workflow again.

    Args:
        file: a workflow's .json (the editor's or the API's), or a PNG, WebP or JPEG that carries one
        preset: tiny, kolors, or a folder that holds a KolorsPipeline, in place of the weights that the file names
        out: the folder for the pictures; none there is replaced
        loras: the folder of the LoRA files: one lies where the workflow's path says, or anywhere within
        missing_loras: a LoRA that is not there: refuse the workflow, or skip it and say so
        images: the folder of the pictures that LoadImage takes
        control_nets: the folder of the ControlNets, or the one that all nodes use
        text_encoder_bits: 4 or 8: the text encoder in so many bits (CUDA, needs bitsandbytes), for a small GPU
    """

    file: str
    preset: str = "tiny"
    out: str = "runs/comfy"
    loras: str | None = None
    missing_loras: Annotated[str, OneOf(MISSING)] = "refuse"
    images: str | None = None
    control_nets: str | None = None
    text_encoder_bits: int | None = None

    def __post_init__(self):
        check_fields(self)
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
    format: Annotated[str, OneOf(("ui", "api"))] = "ui"

    def __post_init__(self):
        check_fields(self)


# Before anything runs -------------------------------------------------------------------------------------------------


def fit(
    graph: Graph,
    preset: Preset,
    loras: str | Path | None = None,
    missing_loras: str = "refuse",
    images: str | Path | None = None,
    control_nets: str | Path | None = None,
) -> Job:
    """A workflow checked and made to fit the preset: its sizes, its `{a|b}` choices, its files found in the folders.

    Raises DataError, with node id and type, for all that could stop it, files included.
    """
    check(graph)
    idle, graph = unused(graph), filled(graph)  # in this order: a node that gives a value has done its part then
    notes = [*graph.notes, *idle]
    graph = Graph((key, graph[key]) for key in running_order(graph))
    for node in graph.values():  # `filled` has copied them
        node["inputs"] = {name: value for name, value in node["inputs"].items() if kind_of(node).knows(name)}
    weights = dict.fromkeys(
        str(node["inputs"][name])
        for node in graph.values()
        for name, widget in kind_of(node).widgets.items()
        if widget.folder == "weights"
    )
    told = _("weights: {names} → those of {preset}").format(names=", ".join(weights), preset=preset.name)
    notes += [told] if weights else []
    notes += _fit_sizes(graph, preset.size)
    _settle_texts(graph)
    for key, node in graph.items():
        if left := unknown_tokens(graph, str(node["inputs"].get("filename_prefix", ""))):
            told = _("{at}: {tokens} in its filename_prefix stays as it is")
            notes.append(told.format(at=name_of(graph, key), tokens=", ".join(left)))
    files, more = find_files(graph, loras, missing_loras == "skip", images, control_nets)
    return Job(graph, files, (*notes, *more))


def _fit_sizes(graph: Graph, own: int) -> list[str]:
    """Scale all sizes alike to latents of the model's own area, unless the factor would be within 1/2 and 2."""
    first = ("EmptyLatentImage", "KolorsSampler")  # what says the size of a new picture
    sized = [node["inputs"] for node in graph.values() if node["class_type"] in first]
    if not sized:
        return []
    width, height = sized[0]["width"], sized[0]["height"]
    scale = own / (width * height) ** 0.5
    if 0.5 <= scale <= 2:
        return []
    for node in graph.values():
        for name in set(SIZES) & kind_of(node).widgets.keys():
            value = node["inputs"][name]
            least = 0 if not value or name.startswith("crop") else 64
            node["inputs"][name] = max(least, scaled(value, scale))
    now = f"{sized[0]['width']} x {sized[0]['height']}"
    told = _("sizes: all times {scale:.3g}, {before} → {now}, since the model's own size is {own} px")
    return [told.format(scale=scale, before=f"{width} x {height}", now=now, own=own)]


def _settle_texts(graph: Graph) -> None:
    """`{a|b}` at random, from the seed of the first sampler: equal workflows choose alike. DataError: a bad weight."""
    inputs = [node["inputs"] for node in graph.values()]
    seed = next((each[name] for each in inputs for name in ("seed", "noise_seed") if name in each), 0)
    for key, name, syntax in encoded(graph):
        with within(graph, key):
            text = graph[key]["inputs"][name] = choose(graph[key]["inputs"][name], seed)
            parse(text, syntax)


def _prompts(graph: Graph) -> list[tuple[str, str]]:
    """All texts that its nodes encode, each with the syntax it is read in; kijai's node parts its own at every `|`."""
    texts = [(name, graph[key]["inputs"][name], syntax) for key, name, syntax in encoded(graph)]
    return [
        (part, syntax) for name, text, syntax in texts for part in (text.split("|") if name == "prompt" else [text])
    ]


# The commands ---------------------------------------------------------------------------------------------------------


def comfy_show(config: ComfyShowConfig) -> list[str]:
    """The workflow in lines: its nodes, what does not run or is not used, and what would stop it. Raises DataError."""
    graph = read_workflow(config.file)
    lines = [
        *describe(graph),
        *graph.notes,
        *unused(graph),
        *(_("cannot run here: {fault}").format(fault=fault) for fault in faults(graph)),
    ]
    if config.out:
        figure = draw(graph)
        with replacing(config.out) as temporary:
            figure.savefig(temporary, format="png", dpi=110)
        lines.append(config.out)
    return lines


def comfy_run(
    config: ComfyRunConfig,
    on_step: Callable[[int, int], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> list[Path]:
    """Run a workflow and write its pictures; returns their files. `say` hears what was changed to fit the preset, and
    what of the workflow does not run.

    Raises KolorsLabError, before anything runs, for what cannot be run.
    """
    preset = get_preset(config.preset)
    folders = (config.loras, config.missing_loras, config.images, config.control_nets)
    job = fit(read_workflow(config.file), preset, *folders)
    for note in job.notes:
        (say or (lambda _line: None))(note)
    with writing(config.out):  # said before the work, not after it
        Path(config.out).mkdir(parents=True, exist_ok=True)
    pipe = load_for(preset, _prompts(job.graph), config.text_encoder_bits)
    return save_pictures(job, Workbench(pipe).run(job, on_step), config.out, preset.name)


def run_workflow(
    file: str | Path,
    pipe: KolorsPipeline,
    *,
    loras: str | Path | None = None,
    images: str | Path | None = None,
    control_nets: str | Path | None = None,
    missing_loras: str = "refuse",
    on_step: Callable[[int, int], None] | None = None,
    say: Callable[[str], None] | None = print,
) -> list[Image.Image]:
    """The pictures that a ComfyUI workflow draws on a pipeline: a .json of either form, or a picture that carries one.

    `loras`, `images`, `control_nets`: the folders of its LoRAs, the pictures that it loads, its ControlNets;
    `missing_loras`: refuse or skip.
    `on_step(step, total)` counts sampling steps, `say` hears what was changed and what does not run. A LoRA that is on
    the pipeline is taken off. Raises DataError, ModelError, before anything runs, for what cannot be run.
    """
    check_name("missing_loras", missing_loras, MISSING)
    job = fit(read_workflow(file), preset_of(pipe), loras, missing_loras, images, control_nets)
    for note in job.notes:
        (say or (lambda _line: None))(note)
    return [picture for pictures in Workbench(pipe).run(job, on_step).values() for picture in pictures]


def save_pictures(job: Job, pictures: dict[str, list[Image.Image]], folder: str | Path, model: str) -> list[Path]:
    """Write the pictures of a run as `prefix_00001_.png`, numbers going on, each with the workflow that was run."""
    files: list[Path] = []
    carried, now = chunks(outward(job.graph)), datetime.now()
    for key, images in pictures.items():
        prefix = job.graph[key]["inputs"].get("filename_prefix", "preview")
        for index, image in enumerate(images):
            told = _told(job.graph, key, index)
            size = {} if "hires" in told else {"width": image.width, "height": image.height}  # else of the first pass
            settings = {"model": model, **told, **size}
            name = file_prefix(job.graph, prefix, image.size, index, now)
            file = next(f for n in count(1) if not (f := Path(folder, f"{name}_{n:05}_.png")).exists())
            files.append(write_picture(image, file, settings, carried))
    return files


def _told(graph: Graph, key: str, index: int) -> dict:
    """The settings of a picture; none where no sampler made it: the workflow is in the file all the same."""
    try:
        return settings_of(graph, key, index)
    except DataError:
        return {}


def comfy_export(config: ComfyExportConfig) -> Path:
    """Write the workflow that a picture carries, or a .json of the other form, for ComfyUI.

    Raises DataError, naming the node, for what ComfyUI would not run.
    """
    forms = read_forms(config.picture)
    graph = read_workflow(config.picture)
    check_whole(graph)
    wanted = {"ui": "workflow", "api": "prompt"}[config.format]
    data = forms.get(wanted)
    if data is None or not _is_as_good(data, graph):
        data = outward(graph) if config.format == "api" else to_ui(outward(graph))
    with replacing(config.out) as temporary:
        temporary.write_text(json.dumps(data, ensure_ascii=False, indent=2), encoding="utf-8")
    return Path(config.out)


def _is_as_good(form: object, graph: Graph) -> bool:
    """Whether a form can be read, and run where the graph that was taken can be."""
    try:
        return is_json(form) and (not faults(normalise(form)) or bool(faults(graph)))
    except DataError:
        return False
