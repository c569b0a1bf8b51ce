"""A workbench that runs ComfyUI's nodes on a Kolors pipeline, and runs again only what changed.

What each node gave is kept under the hash of the node's type, its values, its files and all that it is linked to, as
ComfyUI does: of a workflow that was changed only the changed nodes, and those behind them, run again.

    bench = Workbench(load_pipeline(preset))
    pictures = bench.run(fit(read_workflow("workflow.json"), preset))  # {id of a SaveImage or PreviewImage: pictures}
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kolors_lab.comfy.graph import PICTURES, Graph, is_link, name_of, running_order
from kolors_lab.comfy.nodes import KIJAI_SCHEDULERS
from kolors_lab.core.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from diffusers import KolorsPipeline
    from PIL import Image

    from kolors_lab.sampling.ksampler import KSampler


@dataclass(frozen=True)
class Job:
    """A checked workflow, made to fit a preset: its graph, the files of its nodes by node id, what was changed."""

    graph: Graph
    files: dict[str, Path] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prompt:
    """What an encoding node gives: embeddings (B, 256, hidden), pooled (B, hidden), and time ids of its own, if any."""

    embeds: torch.Tensor
    pooled: torch.Tensor
    ids: tuple[int, ...] | None = None

    def fill(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings and pooled for `count` pictures, the prompts in turn."""
        times = -(-count // len(self.embeds))
        return self.embeds.repeat(times, 1, 1)[:count], self.pooled.repeat(times, 1)[:count]


class Workbench:
    """A pipeline, and what the nodes of the last workflow gave. `ran` lists the nodes that the last run computed."""

    def __init__(self, pipe: KolorsPipeline):
        self.pipe, self.ran = pipe, []
        self.results: dict[str, tuple] = {}

    def run(self, job: Job, on_step: Callable[[int, int], None] | None = None) -> dict[str, list[Image.Image]]:
        """The pictures of each SaveImage and PreviewImage by node id. `on_step(step, total)` counts sampling steps."""
        from kolors_lab.lora.adapter import unload_lora
        from kolors_lab.sampling.latents import drawing

        if not isinstance(job, Job):
            raise DataError("this is a workflow as it was read: fit it to a preset first, run(fit(graph, preset))")
        marks, self.ran = fingerprints(job), []
        new = {key for key, mark in marks.items() if mark not in self.results}
        total = sum(_steps(job.graph[key]["inputs"]) for key in new)
        self.report = _counter(total, on_step)
        try:
            with drawing(self.pipe):
                for key in marks:
                    if marks[key] not in self.results:  # two equal nodes compute once
                        self.results[marks[key]] = self.compute(job, key, marks)
                        self.ran.append(key)
        finally:
            unload_lora(self.pipe)
        self.results = {mark: self.results[mark] for mark in marks.values()}  # the last workflow's only
        return {key: self.results[marks[key]][0] for key in marks if job.graph[key]["class_type"] in PICTURES}

    def compute(self, job: Job, key: str, marks: dict[str, str]) -> tuple:
        node = job.graph[key]
        inputs = {
            name: self.results[marks[value[0]]][value[1]] if is_link(value) else value
            for name, value in node["inputs"].items()
        }
        if key in job.files:
            inputs["file"] = job.files[key]
        try:
            return RUN[node["class_type"]](self, **inputs)
        except DataError as error:
            raise DataError(f"{name_of(job.graph, key)}: {error}") from error

    def sample(
        self, chain: tuple, prompt: Prompt, negative: Prompt, latents: torch.Tensor, settings: KSampler,
        like_diffusers: bool = False, size: tuple[int, int] | None = None, **steps: Any,
    ) -> tuple[torch.Tensor]:  # fmt: skip
        """Latents drawn with a LoRA chain and two prompts; noise as ComfyUI's, or as diffusers draws it."""
        from kolors_lab.lora.adapter import set_loras
        from kolors_lab.sampling.denoiser import Guided, Noise
        from kolors_lab.sampling.ksampler import run_ksampler

        set_loras(self.pipe, chain)
        count = max(len(latents), len(prompt.embeds))
        latents = latents.repeat(-(-count // len(latents)), 1, 1, 1)[:count]
        size = size or (latents.shape[3] * 8, latents.shape[2] * 8)
        guided = Guided(self.pipe, prompt.fill(count), negative.fill(count), settings.cfg, size)
        for half, ids in zip(guided.added["time_ids"].chunk(2), (negative.ids, prompt.ids), strict=False):
            if ids and guided.guided:
                half[:] = half.new_tensor(ids)
        noise = Noise([settings.seed], latents.shape[1:], count, self.pipe.unet.dtype if like_diffusers else None)
        return (run_ksampler(guided, settings, latents, noise, self.report, **steps),)


def fingerprints(job: Job) -> dict[str, str]:
    """The hash of each node's type, values, files and all that it is linked to, in running order."""
    marks: dict[str, str] = {}
    for key in running_order(job.graph):
        node = job.graph[key]
        inputs = {
            name: [marks[value[0]], value[1]] if is_link(value) else value for name, value in node["inputs"].items()
        }
        file = hashlib.sha256(job.files[key].read_bytes()).hexdigest() if key in job.files else ""
        text = json.dumps([node["class_type"], inputs, file], sort_keys=True)
        marks[key] = hashlib.sha256(text.encode()).hexdigest()
    return marks


def prompts_of(graph: Graph) -> list[tuple[str, str]]:
    """All texts that its nodes encode, each with the syntax it is read in."""
    found = []
    for node in graph.values():
        inputs = node["inputs"]
        if node["class_type"] == "KolorsTextEncode":
            found += [(text, "plain") for text in (*inputs["prompt"].split("|"), inputs["negative_prompt"])]
        elif RUN[node["class_type"]] is _encode:
            found.append((inputs["text"], inputs.get("prompt_syntax", "comfyui")))
    return found


def _steps(inputs: dict[str, Any]) -> int:
    """How many steps a node samples: 0 for one that does not."""
    steps = inputs.get("steps", 0)
    if "latent" in inputs:  # kijai's sampler runs a part of them, as diffusers does
        steps = int(steps * inputs["denoise_strength"])
    return max(min(steps, inputs.get("end_at_step", steps)) - inputs.get("start_at_step", 0), 0)


def _counter(total: int, on_step: Callable[[int, int], None] | None) -> Callable[..., None]:
    done = 0

    def count(*_: object) -> None:
        nonlocal done
        done = min(done + 1, total)
        if on_step:
            on_step(done, total)

    return count


# What each node does: it takes the workbench and its inputs by name and gives its outputs. A model is its LoRA chain. -


def _load(bench: Workbench, **_: Any) -> tuple:
    return (), None, None


def _lora(bench: Workbench, model: tuple, file: Path, strength_model: float, clip: Any = None, **_: Any) -> tuple:
    return (*model, (file, strength_model)), clip


def _kolors_lora(bench: Workbench, kolors_model: tuple, file: Path, lora_alpha: float, **_: Any) -> tuple:
    """The camp's node: it scales by lora_alpha / rank, whatever alpha the file was trained with or says."""
    from kolors_lab.lora.formats import read_lora

    return ((*kolors_model, (read_lora(file, lora_alpha), 1.0)) if lora_alpha else kolors_model,)


def _encode(bench: Workbench, text: str, prompt_syntax: str = "comfyui", **rest: Any) -> tuple:
    from kolors_lab.sampling.text import encode_text

    ids = ("height", "width", "crop_h", "crop_w", "target_height", "target_width")
    told = tuple(rest[name] for name in ids) if "target_width" in rest else None
    return (Prompt(*encode_text(bench.pipe, text, prompt_syntax), told),)


def _kolors_encode(
    bench: Workbench, prompt: str, negative_prompt: str, num_images_per_prompt: int, **_: Any
) -> tuple[tuple[Prompt, Prompt]]:
    """Both prompts at once; a `|` parts several prompts, each drawn `num_images_per_prompt` times."""
    import torch

    from kolors_lab.sampling.text import encode_text

    each = [encode_text(bench.pipe, text, "plain") for text in prompt.split("|")]
    embeds, pooled = (torch.cat(part).repeat_interleave(num_images_per_prompt, 0) for part in zip(*each, strict=True))
    return ((Prompt(embeds, pooled), Prompt(*encode_text(bench.pipe, negative_prompt, "plain"))),)


def _kolors_sampler(
    bench: Workbench, kolors_model: tuple, kolors_embeds: tuple, width: int, height: int, seed: int, steps: int,
    cfg: float, scheduler: str, denoise_strength: float, latent: torch.Tensor | None = None,
) -> tuple:  # fmt: skip
    """kijai's node: a diffusers pipeline, which runs the last int(steps * strength) steps; width and height only tell
    the model a size where latents are given."""
    from kolors_lab.sampling.ksampler import KSampler

    name, scheduler = KIJAI_SCHEDULERS[scheduler]
    settings = KSampler(seed=seed, steps=steps, cfg=cfg, sampler_name=name, scheduler=scheduler)
    start = 0 if latent is None else steps - min(int(steps * denoise_strength), steps)
    latents = _empty(bench, width, height, 1)[0] if latent is None else latent
    return bench.sample(
        kolors_model, *kolors_embeds, latents, settings, like_diffusers=True, size=(width, height), start_at_step=start
    )


def _ksampler(
    bench: Workbench, model: tuple, positive: Prompt, negative: Prompt, latent_image: torch.Tensor, **knobs: Any
) -> tuple:
    from kolors_lab.sampling.ksampler import KSampler

    return bench.sample(model, positive, negative, latent_image, KSampler(**knobs))


def _ksampler_advanced(
    bench: Workbench, model: tuple, positive: Prompt, negative: Prompt, latent_image: torch.Tensor, add_noise: str,
    noise_seed: int, start_at_step: int, end_at_step: int, return_with_leftover_noise: str, **knobs: Any,
) -> tuple:  # fmt: skip
    from kolors_lab.sampling.ksampler import KSampler

    return bench.sample(
        model, positive, negative, latent_image, KSampler(seed=noise_seed, **knobs), add_noise=add_noise == "enable",
        start_at_step=start_at_step, end_at_step=end_at_step, leftover=return_with_leftover_noise == "enable",
    )  # fmt: skip


def _empty(bench: Workbench, width: int, height: int, batch_size: int) -> tuple:
    import torch

    return (torch.zeros(batch_size, bench.pipe.unet.config.in_channels, height // 8, width // 8),)


def _repeat(bench: Workbench, samples: torch.Tensor, amount: int) -> tuple:
    return (samples.repeat(amount, 1, 1, 1),)


def _upscale(bench: Workbench, samples: torch.Tensor, upscale_method: str, width: int, height: int, crop: str) -> tuple:
    """To a size in px; 0 as the other side asks for, both 0 nothing; `center` crops to the new shape before."""
    rows, columns = samples.shape[2:]
    if not width and not height:
        return (samples,)
    width, height = width or round(height * columns / rows / 8) * 8, height or round(width * rows / columns / 8) * 8
    if crop == "center":
        keep = min(columns / width, rows / height)
        left, top = (columns - round(width * keep)) // 2, (rows - round(height * keep)) // 2
        samples = samples[:, :, top : rows - top, left : columns - left]
    return _resize(samples, upscale_method, width, height)


def _upscale_by(bench: Workbench, samples: torch.Tensor, upscale_method: str, scale_by: float) -> tuple:
    height, width = (round(side * scale_by) * 8 for side in samples.shape[2:])
    return _resize(samples, upscale_method, width, height)


def _resize(samples: torch.Tensor, method: str, width: int, height: int) -> tuple:
    from kolors_lab.sampling.latents import upscale

    method = "bicubic" if method == "bislerp" else method  # ComfyUI's own blend; bicubic comes near it
    return (upscale(samples, width, height, method),)


def _scale_image(
    bench: Workbench, image: list[Image.Image], upscale_method: str, width: int, height: int, crop: str
) -> tuple:
    from PIL import Image, ImageOps

    method = getattr(Image.Resampling, upscale_method.upper())
    if crop == "center":
        return ([ImageOps.fit(each, (width, height), method) for each in image],)
    return ([each.resize((width, height), method) for each in image],)


def _decode(bench: Workbench, samples: torch.Tensor, vae: None) -> tuple:
    from kolors_lab.sampling.latents import decode

    return (decode(bench.pipe, samples),)


def _encode_pixels(bench: Workbench, pixels: list[Image.Image], vae: None) -> tuple:
    """Pictures as latents, of the model's own area where they have over four times or under a quarter of it."""
    import torch

    from kolors_lab.sampling.latents import encode_image

    own, latents = bench.pipe.unet.config.sample_size * 8, []
    for image in pixels:
        scale = own / (image.width * image.height) ** 0.5
        scale = 1 if 0.5 <= scale <= 2 else scale
        size = (max(64, int(side * scale / 8) * 8) for side in image.size)
        latents.append(encode_image(bench.pipe, image, *size))
    return (torch.cat(latents),)


def _load_image(bench: Workbench, image: str, file: Path) -> tuple:
    from kolors_lab.core.images import open_image

    return [open_image(file)], None


def _pictures(bench: Workbench, images: list[Image.Image], **_: Any) -> tuple:
    return (images,)


LOADERS = (
    "DownloadAndLoadKolorsModel", "DownloadAndLoadChatGLM3", "LoadChatGLM3", "MZ_ChatGLM3Loader", "VAELoader",
    "MZ_KolorsUNETLoaderV2", "MZ_KolorsCheckpointLoaderSimple", "CheckpointLoaderSimple",
)  # fmt: skip
RUN: dict[str, Callable[..., tuple]] = {
    **dict.fromkeys(LOADERS, _load),
    **dict.fromkeys(("LoraLoader", "LoraLoaderModelOnly"), _lora),
    "LoadKolorsLoRA": _kolors_lora,
    **dict.fromkeys(("CLIPTextEncode", "MZ_ChatGLM3_V2", "MZ_ChatGLM3_Advance_V2"), _encode),
    "KolorsTextEncode": _kolors_encode,
    "KolorsSampler": _kolors_sampler,
    "KSampler": _ksampler,
    "KSamplerAdvanced": _ksampler_advanced,
    "EmptyLatentImage": _empty,
    "RepeatLatentBatch": _repeat,
    "LatentUpscale": _upscale,
    "LatentUpscaleBy": _upscale_by,
    "ImageScale": _scale_image,
    "VAEDecode": _decode,
    "VAEEncode": _encode_pixels,
    "LoadImage": _load_image,
    **dict.fromkeys(PICTURES, _pictures),
}
