"""Scenes as they are and gone wrong (world/damage.py), with their faces' boxes: what probe and score learn from."""

import random
from dataclasses import dataclass, replace

import numpy as np
import torch
from diffusers import AutoencoderKL
from world.scenes import STYLE, UNSEEN_STYLE, Scene, random_scene

from models.common import SIZE, found, key_of, stored, worked
from models.vae import encoder_key, through

FACES = 4  # the most that a picture is noted to show; a doubled couple shows so many
MILDEST = 0.3  # below it a damage can hardly be seen
KIND = np.dtype([("picture", np.uint8, (SIZE, SIZE, 3)), ("faces", np.int16, (FACES, 4))])


@dataclass(frozen=True)
class Item:
    """A scene with one of world.damage.DAMAGES at a severity of 0..1, or "none"; `seed` varies how it goes wrong."""

    scene: Scene
    damage: str = "none"
    severity: float = 0.0
    seed: int = 0


def people(scene: Scene) -> int:
    """How many faces of people the picture shows."""
    return scene.has_girl + scene.has_prince


def pairs(seed: int, count: int, damages) -> list[Item]:
    """`count` scenes with people, each as it is and right after it with one of `damages`: 2 * count items."""
    rng, items = random.Random(seed), []
    while len(items) < 2 * count:
        scene = random_scene(rng, (*STYLE, UNSEEN_STYLE))
        wrong = Item(scene, rng.choice(damages), rng.uniform(MILDEST, 1), rng.getrandbits(20))
        items += [Item(scene), wrong] if people(scene) else []
    return items


def empty(seed: int, count: int) -> list[Item]:
    """Scenes without people: horses."""
    rng = random.Random(seed)
    scenes = (random_scene(rng, (*STYLE, UNSEEN_STYLE)) for _ in range(count))
    return [Item(replace(scene, who="horse", action="stand", framing="full")) for scene in scenes]


def draw(item: Item) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (128, 128, 3) and its faces' boxes x, y, width, height, int16 (FACES, 4); width 0: no face."""
    from world.damage import damaged  # here, so that only the workers need skia
    from world.draw import drawn

    plain = item.damage == "none"
    drawing = drawn(item.scene) if plain else damaged(item.scene, item.damage, item.severity, item.seed)
    boxes = np.zeros((FACES, 4), np.int16)
    boxes[: len(drawing.faces)] = np.reshape(drawing.faces[:FACES], (-1, 4))
    return np.asarray(drawing.image, np.uint8), boxes


def pictures(name: str, items: list[Item]) -> np.ndarray:
    """(N,) of KIND, drawn once and kept as build/<name>.npy."""
    return worked(name, items, draw, KIND)


def through_vae(name: str, shown: np.ndarray, batch: int = 8) -> np.ndarray:
    """The pictures uint8 (N, 128, 128, 3) as the VAE gives them back, of the same form, kept as build/<name>.npy."""
    vae = AutoencoderKL.from_pretrained(found("tiny-kolors/vae"), torch_dtype=torch.float32).eval()
    again = lambda at: through(vae, shown[at.start : at.stop])  # noqa: E731
    decoder = key_of([p.double().sum().item() for p in vae.decoder.parameters()])
    return stored(name, len(shown), np.uint8, (SIZE, SIZE, 3), again, encoder_key(vae) + decoder, batch)
