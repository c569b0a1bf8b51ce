"""Saying where: a ControlNet reads edges or scribbles and tells the UNet, layer by layer, where things are to stand.

    net = load_control_net("Kwai-Kolors/Kolors-ControlNet-Canny", pipe.unet)
    image = generate(pipe, "白马", control=Control(net, (picture,), "canny"))

References: ControlNet https://arxiv.org/abs/2302.05543 · Canny 1986 https://doi.org/10.1109/TPAMI.1986.4767851
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from weakref import WeakKeyDictionary

from kolors_lab.core.errors import DataError, ModelError, SettingError, check_number
from kolors_lab.core.fields import OneOf, Range, check_fields
from kolors_lab.core.images import open_image
from kolors_lab.core.language import _
from kolors_lab.models.device import device_of

if TYPE_CHECKING:
    import numpy as np
    import torch
    from diffusers import ControlNetModel, KolorsPipeline, UNet2DConditionModel
    from PIL import Image

# diffusers' and the two names of Kwai's, which differ from it in nothing but the forward
CLASSES = ("ControlNetModel", "ControlNetModel_JQ", "Kolors_ControlNetModel")
LOW, HIGH = 100, 200  # Canny's thresholds, as in Kwai's own samples


# Control pictures ----------------------------------------------------------------------------------------------------


def canny(image: Image.Image) -> Image.Image:
    """Thin white edges on black, of the same size; RGB."""
    import cv2
    import numpy as np
    from PIL import Image

    return Image.fromarray(cv2.Canny(np.asarray(image.convert("L")), LOW, HIGH)).convert("RGB")


def scribble(image: Image.Image) -> Image.Image:
    """Thick soft strokes where the picture's brightness changes, as if drawn with a brush; RGB."""
    import numpy as np
    from PIL import Image, ImageFilter
    from scipy.ndimage import sobel

    stroke = max(3, min(image.size) // 40 | 1)  # px, an odd number: the brush's width
    grey = np.asarray(image.convert("L").filter(ImageFilter.GaussianBlur(min(image.size) / 100)), dtype=float)
    slope = np.hypot(sobel(grey, 0), sobel(grey, 1))
    edges = Image.fromarray(np.uint8(255 * (slope > 100)))
    return edges.filter(ImageFilter.MaxFilter(stroke)).filter(ImageFilter.GaussianBlur(stroke / 3)).convert("RGB")


KINDS: dict[str, Callable[[Image.Image], Image.Image]] = {  # a new kind is one line here
    "canny": canny,
    "scribble": scribble,
    "none": lambda image: image.convert("RGB"),
}


@dataclass(frozen=True)
class ControlConfig:
    """Where things stand in a picture.

    Args:
        control: the picture that says where things stand, of the shape of what is drawn; none: the prompt alone does
        control_kind: what to make of it: canny (thin edges), scribble (thick soft strokes), none (it is one already)
        control_net: folder of the ControlNet that reads it, Kwai's for Kolors or one by `train --method controlnet`
        control_strength: how strongly it acts, 0 not at all
        control_start: the share of the noise, from 0, after which it begins to act
        control_end: the share, up to 1, after which it no longer does; the last details are the prompt's
    """

    control: str | None = None
    control_kind: Annotated[str, OneOf(KINDS)] = "canny"
    control_net: str | None = None
    control_strength: Annotated[float, Range(0, 2)] = 0.7
    control_start: Annotated[float, Range(0, 1)] = 0.0
    control_end: float = 0.9

    def __post_init__(self):
        check_fields(self)
        check_number("control_end", self.control_end, self.control_start, 1)
        if (self.control is None) != (self.control_net is None):
            raise SettingError(
                "control = {control}, control_net = {net}: a picture and a net go together",
                control=self.control,
                net=self.control_net,
            )


def control_picture(image: Image.Image, kind: str, width: int, height: int, what: str = "") -> Image.Image:
    """What the net is shown, width x height px, RGB. SettingError for another shape: cutting would move things."""
    if abs(image.width * height - image.height * width) > 0.02 * image.width * height:
        raise SettingError(
            "{what} has {size} px, the picture {wanted}: give width and height of its shape, or cut it",
            what=what or _("the control"),
            size=f"{image.width} x {image.height}",
            wanted=f"{width} x {height}",
        )
    return KINDS[kind](image.convert("RGB").resize((width, height)))


def pixels(image: Image.Image) -> torch.Tensor:
    """(3, H, W) from 0 to 1, as every ControlNet reads its control."""
    import numpy as np
    import torch

    return torch.from_numpy(np.asarray(image.convert("RGB"), dtype=np.float32) / 255).permute(2, 0, 1)


def edge_f1(image: Image.Image, control: Image.Image, reach: int = 0) -> float:
    """How well a picture's Canny edges are those of a control of its size, 0..1: F1, `reach` px beside count as on it.

    Exactly on it by default: unlike pictures of the little world then agree to 0.14 by chance, and with 1 px, which
    forgives an edge that the VAE moved, already to 0.42. NaN where neither has an edge.
    """
    import numpy as np
    from scipy.ndimage import maximum_filter

    drawn, wanted = (np.asarray(edges.convert("L")) > 127 for edges in (canny(image), control))
    if not drawn.any() and not wanted.any():
        return float("nan")

    def near(one: np.ndarray, other: np.ndarray) -> float:
        """The share of one's edges that lie on the other's."""
        return float((one & maximum_filter(other, 2 * reach + 1)).sum() / max(one.sum(), 1))

    precision, recall = near(drawn, wanted), near(wanted, drawn)
    return 2 * precision * recall / max(precision + recall, 1e-9)


# The net -------------------------------------------------------------------------------------------------------------


def load_control_net(folder: str | Path, unet: UNet2DConditionModel) -> ControlNetModel:
    """The ControlNet of a folder or a downloaded id, in the UNet's type. FetchError if it is not here.

    ModelError for a folder that holds none, one made for another model, or damaged weights.
    """
    from diffusers import ControlNetModel
    from safetensors import SafetensorError

    from kolors_lab.models.loading import quietly
    from kolors_lab.models.padding import read_padding_once
    from kolors_lab.models.presets import local_path

    path = local_path(str(folder))
    config = _net_config(path)
    for name in ("block_out_channels", "cross_attention_dim", "encoder_hid_dim", "layers_per_block"):
        there, here = config.get(name), unet.config.get(name)
        if _plain(there) != _plain(here):
            raise ModelError(
                "control_net {folder} was made for another model: {name} is {there} there, {here} here",
                folder=folder,
                name=name,
                there=there,
                here=here,
            )
    half = not (path / "diffusion_pytorch_model.safetensors").exists()  # Kwai's lie under the name of the variant
    options = {"torch_dtype": unet.dtype, "use_safetensors": True, "local_files_only": True}
    try:
        with quietly():
            net = ControlNetModel.from_pretrained(path, variant="fp16" if half else None, **options)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            "control_net {folder} cannot be loaded ({error}); fetch it again", folder=folder, error=error
        ) from error
    read_padding_once(net)
    return net.requires_grad_(False).eval()


def _net_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        kind = config["_class_name"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            "control_net {path}: holds no ControlNet, its config.json cannot be read", path=path
        ) from error
    if kind not in CLASSES:
        raise ModelError(
            "control_net {path}: holds a {kind}, must be a {wanted}", path=path, kind=kind, wanted=CLASSES[0]
        )
    return config


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, (list, tuple)) else value


def residuals(
    net: ControlNetModel,
    sample: torch.Tensor,
    time: torch.Tensor,
    embeds: torch.Tensor,
    added: dict[str, torch.Tensor],
    hint: torch.Tensor,
) -> dict[str, Any]:
    """What the net adds to the UNet's layers, as the UNet's keyword arguments.

    `sample` (B, 4, h, w), `embeds` (B, 256, hidden) as for the UNet, `hint` (B, 3, 8h, 8w) from 0 to 1. Kwai's nets
    project the text before they read it, as the UNet does; diffusers' class holds that projection, but does not use it.
    """
    if net.config.encoder_hid_dim_type == "text_proj":
        embeds = net.encoder_hid_proj(embeds)
    down, mid = net(sample, time, embeds, hint, added_cond_kwargs=added, return_dict=False)
    return {"down_block_additional_residuals": down, "mid_block_additional_residual": mid}


@dataclass(frozen=True)
class Control:
    """A ControlNet and the pictures it reads: one for all that is drawn at once, or one for each prompt."""

    net: ControlNetModel
    pictures: Sequence[Image.Image]
    kind: str = "canny"
    strength: float = 0.7
    start: float = 0.0
    end: float = 0.9

    def beside(self, unet: Any, pipe: KolorsPipeline, width: int, height: int, batch: int) -> Controlled:
        """The UNet with the net at its side; `batch` pictures are drawn for each prompt. SettingError for a shape."""
        import torch

        hints = [pixels(control_picture(image, self.kind, width, height)) for image in self.pictures]
        device, dtype = device_of(pipe), pipe.unet.dtype
        hint = torch.stack(hints).repeat_interleave(batch, 0).to(device, dtype)
        strength = torch.full((len(hint), 1, 1, 1), self.strength, device=device, dtype=dtype)
        read = Reading(self.net.to(device), hint, strength, self.start, self.end)
        return Controlled(unet, [read] if self.strength else [], pipe.scheduler.config.num_train_timesteps)


@dataclass(frozen=True, eq=False)
class Reading:
    """A ControlNet, what it reads, `hint` (B, 3, H, W) from 0 to 1, and how strongly it acts on each, (B, 1, 1, 1).

    It acts while the noise is between `start` and `end` of its way, counted in the model's own training steps, as
    ComfyUI's ControlNetApplyAdvanced does.
    """

    net: ControlNetModel
    hint: torch.Tensor
    strength: torch.Tensor
    start: float
    end: float


class Controlled:
    """A UNet with ControlNets at its side, called like the UNet alone; what they say adds up."""

    def __init__(self, unet: Any, readings: Sequence[Reading], training_steps: int):
        self.unet, self.readings, self.last = unet, readings, training_steps - 1

    def __call__(
        self, sample: torch.Tensor, time: torch.Tensor, encoder_hidden_states: torch.Tensor, added_cond_kwargs: dict,
        **options: Any,
    ) -> Any:  # fmt: skip
        share, more = 1 - float(time) / self.last, {}
        for one in self.readings:
            if one.start <= share <= one.end:
                times = (len(sample) // len(one.hint), 1, 1, 1)  # with guidance, both halves see it
                hint, strength = one.hint.repeat(times), one.strength.repeat(times)
                found = residuals(one.net, sample, time, encoder_hidden_states, added_cond_kwargs, hint)
                more = {name: _plus(more.get(name), part, strength) for name, part in found.items()}
        return self.unet(
            sample, time, encoder_hidden_states=encoder_hidden_states, added_cond_kwargs=added_cond_kwargs, **more,
            **options,
        )  # fmt: skip


def _plus(before: Any, part: Any, strength: torch.Tensor) -> Any:
    """What one net says, as strong as each row asks, added to what those before it said."""
    if isinstance(part, (list, tuple)):
        return [_plus(before[n] if before else None, each, strength) for n, each in enumerate(part)]
    return part * strength if before is None else before + part * strength


_nets: WeakKeyDictionary[KolorsPipeline, tuple[str, ControlNetModel]] = WeakKeyDictionary()  # the last one used


def find_control(pipe: KolorsPipeline, config: ControlConfig, pictures: Sequence[str | Path] = ()) -> Control | None:
    """The Control that a config asks for, of its own picture or of `pictures`; None where it asks for none.

    The net stays loaded until another is asked for. Raises DataError, FetchError, ModelError.
    """
    if config.control is None:
        return None
    images = tuple(open_image(file) for file in pictures or (config.control,))
    if _nets.get(pipe, ("", None))[0] != config.control_net:
        _nets.pop(pipe, None)  # before the next is loaded: two need twice the memory
        _nets[pipe] = config.control_net, load_control_net(config.control_net, pipe.unet)
    names = ("kind", "strength", "start", "end")
    return Control(_nets[pipe][1], images, **{name: getattr(config, f"control_{name}") for name in names})


def control_of_panel(config: ControlConfig, number: int) -> ControlConfig:
    """The config for panel `number`, from 1: of a folder of controls its `number`.png (or .jpg …); a file is all's.

    DataError where the folder lacks it.
    """
    if config.control is None or not Path(config.control).is_dir():
        return config
    found = sorted(file for file in Path(config.control).iterdir() if file.stem == str(number))
    if not found:
        raise DataError(
            "control = {control}: holds no {number}.png for panel {number}; draw one for each panel",
            control=config.control,
            number=number,
        )
    return replace(config, control=str(found[0]))
