"""A workbench that runs ComfyUI's nodes on a Kolors pipeline, and runs again only what changed.

What each node gave is kept under the hash of the node's type, its values, its files and all that it is linked to, as
ComfyUI does: of a workflow that was changed only the changed nodes, and those behind them, run again.

    bench = Workbench(load_pipeline(preset))
    pictures = bench.run(fit(read_workflow("workflow.json"), preset))  # {id of a SaveImage or PreviewImage: pictures}
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kolors_lab.comfy.graph import Graph, ends, is_link, running_order, within
from kolors_lab.comfy.nodes import kind_of
from kolors_lab.comfy.nodes.control import with_nets
from kolors_lab.comfy.settings import put_together
from kolors_lab.comfy.values import Guider, Latent, in_turn
from kolors_lab.core.errors import DataError
from kolors_lab.lora.adapter import set_loras, unload_lora
from kolors_lab.sampling.denoiser import Guided, Noise
from kolors_lab.sampling.inpaint import Masked
from kolors_lab.sampling.ksampler import KSampler, run_ksampler, sample
from kolors_lab.sampling.latents import drawing
from kolors_lab.sampling.pipeline import observer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch
    from diffusers import KolorsPipeline
    from PIL import Image

    from kolors_lab.sampling.pipeline import Stop


@dataclass(frozen=True)
class Job:
    """A checked workflow, made to fit a preset: its graph, the files that its nodes name by (node id, input), None for
    those left out, and what was changed or does not run."""

    graph: Graph
    files: dict[tuple[str, str], Path | None] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Workbench:
    """A pipeline, and what the nodes of the last workflow gave. `ran` lists the nodes that the last run computed."""

    def __init__(self, pipe: KolorsPipeline):
        self.pipe, self.ran = pipe, []
        self.results: dict[str, tuple] = {}

    def run(
        self,
        job: Job,
        on_step: Callable[[int, int], None] | None = None,
        on_node: Callable[[str], None] | None = None,
        on_preview: Callable[[Image.Image], None] | None = None,
        stop: Stop | None = None,
    ) -> dict[str, list[Image.Image]]:
        """The pictures of each SaveImage and PreviewImage by node id. `on_step(step, total)` counts sampling steps,
        `on_node(key)` hears of each node that is to run, `on_preview(picture)` gets a rough view after each step, after
        `stop.set()` the step at work is the last, and raises Stopped.

        A LoRA that is on the pipeline is taken off: only those of the workflow act.
        """
        if not isinstance(job, Job):
            raise DataError("this is a workflow as it was read: fit it to a preset first, run(fit(graph, preset))")
        marks, self.ran = fingerprints(job), []
        new = {key for key, mark in marks.items() if mark not in self.results}
        self.report = observer(self.pipe, sum(_steps(job.graph, key) for key in new), on_step, on_preview, stop)
        try:
            with drawing(self.pipe):
                for key in marks:
                    if marks[key] not in self.results:  # two equal nodes compute once
                        if on_node:
                            on_node(key)
                        self.results[marks[key]] = self.compute(job, key, marks)
                        self.ran.append(key)
        finally:
            unload_lora(self.pipe)
        self.results = {mark: self.results[mark] for mark in marks.values()}  # the last workflow's only
        return {key: self.results[marks[key]][0] for key in ends(job.graph)}

    def compute(self, job: Job, key: str, marks: dict[str, str]) -> tuple:
        """What one node gives; an error of it names the node."""
        node = job.graph[key]
        inputs = {
            name: self.results[marks[value[0]]][value[1]] if is_link(value) else value
            for name, value in node["inputs"].items()
        }
        for name, file in ((name, file) for (owner, name), file in job.files.items() if owner == key):
            row = inputs[name]  # of a list of LoRAs
            inputs[name] = {**row, "lora": file} if isinstance(row, dict) else file
        with within(job.graph, key):
            return kind_of(node).run(self, **inputs)

    def sample(
        self, guider: Guider, latent: Latent, settings: KSampler, *, like_diffusers: bool = False,
        size: tuple[int, int] | None = None, add_noise: bool = True, **steps: Any,
    ) -> tuple[Latent]:  # fmt: skip
        """Latents drawn as a KSampler does; noise as ComfyUI's, or as diffusers draws it. `size`: px the model is told;
        `steps`: as `run_ksampler`'s."""
        latent = _filled(latent, guider)
        seed = settings.seed if add_noise else None
        denoiser, noise = self._denoiser(guider, latent, settings.seed, seed, size, like_diffusers)
        drawn = run_ksampler(denoiser, settings, latent.samples, noise, self.report, add_noise=add_noise, **steps)
        return (replace(latent, samples=drawn.cpu()),)

    def sample_sigmas(
        self, guider: Guider, latent: Latent, seed: int | None, sigmas: Sequence[float], sampler_name: str
    ) -> tuple[Latent, Latent]:
        """Latents drawn along sigmas, from no noise where there is no seed; then what they last seemed to become."""
        latent = _filled(latent, guider)
        denoiser, noise = self._denoiser(guider, latent, seed or 0, seed)
        seen = latent.samples

        def keep(step: int, x: torch.Tensor, denoised: torch.Tensor) -> None:
            nonlocal seen
            seen = denoised
            self.report(step, x, denoised)

        afresh = bool(sigmas) and sigmas[0] > denoiser.sigmas[-1].item() * (1 - 1e-5)
        drawn = sample(
            denoiser, latent.samples.to(denoiser.device), noise, sigmas, sampler_name, keep,
            add_noise=seed is not None, afresh=afresh,
        )  # fmt: skip
        return replace(latent, samples=drawn.cpu()), replace(latent, samples=seen.cpu())

    def _denoiser(
        self, guider: Guider, latent: Latent, seed: int, first: int | None, size: tuple[int, int] | None = None,
        like_diffusers: bool = False,
    ) -> tuple[Any, Callable[[], torch.Tensor]]:  # fmt: skip
        """The model as a denoiser with its LoRAs, prompts and mask, and the noise; `first` is None for none at first:
        what lies outside of a mask is covered with the noise that the picture is."""
        import torch

        set_loras(self.pipe, guider.chain)
        pictures, channels, rows, columns = latent.samples.shape
        size = size or (columns * 8, rows * 8)
        guided = Guided(self.pipe, guider.prompt.fill(pictures), guider.negative.fill(pictures), guider.cfg, size)
        _tell(guided, guider)
        if guider.prompt.hints or guider.negative.hints:
            guided.unet = with_nets(guided, guider.prompt, guider.negative, pictures, (columns * 8, rows * 8))
        dtype = self.pipe.unet.dtype if like_diffusers else None

        def noise() -> Noise:
            return Noise([seed], (channels, rows, columns), pictures, dtype)

        if latent.mask is None:
            return guided, noise()
        cover = torch.zeros_like(latent.samples) if first is None else noise()()
        return Masked(guided, latent.samples, _shares(latent), cover), noise()


def _filled(latent: Latent, guider: Guider) -> Latent:
    """As many latents as there are prompts, at least."""
    return replace(latent, samples=in_turn(latent.samples, max(len(latent.samples), len(guider.prompt.embeds))))


def _tell(guided: Any, guider: Guider) -> None:
    """Put the sizes that encoding nodes name in place of the picture's own."""
    rows = guided.added["time_ids"]
    both = zip(rows.chunk(2), (guider.negative.ids, guider.prompt.ids), strict=True)
    for part, ids in both if guided.guided else [(rows, guider.prompt.ids)]:
        if ids:
            part[:] = part.new_tensor(ids)


def _shares(latent: Latent) -> torch.Tensor:
    """How much of each latent pixel is drawn, (B, 1, h, w): the mask made smaller as ComfyUI does, masks in turn."""
    from torch.nn.functional import interpolate

    shares = interpolate(latent.mask[:, None], latent.samples.shape[2:], mode="bilinear")
    return in_turn(shares, len(latent.samples))


def fingerprints(job: Job) -> dict[str, str]:
    """The hash of each node's type, values, files and all that it is linked to, in running order."""
    files: dict[str, list] = {}
    for (key, name), file in job.files.items():
        files.setdefault(key, []).append([name, file and _content(file)])
    marks: dict[str, str] = {}
    for key in running_order(job.graph):
        node = job.graph[key]
        inputs = {
            name: [marks[value[0]], value[1]] if is_link(value) else value for name, value in node["inputs"].items()
        }
        text = json.dumps([node["class_type"], inputs, files.get(key)], sort_keys=True)
        marks[key] = hashlib.sha256(text.encode()).hexdigest()
    return marks


def _content(file: Path) -> str:
    """What tells a changed file from an unchanged one; of a model's folder, which is large, names, sizes and times."""
    if file.is_dir():
        parts = [(each.name, each.stat().st_size, each.stat().st_mtime_ns) for each in sorted(file.iterdir())]
        return f"{file.resolve()} {parts}"
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _steps(graph: Graph, key: str) -> int:
    """How many steps a node samples: 0 for one that does not."""
    if "LATENT" not in kind_of(graph[key]).outputs:
        return 0
    inputs = put_together(graph, graph[key]["inputs"])  # the steps of one in parts stand where its sigmas come from
    steps = inputs.get("steps", 0)
    if "latent" in inputs:  # kijai's sampler runs a part of them, as diffusers does
        steps = int(steps * inputs["denoise_strength"])
    return max(min(steps, inputs.get("end_at_step", steps)) - inputs.get("start_at_step", 0), 0)
