"""What the UNet is trained on: latents and folded text embeddings of scenes, kept on the disk in half precision.

Left padding: all padded places of a prompt hold one and the same vector, and Kolors masks none of them, so 256 places
are worth `n` words, one padding vector and a bias of log(256 - n) on it in attention: same numbers, less work.

    python data/make/build.py models.unet_data      # draws, encodes and writes down; a killed run goes on where it was
"""

import argparse
import random
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import AutoencoderKL
from diffusers.pipelines.kolors.text_encoder import ChatGLMModel
from diffusers.pipelines.kolors.tokenizer import ChatGLMTokenizer
from world.captions import caption
from world.scenes import held_out, random_scene, training_scenes

from models.common import found, key_of, rendered, stored
from models.vae import encoder_key, latents

WORDS, PLACES = 56, 256  # the longest caption in tokens; places of a padded prompt in the pipeline
CAPTIONS_EACH = 2


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
    """Latents (N, 4, 16, 16), scaled, and the texts of N pictures: first the empty prompt, then CAPTIONS_EACH each."""

    def __init__(self, latents: np.ndarray, texts: np.ndarray):
        self.latents, self.texts = latents, texts
        self.width = texts["pooled"].shape[1]

    def latents_of(self, rows: list[int]) -> torch.Tensor:
        return torch.from_numpy(self.latents[rows]).float()

    def texts_of(self, rows: list[int]) -> Data:
        read = self.texts[rows]
        words, pooled = torch.from_numpy(read["words"]).float(), torch.from_numpy(read["pooled"]).float()
        return Data(words, pooled, mask_of(torch.from_numpy(read["used"])))


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


def training_data(count: int) -> Cached:
    """`count` pictures, one in eight spoiled, none of a held-out combination."""
    scenes = training_scenes(4, count, spoiled=0.12)
    return Cached(latents_of("unet", scenes), texts_of("unet_texts", scenes, complete=False))


def held_out_data(count: int = 256) -> Cached:
    """Sound pictures of combinations that training never sees, with captions that leave nothing out."""
    rng, scenes = random.Random(14), []
    while len(scenes) < count:
        scene = random_scene(rng)
        scenes += [scene] if held_out(scene) else []
    return Cached(latents_of("unet_held", scenes), texts_of("unet_held_texts", scenes, complete=True))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=50_000)
    training_data(parser.parse_args().count), held_out_data()
