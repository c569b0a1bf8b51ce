"""Pictures to learn from, with where their faces and hands are: small, and what one looks at first."""

import numpy as np
import torch
from world.scenes import Scene

from models.common import SIZE, worked

DETAIL = 4.0  # how many times as much an error in a face or a hand counts
DETAILS = 6  # the most that a scene shows: two faces, four hands
DRAWN = np.dtype([("picture", np.uint8, (SIZE, SIZE, 3)), ("boxes", np.int16, (DETAILS, 4))])


def with_boxes(name: str, items: list) -> np.ndarray:
    """(N,) of DRAWN, of scenes and of the seeds of toys, drawn once and kept as build/<name>.npy."""
    return worked(name, items, _drawn, DRAWN)


def _drawn(item: Scene | int) -> np.ndarray:
    """The picture, and the boxes x, y, width, height in px of its faces and hands; of width 0: none."""
    from world.draw import drawn  # here, so that only the workers need skia
    from world.toys import toy

    row = np.zeros((), DRAWN)
    if not isinstance(item, Scene):
        row["picture"] = np.asarray(toy(item, SIZE, SIZE))
        return row
    drawing = drawn(item, SIZE, SIZE)
    boxes = (*drawing.faces, *drawing.hands)[:DETAILS]
    row["picture"], row["boxes"][: len(boxes)] = np.asarray(drawing.image), np.reshape(boxes, (-1, 4))
    return row


def coverage(boxes: torch.Tensor, side: int = 16, cell: float = 8) -> torch.Tensor:
    """How much of each of side x side places, `cell` px wide, lies in one of the boxes (N, B, 4) in px, in 0..1."""
    starts = torch.arange(side, device=boxes.device) * cell

    def covered(first: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
        first, last = first[..., None], (first + length)[..., None]
        return (last.minimum(starts + cell) - first.maximum(starts)).clamp(min=0) / cell

    x, y, width, height = boxes.unbind(-1)
    return (covered(y, height)[..., None] * covered(x, width)[..., None, :]).amax(1)


def importance(details: torch.Tensor) -> torch.Tensor:
    """How much the error of each place counts, from its share of details in 0..1."""
    return 1 + (DETAIL - 1) * details
