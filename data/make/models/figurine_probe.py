"""Train the probe for the toy of data/figurine: a tiny ResNet that says whether a picture shows it.

Like the classifier it has learned from drawn pictures alone, of other seeds than the set's, and never from generated
ones; half of them through the VAE with noise on the latents, as smudged as a UNet's pictures are: one that knew clean
drawings only said no to toys that anybody would recognise. Toys that have run like wax count as none: one that had seen
no such called patches of the toy's colours the toy. A plain `AutoModelForImageClassification` folder: pixels /
127.5 - 1 in, logits of "figure=no" and "figure=yes" out, so that `kolors_lab.scoring.clip.classify` reads it like the
classifier.

    python data/make/build.py models.figurine_probe
"""

import argparse
import random

import numpy as np
import torch
from torch import nn
from transformers import ResNetConfig, ResNetForImageClassification

from models.classifier import scenes_by_lot, soften
from models.common import SIZE, found, made, note, rendered, to_tensor
from models.training import Lots, add_options, fit, run_of

LABELS = ("figure=no", "figure=yes")
NOISE = 0.5  # of the latents' deviation, at most
WAVES, MELTED = 12, 7  # across a picture; px, their deviation
CARD = """---
license: apache-2.0
---
# figurine-probe

一个很小的 ResNet，只回答一个问题：图里有没有 `data/figurine` 的那个玩偶（青绿色机器猫）。
只用程序画的图训练，一半过了一遍 VAE、潜变量上加了噪声；从没见过 UNet 画的图，也没见过那 25 张图。

A very small ResNet that answers one question: does a picture show the toy of `data/figurine`, the teal robot cat? It
was trained on pictures drawn by program, half of them through the VAE with noise on the latents, and never met one that
the UNet drew, nor those 25; made by `data/make/models/figurine_probe.py`.
Right on 500 held-out pictures with the toy: {yes:.1%}, on 500 without it: {no:.1%}; on 100 of each after a way through
the embedded VAE, with noise on the latents: {vae_yes:.0%} and {vae_no:.0%}; on 200 toys that have run like wax:
{melted_no:.0%}.
"""


def new_probe() -> ResNetForImageClassification:
    config = ResNetConfig(
        embedding_size=12, hidden_sizes=[12, 24, 36, 48], depths=[1, 1, 1, 1], layer_type="basic",
        num_labels=2, id2label=dict(enumerate(LABELS)), label2id={label: i for i, label in enumerate(LABELS)},
    )  # fmt: skip
    return ResNetForImageClassification(config)


def _toy(seed: int) -> np.ndarray:
    from world.toys import figurine  # here, so that only the workers need skia

    return np.asarray(figurine(seed, SIZE, SIZE), dtype=np.uint8)


def toys(name: str, first: int, count: int) -> np.ndarray:
    """Pictures of the toy, seeds first .. first + count - 1, as uint8 (N, 128, 128, 3), kept in build/."""
    return rendered(name, list(range(first, first + count)), _toy)


def others(name: str, seed: int, count: int) -> np.ndarray:
    """Pictures without the toy: scenes, and in a third of them another toy."""
    scenes = scenes_by_lot(seed, count - count // 3, 0.3)
    return rendered(name, [*scenes, *(seed * 1_000_000 + i for i in range(count // 3))])


def blur(pixels: torch.Tensor, rng: random.Random) -> torch.Tensor:
    """Down to a third of the size and up again, or less: the toy's fine lines are what a VAE loses first."""
    small = nn.functional.interpolate(pixels, scale_factor=rng.uniform(0.33, 1), mode="bilinear", antialias=True)
    return nn.functional.interpolate(small, size=pixels.shape[-1], mode="bilinear", align_corners=False)


@torch.no_grad()
def share_yes(probe, pixels: torch.Tensor) -> float:
    """The share of pictures, (N, 3, 128, 128), that the probe says show the toy."""
    logits = torch.cat([probe(pixels[i : i + 64]).logits for i in range(0, len(pixels), 64)])
    return logits.argmax(1).float().mean().item()


@torch.no_grad()
def through_vae(pixels: torch.Tensor, noise: float = 0.0) -> torch.Tensor:
    """What the VAE gives back, each picture with noise of its own deviation, up to `noise` of the latents', on them."""
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(found("tiny-kolors/vae"), torch_dtype=torch.float32)

    def back(part: torch.Tensor) -> torch.Tensor:
        latents = vae.encode(part).latent_dist.mean
        spread = noise * latents.std() * torch.rand(len(part), 1, 1, 1)
        return vae.decode(latents + spread * torch.randn_like(latents)).sample.clamp(-1, 1)

    return torch.cat([back(pixels[i : i + 32]) for i in range(0, len(pixels), 32)])


def melted(pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """The pictures run like wax: each place comes from some MELTED px beside, neighbours from much the same way."""
    count, size = len(pixels), pixels.shape[-1]
    ways = torch.randn(count, 2, WAVES, WAVES, generator=generator) * (2 * MELTED / size)
    ways = nn.functional.interpolate(ways, size=size, mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
    still = nn.functional.affine_grid(torch.eye(2, 3).expand(count, 2, 3), list(pixels.shape), align_corners=False)
    return nn.functional.grid_sample(pixels, still + ways, padding_mode="border", align_corners=False)


def main(options: argparse.Namespace) -> None:
    torch.manual_seed(0)
    lots, part = Lots(0), options.batch // 8
    without, with_toy = others("probe_without", 15, 2000), toys("probe_toys", 10_000, 2000)
    without, with_toy = to_tensor(without), to_tensor(with_toy)
    wax = melted(with_toy[:500], lots.noise)
    no = (without, through_vae(without[::4], NOISE), wax, through_vae(wax, NOISE))
    yes = (with_toy, through_vae(with_toy[::4], NOISE))
    probe = new_probe()

    def some(pictures: torch.Tensor, count: int) -> torch.Tensor:
        return pictures[lots.rng.sample(range(len(pictures)), count)]

    def loss_of(_):
        parts = [*(some(pictures, part) for pictures in no), *(some(pictures, 2 * part) for pictures in yes)]
        pixels = blur(soften(torch.cat(parts), lots.rng), lots.rng)
        return nn.functional.cross_entropy(probe(pixels).logits, torch.arange(2).repeat_interleave(4 * part))

    trained = fit(probe, loss_of, run_of("figurine_probe", options, decay=0.98), lots)
    held, without = to_tensor(toys("probe_toys_held", 20_000, 500)), to_tensor(others("probe_without_held", 16, 500))
    figures = {"yes": share_yes(trained, held), "no": 1 - share_yes(trained, without)}
    again, again_without = through_vae(held[:100], NOISE), through_vae(without[::5], NOISE)
    figures |= {"vae_yes": share_yes(trained, again), "vae_no": 1 - share_yes(trained, again_without)}
    figures |= {"melted_no": 1 - share_yes(trained, melted(held[100:300], lots.noise))}
    print(figures)
    note("figurine-probe, right on held-out pictures", **{name: round(value, 4) for name, value in figures.items()})
    folder = made("figurine-probe")
    trained.half().save_pretrained(folder)
    (folder / "README.md").write_text(CARD.format(**figures), encoding="utf-8")


if __name__ == "__main__":
    parser = add_options(argparse.ArgumentParser(description=__doc__), steps=400, cooldown=150, lr=3e-3)
    parser.add_argument("--batch", type=int, default=32)
    main(parser.parse_args())
