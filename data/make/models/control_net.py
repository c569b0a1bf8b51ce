"""Train the ControlNet for edges that goes with tiny-kolors, on pictures of the world and their Canny edges.

It begins as the library's own does (kolors_lab.training.control.new_net) and learns beside the frozen UNet that it will
be used with, so it comes last. Its effect is weakened by lot, as whoever draws may do: one that had only ever acted in
full would be too weak at Kwai's 0.7. Its card is written by hand, with the figures of benchmarks/control.py.

    python data/make/build.py models.control_net
"""

import argparse
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import ControlNetModel
from PIL import Image
from world.scenes import balanced_scenes

from kolors_lab.sampling.control import HIGH, LOW, canny, residuals
from kolors_lab.training.control import new_net
from models.common import SIZE, found, key_of, made, note, stored
from models.pictures import with_boxes
from models.training import Lots, add_options, fit, run_of
from models.unet import Denoising, Predictor, chosen, starting_unet, uniform
from models.unet_data import PLACES, Cached, Data, cached

WEAKEST = 0.6  # the least share of its effect that it learns with


@dataclass(frozen=True)
class Told(Data):
    """A batch of texts, and with each the edges uint8 (N, 128, 128) and how strongly they act, (N, 1, 1, 1)."""

    edges: torch.Tensor
    strength: torch.Tensor


class Edged(Cached):
    """A cached set with the edges of its pictures."""

    def told(self, rows: list[int], texts: list[int], strength: torch.Tensor) -> Told:
        return Told(
            **vars(self.texts_of(texts)),
            edges=torch.as_tensor(self.edges[rows]),
            strength=strength[:, None, None, None],
        )


def edged(count: int, device: str) -> Edged:
    """`count` pictures as the UNet's, but none of them spoiled."""
    scenes = balanced_scenes(5, count)
    data = cached("control", scenes, complete=False, device=device, kind=Edged)
    pictures = with_boxes("control_drawn", scenes)["picture"]
    drawn = lambda at: np.stack([edges(pictures[i]) for i in at])  # noqa: E731
    key = key_of(scenes[:1000], LOW, HIGH)
    data.edges = data.held(stored("control_edges", count, np.uint8, (SIZE, SIZE), drawn, key))
    return data


def edges(picture: np.ndarray) -> np.ndarray:
    """uint8 (128, 128, 3) -> its edges as the library finds them, uint8 (128, 128), 0 or 255."""
    return np.asarray(canny(Image.fromarray(picture)))[..., 0]


def unfolded(words: torch.Tensor) -> torch.Tensor:
    """(B, WORDS, D) behind one padding vector -> (B, PLACES, D) behind all of them: a ControlNet takes no mask."""
    padding = words[:, :1].expand(-1, PLACES - words.shape[1] + 1, -1)
    return torch.cat([padding, words[:, 1:]], 1)


class ControlledPredictor(Predictor):
    """A UNet with a ControlNet at its side."""

    def __init__(self, unet, net):
        super().__init__(unet)
        self.net = net

    def forward(self, noisy, t, words, mask, pooled, side, edges, strength):
        hint = (edges.float() / 255)[:, None].expand(-1, 3, -1, -1)
        conditions = {"text_embeds": pooled, "time_ids": side}
        more = residuals(self.net, noisy, t, unfolded(words), conditions, hint)
        down, mid = more["down_block_additional_residuals"], more["mid_block_additional_residual"]
        return self.unet(
            noisy, t, words, encoder_attention_mask=mask, added_cond_kwargs=conditions,
            down_block_additional_residuals=[part * strength for part in down],
            mid_block_additional_residual=mid * strength,
        ).sample  # fmt: skip


class Controlled(Denoising):
    """The loss of a prediction that reads edges."""

    def __init__(self, unet, net, device: str):
        super().__init__(unet, device)
        self.predict = ControlledPredictor(unet, net)

    def inputs(self, noisy: torch.Tensor, text: Told, t: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return *super().inputs(noisy, text, t), text.edges.to(self.device), text.strength.to(self.device)


def main(options: argparse.Namespace) -> None:
    torch.manual_seed(0)
    device = options.device
    data, lots = edged(options.count, device), Lots(5, device)
    unet = starting_unet("last", data.width).to(device, memory_format=torch.channels_last)
    unet.requires_grad_(False).eval()
    last = options.start == "last"
    net = ControlNetModel.from_pretrained(found("tiny-control")).float() if last else new_net(unet, seed=0)
    net.to(device, memory_format=torch.channels_last).train()
    denoising = Controlled(unet, net, device)
    if options.graph:
        rows = list(range(options.batch))
        denoising.record(data.latents_of(rows), data.told(rows, rows, torch.ones(options.batch)))

    def loss_of(_):
        rows, texts = chosen(data, options.batch, lots)
        strength = WEAKEST + (1 - WEAKEST) * torch.rand(len(rows), generator=lots.noise, device=device)
        t, noise = uniform(len(rows), lots.noise), lots.normal((len(rows), 4, 16, 16))
        told = data.told(rows, texts, strength)
        return denoising.loss(data.latents_of(rows), told, data.details_of(rows), t, noise).mean()

    trained = fit(net, loss_of, run_of("control_net", options), lots).cpu().half()
    trained.register_to_config(_name_or_path="")
    trained.save_pretrained(made("tiny-control"))
    note("control_net", **{name: getattr(options, name) for name in ("steps", "cooldown", "batch", "count")})


if __name__ == "__main__":
    parser = add_options(argparse.ArgumentParser(description=__doc__), steps=4000, cooldown=1000, lr=1e-3)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--graph", action="store_true", help="as a CUDA graph; needs --device cuda")
    parser.add_argument("--count", type=int, default=8000, help="pictures (%(default)s)")
    parser.add_argument("--start", choices=("last", "nothing"), default="nothing", help="the weights to start from")
    main(parser.parse_args())
