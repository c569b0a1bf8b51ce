"""Choose a training's best checkpoint: which draws the best pictures that still show their prompts, at equal seeds.

A falling loss does not say when a LoRA draws best: trained for too long it repeats its pictures, whatever the prompt.

    kolors-lab choose runs/train --prompts '二次元，少女在书院,二次元，白马'
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from kolors_lab.comic.panels import read_story, story_file
from kolors_lab.core.errors import DataError
from kolors_lab.core.fields import Range, check_fields
from kolors_lab.core.files import fingerprint
from kolors_lab.core.stats import interval
from kolors_lab.lora.adapter import load_lora, unload_lora
from kolors_lab.models.presets import get_preset
from kolors_lab.sampling.config import GenerateConfig, prompts_of
from kolors_lab.sampling.ksampler import KSampler
from kolors_lab.sampling.loading import load_for
from kolors_lab.sampling.pipeline import generate_batch
from kolors_lab.scoring.aesthetics import load_scorer, score_images
from kolors_lab.scoring.clip import load_eyes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from diffusers import KolorsPipeline

BATCH = 8


@dataclass(frozen=True)
class ChooseConfig:
    """Choose the best of a training's checkpoints by score and prompt fit, over fixed seeds.

    Args:
        folder: with the LoRAs to compare, such as a training with checkpoint_every
        preset: tiny, kolors, or a folder that holds a KolorsPipeline
        prompts: what to draw; none: the bundled story
        seeds: pictures of each prompt
        steps: denoising steps; none: the preset's
    """

    folder: str
    preset: str = "tiny"
    prompts: tuple[str, ...] = ()
    seeds: Annotated[int, Range(1)] = 1
    steps: Annotated[int | None, Range(1, 1000)] = None

    def __post_init__(self):
        check_fields(self)


@dataclass(frozen=True)
class Candidate:
    """A LoRA with the scores and prompt fits of its pictures, which are the same prompts and seeds for all candidates,
    and their votes together."""

    file: Path
    scores: Sequence[float]
    fits: Sequence[float]
    total: float = 0.0

    @property
    def score(self) -> float:
        """The mean score."""
        return statistics.fmean(self.scores)

    @property
    def fit(self) -> float:
        """The mean prompt fit."""
        return statistics.fmean(self.fits)


def choose_checkpoint(
    config: ChooseConfig, pipe: KolorsPipeline | None = None, on_step: Callable[[int, int], None] | None = None
) -> list[Candidate]:
    """All candidates, the best first. A pipeline that is passed in is given back without a LoRA.

    Score and fit count alike, each in standard deviations of the candidates, since their scales have nothing in common.
    One by which best and worst cannot be told apart (the 95 % interval of their paired difference holds 0) has no vote.
    """
    every = sorted(Path(config.folder).rglob("*.safetensors"))
    files = list({fingerprint(file): file for file in every}.values())  # the last checkpoint may be the LoRA itself
    if len(files) < 2:
        raise DataError(
            "{folder} holds {count} LoRAs, nothing to choose from; train with checkpoint_every",
            folder=config.folder,
            count=len(files),
        )
    preset = get_preset(config.preset)
    prompts = config.prompts or [scene.prompt for scene in read_story(story_file(None))]
    wanted = [(prompt, seed) for prompt in prompts for seed in range(config.seeds)]
    drawn = [GenerateConfig(prompt=prompt, seed=seed) for prompt, seed in wanted]
    pipe, scorer, eyes = pipe or load_for(preset, prompts_of(drawn)), load_scorer(preset), load_eyes(preset)
    found = []
    try:
        for number, file in enumerate(files):
            load_lora(pipe, file)
            images = []
            for start in range(0, len(wanted), BATCH):
                prompts, seeds = zip(*wanted[start : start + BATCH], strict=True)
                settings = [KSampler(seed=seed, steps=config.steps) for seed in seeds]
                images += generate_batch(pipe, prompts, [""] * len(prompts), settings)
                if on_step:
                    on_step(number * len(wanted) + len(images), len(files) * len(wanted))
            scores, fits = score_images(scorer, images), eyes.fit(images, [prompt for prompt, _ in wanted])
            found.append(Candidate(file, scores, fits))
    finally:
        unload_lora(pipe)
    return rank(found)


def rank(found: Sequence[Candidate]) -> list[Candidate]:
    """The candidates with their totals, the best first; of equal ones the earlier."""
    votes = zip(_votes([c.scores for c in found]), _votes([c.fits for c in found]), strict=True)
    summed = [replace(candidate, total=sum(two)) for candidate, two in zip(found, votes, strict=True)]
    return sorted(summed, key=lambda candidate: -candidate.total)


def told_apart(values: Sequence[Sequence[float]]) -> bool:
    """Whether the candidates of the highest and of the lowest mean differ by more than their pictures do by chance."""
    ordered = sorted(values, key=statistics.fmean)
    low, _ = interval([high - low for high, low in zip(ordered[-1], ordered[0], strict=True)])
    return low > 0


def _votes(values: Sequence[Sequence[float]]) -> list[float]:
    """Each candidate's mean in standard deviations of all of them; 0 where they cannot be told apart."""
    if not told_apart(values):
        return [0.0] * len(values)
    means = [statistics.fmean(one) for one in values]
    mean, spread = statistics.fmean(means), statistics.pstdev(means)
    return [(value - mean) / spread for value in means]
