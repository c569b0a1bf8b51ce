"""Text to picture, and pictures that carry the settings they were made with."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import DataError, SettingError, check_number
from .files import replacing
from .models import get_preset, load_pipeline

if TYPE_CHECKING:
    from collections.abc import Callable

    from diffusers import KolorsPipeline
    from PIL import Image

    from .models import Preset

# Says to machines that the picture was made by a model: IPTC's term, and the label of China's GB 45438-2025.
AI_GENERATED = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" \
xmlns:TC260="http://www.tc260.org.cn/ns/AIGC/1.0/" TC260:AIGC='{"Label":"1"}' \
Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"/>
</rdf:RDF></x:xmpmeta>"""


@dataclass(frozen=True)
class GenerateConfig:
    """One picture from a prompt.

    Args:
        preset: tiny, kolors, or a folder that holds a KolorsPipeline
        prompt: what the picture shows
        negative_prompt: what it should not show
        lora: a LoRA file (.safetensors), or none
        lora_strength: 0 without effect, 1 as trained
        seed: equal seeds give equal pictures
        steps: sampling steps; none: the preset's
        cfg: how closely to follow the prompt (1: no guidance); none: the preset's
        width: in pixels, a multiple of 8; none: the preset's size
        height: in pixels, a multiple of 8; none: the preset's size
        out: the PNG to write; one of that name is replaced
    """

    preset: str = "tiny"
    prompt: str = "一个黑色长发少女，身穿绿色长裙，站在桃花小路上，全身"
    negative_prompt: str = ""
    lora: str | None = None
    lora_strength: float = 1.0
    seed: int = 0
    steps: int | None = None
    cfg: float | None = None
    width: int | None = None
    height: int | None = None
    out: str = "picture.png"

    def __post_init__(self):
        check_sampling(self.seed, self.steps, self.cfg, self.width, self.height, self.lora_strength)
        check_png(self.out)


def check_sampling(
    seed: int, steps: int | None, cfg: float | None, width: int | None, height: int | None, strength: float = 1.0
) -> None:
    """Raise SettingError, naming the field, for what cannot be sampled with; None stands for a preset's own value."""
    check_number("seed", seed, 0, 2**63 - 1, whole=True)
    check_number("lora_strength", strength, -10, 10)
    if steps is not None:
        check_number("steps", steps, 1, 1000, whole=True)
    if cfg is not None:
        check_number("cfg", cfg, 0, 100)
    for field, value in (("width", width), ("height", height)):
        if value is not None:
            check_number(field, value, 64, 4096, whole=True)
            if value % 8:
                raise SettingError(f"{field} = {value}: must be a multiple of 8")


def check_png(file: str | Path) -> None:
    """Raise SettingError unless the name ends in .png, the format that keeps the settings."""
    if Path(file).suffix.lower() != ".png":
        raise SettingError(f"out = {str(file)!r}: must end in .png, which keeps the settings inside the picture")


def generate(
    pipe: KolorsPipeline,
    prompt: str,
    negative_prompt: str = "",
    *,
    seed: int = 0,
    steps: int = 20,
    cfg: float = 4.0,
    width: int | None = None,
    height: int | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> Image.Image:
    """One RGB picture, (width, height) px or the model's own size; `on_step(step, total)` is called after each step.

    The noise comes from a generator on the CPU and the batch is always one picture, so that equal calls give
    identical pictures on a CPU and near-identical ones on a card. Raises SettingError.
    """
    import torch

    check_sampling(seed, steps, cfg, width, height)

    def after_step(pipe: KolorsPipeline, index: int, timestep: object, tensors: dict) -> dict:
        if on_step:
            on_step(index + 1, pipe.num_timesteps)
        return tensors

    return pipe(
        prompt=prompt,
        negative_prompt=negative_prompt,
        num_inference_steps=steps,
        guidance_scale=cfg,
        width=width,
        height=height,
        generator=torch.Generator("cpu").manual_seed(seed),
        callback_on_step_end=after_step,
    ).images[0]


def generate_file(
    config: GenerateConfig, pipe: KolorsPipeline | None = None, on_step: Callable[[int, int], None] | None = None
) -> Path:
    """Make the picture of a GenerateConfig and write it with its settings inside; return its path.

    A pipeline that is passed in is used as it is, but for the LoRA, which is taken off again.
    """
    from .lora import load_lora, unload_lora

    preset = get_preset(config.preset)
    settings = picture_settings(config, preset)
    pipe = pipe or load_pipeline(preset)
    try:
        if config.lora:
            load_lora(pipe, config.lora, config.lora_strength)
        names = ("prompt", "negative_prompt", "seed", "steps", "cfg", "width", "height")
        image = generate(pipe, **{name: settings[name] for name in names}, on_step=on_step)
    finally:
        if config.lora:
            unload_lora(pipe)
    return save_picture(image, config.out, settings)


def picture_settings(config: GenerateConfig, preset: Preset) -> dict:
    """All that decides the picture, the preset's values filled in. A LoRA goes by name and hash, not by its path."""
    settings = {
        "model": preset.name,
        "prompt": config.prompt,
        "negative_prompt": config.negative_prompt,
        "seed": config.seed,
        "steps": preset.steps if config.steps is None else config.steps,
        "cfg": preset.cfg if config.cfg is None else config.cfg,
        "width": config.width or preset.size,
        "height": config.height or preset.size,
    }
    if config.lora:
        settings |= {"lora": lora_name(config.lora), "lora_strength": config.lora_strength}
    return settings


def lora_name(file: str | Path) -> str:
    """`name.safetensors:0123456789ab`, the file's name and the start of its SHA-256. Raises DataError."""
    try:
        return f"{Path(file).name}:{hashlib.sha256(Path(file).read_bytes()).hexdigest()[:12]}"
    except OSError as error:
        raise DataError(f"LoRA {file} cannot be read: {error.strerror}") from error


def save_picture(image: Image.Image, file: str | Path, settings: dict) -> Path:
    """Write a PNG, whole or not at all, that carries `settings` and says that a model made it.

    Text chunks: `kolors_lab` (JSON), `parameters` (the Stable Diffusion web UI's form, which many tools show), XMP.
    Raises SettingError for another suffix, DataError where it cannot be written.
    """
    from PIL.PngImagePlugin import PngInfo

    check_png(file)
    info = PngInfo()
    info.add_itxt("kolors_lab", json.dumps(settings, ensure_ascii=False))
    info.add_itxt("parameters", infotext(settings))
    info.add_itxt("XML:com.adobe.xmp", AI_GENERATED)
    with replacing(file) as temporary:
        image.save(temporary, format="PNG", pnginfo=info)
    return Path(file)


def infotext(settings: dict) -> str:
    """Settings as the web UI writes them: prompt, negative prompt, then `Steps: 20, CFG scale: 4, …`."""
    lora, strength = settings.get("lora", ""), settings.get("lora_strength", 1.0)
    tag = f" <lora:{lora.split('.safetensors')[0]}:{strength:g}>" if lora else ""
    names = {"steps": "Steps", "cfg": "CFG scale", "seed": "Seed", "model": "Model"}
    values = [f"{label}: {settings[name]}" for name, label in names.items() if name in settings]
    values += ["Sampler: Euler"] + ([f"Size: {settings['width']}x{settings['height']}"] if "width" in settings else [])
    negative = f"\nNegative prompt: {settings['negative_prompt']}" if settings.get("negative_prompt") else ""
    return f"{settings.get('prompt', '')}{tag}{negative}\n" + ", ".join(values)


def read_settings(file: str | Path) -> dict:
    """The settings a picture carries. Raises DataError where there is no such picture or it carries none."""
    from PIL import Image

    try:
        with Image.open(file, formats=("PNG",)) as image:
            settings = json.loads(image.text["kolors_lab"])
    except FileNotFoundError as error:
        raise DataError(f"{file} does not exist") from error
    except (OSError, ValueError, KeyError, SyntaxError) as error:
        raise DataError(f"{file} carries no settings of kolors_lab; only PNGs made here do") from error
    if not isinstance(settings, dict):
        raise DataError(f"{file} carries damaged settings")
    return settings
