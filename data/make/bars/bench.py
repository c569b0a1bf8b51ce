"""What the bars measure with: the models, loaded once, and what they say about arrays of pictures.

Pictures are uint8 (N, 128, 128, 3) throughout.
"""

import functools
import random
from pathlib import Path

import numpy as np
import torch
from models.common import BUILD, DATA, SIZE, found, key_of, stored, to_tensor
from PIL import Image
from world.scenes import ATTRIBUTES

from kolors_lab.sampling.face_probe import Found, faces_of, load_probe, place_logits

STEPS, CFG, BATCH = 20, 4.0, 16


@functools.cache
def pipeline_folder() -> Path:
    """A KolorsPipeline folder in build/ of links to the parts trained here, else to the shipped ones."""
    folder = BUILD / "bars" / "tiny-kolors"
    folder.mkdir(parents=True, exist_ok=True)
    for part in (path.name for path in (DATA / "tiny-kolors").iterdir()):
        (folder / part).unlink(missing_ok=True)
        (folder / part).symlink_to(found(f"tiny-kolors/{part}").resolve())
    return folder


@functools.cache
def pipeline():
    """The whole of it in float32, without anything learned on top."""
    from diffusers import KolorsPipeline

    pipe = KolorsPipeline.from_pretrained(pipeline_folder(), torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@functools.cache
def pipeline_key() -> str:
    """Tells one state of the model from another."""
    pipe = pipeline()
    parts = (pipe.unet, pipe.vae, pipe.text_encoder)
    return key_of([p.double().sum().item() for part in parts for p in part.parameters()])


@functools.cache
def classifier():
    from transformers import AutoModelForImageClassification

    return AutoModelForImageClassification.from_pretrained(found("tiny-classifier"), dtype=torch.float32).eval()


@functools.cache
def predictor():
    from aesthetics_predictor import AestheticsPredictorV2Linear

    return AestheticsPredictorV2Linear.from_pretrained(found("tiny-aesthetics")).float().eval()


@functools.cache
def clip():
    from transformers import ChineseCLIPModel

    return ChineseCLIPModel.from_pretrained(found("tiny-clip")).float().eval()


def drawn(name: str, prompts: list[str], seeds: list[int], negative: str = "") -> np.ndarray:
    """What the pipeline draws, 20 steps at cfg 4; kept as build/bars_<name>.npy."""
    key = key_of(pipeline_key(), prompts, seeds, negative, STEPS, CFG)
    make = lambda at: draw(prompts[at.start : at.stop], seeds[at.start : at.stop], negative)  # noqa: E731
    return stored(f"bars_{name}", len(prompts), np.uint8, (SIZE, SIZE, 3), make, key, BATCH)


def draw(prompts: list[str], seeds: list[int], negative: str = "") -> np.ndarray:
    """One batch, each picture from its own seed."""
    noise = [torch.Generator().manual_seed(seed) for seed in seeds]
    images = pipeline()(
        prompts, negative_prompt=[negative] * len(prompts), generator=noise, output_type="np",
        num_inference_steps=STEPS, guidance_scale=CFG, height=SIZE, width=SIZE,
    ).images  # fmt: skip
    return (images * 255).round().astype(np.uint8)


def draw_all(prompts: list[str], seeds: list[int], negative: str = "") -> np.ndarray:
    """Like `drawn`, but kept nowhere: for what has been learned on top."""
    starts = range(0, len(prompts), BATCH)
    return np.concatenate([draw(prompts[i : i + BATCH], seeds[i : i + BATCH], negative) for i in starts])


@torch.no_grad()
def in_batches(model, shown: np.ndarray, batch: int = 64) -> torch.Tensor:
    """model(pixels) for all pictures, in a row."""
    return torch.cat([model(to_tensor(shown[i : i + batch])) for i in range(0, len(shown), batch)])


def answers(shown: np.ndarray) -> dict[str, np.ndarray]:
    """Per attribute the index of the classifier's answer for each picture, (N,); -1 for what it was never asked."""
    logits = in_batches(lambda pixels: classifier()(pixels).logits, shown).numpy()
    labels = [label.split("=", 1) for _, label in sorted(classifier().config.id2label.items())]
    said = {}
    for name, known in ATTRIBUTES.items():
        columns = [i for i, (attribute, _) in enumerate(labels) if attribute == name]
        values = np.array([known.index(labels[i][1]) for i in columns])
        said[name] = values[logits[:, columns].argmax(1)] if columns else np.full(len(shown), -1)
    return said


def faces(shown: np.ndarray) -> list[list[Found]]:
    """The faces that the probe finds in each picture."""
    probe = load_probe(str(found("tiny-face-probe")))
    return [faces_of(*maps) for maps in in_batches(lambda pixels: place_logits(probe, pixels), shown).numpy()]


def scores(shown: np.ndarray) -> np.ndarray:
    """Practice scores, (N,)."""
    model = lambda pixels: predictor()(pixel_values=pixels, return_dict=True).logits[:, 0]  # noqa: E731
    return in_batches(model, shown).numpy()


def embeddings(shown: np.ndarray) -> np.ndarray:
    """tiny-clip's picture embeddings, (N, D), of length one."""
    see = lambda pixels: clip().visual_projection(clip().vision_model(pixel_values=pixels).pooler_output)  # noqa: E731
    return torch.nn.functional.normalize(in_batches(see, shown), dim=1).numpy()


def rendered_now(scenes) -> np.ndarray:
    """Renders of scenes."""
    from world.draw import render

    return np.stack([np.asarray(render(scene)) for scene in scenes])


def sheet(shown: np.ndarray, name: str, columns: int = 8) -> Path:
    """A contact sheet build/<name>.png."""
    rows = -(-len(shown) // columns)
    page = np.full((rows * columns, SIZE, SIZE, 3), 255, np.uint8)
    page[: len(shown)] = shown
    page = page.reshape(rows, columns, SIZE, SIZE, 3).swapaxes(1, 2).reshape(rows * SIZE, columns * SIZE, 3)
    file = BUILD / f"{name}.png"
    Image.fromarray(page).save(file)
    return file


def by_lot(count: int, of: int, seed: int = 64) -> list[int]:
    """Which of the pictures are shown: drawn by lot, none chosen."""
    return sorted(random.Random(seed).sample(range(of), min(count, of)))
