"""Training a ControlNet: a copy of the UNet's first half learns to say where things stand, the UNet stays as it is.

    kolors-lab train --method controlnet --data FOLDER --out runs/edges
    kolors-lab generate --control picture.png --control_net runs/edges/controlnet

Its zero convolutions let it begin without effect; for a long while it changes little, then obeys within a few hundred
steps (sudden convergence, https://arxiv.org/abs/2302.05543, 3.4). The paper's net has a zero convolution behind its
hint encoder as well; here that one begins as the encoder does, see `new_net`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kolors_lab.models.memory import set_checkpointing
from kolors_lab.sampling.control import load_control_net, residuals
from kolors_lab.training.learner import Learner, save_folder

if TYPE_CHECKING:
    import torch
    from diffusers import ControlNetModel, KolorsPipeline, UNet2DConditionModel

    from kolors_lab.training.config import TrainConfig


class WithControl(Learner):
    """A frozen UNet and the ControlNet that learns at its side; reads the control in `added_cond_kwargs`."""

    def __init__(self, unet: UNet2DConditionModel, net: ControlNetModel):
        super().__init__(unet)
        self.net = net

    def parts(self) -> list[torch.nn.Module]:
        return [self.unet, self.net]

    def __call__(
        self, sample: torch.Tensor, time: torch.Tensor, embeds: torch.Tensor, added_cond_kwargs: dict[str, torch.Tensor]
    ) -> Any:
        added = dict(added_cond_kwargs)
        more = residuals(self.net, sample, time, embeds, added, added.pop("control"))
        return self.unet(sample, time, embeds, added_cond_kwargs=added, **more)


def new_net(unet: UNet2DConditionModel, seed: int) -> ControlNetModel:
    """A ControlNet that begins as the UNet's own first half, in float32, its effect zero.

    diffusers' from_unet leaves the text projection at random: it is copied here. Its hint encoder weakens a hint layer
    by layer and ends in zeros; with zeros at both ends of the copy, neither end learns what the other is for. It begins
    by He et al. 2015 (https://arxiv.org/abs/1502.01852) instead, which keeps the contrast.
    """
    import torch
    from diffusers import ControlNetModel

    from kolors_lab.models.padding import read_padding_once

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = ControlNetModel.from_unet(unet)
        for part in net.controlnet_cond_embedding.modules():
            if isinstance(part, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
    projection = getattr(unet, "text_encoder_hid_proj", None) or unet.encoder_hid_proj  # there under an IP-Adapter
    if projection is not None:
        net.encoder_hid_proj.load_state_dict(projection.state_dict())
    read_padding_once(net)
    return net.float()


def begin(pipe: KolorsPipeline, config: TrainConfig) -> WithControl:
    """The pipeline's UNet, frozen, with a new net at its side, or one to go on from."""
    pipe.unet.requires_grad_(False)
    net = load_control_net(config.init_net, pipe.unet) if config.init_net else new_net(pipe.unet, config.seed)
    net.float().requires_grad_(True)
    set_checkpointing(pipe.unet, config.gradient_checkpointing)
    if pipe.unet.is_gradient_checkpointing:
        net.enable_gradient_checkpointing()
    return WithControl(pipe.unet, net).train()


def write(model: WithControl, file: Path, header: dict[str, str]) -> Path:
    """The net as a folder that diffusers' ControlNetModel and `--control_net` load; a checkpoint's loses its suffix.

    `header` goes into README.md, since the folder's config has no place for it.
    """
    folder = save_folder(model.net, file.with_suffix(""))
    lines = ["# ControlNet", "", *(f"- {key}: {value}" for key, value in header.items() if value)]
    (folder / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def end(pipe: KolorsPipeline, model: WithControl) -> None:
    """Nothing to take off: the UNet was only read."""
