"""What the notebooks draw in batches, and how they compare: by training, in pairs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from kolors_lab.sampling.pipeline import generate_batch

if TYPE_CHECKING:
    from diffusers import KolorsPipeline
    from PIL.Image import Image

    from kolors_lab.models.presets import Preset
    from kolors_lab.sampling.ksampler import KSampler


def draw_all(
    pipe: KolorsPipeline, preset: Preset, prompts: Sequence[str], negative: str, settings: Sequence[KSampler]
) -> list[Image]:
    """A picture for each prompt; as many at once as the preset has in a training batch, so that memory is bounded."""
    images = []
    for first in range(0, len(prompts), preset.batch_size):
        part = slice(first, first + preset.batch_size)
        texts = list(prompts[part])
        images += generate_batch(pipe, texts, [negative] * len(texts), list(settings[part]))
    return images


def mean_and_half(differences: Sequence[float]) -> tuple[float, float]:
    """Mean of paired differences, one for each unit, and half of its 95 % interval (Student's t); two or more."""
    from scipy.stats import t

    count = len(differences)
    return fmean(differences), t.ppf(0.975, count - 1) * stdev(differences) / count**0.5


def by_training(rows: Iterable[Mapping[str, str]], condition: str, base: str = "base") -> list[float]:
    """What `condition` scores more than `base`, one mean for each training ("seed"); the same prompts are in both."""
    scores: dict[str, dict[str, list[float]]] = {condition: {}, base: {}}
    for row in rows:
        if row["condition"] in scores:
            scores[row["condition"]].setdefault(row["seed"], []).append(float(row["score"]))
    return [fmean(scores[condition][seed]) - fmean(scores[base][seed]) for seed in scores[base]]
