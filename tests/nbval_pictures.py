"""A pytest plugin for nbval, which leaves pictures out: a picture that is not the stored one fails its cell.

    python -m pytest --nbval -p tests.nbval_pictures notebooks

Threads and versions move a picture's pixels a little, another picture differs as a whole in one place. So both are made
small and compared tile by tile: the largest mean difference of a tile counts.
"""

import base64
import io

import numpy as np
from nbval.plugin import IPyNbCell
from PIL import Image

KINDS = ("image/png", "image/jpeg")
WIDTH, TILE = 128, 8  # px of the small picture, and of a tile's side in it
LIMIT = 0.2  # of black to white


def difference(one: str, other: str) -> float:
    """The largest mean difference of a tile between two pictures in base64, 0..1; 1 where they differ in shape."""
    first, second = (Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB") for picture in (one, other))
    height = max(1, round(WIDTH * first.height / first.width / TILE)) * TILE
    if abs(second.height * first.width / second.width - first.height) > 0.03 * first.height:
        return 1.0
    small = [np.asarray(image.resize((WIDTH, height), Image.Resampling.BOX), float) / 255 for image in (first, second)]
    apart = np.abs(small[0] - small[1]).mean(2)
    return float(apart.reshape(height // TILE, TILE, WIDTH // TILE, TILE).mean((1, 3)).max())


def pictures(outputs: list[dict]) -> list[str]:
    """The pictures among a cell's outputs, each in one of the forms that it is shown in."""
    shown = [output.get("data", {}) for output in outputs]
    return [next(data[kind] for kind in KINDS if kind in data) for data in shown if any(kind in data for kind in KINDS)]


def compare_outputs(cell: IPyNbCell, test: list[dict], ref: list[dict], skip_compare=None) -> bool:
    """nbval's own comparison, and then the pictures'."""
    if not compare_all_else(cell, test, ref, skip_compare):
        return False
    drawn, stored = pictures(test), pictures(ref)
    if len(drawn) != len(stored):
        cell.comparison_traceback.append(f"{len(drawn)} pictures instead of {len(stored)}")
        return False
    for number, (one, other) in enumerate(zip(drawn, stored, strict=True), 1):
        if (apart := difference(one, other)) > LIMIT:
            cell.comparison_traceback.append(f"picture {number} is not the stored one: {apart:.2f} apart in one place")
            return False
    return True


compare_all_else = IPyNbCell.compare_outputs
IPyNbCell.compare_outputs = compare_outputs  # nbval asks no plugin
