"""Train the face probe: a small ResNet of stride 8 that says of every place whether a face is there and is intact.

It has learned from renders, from renders damaged as drawings go wrong (world/damage.py) and from both as the VAE gives
them back, never from generated pictures. A plain `AutoModelForImageClassification` folder: pixels / 127.5 - 1 in,
labels "face" and "intact"; kolors_lab/sampling/face_probe.py asks its last layer at every place.

The face logit learns a soft ellipse in each face's box, the intact logit the mean over a face, so that a couple with
one face gone wrong is not called intact for the other's sake.

    python data/make/build.py models.face_probe
"""

import argparse

import numpy as np
import torch
from torch import nn
from transformers import ResNetConfig, ResNetForImageClassification
from world.damage import FACE_DAMAGES

from kolors_lab.sampling.face_probe import CORE, LABELS, STRIDE, faces_of, place_logits
from models.classifier import soften_in_place
from models.common import SIZE, forget_places, made, note, to_tensor
from models.damaged import empty, pairs, people, pictures, through_vae
from models.training import Lots, add_options, fit, run_of

WRONG = (*FACE_DAMAGES, "deform")
SOFT = 0.4  # how far from the middle to the border the ellipse of the face logit's target falls from 1 to 0
CARD = """---
license: apache-2.0
---
# tiny-face-probe

一个很小的 ResNet：图里哪里有脸，脸是不是完好（眼睛嘴巴齐全、各一份、在该在的地方）。
只用画出来的图、故意画坏的图和它们经过 VAE 的样子训练，从没见过生成模型。

A very small ResNet that says where in a picture of the little world faces are, and whether each is intact. Trained on
drawn pictures, on ones drawn wrong on purpose and on both after a way through the embedded VAE, never on generated
ones; made by `data/make/models/face_probe.py`. Called intact, of held-out pictures: {table}.
"""


def new_probe() -> ResNetForImageClassification:
    """Stride 8; a place sees about 130 px around it: more than the largest face."""
    config = ResNetConfig(
        embedding_size=24, hidden_sizes=[24, 64], depths=[2, 3], layer_type="basic",
        num_labels=len(LABELS), id2label=dict(enumerate(LABELS)), label2id={x: i for i, x in enumerate(LABELS)},
    )  # fmt: skip
    return ResNetForImageClassification(config)


def ellipses(boxes: torch.Tensor, side: int = SIZE // STRIDE) -> torch.Tensor:
    """(N, F, side, side) in 0..1 for boxes (N, F, 4) in px: 1 inside a face, 1/2 at CORE of the way to its border.

    A box of width 0 is no face: 0 everywhere.
    """
    places = (torch.arange(side) + 0.5) * STRIDE
    x, y, wide, tall = (boxes[..., i, None].float() for i in range(4))
    across = ((places - x - wide / 2) / (wide / 2).clamp(min=1))[..., None, :]
    down = ((places - y - tall / 2) / (tall / 2).clamp(min=1))[..., :, None]
    inside = ((CORE - torch.hypot(across, down)) / SOFT + 0.5).clamp(0, 1)
    return inside * (wide > 0)[..., None]


def loss(logits: torch.Tensor, boxes: torch.Tensor, intact: torch.Tensor) -> torch.Tensor:
    """For logits (N, 2, h, w), boxes (N, F, 4) in px and intact (N,) of 0 or 1, which holds for all of one's faces."""
    shapes = ellipses(boxes, logits.shape[-1])
    where = nn.functional.binary_cross_entropy_with_logits(logits[:, 0], shapes.amax(1))
    size = shapes.sum((2, 3))
    pooled = (shapes * logits[:, 1, None]).sum((2, 3)) / size.clamp(min=1e-6)
    right = intact[:, None].expand_as(pooled)
    return 4 * where + nn.functional.binary_cross_entropy_with_logits(pooled[size > 0], right[size > 0])


def moved(pixels: torch.Tensor, boxes: torch.Tensor, rng) -> tuple[torch.Tensor, torch.Tensor]:
    """Both shifted by a few px, perhaps mirrored. What goes over an edge comes in at the other."""
    dx, dy = rng.randint(-10, 10), rng.randint(-10, 10)
    pixels, boxes = torch.roll(pixels, (dy, dx), (2, 3)), boxes + torch.tensor([dx, dy, 0, 0]) * (boxes[..., 2:3] > 0)
    if rng.random() < 0.5:
        pixels, boxes = pixels.flip(3), boxes.clone()
        boxes[..., 0] = SIZE - boxes[..., 0] - boxes[..., 2]
    return pixels, boxes


def lessons(name: str, seed: int, count: int) -> tuple[list, np.ndarray]:
    """`count` scenes intact and damaged, and a twentieth as many without people; items and their pictures of KIND."""
    items = pairs(seed, count, WRONG) + empty(seed + 1, count // 20)
    return items, pictures(name, items)


@torch.no_grad()
def verdicts(probe, shown: np.ndarray, counts: list[int]) -> np.ndarray:
    """(N,): called intact or not, for pictures uint8 (N, 128, 128, 3) that should show `counts` faces."""
    answers = []
    for i in range(0, len(shown), 64):
        maps = place_logits(probe, to_tensor(shown[i : i + 64])).numpy()
        found = [faces_of(*logits) for logits in maps]
        wanted = counts[i : i + 64]
        answers += [
            len(faces) >= n and all(face.intact > 0.5 for face in faces) for faces, n in zip(found, wanted, strict=True)
        ]
    return np.array(answers)


def shares_intact(probe, items, shown: np.ndarray) -> dict[str, float]:
    """Per damage, and for "none", the share of pictures called intact."""
    called = verdicts(probe, shown, [people(item.scene) for item in items])
    kinds = np.array([item.damage for item in items])
    return {kind: round(float(called[kinds == kind].mean()), 4) for kind in ("none", *WRONG) if (kinds == kind).any()}


def main(options: argparse.Namespace) -> None:
    torch.manual_seed(0)
    lots = Lots(0)
    items, rows = lessons("faces", 21, options.count)
    soft = through_vae("faces_soft", rows["picture"][: options.soft])
    intact = torch.tensor([float(item.damage == "none") for item in items])
    probe = new_probe().to(memory_format=torch.channels_last)

    def loss_of(step):
        shown = soft if step % 2 else rows["picture"]
        chosen = sorted(lots.rng.sample(range(len(shown)), options.batch))
        boxes = torch.from_numpy(rows["faces"][chosen].astype(np.int64))
        pixels, boxes = moved(to_tensor(shown[chosen]), boxes, lots.rng)
        pixels = soften_in_place(pixels, lots.rng).contiguous(memory_format=torch.channels_last)
        return loss(place_logits(probe, pixels), boxes, intact[chosen])

    trained = fit(probe, loss_of, run_of("face_probe", options, decay=0.99), lots)
    held = pairs(23, options.held, WRONG)
    renders = pictures("faces_held", held)["picture"]
    figures = {"renders": shares_intact(trained, held, renders),
               "vae": shares_intact(trained, held, through_vae("faces_held_soft", renders))}  # fmt: skip
    print(figures)
    note("face probe, share called intact", **figures)
    save(trained, figures)


def save(probe, figures: dict[str, dict[str, float]]) -> None:
    folder = made("tiny-face-probe")
    probe.half().save_pretrained(folder)
    forget_places(folder)
    table = "; ".join(
        f"{name}, " + ", ".join(f"{kind} {share:.1%}" for kind, share in shares.items())
        for name, shares in figures.items()
    )
    (folder / "README.md").write_text(CARD.format(table=table), encoding="utf-8")


if __name__ == "__main__":
    parser = add_options(argparse.ArgumentParser(description=__doc__), steps=4000, cooldown=1200, lr=2e-3)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--count", type=int, default=10_000, help="scenes, each intact and damaged (%(default)s)")
    parser.add_argument("--soft", type=int, default=10_000, help="pictures that go through the VAE (%(default)s)")
    parser.add_argument("--held", type=int, default=600, help="held-out scenes (%(default)s)")
    main(parser.parse_args())
