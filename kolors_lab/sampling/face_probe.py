"""The picture world's face probe: where are faces, and is each of them whole.

A small ResNet (data/tiny-face-probe) of stride 8 whose last layer is asked at every place of the picture instead of
once for all of it, which gives a map per label: Zhou et al. 2016, https://arxiv.org/abs/1512.04150. Its labels are
"face" (is this place of a face) and "intact" (are eyes and mouth there, once each, where they belong).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from kolors_lab.core.errors import ModelError
from kolors_lab.models.loading import quietly

if TYPE_CHECKING:
    import numpy as np
    import torch
    from PIL import Image

    from kolors_lab.sampling.masks import Box

STRIDE, SIDE = 8, 128  # px of a place; the shorter side at which the probe looks
LABELS = ("face", "intact")
CORE = 0.7  # the face logit crosses 0 at this share of the way from a face's middle to its border: faces stay apart
BATCH = 32


@dataclass(frozen=True)
class Found:
    """A box (x, y, w, h) in px, and how sure the finder is, 0..1, that it holds something intact; None: cannot tell."""

    box: Box
    intact: float | None = None

    @property
    def broken(self) -> bool:
        """Whether it is not called intact."""
        return self.intact is None or self.intact < 0.5


def is_probe(folder: str | Path) -> bool:
    """Whether the folder holds a face probe, by its labels."""
    try:
        labels = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))["id2label"]
        return tuple(labels[str(i)] for i in range(len(labels))) == LABELS
    except (OSError, ValueError, KeyError, TypeError):
        return False


@lru_cache(maxsize=2)
def load_probe(folder: str | Path) -> torch.nn.Module:
    """The probe of a folder in fp32. ModelError if it holds none."""
    if not is_probe(folder):
        labels = ", ".join(LABELS)
        raise ModelError(
            "finder {folder}: holds no face probe; labels {labels} are expected", folder=folder, labels=labels
        )
    from transformers import AutoModelForImageClassification

    try:
        with quietly():
            model = AutoModelForImageClassification.from_pretrained(folder).float().eval()
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(
            "finder {folder}: no face probe can be loaded from it ({error})", folder=folder, error=error
        ) from error
    return model


def place_logits(model: torch.nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """(N, 2, H / 8, W / 8) logits of "face" and "intact" for pixels (N, 3, H, W) in -1..1."""
    seen, last = model.resnet(pixels).last_hidden_state, model.classifier[-1]
    return last(seen.movedim(1, -1)).movedim(-1, 1)


def find_faces(images: Sequence[Image.Image], folder: str | Path) -> list[list[Found]]:
    """Per picture, of any size and mode, its faces, the largest first."""
    import torch

    model, found = load_probe(folder), []
    for image in images:
        pixels = _pixels(image)
        with torch.no_grad():
            face, intact = place_logits(model, pixels[None])[0].numpy()
        scale = tuple(side / (STRIDE * count) for side, count in zip(image.size, face.shape[::-1], strict=True))
        found.append(faces_of(face, intact, scale))
    return found


def _pixels(image: Image.Image) -> torch.Tensor:
    """(3, H, W) in -1..1, the shorter side SIDE, both multiples of STRIDE."""
    import numpy as np
    import torch

    scale = SIDE / min(image.size)
    size = tuple(max(SIDE, round(side * scale / STRIDE) * STRIDE) for side in image.size)
    small = image.convert("RGB") if image.size == size else image.convert("RGB").resize(size)
    return torch.from_numpy(np.asarray(small, dtype=np.float32)).permute(2, 0, 1) / 127.5 - 1


def faces_of(face: np.ndarray, intact: np.ndarray, scale: tuple[float, float] = (1.0, 1.0)) -> list[Found]:
    """The faces, the largest first, of maps of logits (h, w) with places of STRIDE px, enlarged by `scale` (x, y).

    Every patch of places where the face logit is above 0 is a face. An ellipse whose spread is that of the patch gives
    its box.
    """
    import cv2
    import numpy as np

    heat = 1 / (1 + np.exp(-np.asarray(face, np.float64)))
    count, patches = cv2.connectedComponents((heat > 0.5).astype(np.uint8), connectivity=4)
    limit = [round(STRIDE * side * by) for side, by in zip(heat.shape[::-1], scale, strict=True)]
    found = []
    for patch in range(1, count):
        weight = np.where(patches == patch, heat, 0)
        logit = (weight * intact).sum() / weight.sum()
        box = _box(weight / weight.sum(), scale, limit)
        found.append(Found(box, float(1 / (1 + np.exp(-logit)))))
    return sorted(found, key=lambda face: -face.box[2] * face.box[3])


def _box(weight: np.ndarray, scale: tuple[float, float], limit: list[int]) -> Box:
    """The box inside a picture of `limit` px of what has these weights (h, w), of sum 1."""
    import numpy as np

    corner, sides = [], []
    for axis, (by, most) in enumerate(zip(scale, limit, strict=True)):  # x, y
        line = weight.sum(axis)
        places = np.arange(len(line)) + 0.5
        middle = (line * places).sum()
        spread = (line * (places - middle) ** 2).sum() + 1 / 12  # a place is as wide as a place
        half = 2 * spread**0.5 / CORE * STRIDE * by  # an ellipse's half axis is twice its deviation
        low, high = max(0, round(middle * STRIDE * by - half)), min(most, round(middle * STRIDE * by + half))
        corner.append(low)
        sides.append(max(1, high - low))
    return (*corner, *sides)
