"""Text to picture, and pictures that carry the settings they were made with."""

from __future__ import annotations

import hashlib
from contextlib import nullcontext
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from kolors_lab.core.errors import DataError, KolorsLabError, SettingError, check_name, check_number
from kolors_lab.core.language import _
from kolors_lab.lora.weights import lora_file
from kolors_lab.models.device import pick_device
from kolors_lab.models.loading import add_parts, check_bits, load_parts, load_pipeline, need_quantization, place
from kolors_lab.models.memory import gpu_plan_here, plan
from kolors_lab.models.presets import preset_of
from kolors_lab.prompts.syntax import SYNTAXES, choose, parse
from kolors_lab.sampling.consistency import sharing
from kolors_lab.sampling.control import Control, ControlConfig, find_control
from kolors_lab.sampling.denoiser import Guided, Noise, model_sigmas
from kolors_lab.sampling.inpaint import MaskConfig, find_area
from kolors_lab.sampling.ksampler import KSampler, get_sigmas, run_ksampler
from kolors_lab.sampling.latents import decode, drawing, empty_latents, encode_image, preview, upscale
from kolors_lab.sampling.metadata import check_png
from kolors_lab.sampling.text import encode_text, encode_then_free

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import torch
    from diffusers import KolorsPipeline
    from PIL import Image

    from kolors_lab.models.presets import Preset
    from kolors_lab.sampling.reference import Reference

KNOBS = {field.name for field in fields(KSampler)}


@dataclass(frozen=True)
class GenerateConfig(MaskConfig, ControlConfig, KSampler):
    """One picture from a prompt, or several from one noise.

    Args:
        preset: tiny, kolors, or a folder that holds a KolorsPipeline
        prompt: what the picture shows
        negative_prompt: what it should not show
        prompt_syntax: how weights are written: webui, comfyui, compel or plain
        lora: a LoRA file (.safetensors), or none
        lora_strength: 0 without effect, 1 as trained
        word: file of a word learned by `kolors-lab invert`, to be used in the prompt, such as <toy>; or none
        loras: the folder in which a tag <lora:name:0.8> of the prompt finds its file
        image: a picture to start from, with denoise below 1; none: from noise alone
        hires: draw once more this many times larger (hires-fix); 1: no second pass
        hires_denoise: how much of the picture the second pass draws anew; the more of it and the larger the canvas
            beyond the model's own size, the sooner it draws a second figure
        text_encoder_bits: 4 or 8: the text encoder in so many bits (CUDA, needs bitsandbytes), for a small card
        out: the PNG to write; one of that name is replaced; further ones of a batch are numbered
    """

    preset: str = "tiny"
    prompt: str = "一个黑色长发少女，身穿绿色长裙，站在桃花小路上，全身"
    negative_prompt: str = ""
    prompt_syntax: str = "webui"
    lora: str | None = None
    lora_strength: float = 1.0
    word: str | None = None
    loras: str | None = None
    image: str | None = None
    hires: float = 1.0
    hires_denoise: float = 0.5
    text_encoder_bits: int | None = None
    out: str = "picture.png"

    def __post_init__(self):
        for part in (KSampler, ControlConfig, MaskConfig):
            part.__post_init__(self)
        if self.mask and (self.image is None or self.hires != 1):
            raise SettingError("mask = {mask}: needs an image that it is laid on, and hires = 1", mask=self.mask)
        check_name("prompt_syntax", self.prompt_syntax, SYNTAXES)
        check_number("lora_strength", self.lora_strength, -10, 10)
        check_number("hires", self.hires, 1, 4)
        check_number("hires_denoise", self.hires_denoise, 0, 1)
        check_bits("text_encoder_bits", self.text_encoder_bits)
        check_png(self.out)


def check_sampling(
    seed: int, steps: int | None, cfg: float | None, width: int | None, height: int | None, strength: float = 1.0
) -> None:
    """Raise SettingError, naming the field, for what cannot be sampled with; None stands for a preset's own value."""
    KSampler(seed=seed, steps=steps, cfg=cfg, width=width, height=height)
    check_number("lora_strength", strength, -10, 10)


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
    near-identical ones on a card. Raises SettingError, ModelError.
    """
    from kolors_lab.lora.adapter import wearing
    from kolors_lab.lora.tags import find_tags

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
    from kolors_lab.core.images import open_image

    image = open_image(image) if isinstance(image, (str, Path)) else image
    settings = [one.resolve(preset_of(pipe)) for one in settings]
    passes = [settings, *_second_pass(settings, hires, hires_denoise)]
    first = _alike(settings, len(prompts), len(negative_prompts))
    look = _observer(pipe, [one for one, *_ in passes], on_step, on_preview, stop)
    area = find_area(pipe, image, mask, first, mask_fill, mask_grow)
    if area and len(passes) > 1:
        raise SettingError("hires: not with a mask; draw the picture larger first, then the part")
    with drawing(pipe), sharing(pipe.unet, len(settings) * first.batch, consistency):
        latents = area.latents(pipe) if area else _start(pipe, image, first)
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


def _start(pipe: KolorsPipeline, image: Image.Image | None, first: KSampler) -> torch.Tensor:
    """The latents of the picture that is drawn over, or of nothing."""
    return encode_image(pipe, image, first.width, first.height) if image else empty_latents(pipe, first)


def hand_over(
    pipe: KolorsPipeline,
    refiner: KolorsPipeline,
    prompt: str,
    negative_prompt: str = "",
    *,
    at: float = 0.8,
    lora: str | Path | None = None,
    lora_strength: float = 1.0,
    on_step: Callable[[int, int], None] | None = None,
    **settings: Any,
) -> Image.Image:
    """One picture whose first steps `pipe` draws and, from `at` of them on, `refiner`: base and refiner as in SDXL.

    The refiner may be the same pipeline; a `lora` then acts in its part only. Raises SettingError, ModelError.
    """
    from kolors_lab.lora.adapter import wearing

    check_number("at", at, 0, 1)
    one = KSampler(**settings).resolve(preset_of(pipe))
    switch, look = round(at * one.steps), _observer(pipe, [one], on_step)
    noise = Noise([one.seed], empty_latents(pipe, one).shape[1:], one.batch)
    with drawing(pipe), drawing(refiner):
        latents = empty_latents(pipe, one).repeat(one.batch, 1, 1, 1)
        base = _denoiser(pipe, [prompt], [negative_prompt], [one])
        latents = run_ksampler(base, one, latents, noise, look, end_at_step=switch, leftover=True)
        with wearing(refiner, [(lora, lora_strength)]) if lora else nullcontext():
            second = _denoiser(refiner, [prompt], [negative_prompt], [one])
            latents = run_ksampler(second, one, latents, noise, look, add_noise=switch == 0, start_at_step=switch)
        return decode(refiner, latents)[0]


def _second_pass(settings: Sequence[KSampler], hires: float, denoise: float) -> list[list[KSampler]]:
    """The settings of a hires-fix: the size `hires` times larger, in multiples of 8 px; none for 1."""
    check_number("hires", hires, 1, 4)
    if hires == 1:
        return []
    sizes = [{side: round(getattr(one, side) * hires / 8) * 8 for side in ("width", "height")} for one in settings]
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
    syntax: str = "webui",
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


def _observer(
    pipe: KolorsPipeline,
    passes: Sequence[KSampler],
    on_step: Callable[[int, int], None] | None = None,
    on_preview: Callable[[Image.Image], None] | None = None,
    stop: Stop | None = None,
) -> Callable[[int, torch.Tensor, torch.Tensor], None]:
    """The callback of all passes of a drawing."""
    total = sum(max(len(get_sigmas(model_sigmas(pipe), one)) - 1, 0) for one in passes)
    done = 0

    def callback(i: int, x: torch.Tensor, denoised: torch.Tensor) -> None:
        nonlocal done
        done += 1
        if on_preview:
            on_preview(preview(pipe, denoised))
        if on_step:
            on_step(done, total)
        if stop and stop.is_set():
            raise Stopped("stopped after step {done} of {total}", done=done, total=total)

    return callback


def load_for(
    preset: Preset, texts: Iterable[tuple[str, str]], text_encoder_bits: int | None = None, word: str | None = None
) -> KolorsPipeline:
    """The preset's pipeline for drawing these (prompt, syntax) and no others.

    Where memory, the GPU's or the main one, cannot hold all of it, the prompts are encoded first and the text encoder
    goes before the rest comes; a learned word keeps it, being put into it later. Raises FetchError, ModelError.
    """
    device = pick_device()
    need_quantization("text_encoder_bits", text_encoder_bits)
    if word or (text_encoder_bits and device.type == "cuda"):
        return load_pipeline(preset, device, text_encoder_bits=text_encoder_bits)
    way, lies = plan(preset, device), gpu_plan_here(preset, device)
    if not way.in_turn and lies == "whole":
        return load_pipeline(preset, device, way.dtype, text_encoder_bits or way.bits)
    pipe = load_parts(preset, ("text_encoder",), way.dtype, text_encoder_bits or way.bits)
    if lies == "parts":  # the encoder alone has room there
        pipe.to(device)
    encode_then_free(pipe, texts)
    add_parts(pipe, preset, ("unet", "vae"), way.dtype)
    if way.in_turn:
        pipe.vae.enable_slicing()
        pipe.vae.enable_tiling()
    place(pipe, device)
    return pipe


def prompts_of(pictures: Iterable[Any]) -> list[tuple[str, str]]:
    """The (prompt, syntax) of GenerateConfigs or scenes of a story, `{a|b}` settled, as `load_for` takes them.

    Raises SettingError for one that cannot be read: better now than after a model is loaded.
    """
    found = []
    for one in pictures:
        syntax = getattr(one, "prompt_syntax", GenerateConfig.prompt_syntax)
        found += [(choose(text, one.seed), syntax) for text in (one.prompt, one.negative_prompt)]
    for text, syntax in found:
        parse(text, syntax)
    return found


def draw(pipe: KolorsPipeline, config: GenerateConfig, preset: Preset, **callbacks: Any) -> list[Image.Image]:
    """The pictures of a GenerateConfig, none of them written, with whatever LoRA is on the pipeline.

    Its learned word is taken off again. `callbacks`: generate_batch's on_step, on_preview and stop. Raises
    SettingError, DataError, ModelError, Stopped.
    """
    from kolors_lab.sampling.vocabulary import load_word, remove_words

    config = config.resolve(preset)
    knobs = KSampler(**{name: getattr(config, name) for name in KNOBS})
    names = ("prompt_syntax", "hires", "hires_denoise", "image", "mask", "mask_fill", "mask_grow")
    options = {name: getattr(config, name) for name in names} | {"control": find_control(pipe, config)}
    texts = [config.prompt], [config.negative_prompt]
    try:
        if config.word:
            load_word(pipe, config.word)
        return generate_batch(pipe, *texts, [knobs], **options, **callbacks)
    finally:
        if config.word:
            remove_words(pipe)


def settle_tags(config: GenerateConfig) -> GenerateConfig:
    """The config with its prompt's `<lora:name:0.8>` tag, if it has one, as lora and lora_strength. SettingError."""
    from kolors_lab.lora.tags import find_tags

    if config.prompt_syntax == "plain" or "<lora:" not in config.prompt:
        return config
    text, chain = find_tags(config.prompt, config.loras)
    if config.lora or len(chain) > 1:
        raise SettingError("prompt: one LoRA to a picture, as lora or as a tag; `kolors-lab lora mix` makes one of two")
    return replace(config, prompt=text, lora=str(chain[0][0]), lora_strength=chain[0][1])


def picture_settings(config: GenerateConfig, preset: Preset) -> dict:
    """All that decides the picture, the preset's values filled in. Files go by name and hash, not by path."""
    config = config.resolve(preset)
    names = ("prompt", "negative_prompt", "seed", "steps", "cfg", "sampler_name", "scheduler", "denoise")
    settings = {"model": preset.name} | {name: getattr(config, name) for name in (*names, "width", "height", "batch")}
    if config.prompt_syntax != GenerateConfig.prompt_syntax:
        settings |= {"prompt_syntax": config.prompt_syntax}
    if config.lora:
        settings |= {"lora": file_mark("LoRA", lora_file(config.lora)), "lora_strength": config.lora_strength}
    if config.word:
        settings |= {"word": file_mark(_("word"), config.word)}
    if config.image:
        settings |= {"image": file_mark(_("picture"), config.image)}
    if config.mask:
        mask = file_mark(_("mask"), config.mask) if Path(config.mask).is_file() else config.mask
        settings |= {"mask": mask, "mask_fill": config.mask_fill, "mask_grow": config.mask_grow}
    if config.control:
        names = (field.name for field in fields(ControlConfig) if field.name not in ("control", "control_net"))
        settings |= {"control": file_mark(_("control"), config.control), "control_net": Path(config.control_net).name}
        settings |= {name: getattr(config, name) for name in names}
    if config.hires > 1:
        settings |= {"hires": config.hires, "hires_denoise": config.hires_denoise}
    if config.text_encoder_bits:
        settings |= {"text_encoder_bits": config.text_encoder_bits}
    return settings


def file_mark(what: str, file: str | Path) -> str:
    """`name.safetensors:0123456789ab`, the file's name and the start of its SHA-256. Raises DataError."""
    try:
        return f"{Path(file).name}:{hashlib.sha256(Path(file).read_bytes()).hexdigest()[:12]}"
    except OSError as error:
        raise DataError(
            "{what} {file} cannot be read: {reason}", what=what, file=file, reason=error.strerror
        ) from error
