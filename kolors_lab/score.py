"""Aesthetic score of pictures: the challenge's predictor, its folder mean and its gate at 6.

Source: improved-aesthetic-predictor, V2Linear (a linear head on normalised CLIP image embeddings), in the classes of
simple-aesthetics-predictor. The tiny preset's predictor is a practice score (练习分): it knows nothing of taste.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from .dataset import open_image
from .errors import DataError, ModelError, SettingError
from .models import get_preset, local_path, pick_device

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from .models import Preset

GATE = 6.0  # the challenge: a mean below 6 is invalid
BATCH = 8


@dataclass(frozen=True)
class ScoreConfig:
    """Score every picture of a folder and say whether their mean passes the gate at 6."""

    folder: str
    """folder with the pictures"""
    preset: str = "tiny"
    """whose scorer: "tiny" (a practice score), "kolors" (the challenge's) or a folder"""


@dataclass(frozen=True)
class ScoreResult:
    """Scores of a folder's pictures, in the order of their names; `left_out` pairs a file with the reason."""

    files: list[str]
    scores: list[float]
    left_out: list[tuple[str, str]]
    practice: bool

    @property
    def mean(self) -> float:
        return sum(self.scores) / len(self.scores)

    @property
    def passed(self) -> bool:
        return passes(self.mean)


@dataclass(frozen=True)
class Scorer:
    """A loaded predictor with its own processor (another CLIP's gives other scores)."""

    model: torch.nn.Module
    processor: Callable
    device: torch.device


def passes(mean: float) -> bool:
    """Whether a mean score is valid for the challenge: 6.0 is, 5.99 and NaN are not."""
    return not math.isnan(mean) and mean >= GATE


def find_scorer(preset: Preset) -> Path:
    """The folder of the preset's scorer. FetchError if it is not here, ModelError if its package is not installed."""
    if not find_spec("aesthetics_predictor"):
        raise ModelError("the scorer's package is missing: pip install --no-deps simple-aesthetics-predictor==0.1.2")
    return local_path(preset.scorer, "scorer")


def load_scorer(preset: Preset, device: torch.device | None = None) -> Scorer:
    """The preset's `AestheticsPredictorV2Linear` in fp32. ModelError if the folder holds no such model."""
    folder, device = find_scorer(preset), device or pick_device()
    from aesthetics_predictor import AestheticsPredictorV2Linear
    from safetensors import SafetensorError
    from transformers import CLIPImageProcessor

    try:
        model = AestheticsPredictorV2Linear.from_pretrained(folder).float().to(device).eval()
        processor = CLIPImageProcessor.from_pretrained(folder)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{folder}: no aesthetics predictor can be loaded from it: {reason}") from error
    return Scorer(model, processor, device)


def score_images(scorer: Scorer, images: Sequence[Image.Image], batch_size: int = BATCH) -> list[float]:
    """One score per PIL picture of any size and mode; about 1..10, LAION calls 5 nice and 6 rare."""
    import torch

    scores: list[float] = []
    for start in range(0, len(images), batch_size):
        batch = [image.convert("RGB") for image in images[start : start + batch_size]]
        pixels = scorer.processor(images=batch, return_tensors="pt")["pixel_values"].to(scorer.device)
        with torch.no_grad():
            scores += scorer.model(pixel_values=pixels, return_dict=True).logits[:, 0].tolist()
    return scores


def score_folder(
    preset: Preset,
    folder: str | Path,
    scorer: Scorer | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> ScoreResult:
    """Score every picture of a folder (not of its subfolders); files that are no pictures are left out and named.

    DataError if the folder is missing or holds no picture.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give the folder that holds the pictures to score")
    everything = sorted(f for f in folder.iterdir() if f.is_file())
    files, scores, left_out = [], [], []
    for start in range(0, len(everything), BATCH):  # a few at a time: a set of large pictures would fill the memory
        images = []
        for file in everything[start : start + BATCH]:
            try:
                images.append(open_image(file))
                files.append(file.name)
            except DataError as error:
                left_out.append((file.name, str(error)))
        if images:
            scorer = scorer or load_scorer(preset)
            scores += score_images(scorer, images)
        if on_step:
            on_step(len(files) + len(left_out), len(everything))
    if not files:
        raise DataError(f"{folder}: no picture in it to score ({len(left_out)} other files); is it the right folder?")
    return ScoreResult(files, scores, left_out, preset.practice)


def score(config: ScoreConfig, on_step: Callable[[int, int], None] | None = None) -> ScoreResult:
    """`score_folder` for the settings of the command line."""
    return score_folder(get_preset(config.preset), config.folder, on_step=on_step)


def classify(images: Sequence[Image.Image], preset: Preset, batch_size: int = 32) -> list[dict[str, str]]:
    """What the picture world's classifier sees: per picture {"who": "girl", "style": "anime", …}.

    `config.id2label` holds "attribute=value"; of each attribute the likeliest value is taken. SettingError for a
    preset without a classifier: only the picture world of "tiny" has one.
    """
    if not preset.classifier:
        raise SettingError(f"preset={preset.name}: it has no classifier; only the tiny preset's picture world has one")
    import torch
    from transformers import AutoModelForImageClassification

    model = AutoModelForImageClassification.from_pretrained(local_path(preset.classifier)).float().eval()
    labels = [model.config.id2label[i].split("=", 1) for i in range(len(model.config.id2label))]
    answers: list[dict[str, str]] = []
    for start in range(0, len(images), batch_size):
        pixels = torch.stack([_pixels(image) for image in images[start : start + batch_size]])
        with torch.no_grad():
            answers += [_likeliest(labels, row.tolist()) for row in model(pixels).logits]
    return answers


def _pixels(image: Image.Image, side: int = 128) -> torch.Tensor:
    """(3, side, side) in -1..1."""
    import numpy as np
    import torch

    square = image.convert("RGB") if image.size == (side, side) else image.convert("RGB").resize((side, side))
    return torch.from_numpy(np.asarray(square, dtype=np.float32)).permute(2, 0, 1) / 127.5 - 1


def _likeliest(labels: list[list[str]], logits: list[float]) -> dict[str, str]:
    best: dict[str, tuple[float, str]] = {}
    for (attribute, value), logit in zip(labels, logits, strict=True):
        if attribute not in best or logit > best[attribute][0]:
            best[attribute] = (logit, value)
    return {attribute: value for attribute, (_, value) in best.items()}
