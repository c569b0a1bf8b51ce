"""Coherence of a series, split: is it one heroine, is it one style, and are they eight pictures or one eight times?

High likeness alone can mean that all panels are the same; ViStoryBench (2025) measures the three apart for that reason.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from kolors_lab.core.language import _
from kolors_lab.core.stats import interval
from kolors_lab.dataset.measures import distance, perceptual_hash
from kolors_lab.sampling.finding import find
from kolors_lab.scoring.clip import coherence

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from kolors_lab.models.presets import Preset
    from kolors_lab.sampling.masks import Box
    from kolors_lab.scoring.clip import Eyes

NEAR = 64  # of 256 bits: pictures whose perceptual hashes differ in fewer are nearly equal; unlike ones in about 128
ALARM = 0.5  # of the pairs: more nearly equal ones are no story
ROOM = 1.5  # side of a crop in multiples of the face's


@dataclass(frozen=True)
class Series:
    """What makes a series one; each figure is to be compared with that of other series, not with a threshold."""

    heroine: float  # mean cosine of the crops' pairs, -1..1; NaN where fewer than two panels show her
    seen: int  # panels in which she was found
    style: float  # mean cosine of the style vectors' pairs, -1..1
    copies: float  # share of the pairs that are nearly equal pictures, 0..1

    @property
    def alarm(self) -> bool:
        """Whether most panels are nearly the same picture: no story, however coherent."""
        return self.copies > ALARM

    def lines(self) -> list[str]:
        """The figures, and the alarm where most panels are nearly one picture."""
        heroine = _("heroine's likeness {likeness:.3f}, her face found in {seen}")
        if math.isnan(self.heroine):
            heroine = _("heroine's likeness not measured: pictures in which a face is found: {seen}")
        lines = [
            heroine.format(likeness=self.heroine, seen=self.seen),
            _("style likeness {likeness:.3f}").format(likeness=self.style),
            _("nearly equal pairs {share:.0%}").format(share=self.copies),
        ]
        return [*lines, *([alarm_text()] if self.alarm else [])]


def alarm_text() -> str:
    """What is said where the panels are copies of one another, and what to do."""
    return _("most panels are nearly one picture, which is no story: let the prompts differ, or lower the consistency")


def series(images: Sequence[Image.Image], eyes: Eyes, boxes: Sequence[Box | None]) -> Series:
    """The figures of a series; `boxes` say where each panel shows the heroine, None where it does not."""
    crops = [crop_of(image, box) for image, box in zip(images, boxes, strict=True) if box]
    return Series(eyes.coherence(crops), len(crops), style_likeness(images, eyes), copies(images))


def heroine_boxes(images: Sequence[Image.Image], preset: Preset) -> list[Box | None]:
    """The largest face of each panel; None where none is found. Raises as `finding.find`."""
    return [next((one.box for one in find(image, preset, "face")), None) for image in images]


def crop_of(image: Image.Image, box: Box) -> Image.Image:
    """A square around the box with a little room, as far as the picture goes."""
    x, y, w, h = box
    half = ROOM * max(w, h) / 2
    middle = (x + w / 2, y + h / 2)
    left, top = (max(0, round(at - half)) for at in middle)
    right, bottom = (min(limit, round(at + half)) for at, limit in zip(middle, image.size, strict=True))
    return image.crop((left, top, right, bottom))


def style_vectors(images: Sequence[Image.Image], eyes: Eyes) -> torch.Tensor:
    """(n, 2 D): mean and spread over a picture of what an early layer of Chinese-CLIP sees, of length one.

    Early layers see strokes, textures and colours, and their statistics say how often, not where: Gatys' style,
    https://arxiv.org/abs/1508.06576, without the correlations.
    """
    import torch

    rows = []
    with torch.no_grad():
        for found in eyes.look(images, output_hidden_states=True):
            states = found.hidden_states
            early = states[max(1, len(states) // 3)][:, 1:]  # without the class token
            rows.append(torch.cat([early.mean(1), early.std(1)], -1))
    return torch.nn.functional.normalize(torch.cat(rows), dim=-1)


def style_likeness(images: Sequence[Image.Image], eyes: Eyes) -> float:
    """Mean cosine of all pairs of style vectors; NaN for fewer than two pictures."""
    return coherence(style_vectors(images, eyes)) if len(images) > 1 else float("nan")


def copies(images: Sequence[Image.Image]) -> float:
    """The share of pairs that are nearly equal, 0..1; 0 for fewer than two pictures."""
    hashes = [perceptual_hash(image) for image in images]
    pairs = [distance(one, other) < NEAR for one, other in combinations(hashes, 2)]
    return sum(pairs) / len(pairs) if pairs else 0.0


def gain(before: Sequence[Series], after: Sequence[Series], figure: str = "heroine") -> tuple[float, float, float]:
    """Mean and 95 % interval of what a figure rises by from one way of drawing stories to another, paired."""
    rises = [getattr(b, figure) - getattr(a, figure) for a, b in zip(before, after, strict=True)]
    return (sum(rises) / len(rises), *interval(rises))
