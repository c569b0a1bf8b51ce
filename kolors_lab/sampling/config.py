"""The settings of a picture (GenerateConfig): settled and checked, drawn, and written down as the PNG keeps them."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from kolors_lab.core.errors import SettingError
from kolors_lab.core.fields import OneOf, Range
from kolors_lab.core.language import _
from kolors_lab.lora.tags import find_tags
from kolors_lab.lora.weights import lora_file
from kolors_lab.models.loading import check_bits
from kolors_lab.prompts.syntax import SYNTAXES, choose, parse
from kolors_lab.sampling.control import ControlConfig, find_control
from kolors_lab.sampling.inpaint import MaskConfig
from kolors_lab.sampling.ksampler import KSampler
from kolors_lab.sampling.metadata import check_png, file_mark
from kolors_lab.sampling.pipeline import KNOBS, generate_batch
from kolors_lab.sampling.vocabulary import load_word, remove_words

if TYPE_CHECKING:
    from collections.abc import Iterable

    from diffusers import KolorsPipeline
    from PIL import Image

    from kolors_lab.models.presets import Preset


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
        text_encoder_bits: 4 or 8: the text encoder in so many bits (CUDA, needs bitsandbytes), for a small GPU
        out: the PNG to write; one of that name is replaced; further ones of a batch are numbered
    """

    preset: str = "tiny"
    prompt: str = "一个黑色长发少女，身穿绿色长裙，站在桃花小路上，全身"
    negative_prompt: str = ""
    prompt_syntax: Annotated[str, OneOf(SYNTAXES)] = "webui"
    lora: str | None = None
    lora_strength: Annotated[float, Range(-10, 10)] = 1.0
    word: str | None = None
    loras: str | None = None
    image: str | None = None
    hires: Annotated[float, Range(1, 4)] = 1.0
    hires_denoise: Annotated[float, Range(0, 1)] = 0.5
    text_encoder_bits: int | None = None
    out: str = "picture.png"

    def __post_init__(self):
        KSampler.__post_init__(self)  # checks the fields of all
        ControlConfig.__post_init__(self)
        if self.mask and (self.image is None or self.hires != 1):
            raise SettingError("mask = {mask}: needs an image that it is laid on, and hires = 1", mask=self.mask)
        check_bits("text_encoder_bits", self.text_encoder_bits)
        check_png(self.out)


def settle_tags(config: GenerateConfig) -> GenerateConfig:
    """The config with its prompt's `<lora:name:0.8>` tag, if it has one, as lora and lora_strength. SettingError."""
    if config.prompt_syntax == "plain" or "<lora:" not in config.prompt:
        return config
    text, chain = find_tags(config.prompt, config.loras)
    if config.lora or len(chain) > 1:
        raise SettingError("prompt: one LoRA to a picture, as lora or as a tag; `kolors-lab lora mix` makes one of two")
    return replace(config, prompt=text, lora=str(chain[0][0]), lora_strength=chain[0][1])


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
