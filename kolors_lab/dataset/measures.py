"""What is measured of a picture: sharpness, perceptual hash."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image


HASH_SIZE = 16  # 256 bits: the usual 64 call two scenes in one place the same


def sharpness(image: Image.Image, size: int) -> float:
    """Variance of the Laplacian (Pech-Pacheco et al., 2000) of the grey picture; 0 for a plain area, no upper end.

    A picture whose shorter side exceeds `size` px is reduced to it first: blur that goes away so does no harm.
    """
    import numpy as np

    grey = image.convert("L")
    scale = size / min(grey.size)
    if scale < 1:
        grey = grey.resize((max(3, round(grey.width * scale)), max(3, round(grey.height * scale))))
    g = np.pad(np.asarray(grey, dtype=np.float64), 1, mode="edge")
    laplacian = g[:-2, 1:-1] + g[2:, 1:-1] + g[1:-1, :-2] + g[1:-1, 2:] - 4 * g[1:-1, 1:-1]
    return float(laplacian.var())


def perceptual_hash(image: Image.Image) -> str:
    """The picture's pHash: 256 bits as 64 hex digits, one per low frequency; hardly moved by size and brightness."""
    import imagehash

    return str(imagehash.phash(image, hash_size=HASH_SIZE))


def distance(one: str, other: str) -> int:
    """Number of bits in which two hashes of equal length differ: 0 for like pictures, about half for unlike ones."""
    return (int(one, 16) ^ int(other, 16)).bit_count()


def open_sample(sample: dict, key: str) -> Image.Image:
    from PIL import Image

    return Image.open(sample[key][0]).convert("RGB")
