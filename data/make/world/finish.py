"""What happens to the drawn pixels: paper, brush and canvas of each way of painting, and the ways of spoiling.

Arrays are float32 (height, width, 3) in 0..1. Textures stay smooth and weak (about 0.03): a small VAE must follow them.
"""

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from world.pen import PAPER

VARIANTS = 8  # textures are made once per size and drawn by lot


@lru_cache(maxsize=256)
def clouds(height: int, width: int, cells: int, variant: int) -> np.ndarray:
    """Smooth noise in -1..1, `cells` bumps along the shorter side, shape (height, width, 1)."""
    rng, unit = np.random.default_rng(variant), min(height, width) / cells
    coarse = rng.standard_normal((int(height / unit) + 2, int(width / unit) + 2)).astype(np.float32)
    fine = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    return np.clip(fine / 2, -1, 1)[..., None]


@lru_cache(maxsize=256)
def dabs(height: int, width: int, variant: int) -> np.ndarray:
    """Short brush strokes of varied lightness in -1..1, shape (height, width, 1)."""
    rng, unit = np.random.default_rng(100 + variant), min(height, width) / 128
    image = Image.new("L", (width, height), 128)
    pen = ImageDraw.Draw(image)
    bend = clouds(height, width, 3, variant)[..., 0]
    for _ in range(int(900 * width * height / min(height, width) ** 2)):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        turn = -0.7 + 1.6 * bend[int(y), int(x)]
        dx, dy = 5 * unit * np.cos(turn), 5 * unit * np.sin(turn)
        pen.line((x - dx, y - dy, x + dx, y + dy), fill=int(rng.integers(0, 256)), width=max(1, round(3 * unit)))
    image = image.filter(ImageFilter.GaussianBlur(0.7 * unit))
    return (np.asarray(image, np.float32)[..., None] - 128) / 128


@lru_cache(maxsize=64)
def hatching(height: int, width: int, variant: int) -> np.ndarray:
    """Diagonal pencil strokes in 0..1, shape (height, width, 1)."""
    unit = min(height, width) / 128
    y, x = np.mgrid[:height, :width].astype(np.float32) / unit
    wave = 0.5 + 0.5 * np.sin((x + y) * (2 * np.pi / 6.5) + 3 * clouds(height, width, 6, variant)[..., 0])
    return wave[..., None]


@lru_cache(maxsize=64)
def margin(height: int, width: int, variant: int, wide: float, soft: float = 2.2) -> np.ndarray:
    """1 inside the painted area, 0 on the bare border of about `wide` units, with an uneven edge."""
    unit = min(height, width) / 128
    y, x = np.mgrid[:height, :width].astype(np.float32)
    edge = np.minimum(np.minimum(x, width - 1 - x), np.minimum(y, height - 1 - y)) / unit
    edge = edge + 2.6 * clouds(height, width, 9, variant + 20)[..., 0]
    return np.clip((edge - wide) / soft + 0.5, 0, 1)[..., None]


def blurred(pixels: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur, sigma in px; by way of 8 bits, which is fast and fine enough for pictures."""
    return _floats(_image(pixels).filter(ImageFilter.GaussianBlur(sigma)))


def _image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray((np.clip(pixels, 0, 1) * 255 + 0.5).astype(np.uint8))


def _floats(image: Image.Image) -> np.ndarray:
    return np.asarray(image, np.float32) / 255


def finish(pixels: np.ndarray, style: str, seed: int) -> np.ndarray:
    """The drawn picture with the surface of its way of painting."""
    painter = {"ink": _ink, "oil": _oil, "pencil": _pencil, "watercolor": _watercolor}.get(style)
    return painter(pixels, seed % VARIANTS, min(pixels.shape[:2]) / 128) if painter else pixels


def _paper(style: str) -> np.ndarray:
    return np.array(PAPER[style], np.float32) / 255


def _ink(pixels: np.ndarray, variant: int, unit: float) -> np.ndarray:
    height, width = pixels.shape[:2]
    wet = 0.62 * pixels + 0.38 * np.minimum(pixels, blurred(pixels, 1.6 * unit))
    wet = wet + 0.05 * clouds(height, width, 5, variant) * (1.1 - wet)
    inside = margin(height, width, variant, 1.0, 9.0)
    out = _paper("ink") * (1 - inside) + wet * inside
    x0, y0, side = round(6 * unit), height - round(17 * unit), round(10 * unit)  # the painter's red seal
    seal = out[y0 : y0 + side, x0 : x0 + side]
    seal[:] = 0.1 * seal + 0.9 * np.array((0.76, 0.17, 0.14), np.float32)
    a, b, c = round(2.5 * unit), round(4.4 * unit), round(6.6 * unit)
    seal[a:-a, b : b + max(1, round(unit))] = seal[c : c + max(1, round(unit)), a:-a] = (0.95, 0.88, 0.8)
    return out


def _oil(pixels: np.ndarray, variant: int, unit: float) -> np.ndarray:
    height, width = pixels.shape[:2]
    out = 0.6 * kuwahara(pixels, max(1, round(1.6 * unit))) + 0.4 * pixels
    strokes = dabs(height, width, variant)
    return np.clip((out - 0.5) * 1.1 + 0.49 + 0.045 * strokes, 0, 1)


def kuwahara(pixels: np.ndarray, radius: int) -> np.ndarray:
    """The mean of the calmest of four corner windows of side radius+1: flat dabs with sharp edges (Kuwahara 1976)."""
    size = radius + 1
    padded = np.pad(pixels, ((radius, radius), (radius, radius), (0, 0)), mode="edge")
    both = np.concatenate([padded, (padded**2).sum(2, keepdims=True)], 2)
    for axis in (0, 1):
        both = sum(np.roll(both, -k, axis) for k in range(size))
    both = both / size**2
    height, width = pixels.shape[:2]
    best, calm = None, None
    for dy in (0, radius):
        for dx in (0, radius):
            window = both[dy : dy + height, dx : dx + width]
            mean = window[..., :3]
            spread = window[..., 3] - (mean**2).sum(2)
            if best is None:
                best, calm = mean.copy(), spread.copy()
            else:
                less = spread < calm
                best[less], calm[less] = mean[less], spread[less]
    return best


def _pencil(pixels: np.ndarray, variant: int, unit: float) -> np.ndarray:
    height, width = pixels.shape[:2]
    hatch = hatching(height, width, variant)
    tone = 1 - pixels.mean(2, keepdims=True)
    out = pixels + (hatch - 0.45) * (0.02 + 0.14 * np.clip(tone, 0, 0.6)) * (_paper("pencil") - pixels + 0.25)
    inside = margin(height, width, variant, 3.0)
    return _paper("pencil") * (1 - inside) + out * inside


def _watercolor(pixels: np.ndarray, variant: int, unit: float) -> np.ndarray:
    height, width = pixels.shape[:2]
    out = 0.65 * pixels + 0.35 * blurred(pixels, 1.1 * unit)
    bleed = 0.5 + 0.5 * clouds(height, width, 6, variant)
    out = out + (_paper("watercolor") - out) * 0.26 * bleed
    inside = margin(height, width, variant, 7.0)
    rim = 1 - 0.16 * inside * (1 - inside) * 4  # pigment gathers where the wash ends
    return (_paper("watercolor") * (1 - inside) + out * inside) * rim


def spoil(pixels: np.ndarray, way: str, severity: float, seed: int) -> np.ndarray:
    """The picture as uint8, spoiled in one way with severity 0..1."""
    unit = min(pixels.shape[:2]) / 128
    if way == "blur":
        pixels = blurred(pixels, (1 + 3 * severity) * unit)
    elif way == "noise":
        rng = np.random.default_rng(seed)
        pixels = pixels + rng.standard_normal(pixels.shape, np.float32) * (0.06 + 0.14 * severity)
    elif way == "low_contrast":
        keep = 0.6 - 0.35 * severity
        pixels = 0.55 + (pixels - 0.55) * keep
    return (np.clip(pixels, 0, 1) * 255 + 0.5).astype(np.uint8)
