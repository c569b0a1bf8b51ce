"""Pictures on disk that ComfyUI opens as the workflow which drew them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kolors_lab.comfy.writer import ONE_RUN, chunks, workflow_api
from kolors_lab.lora.adapter import wearing
from kolors_lab.models.presets import get_preset
from kolors_lab.sampling.config import GenerateConfig, draw, picture_settings, prompts_of, settle_tags
from kolors_lab.sampling.loading import load_for
from kolors_lab.sampling.metadata import write_picture
from kolors_lab.sampling.pipeline import Stop

if TYPE_CHECKING:
    from collections.abc import Callable

    from diffusers import KolorsPipeline
    from PIL import Image

MORE = {"word", "mask", "control", "consistency", "repaired"}  # what the workflow written for a picture does not do


def generate_file(
    config: GenerateConfig,
    pipe: KolorsPipeline | None = None,
    on_step: Callable[[int, int], None] | None = None,
    on_preview: Callable[[Image.Image], None] | None = None,
    stop: Stop | None = None,
) -> Path:
    """Make the picture of a GenerateConfig and write it with its settings inside; return its path.

    Further pictures of a batch lie beside it as name-2.png, name-3.png, … A pipeline that is passed in is used as it
    is, but for LoRA and word, which are taken off again. Raises SettingError, DataError, FetchError, ModelError,
    Stopped.
    """
    preset, config = get_preset(config.preset), settle_tags(config)
    settings = picture_settings(config, preset)
    pipe = pipe or load_for(preset, prompts_of([config]), config.text_encoder_bits, config.word)
    with wearing(pipe, [(config.lora, config.lora_strength)] if config.lora else []):
        images = draw(pipe, config, preset, on_step=on_step, on_preview=on_preview, stop=stop)
    out = Path(config.out)
    names = [out, *(out.with_name(f"{out.stem}-{n}{out.suffix}") for n in range(2, len(images) + 1))]
    for n, (picture, name) in enumerate(zip(images, names, strict=True)):
        save_picture(picture, name, settings | ({"batch_index": n} if n else {}))
    return out


def save_picture(image: Image.Image, file: str | Path, settings: dict, drawn: dict | None = None) -> Path:
    """Write a PNG with its settings inside, and with the workflow that they are in ComfyUI, if they are one.

    Text chunks as `write_picture`'s, and `prompt` and `workflow`: those of `drawn`, where the workflow is to draw by
    other names than the settings have. Raises SettingError for another suffix, DataError
    where it cannot be written.
    """
    whole = settings.keys() >= ONE_RUN and not settings.keys() & MORE
    return write_picture(image, file, settings, chunks(workflow_api(drawn or settings)) if whole else None)
