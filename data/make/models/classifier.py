"""Train the judge of the picture world: a small ResNet that names who, where, hair, dress,
deed, framing, style and spoiling.

It is trained on rendered pictures alone and never touches the generator, so that its verdict on generated pictures is
an outsider's. A plain `AutoModelForImageClassification` folder: pixels / 127.5 - 1 in, a logit per "attribute=answer".

    python data/make/build.py models.classifier
"""

import argparse
import random

import torch
from torch import nn
from transformers import ResNetConfig, ResNetForImageClassification
from world.scenes import ATTRIBUTES, STYLE, UNSEEN_STYLE, asked, random_scene

from models.common import forget_places, made, note, rendered, to_tensor
from models.training import Lots, add_options, fit, run_of

STYLES = (*STYLE, UNSEEN_STYLE)
LABELS = [f"{name}={answer}" for name, answers in ATTRIBUTES.items() for answer in answers]


def new_classifier() -> ResNetForImageClassification:
    config = ResNetConfig(
        embedding_size=32, hidden_sizes=[32, 64, 96, 160], depths=[1, 1, 1, 1], layer_type="basic",
        num_labels=len(LABELS), id2label=dict(enumerate(LABELS)), label2id={x: i for i, x in enumerate(LABELS)},
    )  # fmt: skip
    return ResNetForImageClassification(config)


def right_answers(scenes) -> torch.Tensor:
    """(N, attributes): the index of each right answer, -100 where the picture does not show the attribute."""
    rows = [[a.index(getattr(s, n)) if asked(s, n) else -100 for n, a in ATTRIBUTES.items()] for s in scenes]
    return torch.tensor(rows)


def groups(logits: torch.Tensor, attributes=tuple(ATTRIBUTES)):
    """The logits of each attribute, in the order given."""
    return logits.split([len(ATTRIBUTES[name]) for name in attributes], dim=1)


def soften(pixels: torch.Tensor, rng: random.Random) -> torch.Tensor:
    """Small shifts, tints and the slight softness every VAE adds: none of them changes what a picture shows."""
    return soften_in_place(torch.roll(pixels, (rng.randint(-6, 6), rng.randint(-6, 6)), (2, 3)), rng)


def soften_in_place(pixels: torch.Tensor, rng: random.Random) -> torch.Tensor:
    """`soften` without the shift: everything stays where it is."""
    pixels = pixels * rng.uniform(0.92, 1.08) + rng.uniform(-0.06, 0.06)
    if rng.random() < 0.5:
        side = int(pixels.shape[-1] * rng.uniform(0.6, 0.95))
        small = nn.functional.interpolate(pixels, size=side, mode="bilinear", antialias=True, align_corners=False)
        pixels = nn.functional.interpolate(small, size=pixels.shape[-1], mode="bilinear", align_corners=False)
    return pixels


@torch.no_grad()
def accuracy(classifier, pictures, scenes) -> dict[str, float]:
    """Per attribute the share of right answers among the pictures that show it."""
    logits = torch.cat([classifier(to_tensor(pictures[i : i + 64])).logits for i in range(0, len(pictures), 64)])
    right = right_answers(scenes)
    return {
        name: round((group.argmax(1) == right[:, i])[right[:, i] >= 0].float().mean().item(), 4)
        for i, (name, group) in enumerate(zip(ATTRIBUTES, groups(logits), strict=True))
    }


def scenes_by_lot(seed: int, count: int, spoiled: float):
    rng = random.Random(seed)
    return [random_scene(rng, STYLES, spoiled) for _ in range(count)]


def judged_pictures(count: int = 20_000):
    """What the classifier and the eyes learn from: every style, a third of the pictures spoiled."""
    scenes = scenes_by_lot(5, count, 0.35)
    return scenes, rendered("judged", scenes)


def main(options: argparse.Namespace) -> None:
    torch.manual_seed(0)
    lots = Lots(0)
    scenes, pictures = judged_pictures(options.count)
    answers = right_answers(scenes)
    classifier = new_classifier().to(memory_format=torch.channels_last)

    def loss_of(_):
        chosen = sorted(lots.rng.sample(range(len(scenes)), options.batch))
        pixels = soften(to_tensor(pictures[chosen]), lots.rng).to(memory_format=torch.channels_last)
        logits = classifier(pixels).logits
        return sum(nn.functional.cross_entropy(g, answers[chosen, i]) for i, g in enumerate(groups(logits)))

    trained = fit(classifier, loss_of, run_of("classifier", options, decay=0.99), lots)
    held = scenes_by_lot(6, 1000, 0.25)
    figures = accuracy(trained, rendered("judged_held", held), held)
    print(figures)
    note("classifier, right on 1,000 held-out rendered pictures", **figures)
    trained.half().save_pretrained(made("tiny-classifier"))
    forget_places(made("tiny-classifier"))


if __name__ == "__main__":
    parser = add_options(argparse.ArgumentParser(description=__doc__), steps=1500, cooldown=500, lr=3e-3)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--count", type=int, default=20_000, help="pictures (%(default)s)")
    main(parser.parse_args())
