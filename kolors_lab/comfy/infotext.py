"""Settings that other programs write into pictures, as ours: the web UI's, Forge's and SD.Next's `parameters`, those of
Fooocus, SwarmUI and others in JSON, InvokeAI's metadata, NovelAI's comment. What has no place here is named."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from kolors_lab.comfy.graph import short
from kolors_lab.core.errors import DataError, SettingError, check_number
from kolors_lab.core.language import _
from kolors_lab.prompts.syntax import extract_loras
from kolors_lab.sampling.ksampler import KSampler, scaled
from kolors_lab.sampling.metadata import SAMPLER_LABELS
from kolors_lab.sampling.samplers import SAMPLERS
from kolors_lab.sampling.schedules import SCHEDULERS

FOREIGN = ("parameters", "invokeai_metadata", "sd-metadata", "Comment")  # the names of their chunks
NAME = r"\s{0,9}([A-Za-z][\w \-/]{0,60}):\s{0,9}"
BRACKETS = r"(?:\[.{0,2000}?\]|\{.{0,2000}?\}|\(.{0,2000}?\))"  # JSON and lists, up to the next name
ENTRY = re.compile(rf'{NAME}("(?:\\.|[^\\"])*"|{BRACKETS}(?=\s*(?:$|,{NAME.replace("(", "(?:")}))|[^,]*)(?:,|$)')
NEGATIVE = re.compile(r"^\s*Negative prompt:", re.MULTILINE)
NAMES = {  # ours: theirs, in JSON
    "prompt": ("prompt", "Prompt"), "negative_prompt": ("negative_prompt", "negativeprompt", "uc", "Negative"),
    "seed": ("seed",), "steps": ("steps", "num_inference_steps"), "cfg": ("guidance_scale", "cfgscale", "scale", "cfg"),
    "sampler": ("sampler", "sampler_name"), "scheduler": ("scheduler", "noise_schedule"), "loras": ("loras",),
}  # fmt: skip
SCHEDULES = {  # the web UI's: ours
    "Automatic": "normal", "Uniform": "normal", "Normal": "normal", "Karras": "karras", "Exponential": "exponential",
    "SGM Uniform": "sgm_uniform", "Simple": "simple", "DDIM": "ddim_uniform", "Beta": "beta", "KL Optimal":
    "kl_optimal", "Linear Quadratic": "linear_quadratic",
}  # fmt: skip
SHORT = {  # other programs' names without their k_ and _k: ours
    "euler_a": "euler_ancestral", "unipc": "uni_pc", "kdpm_2": "dpm_2", "kdpm_2_a": "dpm_2_ancestral",
}  # fmt: skip
FACTORS = ("hires size", "hires resize", "hires upscale", "hires scale")  # what counts most comes first
DENOISE = ("hires denoise", "hires denoising strength", "denoising strength")
MAX_LENGTH = 100_000  # characters


def foreign_settings(texts: dict[str, str], file: Path) -> tuple[dict[str, Any], tuple[str, ...]] | None:
    """Settings, as `workflow_api` takes them, and what is not taken over; None where no program known left any.

    Raises DataError where they are damaged or ask for what is not here.
    """
    name = next((name for name in FOREIGN if name in texts), None)
    if name is None or (name == "Comment" and '"uc"' not in texts[name]):  # any program writes comments
        return None
    if len(texts[name]) > MAX_LENGTH:
        raise DataError(
            "{file}: {name} has {count} characters; {most} at most are read",
            file=file, name=name, count=len(texts[name]), most=MAX_LENGTH,
        )  # fmt: skip
    try:
        settings, left = _settings(name, texts[name])
        checked = {key: settings[key] for key in ("seed", "steps", "cfg", "sampler_name", "scheduler", "denoise")}
        KSampler(**checked, width=settings["width"], height=settings["height"])
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError, RecursionError) as error:
        why = _("it does not say {what}").format(what=error.args[0]) if isinstance(error, KeyError) else repr(error)
        raise DataError("{file}: its {name} cannot be read ({why:.100})", file=file, name=name, why=why) from error
    except SettingError as error:
        raise DataError(
            "{file}: its {name} ask for what is not here: {error}", file=file, name=name, error=error
        ) from error
    told = _("from {name}; not taken over: {left}").format(name=name, left=", ".join(map(short, left)))
    return settings, (told,) if left else ()


def _settings(name: str, text: str) -> tuple[dict[str, Any], list[str]]:
    if name == "parameters" and not text.lstrip().startswith("{"):
        return parse_infotext(text)
    data = json.loads(text)
    settings, left = _named(data, name == "Comment") if name in ("parameters", "Comment") else _invoke(data)
    return settings, [name for name, value in left.items() if value not in (None, "", [], {})]


def parse_infotext(text: str) -> tuple[dict[str, Any], list[str]]:
    """The web UI's text as settings, and the names of what is left. KeyError for what is missing.

    Prompt, `Negative prompt: …`, and a last line `Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 64x64`.
    """
    lines = text.strip().split("\n")
    last = next((n for n, line in reversed(list(enumerate(lines))) if line.startswith("Steps: ")), None)
    if last is None:
        raise KeyError("Steps")
    values = {name: _unquoted(value) for name, value in ENTRY.findall(", ".join(lines[last:]))}
    words = "\n".join(lines[:last])
    prompt, negative = (*NEGATIVE.split(words, 1), "")[:2]
    prompt, loras = extract_loras(prompt.strip())
    width, height = (int(side) for side in values.pop("Size").lower().split("x"))
    sampler, schedule = find_sampler(values.pop("Sampler"), values.pop("Schedule type", values.pop("Scheduler", "")))
    settings = {
        "prompt": prompt, "negative_prompt": negative.strip(), "prompt_syntax": "webui", "width": width,
        "height": height, "steps": int(values.pop("Steps")), "seed": int(values.pop("Seed")),
        "cfg": float(values.pop("CFG scale", 1.0)), "sampler_name": sampler, "scheduler": schedule, "denoise": 1.0,
        "batch": 1, "loras": [(f"{name}.safetensors", strength) for name, strength in loras],
    }  # fmt: skip
    settings |= _second_pass(values, (width, height))
    return settings, [f"{name}: {value}" for name, value in values.items()]


def _second_pass(values: dict[str, str], size: tuple[int, int]) -> dict[str, float]:
    """`hires` and `hires_denoise`, taken out of the values; {} where they do not say both, or of a picture drawn over.

    The web UI says `Hires upscale` or `Hires resize`; SD.Next `Hires scale`, `Hires resize` and `Hires size`, of which
    the last is the size that was drawn. Raises SettingError for what a second pass cannot be.
    """
    names = {name.lower(): name for name in values}
    given = [names[name] for name in DENOISE if name in names]
    if not given or "init image size" in names or values.get(names.get("second pass", "")) == "False":
        return {}
    told = [names[name] for name in FACTORS if name in names and values[names[name]] != "0x0"]  # which says nothing
    said = {name: _factor(values[name], size) for name in told}
    factor = next(iter(said.values()), None)
    if factor is None:
        return {}
    check_number(next(iter(said)), factor, 1, 4)
    denoise = float(values[given[0]])
    check_number(given[0], denoise, 0, 1)
    used = [name for name, other in said.items() if other == factor]
    used += [name for name in given if values[name] == values[given[0]]] + [names.get("second pass", "")]
    for name in used:
        values.pop(name, None)
    return {"hires": factor, "hires_denoise": denoise}


def _factor(text: str, size: tuple[int, int]) -> float | None:
    """How many times larger: `1.5`, or of a size, `768x576`; a side of 0 follows the other. None: of another shape."""
    target = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if not target:
        return float(text)
    pairs = [(int(whole), side) for whole, side in zip(target.groups(), size, strict=True) if int(whole)]
    factor = next((whole / side for whole, side in pairs if side), None)
    fits = factor and all(scaled(whole, 1) == scaled(side, factor) for whole, side in pairs)
    return factor if fits else None


def _unquoted(value: str) -> str:
    return json.loads(value) if value.startswith('"') and len(value) > 1 else value.strip()


def find_sampler(label: str, schedule: str) -> tuple[str, str]:
    """Sampler and scheduler of the web UI's labels; older ones hold both: `DPM++ 2M Karras`. SettingError: not here."""
    ours = {name: name for name in SAMPLERS} | {label.lower(): name for name, label in SAMPLER_LABELS.items()}
    for ending in ("Karras", "Exponential", "SGM Uniform"):
        if label.endswith(f" {ending}") and label.lower() not in ours:
            label, schedule = label.removesuffix(f" {ending}"), schedule or ending
    name = ours.get(label.lower(), "euler" if label == "Default" else None)
    schedules = {label.lower(): scheduler for label, scheduler in SCHEDULES.items()}
    scheduler = schedules.get((schedule or "Automatic").lower(), schedule)
    if name is None or scheduler not in SCHEDULERS:
        wrong = f"Sampler {label}" if name is None else f"Schedule type {schedule}"
        raise SettingError("{wrong}: there is none here; say another in ComfyUI or by hand", wrong=wrong)
    return name, scheduler


def _invoke(data: dict) -> tuple[dict[str, Any], dict[str, Any]]:
    """InvokeAI's metadata, of today and of its first versions (`image`), and what is left of it. Both weigh words in
    compel's way."""
    data = dict(data.get("image", data))
    prompt, negative = data.pop("positive_prompt", None), data.pop("negative_prompt", "")
    if prompt is None:
        parts = data.pop("prompt")
        prompt = parts if isinstance(parts, str) else ", ".join(part["prompt"] for part in parts)
    sampler = str(data.pop("scheduler", None) or data.pop("sampler", "euler"))
    karras = sampler.endswith("_k")
    sampler = sampler.removesuffix("_k").removeprefix("k_")
    loras = [(lora.get("model") or lora["lora"], lora["weight"]) for lora in data.pop("loras", None) or ()]
    names = [(model.get("name") or model["model_name"], weight) for model, weight in loras]
    settings = {
        "prompt": prompt, "negative_prompt": negative or "", "prompt_syntax": "compel", "width": data.pop("width"),
        "height": data.pop("height"), "steps": data.pop("steps"), "seed": data.pop("seed"),
        "cfg": float(data.pop("cfg_scale")), "sampler_name": SHORT.get(sampler, sampler), "denoise": 1.0, "batch": 1,
        "scheduler": "karras" if karras else "normal",
        "loras": [(f"{name}.safetensors", weight) for name, weight in names],
    }  # fmt: skip
    return settings, data


def _named(data: dict, novelai: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings in JSON, and what is left of it: of Fooocus, SwarmUI, Easy Diffusion, or NovelAI, which weighs words in
    brackets of its own."""
    data = dict(data.get("sui_image_params", data))
    found = {ours: data.pop(name) for ours, names in NAMES.items() for name in names if name in data}
    size = re.findall(r"\d+", str(data.pop("resolution", None) or data.pop("size", "")))
    width, height = size if len(size) == 2 else (data.pop("width"), data.pop("height"))
    sampler = str(found["sampler"]).removesuffix("_gpu").removeprefix("k_")
    schedule = str(found.get("scheduler", "")).replace("native", "normal")
    name, scheduler = find_sampler(SHORT.get(sampler, sampler), schedule)
    texts = [found["prompt"], found.get("negative_prompt") or ""]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("a prompt that is no text")
    settings = {
        "prompt": texts[0], "negative_prompt": texts[1], "prompt_syntax": "comfyui", "width": int(width),
        "height": int(height), "steps": int(found["steps"]), "seed": int(found["seed"]), "cfg": float(found["cfg"]),
        "sampler_name": name, "scheduler": scheduler, "denoise": 1.0, "batch": 1,
        "loras": [(lora[0], float(lora[1])) for lora in found.get("loras") or ()],
    }  # fmt: skip
    if novelai:
        settings |= {"prompt": _in_brackets(texts[0]), "negative_prompt": _in_brackets(texts[1])}
        settings["prompt_syntax"] = "webui"
    return settings, data


def _in_brackets(text: str) -> str:
    """NovelAI's {more}, [less] and 1.2::so much:: as the web UI's (words:1.05)."""
    text = re.sub(r"([()])", r"\\\1", text)
    text = re.sub(r"(-?\d+(?:\.\d+)?)::(.*?)::", r"(\2:\1)", text, flags=re.DOTALL)
    for mark, ours in (("{", "("), ("}", ":1.05)"), ("[", "("), ("]", ":0.952)")):
        text = text.replace(mark, ours)
    return text
