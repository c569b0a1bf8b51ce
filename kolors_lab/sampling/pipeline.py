"""Text to picture: a prompt and a KSampler's settings become latents, step by step, and these a picture."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from kolors_lab.core.errors import KolorsLabError, SettingError, check_number
from kolors_lab.core.images import open_image
from kolors_lab.lora.adapter import wearing
from kolors_lab.lora.tags import find_tags
from kolors_lab.models.presets import preset_of
from kolors_lab.prompts.syntax import choose
from kolors_lab.sampling.consistency import sharing
from kolors_lab.sampling.denoiser import Guided, Noise, model_sigmas
from kolors_lab.sampling.inpaint import find_area
from kolors_lab.sampling.ksampler import KSampler, get_sigmas, run_ksampler, scaled
from kolors_lab.sampling.latents import decode, drawing, empty_latents, encode_image, preview, upscale
from kolors_lab.sampling.text import encode_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch
    from diffusers import KolorsPipeline
    from PIL import Image

    from kolors_lab.lora.adapter import Chain
    from kolors_lab.sampling.control import Control
    from kolors_lab.sampling.reference import Reference

KNOBS = {field.name for field in fields(KSampler)}


class Stopped(KolorsLabError):
    """A drawing was stopped before its end."""


class Stop(Event):
    """Given to a drawing as `stop`, its `set()` ends that drawing after the step at work, which raises Stopped."""


def generate(
    pipe: KolorsPipeline,
    prompt: str,
    negative_prompt: str = "",
    *,
    image: Image.Image | str | Path | None = None,
    loras: str | Path | None = None,
    **settings: Any,
) -> Image.Image:
    """One RGB picture, (width, height) px or the model's own size; of a batch the first.

    `settings` are KSampler's fields and the options of `generate_batch`; `loras` is the folder for `<lora:name:0.8>`
    tags, whose LoRAs take the place of any on the pipeline. Equal calls give identical pictures on a CPU and
    near-identical ones on a GPU. Raises SettingError, ModelError.
    """
    options = {name: settings.pop(name) for name in tuple(settings) if name not in KNOBS}
    text, chain = find_tags(prompt, loras) if loras else (prompt, [])
    with wearing(pipe, chain) if chain else nullcontext():
        return generate_batch(pipe, [text], [negative_prompt], [KSampler(**settings)], image=image, **options)[0]


def generate_batch(
    pipe: KolorsPipeline,
    prompts: Sequence[str],
    negative_prompts: Sequence[str],
    settings: Sequence[KSampler],
    *,
    image: Image.Image | str | Path | None = None,
    mask: Image.Image | str | Path | None = None,
    mask_fill: str = "original",
    mask_grow: int = 6,
    control: Control | None = None,
    reference: Reference | None = None,
    consistency: float = 0.0,
    hires: float = 1.0,
    hires_denoise: float = 0.5,
    prompt_syntax: str = "webui",
    on_step: Callable[[int, int], None] | None = None,
    on_preview: Callable[[Image.Image], None] | None = None,
    stop: Stop | None = None,
) -> list[Image.Image]:
    """For every prompt its setting's `batch` of pictures, all drawn at once; they may differ in prompt, seed and cfg.

    An `image`, or the file of one, is drawn over as far as `denoise` says, with a `mask`, as `masks.read_mask` takes
    it, only there. `control` says where things stand, `reference` what it is to be like; with `consistency` every
    picture is drawn in the likeness of the first. `hires` draws what came out once more, so many times larger.
    `on_step(step, total)` is called after each step, `on_preview(picture)` with a rough view, all pictures in a row.
    Raises SettingError, DataError, Stopped.
    """
    image = open_image(image) if isinstance(image, (str, Path)) else image
    settings = [one.resolve(preset_of(pipe)) for one in settings]
    passes = [settings, *_second_pass(settings, hires, hires_denoise)]
    first = _alike(settings, len(prompts), len(negative_prompts))
    look = observer(pipe, _steps(pipe, [one for one, *_ in passes]), on_step, on_preview, stop)
    area = find_area(pipe, image, mask, first, mask_fill, mask_grow)
    if area and len(passes) > 1:
        raise SettingError("hires: not with a mask; draw the picture larger first, then the part")
    with drawing(pipe), sharing(pipe.unet, len(settings) * first.batch, consistency):
        if area:
            latents = area.latents(pipe)
        else:
            latents = encode_image(pipe, image, first.width, first.height) if image else empty_latents(pipe, first)
        latents = latents.repeat(len(settings) * first.batch, 1, 1, 1)
        for step in passes:
            denoiser = _denoiser(pipe, prompts, negative_prompts, step, prompt_syntax)
            latents = upscale(latents, step[0].width, step[0].height)
            draw_noise = partial(Noise, [one.seed for one in step], latents.shape[1:], first.batch)
            if reference:
                denoiser.unet = reference.beside(denoiser)
            if area:
                denoiser.unet = area.seen_by(pipe, denoiser)
            if control:
                denoiser.unet = control.beside(denoiser.unet, pipe, step[0].width, step[0].height, first.batch)
            if area:
                denoiser = area.around(pipe, denoiser, draw_noise())
            latents = run_ksampler(denoiser, step[0], latents, draw_noise(), look)
        pictures = decode(pipe, latents)
    return [area.paste(picture) for picture in pictures] if area else pictures


def hand_over(
    pipe: KolorsPipeline,
    refiner: KolorsPipeline,
    prompt: str,
    negative_prompt: str = "",
    *,
    at: float = 0.8,
    chain: Chain = (),
    on_step: Callable[[int, int], None] | None = None,
    **settings: Any,
) -> Image.Image:
    """One picture whose first steps `pipe` draws and, from `at` of them on, `refiner`: base and refiner as in SDXL.

    The refiner may be the same pipeline; a `chain` of LoRAs, as set_loras takes it, then acts in its part only.
    Raises SettingError, ModelError.
    """
    check_number("at", at, 0, 1)
    one = KSampler(**settings).resolve(preset_of(pipe))
    switch, look = round(at * one.steps), observer(pipe, _steps(pipe, [one]), on_step)
    latents = empty_latents(pipe, one)
    noise = Noise([one.seed], latents.shape[1:], one.batch)
    with drawing(pipe), drawing(refiner):
        base = _denoiser(pipe, [prompt], [negative_prompt], [one], "webui")
        latents = run_ksampler(
            base, one, latents.repeat(one.batch, 1, 1, 1), noise, look, end_at_step=switch, leftover=True
        )
        with wearing(refiner, chain) if chain else nullcontext():
            second = _denoiser(refiner, [prompt], [negative_prompt], [one], "webui")
            latents = run_ksampler(second, one, latents, noise, look, add_noise=switch == 0, start_at_step=switch)
        return decode(refiner, latents)[0]


def _second_pass(settings: Sequence[KSampler], hires: float, denoise: float) -> list[list[KSampler]]:
    """The settings of a hires-fix: the size `hires` times larger, in multiples of 8 px; none for 1."""
    check_number("hires", hires, 1, 4)
    if hires == 1:
        return []
    sizes = [{side: scaled(getattr(one, side), hires) for side in ("width", "height")} for one in settings]
    return [[replace(one, denoise=denoise, **size) for one, size in zip(settings, sizes, strict=True)]]


def _alike(settings: Sequence[KSampler], prompts: int, negatives: int) -> KSampler:
    """The first of settings that can be drawn at once. SettingError names the field in which they differ."""
    if not settings or {prompts, negatives} != {len(settings)}:
        raise SettingError(
            "{count} settings for {prompts} and {negatives} prompts: one for each",
            count=len(settings),
            prompts=prompts,
            negatives=negatives,
        )
    for field in KNOBS - {"seed", "cfg", "control_after_generate"}:
        values = {getattr(one, field) for one in settings}
        if len(values) > 1:
            found = ", ".join(map(str, values))
            raise SettingError("{field} = {found}: pictures drawn at once must have the same", field=field, found=found)
    return settings[0]


def _denoiser(
    pipe: KolorsPipeline,
    prompts: Sequence[str],
    negatives: Sequence[str],
    settings: Sequence[KSampler],
    syntax: str,
) -> Guided:
    cfg = [one.cfg for one in settings for _ in range(one.batch)]
    both = [
        [encode_text(pipe, choose(text, one.seed), syntax) for text, one in zip(texts, settings, strict=True)]
        for texts in (prompts, negatives)
    ]
    return Guided(
        pipe, *(_stack(texts, settings[0].batch) for texts in both), cfg, (settings[0].width, settings[0].height)
    )


def _stack(encoded: Sequence[tuple[torch.Tensor, torch.Tensor]], batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    return tuple(torch.cat(parts).repeat_interleave(batch, 0) for parts in zip(*encoded, strict=True))


def _steps(pipe: KolorsPipeline, passes: Sequence[KSampler]) -> int:
    return sum(max(len(get_sigmas(model_sigmas(pipe), one)) - 1, 0) for one in passes)


def observer(
    pipe: KolorsPipeline,
    total: int,
    on_step: Callable[[int, int], None] | None,
    on_preview: Callable[[Image.Image], None] | None = None,
    stop: Stop | None = None,
) -> Callable[[int, torch.Tensor, torch.Tensor], None]:
    """What every sampler of a drawing calls after each step; `total` steps of all of them."""
    done = 0

    def callback(i: int, x: torch.Tensor, denoised: torch.Tensor) -> None:
        nonlocal done
        done = min(done + 1, total)
        if on_preview:
            on_preview(preview(pipe, denoised))
        if on_step:
            on_step(done, total)
        if stop and stop.is_set():
            raise Stopped("stopped after step {done} of {total}", done=done, total=total)

    return callback
