"""The settings inside a PNG: written with the picture, read back."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from kolors_lab.core.carriers import picture_texts
from kolors_lab.core.errors import DataError, SettingError
from kolors_lab.core.files import parse_json
from kolors_lab.core.images import write_png

if TYPE_CHECKING:
    from PIL import Image


SAMPLER_LABELS = {  # the web UI's, where it has the sampler
    "euler": "Euler", "euler_ancestral": "Euler a", "heun": "Heun", "dpm_2": "DPM2", "dpm_2_ancestral": "DPM2 a",
    "lms": "LMS", "dpmpp_2s_ancestral": "DPM++ 2S a", "dpmpp_sde": "DPM++ SDE", "dpmpp_2m": "DPM++ 2M",
    "dpmpp_2m_sde": "DPM++ 2M SDE", "dpmpp_3m_sde": "DPM++ 3M SDE", "ddim": "DDIM", "lcm": "LCM", "uni_pc": "UniPC",
}  # fmt: skip


ORIGINAL = ".before.png"  # how the name of a repaired picture's original ends, which stays beside it


def original_of(file: Path) -> Path:
    """Where `repair` keeps what a picture was before: 1.before.png for 1.png."""
    return file.with_name(f"{file.stem}{ORIGINAL}")


def is_original(file: Path) -> bool:
    """Whether the file is what `repair` kept of the picture beside it, and so no picture of its own."""
    stem = file.name.removesuffix(ORIGINAL)
    return stem != file.name and file.with_name(f"{stem}.png").is_file()


def check_png(file: str | Path) -> None:
    """Raise SettingError unless the name ends in .png, the format that keeps the settings."""
    if Path(file).suffix.lower() != ".png":
        raise SettingError(
            "out = {file!r}: must end in .png, which keeps the settings inside the picture", file=str(file)
        )


def write_picture(image: Image.Image, file: str | Path, settings: dict, chunks: dict[str, str] | None = None) -> Path:
    """Write a PNG, whole or not at all, that carries `settings` and says that a model made it.

    Text chunks: `kolors_lab` (JSON), `parameters` (the Stable Diffusion web UI's form, which many tools show), XMP, and
    whatever `chunks` holds. Raises SettingError for another suffix, DataError where it cannot be written.
    """
    check_png(file)
    texts = {"kolors_lab": json.dumps(settings, ensure_ascii=False), "parameters": infotext(settings)}
    return write_png(image, file, texts, chunks)


def infotext(settings: dict) -> str:
    """Settings as the web UI writes them: prompt, negative prompt, then `Steps: 20, CFG scale: 4, …`."""
    loras = [(re.split(r"[\\/]", lora)[-1], strength) for lora, strength in loras_of(settings)]
    tags = "".join(f" <lora:{lora.split('.safetensors')[0]}:{strength:g}>" for lora, strength in loras)
    names = {
        "steps": "Steps", "sampler_name": "Sampler", "scheduler": "Schedule type", "cfg": "CFG scale", "seed": "Seed",
        "denoise": "Denoising strength", "model": "Model", "hires": "Hires upscale",
    }  # fmt: skip
    if "hires" in settings and not settings.get("image"):  # what the web UI means by it then
        names["hires_denoise"] = names.pop("denoise")
    elif "hires" in settings:
        names["hires_denoise"] = "Hires denoise"
    sampler = settings.get("sampler_name", "euler")
    shown = settings | {"sampler_name": SAMPLER_LABELS.get(sampler, sampler)}
    values = [f"{label}: {_quoted(shown[name])}" for name, label in names.items() if name in shown]
    values += [f"Size: {settings['width']}x{settings['height']}"] if "width" in settings else []
    negative = f"\nNegative prompt: {settings['negative_prompt']}" if settings.get("negative_prompt") else ""
    return f"{settings.get('prompt', '')}{tags}{negative}\n" + ", ".join(values)


def loras_of(settings: dict) -> list[tuple[str, float]]:
    """(file, strength) of the LoRA, or of the `loras` that a workflow or another program's settings name."""
    alone = [(settings["lora"], settings.get("lora_strength", 1.0))] if settings.get("lora") else []
    return alone + list(settings.get("loras") or ())


def _quoted(value: object) -> str:
    """A value as the web UI writes it: in quotes where it holds what parts the values."""
    return json.dumps(str(value), ensure_ascii=False) if re.search("[,:\n]", str(value)) else str(value)


def read_settings(file: str | Path) -> dict:
    """The settings a picture carries. Raises DataError where there is no such picture or it carries none."""
    try:
        settings = parse_json((picture_texts(Path(file), ("kolors_lab",)) or {})["kolors_lab"])
    except FileNotFoundError as error:
        raise DataError("{file} does not exist", file=file) from error
    except (OSError, ValueError, KeyError, DataError) as error:
        raise DataError("{file} carries no settings of kolors_lab; only PNGs made here do", file=file) from error
    if not isinstance(settings, dict):
        raise DataError("{file} carries damaged settings", file=file)
    return settings


def file_mark(what: str, file: str | Path) -> str:
    """`name.safetensors:0123456789ab`, the file's name and the start of its SHA-256. Raises DataError."""
    try:
        return f"{Path(file).name}:{hashlib.sha256(Path(file).read_bytes()).hexdigest()[:12]}"
    except OSError as error:
        raise DataError(
            "{what} {file} cannot be read: {reason}", what=what, file=file, reason=error.strerror
        ) from error
