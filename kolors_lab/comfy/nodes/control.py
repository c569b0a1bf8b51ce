"""Nodes that say where things stand: ControlNets, each with a picture that it reads, on a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

from kolors_lab.comfy.registry import Conditioning, ControlNet, Images, Model, Part, Vae, Widget, node
from kolors_lab.comfy.values import Prompt, in_turn
from kolors_lab.sampling.control import Controlled, Reading, load_control_net, pixels

if TYPE_CHECKING:
    import torch
    from diffusers import ControlNetModel
    from PIL import Image

    from kolors_lab.comfy.executor import Workbench

NetName = Annotated[str, Widget(folder="control_nets")]  # the function gets a net's folder
Strength = Annotated[float, Widget(0, 10)]


@dataclass(frozen=True, eq=False)
class Hint:
    """A ControlNet and the pictures that it reads, one for each that is drawn, in turn; it acts from the share `start`
    of the model's training steps to `end`, on the negative prompt too if `everywhere`."""

    net: ControlNetModel
    pictures: Sequence[Image.Image]
    strength: float = 1.0
    start: float = 0.0
    end: float = 1.0
    everywhere: bool = False


@node("ControlNetLoader", "MZ_KolorsControlNetLoader", outputs=("CONTROL_NET",))
def load(bench: Workbench, *, control_net_name: NetName) -> tuple[ControlNetModel]:
    return (load_control_net(control_net_name, bench.pipe.unet),)


@node("DiffControlNetLoader", outputs=("CONTROL_NET",))
def load_for_model(bench: Workbench, *, model: Model, control_net_name: NetName) -> tuple[ControlNetModel]:
    return load(bench, control_net_name=control_net_name)


@node("MZ_KolorsControlNetPatch", outputs=("CONTROL_NET",))
def patch(bench: Workbench, *, control_net: ControlNet, model: Model) -> tuple[ControlNetModel]:
    """In ComfyUI it gives a net the projection of Kolors' texts; those of the model's own format have it."""
    return (control_net,)


@node("ControlNetApply", outputs=("CONDITIONING",))
def apply(
    bench: Workbench, *, conditioning: Conditioning, control_net: ControlNet, image: Images, strength: Strength = 1.0
) -> tuple[Prompt]:
    """On this prompt, and on whatever negative one stands beside it."""
    return (_with(conditioning, Hint(control_net, image, strength, everywhere=True)),)


@node("ControlNetApplyAdvanced", outputs=("CONDITIONING", "CONDITIONING"))
def apply_advanced(
    bench: Workbench, *, positive: Conditioning, negative: Conditioning, control_net: ControlNet, image: Images,
    strength: Strength = 1.0, start_percent: Part = 0.0, end_percent: Part = 1.0, vae: Vae = None,
) -> tuple[Prompt, Prompt]:  # fmt: skip
    hint = Hint(control_net, image, strength, start_percent, end_percent)
    return _with(positive, hint), _with(negative, hint)


def _with(prompt: Prompt, hint: Hint) -> Prompt:
    return replace(prompt, hints=(*prompt.hints, hint)) if hint.strength else prompt


def with_nets(guided: Any, prompt: Prompt, negative: Prompt, count: int, size: tuple[int, int]) -> Controlled:
    """A Guided's UNet with the ControlNets of its prompts at its side, for `count` pictures of `size` (width, height)
    px. Each acts on the pictures of those prompts only that it was put on."""
    import torch

    halves, readings = (negative, prompt) if guided.guided else (prompt,), []
    for hint in dict.fromkeys((*prompt.hints, *(negative.hints if guided.guided else ()))):
        on = [float(hint in half.hints or hint.everywhere) for half in halves for _ in range(count)]
        rows = torch.tensor(on, device=guided.device, dtype=guided.dtype).reshape(-1, 1, 1, 1)
        pictures = _fitted(hint.pictures, count, size).to(guided.device, guided.dtype).repeat(len(halves), 1, 1, 1)
        net = hint.net.to(guided.device)
        readings.append(Reading(net, pictures, rows * hint.strength, hint.start, hint.end))
    return Controlled(guided.unet, readings, len(guided.sigmas))


def _fitted(pictures: Sequence[Image.Image], count: int, size: tuple[int, int]) -> torch.Tensor:
    """(count, 3, H, W), 0 to 1: the pictures in turn, cut to the shape of what is drawn as ComfyUI does."""
    import torch
    from PIL import Image, ImageOps

    fitted = [pixels(ImageOps.fit(each, size, Image.Resampling.NEAREST)) for each in pictures]
    return in_turn(torch.stack(fitted), count)
