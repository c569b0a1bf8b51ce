"""What the UNet is trained on: latents and folded text embeddings of scenes, kept on the disk in half precision, and
where in them faces and hands are.

Left padding: all padded places of a prompt hold one and the same vector, and Kolors masks none of them, so 256 places
are worth `n` words, one padding vector and a bias of log(256 - n) on it in attention: same numbers, less work.

    python data/make/build.py models.unet_data      # draws, encodes and writes down; a killed run goes on where it was
"""

import argparse
import random
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import AutoencoderKL
from diffusers.pipelines.kolors.text_encoder import ChatGLMModel
from diffusers.pipelines.kolors.tokenizer import ChatGLMTokenizer
from world.captions import caption
from world.scenes import Scene, held_out, random_scene, training_scenes

from models.common import SIZE, found, key_of, rendered, stored
from models.vae import encoder_key, latents

WORDS, PLACES = 56, 256  # the longest caption in tokens; places of a padded prompt in the pipeline
CAPTIONS_EACH = 2
DETAILS = 6  # the most that a scene shows: two faces, four hands


@dataclass(frozen=True)
class Data:
    """A batch of texts: `words` (N, WORDS, D) right-aligned behind one padding vector at place 0, `pooled` (N, D),
    `mask` (N, WORDS), of which the UNet makes its attention bias (mask - 1) * 10000."""

    words: torch.Tensor
    pooled: torch.Tensor
    mask: torch.Tensor


def mask_of(used: torch.Tensor) -> torch.Tensor:
    """The mask (N, WORDS) of prompts of `used` (N,) tokens; the one padding vector stands for all padded places."""
    mask = (torch.arange(WORDS)[None] >= WORDS - used[:, None]).float()
    mask[:, 0] = 1 + (PLACES - used).clamp(min=1).log() / 10_000
    return mask


class Embedder:
    """The frozen text encoder, reading whole 256-place prompts as the pipeline does: also the padding's vector
    depends on them."""

    def __init__(self):
        self.tokenizer = ChatGLMTokenizer.from_pretrained(found("tiny-kolors/tokenizer"))
        folder = found("tiny-kolors/text_encoder")
        self.encoder = ChatGLMModel.from_pretrained(folder, torch_dtype=torch.float32).eval()
        width = self.encoder.config.hidden_size
        self.kind = np.dtype([("words", "f2", (WORDS, width)), ("pooled", "f2", (width,)), ("used", "i2")])

    @property
    def key(self) -> str:
        """Tells one training of the encoder from another."""
        return key_of([p.double().sum().item() for p in self.encoder.parameters()])

    @torch.no_grad()
    def __call__(self, texts: list[str]) -> np.ndarray:
        """One row of `kind` for each text."""
        tokens = self.tokenizer(texts, padding="max_length", max_length=PLACES, truncation=True, return_tensors="pt")
        hidden = self.encoder(**tokens, output_hidden_states=True, return_dict=True).hidden_states
        read = hidden[-2].transpose(0, 1)
        rows = np.empty(len(texts), self.kind)
        rows["words"] = torch.cat([read[:, :1], read[:, PLACES - WORDS + 1 :]], 1)
        rows["pooled"], rows["used"] = hidden[-1][-1], tokens["attention_mask"].sum(1)
        return rows


class Cached:
    """Latents (N, 4, 16, 16), scaled, the texts of N pictures, first the empty prompt, then CAPTIONS_EACH each, and
    the boxes (N, DETAILS, 4) of faces and hands."""

    def __init__(self, latents: np.ndarray, texts: np.ndarray, boxes: np.ndarray):
        self.latents, self.texts, self.boxes = latents, texts, boxes
        self.width = texts["pooled"].shape[1]

    def latents_of(self, rows: list[int]) -> torch.Tensor:
        return torch.from_numpy(self.latents[rows]).float()

    def details_of(self, rows: list[int]) -> torch.Tensor:
        """How much of each place of the latents is a face or a hand, (N, 16, 16) in 0..1."""
        return coverage(torch.from_numpy(self.boxes[rows].astype(np.float32)))

    def texts_of(self, rows: list[int]) -> Data:
        read = self.texts[rows]
        words, pooled = torch.from_numpy(read["words"]).float(), torch.from_numpy(read["pooled"]).float()
        return Data(words, pooled, mask_of(torch.from_numpy(read["used"])))


def coverage(boxes: torch.Tensor, side: int = 16) -> torch.Tensor:
    """How much of each of side x side places of a picture lies in one of the boxes (N, B, 4) in px, in 0..1."""
    cell = SIZE / side
    starts = torch.arange(side) * cell

    def covered(first: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
        first, last = first[..., None], (first + length)[..., None]
        return (last.minimum(starts + cell) - first.maximum(starts)).clamp(min=0) / cell

    x, y, width, height = boxes.unbind(-1)
    return (covered(y, height)[..., None] * covered(x, width)[..., None, :]).amax(1)


def texts_of(name: str, scenes, complete: bool) -> np.ndarray:
    embedder = Embedder()

    def rows(at: range) -> np.ndarray:
        return embedder([_text(scenes, i, complete) for i in at])

    key = key_of(scenes[:1000], _text(scenes, 1, complete), embedder.key)
    return stored(name, 1 + CAPTIONS_EACH * len(scenes), embedder.kind, (), rows, key, chunk=64)


def _text(scenes, row: int, complete: bool) -> str:
    return caption(scenes[(row - 1) // CAPTIONS_EACH], random.Random(row), complete) if row else ""


def latents_of(name: str, scenes) -> np.ndarray:
    pictures = rendered(name, scenes)
    vae = AutoencoderKL.from_pretrained(found("tiny-kolors/vae"), torch_dtype=torch.float32)
    key = key_of(scenes[:1000], encoder_key(vae))
    scaled = lambda at: latents(vae, pictures[at.start : at.stop]) * vae.config.scaling_factor  # noqa: E731
    return stored(f"{name}_latents", len(scenes), np.float16, (4, 16, 16), scaled, key, chunk=64)


def detail_boxes(scene: Scene) -> np.ndarray:
    """The boxes x, y, width, height in px of a scene's faces and hands, int16 (DETAILS, 4); of width 0: none."""
    from world.draw import drawn  # here, so that only the workers need skia

    drawing, boxes = drawn(scene), np.zeros((DETAILS, 4), np.int16)
    found = (*drawing.faces, *drawing.hands)[:DETAILS]
    boxes[: len(found)] = np.reshape(found, (-1, 4))
    return boxes


def boxes_of(name: str, scenes) -> np.ndarray:
    with ProcessPoolExecutor(torch.get_num_threads()) as pool:
        rows = lambda at: np.stack(list(pool.map(detail_boxes, scenes[at.start : at.stop], chunksize=32)))  # noqa: E731
        return stored(f"{name}_boxes", len(scenes), np.int16, (DETAILS, 4), rows, key_of(scenes[:1000]))


def cached(name: str, scenes, complete: bool) -> Cached:
    latents, texts = latents_of(name, scenes), texts_of(f"{name}_texts", scenes, complete)
    return Cached(latents, texts, boxes_of(name, scenes))


def training_data(count: int) -> Cached:
    """`count` pictures, one in eight spoiled, none of a held-out combination."""
    scenes = training_scenes(4, count, spoiled=0.12)
    return cached("unet", scenes, complete=False)


def held_out_data(count: int = 256) -> Cached:
    """Sound pictures of combinations that training never sees, with captions that leave nothing out."""
    rng, scenes = random.Random(14), []
    while len(scenes) < count:
        scene = random_scene(rng)
        scenes += [scene] if held_out(scene) else []
    return cached("unet_held", scenes, complete=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=50_000)
    training_data(parser.parse_args().count), held_out_data()
