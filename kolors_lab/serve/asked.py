"""What a client of the web UI asks for, as GenerateConfigs; what is not done is named, or refused where it matters."""

from __future__ import annotations

import base64
import binascii
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kolors_lab.comfy.graph import short
from kolors_lab.comfy.infotext import find_sampler
from kolors_lab.core.errors import SettingError, check_name, check_number
from kolors_lab.core.images import open_image
from kolors_lab.core.language import _
from kolors_lab.sampling.config import GenerateConfig

if TYPE_CHECKING:
    from PIL import Image

    from kolors_lab.models.presets import Preset
    from kolors_lab.serve.server import ServeConfig

NOTHING_ASKED: dict[str, tuple] = {  # the web UI's fields that are not done here: values that ask for nothing
    "subseed": (-1,), "subseed_strength": (0,), "seed_resize_from_h": (-1, 0), "seed_resize_from_w": (-1, 0),
    "restore_faces": (False,), "tiling": (False,), "eta": (0, 1), "s_churn": (0,), "s_min_uncond": (0,),
    "s_tmin": (0,), "s_tmax": (0,), "s_noise": (1,), "override_settings_restore_afterwards": (True, False),
    "refiner_switch_at": (0, 1), "disable_extra_networks": (False,), "do_not_save_samples": (True, False),
    "do_not_save_grid": (True, False), "send_images": (True,), "save_images": (False,), "image_cfg_scale": (1.5,),
    "initial_noise_multiplier": (1,), "include_init_images": (False,), "hr_upscaler": ("Latent",),
    "hr_second_pass_steps": (0,), "hr_resize_x": (0,), "hr_resize_y": (0,), "firstphase_width": (0,),
    "firstphase_height": (0,), "mask_blur": (0,), "inpaint_full_res": (False,), "inpaint_full_res_padding": (0,),
    "control_net_no_detectmap": (True,), "low_vram": (True, False), "lowvram": (True, False),
    "pixel_perfect": (True, False), "processor_res": (-1,), "threshold_a": (-1,), "threshold_b": (-1,),
    "guessmode": (False,), "control_mode": (0, "Balanced"), "hr_option": ("Both",), "save_detected_map": (False,),
}  # fmt: skip
HIRES = ("hr_scale", "hr_upscaler", "hr_second_pass_steps", "hr_resize_x", "hr_resize_y", "hr_checkpoint_name",
         "hr_sampler_name", "hr_scheduler", "hr_prompt", "hr_negative_prompt", "firstphase_width", "firstphase_height",
         "denoising_strength")  # fmt: skip
MASKED = ("mask_blur", "mask_blur_x", "mask_blur_y", "inpainting_fill", "inpaint_full_res", "inpaint_full_res_padding",
          "inpainting_mask_invert")  # fmt: skip
RESIZE = ("just resize", "crop and resize", "resize and fill")
FILLS = {0: "grey", 1: "original", 2: "grey", 3: "grey"}  # fill, original, latent noise, latent nothing
KINDS = {"none": "none", "canny": "canny", "scribble": "scribble", "scribble_hed": "scribble", "scribble_xdog":
         "scribble", "scribble_pidinet": "scribble"}  # fmt: skip


class Asked:
    """The fields of a request, taken one by one; what is left at the end was not used. `notes` says so, a line each."""

    def __init__(self, fields: dict[str, Any]):
        self.fields, self.notes = dict(fields), []

    def take(self, name: str, kind: type, default: Any) -> Any:
        """A field's value; the default where it is missing or null. Raises SettingError for one of another type."""
        value = self.fields.pop(name, None)
        if value is None:
            return default
        value = float(value) if kind is float and type(value) is int else value
        if type(value) is not kind:
            raise SettingError(
                "{name} = {value!r}: must be of type {kind}", name=name, value=short(value), kind=kind.__name__
            )
        return value

    def number(self, name: str, default: float, low: float, high: float) -> float:
        value = self.take(name, float, float(default))
        check_number(name, value, low, high)
        return value

    def forget(self, *names: str) -> None:
        """Leave out what says nothing without a part that the request does not ask for."""
        for name in names:
            self.fields.pop(name, None)

    def rest(self, where: str = "") -> list[str]:
        """All notes, and the fields that nobody took and that ask for something."""
        for name, value in self.fields.items():
            known = NOTHING_ASKED.get(name)
            silent = value in (None, "", [], {}) or (known is not None and value in known)
            if not silent:
                told = _("{name} = {value!r} is not used")
                self.notes.append(told.format(name=f"{where}{short(name)}", value=short(value)))
        return self.notes


def configs_of(
    fields: dict[str, Any], served: ServeConfig, preset: Preset, folder: Path, of_image: bool
) -> tuple[list[GenerateConfig], list[str]]:
    """The pictures that a request asks for, one by one, and notes of what is not done.

    Each has a seed of its own, one more than that before. `folder` takes the pictures that came with the request and
    those to be drawn. Raises SettingError, DataError.
    """
    asked = Asked(fields)
    if script := asked.take("script_name", str, ""):
        raise SettingError("script_name = {script!r}: there are no scripts here", script=script)
    size = {side: asked.take(side, int, preset.size) for side in ("width", "height")}
    settings = {"preset": served.preset, "loras": served.loras, **size, **_sampling(asked)}
    seed, count = _seed(asked), asked.take("batch_size", int, 1) * asked.take("n_iter", int, 1)
    check_number("batch_size times n_iter", count, 1, 64)
    box = (size["width"], size["height"])
    settings |= _start(asked, folder, box) if of_image else _hires(asked)
    settings |= _control(asked, served, folder, box)
    out = [str(folder / f"{n}.png") for n in range(count)]
    configs = [GenerateConfig(**settings, seed=seed + n, out=file) for n, file in enumerate(out)]
    return configs, asked.rest()


def _sampling(asked: Asked) -> dict[str, Any]:
    found = {name: asked.take(name, str, "") for name in ("prompt", "negative_prompt")}
    found |= {"steps": asked.take("steps", int, None), "cfg": asked.take("cfg_scale", float, None)}
    label, old = asked.take("sampler_name", str, ""), asked.take("sampler_index", str, "")
    schedule = asked.take("scheduler", str, "")
    if not (label or old) and not schedule:
        return found
    sampler, scheduler = find_sampler(label or old or "Euler", schedule)
    return found | {"sampler_name": sampler, "scheduler": scheduler}


def _seed(asked: Asked) -> int:
    seed = asked.take("seed", int, -1)
    return random.SystemRandom().randrange(2**32) if seed == -1 else seed


def _hires(asked: Asked) -> dict[str, Any]:
    if not asked.take("enable_hr", bool, False):
        asked.forget(*HIRES)
        return {}
    return {"hires": asked.number("hr_scale", 2, 1, 4), "hires_denoise": asked.number("denoising_strength", 0.7, 0, 1)}


def _start(asked: Asked, folder: Path, size: tuple[int, int]) -> dict[str, Any]:
    """The picture that is drawn over, and its mask."""
    images, mode = asked.take("init_images", list, []), asked.take("resize_mode", int, 0)
    if len(images) != 1:
        raise SettingError("init_images has {count} pictures: must have one", count=len(images))
    image = picture_file(images[0], folder / "init.png", "init_images", mode, size)
    settings = {"image": image, "denoise": asked.number("denoising_strength", 0.75, 0, 1)}
    mask = asked.take("mask", str, "")
    if not mask:
        asked.forget(*MASKED)
        return settings
    file = picture_file(mask, folder / "mask.png", "mask", mode, size)
    if asked.take("inpainting_mask_invert", int, 0):
        from PIL import ImageOps

        ImageOps.invert(open_image(file)).save(file)
    fill = asked.take("inpainting_fill", int, 0)
    if fill not in FILLS:
        raise SettingError("inpainting_fill = {fill}: must be 0, 1, 2 or 3", fill=fill)
    if fill != 1:
        asked.notes.append(_("inpainting_fill = {fill}: the model sees grey under the mask").format(fill=fill))
    return settings | {"mask": file, "mask_fill": FILLS[fill]}


def _control(asked: Asked, served: ServeConfig, folder: Path, size: tuple[int, int]) -> dict[str, Any]:
    """The one unit of ControlNet that may act. Raises SettingError for other scripts, and for a second unit."""
    scripts = {name.lower(): value for name, value in asked.take("alwayson_scripts", dict, {}).items()}
    units = scripts.pop("controlnet", None) or {}
    if scripts:
        raise SettingError("alwayson_scripts: {names}: there is only controlnet here", names=short(", ".join(scripts)))
    units = units.get("args", []) if isinstance(units, dict) else units
    if not isinstance(units, list) or not all(isinstance(unit, dict) for unit in units):
        raise SettingError("alwayson_scripts: controlnet: args must be a list of units, {form}", form="[{…}]")
    acting = [unit for unit in units if unit.get("enabled", True)]
    if not acting:
        return {}
    if len(acting) > 1:
        raise SettingError("alwayson_scripts: controlnet: {count} units; one may act here", count=len(acting))
    if not served.control_net:
        raise SettingError("alwayson_scripts: controlnet: there is none here; start the server with --control_net")
    return _unit(asked, acting[0], served.control_net, folder, size)


def _unit(asked: Asked, fields: dict, net: str, folder: Path, size: tuple[int, int]) -> dict[str, Any]:
    unit = Asked(fields)
    unit.forget("enabled")
    name = unit.take("model", str, "").partition(" [")[0]
    if name and name != Path(net).name:
        told = _("controlnet: model = {name!r}: {net}, the only one here, acts instead")
        unit.notes.append(told.format(name=short(name), net=Path(net).name))
    module = unit.take("module", str, "none").lower()
    check_name("controlnet: module", short(module), KINDS)
    image = unit.fields.pop("image", None) or unit.fields.pop("input_image", None)
    unit.forget("input_image")
    image, mask = (image.get("image"), image.get("mask")) if isinstance(image, dict) else (image, None)
    if mask:
        unit.notes.append(_("controlnet: the mask of its image is not used"))
    file = picture_file(image, folder / "control.png", "controlnet: image", unit.fields.pop("resize_mode", 1), size)
    strength = unit.number("weight", 1, 0, 2)
    start, end = unit.number("guidance_start", 0, 0, 1), unit.number("guidance_end", 1, 0, 1)
    asked.notes += unit.rest("controlnet: ")
    return {
        "control": file, "control_net": net, "control_kind": KINDS[module], "control_strength": strength,
        "control_start": start, "control_end": end,
    }  # fmt: skip


def picture_file(data: Any, file: Path, what: str, mode: Any, size: tuple[int, int]) -> str:
    """A picture in base64 as a file, brought to a size in the way of the web UI's resize mode. SettingError, DataError.

    `mode`: 0 stretched, 1 cut to the shape, 2 with an edge around it; or the words that controlnet has for them.
    """
    from PIL import ImageOps

    mode = RESIZE.index(mode.lower()) if isinstance(mode, str) and mode.lower() in RESIZE else mode
    if type(mode) is not int or mode not in range(len(RESIZE)):
        raise SettingError(
            "{what}: resize_mode = {mode!r}: must be 0, 1 or 2: {names}",
            what=what,
            mode=short(mode),
            names=", ".join(RESIZE),
        )
    image = decode(data, file, what)
    ways = (image.resize, lambda size: ImageOps.fit(image, size), lambda size: ImageOps.pad(image, size))
    (image if image.size == size else ways[mode](size)).save(file)
    return str(file)


def decode(data: Any, file: Path, what: str) -> Image.Image:
    """A picture in base64, with or without `data:image/png;base64,` before it; it lies in `file` then."""
    if not isinstance(data, str) or not data:
        raise SettingError("{what}: must be a picture in base64", what=what)
    if data.startswith(("http:", "https:")):
        raise SettingError("{what}: addresses are not fetched; send the picture in base64", what=what)
    try:
        file.write_bytes(base64.b64decode(data.partition(";base64,")[2] if data.startswith("data:") else data))
    except (binascii.Error, ValueError) as error:
        raise SettingError("{what}: is no base64 ({error})", what=what, error=error) from error
    return open_image(file)
