"""What the UNet is trained on: latents and folded text embeddings of scenes, kept on the disk in half precision, and
where in them faces and hands are.

Left padding: all padded places of a prompt hold one and the same vector, and Kolors masks none of them, so 256 places
are worth `n` words, one padding vector and a bias of log(256 - n) on it in attention: same numbers, less work.

    python data/make/build.py models.unet_data      # pictures and texts beforehand; models.unet encodes the pictures
"""

import argparse
import random
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from diffusers import AutoencoderKL
from diffusers.pipelines.kolors.text_encoder import ChatGLMModel
from diffusers.pipelines.kolors.tokenizer import ChatGLMTokenizer
from world.captions import caption
from world.scenes import balanced_scenes, held_out, random_scene

from models.common import found, key_of, stored
from models.pictures import coverage, with_boxes
from models.vae import encoder_key, latents

WORDS, PLACES = 56, 256  # the longest caption in tokens; places of a padded prompt in the pipeline
CAPTIONS_EACH = 2
SPOILED = 0.12  # share of the pictures


@dataclass(frozen=True)
class Data:
    """A batch of texts: `words` (N, WORDS, D) right-aligned behind one padding vector at place 0, `pooled` (N, D),
    `mask` (N, WORDS), of which the UNet makes its attention bias (mask - 1) * 10000."""

    words: torch.Tensor
    pooled: torch.Tensor
    mask: torch.Tensor


def mask_of(used: torch.Tensor) -> torch.Tensor:
    """The mask (N, WORDS) of prompts of `used` (N,) tokens; the one padding vector stands for all padded places."""
    mask = (torch.arange(WORDS, device=used.device)[None] >= WORDS - used[:, None]).float()
    mask[:, 0] = 1 + (PLACES - used).clamp(min=1).log() / 10_000
    return mask


@cache
def tokenizer() -> ChatGLMTokenizer:
    return ChatGLMTokenizer.from_pretrained(found("tiny-kolors/tokenizer"))


def tokens_of(texts: list[str]) -> dict[str, np.ndarray]:
    """What the text encoder reads, each (len(texts), PLACES)."""
    return dict(tokenizer()(texts, padding="max_length", max_length=PLACES, truncation=True, return_tensors="np"))


class Embedder:
    """The frozen text encoder, reading whole 256-place prompts as the pipeline does: also the padding's vector
    depends on them."""

    def __init__(self, device: str = "cpu"):
        folder = found("tiny-kolors/text_encoder")
        encoder = ChatGLMModel.from_pretrained(folder, torch_dtype=torch.float32).eval()
        self.key = key_of([p.double().sum().item() for p in encoder.parameters()])  # tells one training from another
        self.encoder, self.device, width = encoder.to(device), device, encoder.config.hidden_size
        self.kind = np.dtype([("words", "f2", (WORDS, width)), ("pooled", "f2", (width,)), ("used", "i2")])

    @torch.no_grad()
    def __call__(self, tokens: dict[str, np.ndarray]) -> np.ndarray:
        """One row of `kind` for each text."""
        asked = {name: torch.from_numpy(value).to(self.device) for name, value in tokens.items()}
        hidden = self.encoder(**asked, output_hidden_states=True, return_dict=True).hidden_states
        read = hidden[-2].transpose(0, 1)
        rows = np.empty(len(tokens["input_ids"]), self.kind)
        rows["words"] = torch.cat([read[:, :1], read[:, PLACES - WORDS + 1 :]], 1).cpu()
        rows["pooled"], rows["used"] = hidden[-1][-1].cpu(), tokens["attention_mask"].sum(1)
        return rows


class Cached:
    """Latents (N, 4, 16, 16), scaled, the texts of N pictures, first the empty prompt, then CAPTIONS_EACH each, and
    the boxes (N, DETAILS, 4) of faces and hands. For a CPU they stay on the disk, a GPU holds them all."""

    def __init__(self, latents: np.ndarray, texts: np.ndarray, boxes: np.ndarray, device: str = "cpu"):
        self.device = device
        self.latents, self.boxes = self.held(latents), self.held(boxes)
        self.words, self.pooled, self.used = (self.held(texts[name]) for name in ("words", "pooled", "used"))
        self.width = texts["pooled"].shape[1]

    def held(self, part: np.ndarray) -> np.ndarray | torch.Tensor:
        """As it is for a CPU, on the GPU otherwise."""
        return part if self.device == "cpu" else torch.from_numpy(np.ascontiguousarray(part)).to(self.device)

    def latents_of(self, rows: list[int]) -> torch.Tensor:
        return torch.as_tensor(self.latents[rows]).float()

    def details_of(self, rows: list[int]) -> torch.Tensor:
        """How much of each place of the latents is a face or a hand, (N, 16, 16) in 0..1."""
        return coverage(torch.as_tensor(self.boxes[rows]).float())

    def texts_of(self, rows: list[int]) -> Data:
        words, pooled, used = (torch.as_tensor(part[rows]) for part in (self.words, self.pooled, self.used))
        return Data(words.float(), pooled.float(), mask_of(used))


def texts_of(name: str, scenes, complete: bool, device: str = "cpu") -> np.ndarray:
    embedder = Embedder(device)
    texts = [_text(scenes, i, complete) for i in range(1 + CAPTIONS_EACH * len(scenes))]
    with ProcessPoolExecutor(torch.get_num_threads()) as pool:

        def rows(at: range) -> np.ndarray:
            batches = [texts[i : min(i + 64, at.stop)] for i in range(at.start, at.stop, 64)]
            return np.concatenate([embedder(tokens) for tokens in pool.map(tokens_of, batches)])

        key = key_of(scenes[:1000], texts[1], embedder.key)
        return stored(name, len(texts), embedder.kind, (), rows, key, chunk=1024 if device == "cpu" else 16_384)


def _text(scenes, row: int, complete: bool) -> str:
    return caption(scenes[(row - 1) // CAPTIONS_EACH], random.Random(row), complete) if row else ""


def latents_of(name: str, scenes, pictures: np.ndarray, device: str = "cpu") -> np.ndarray:
    vae = AutoencoderKL.from_pretrained(found("tiny-kolors/vae"), torch_dtype=torch.float32)
    key = key_of(scenes[:1000], encoder_key(vae))
    vae.to(device)
    scaled = lambda at: latents(vae, pictures[at.start : at.stop], device=device) * vae.config.scaling_factor  # noqa: E731
    return stored(f"{name}_latents", len(scenes), np.float16, (4, 16, 16), scaled, key, chunk=1024)


def cached(name: str, scenes, complete: bool, device: str, kind: type[Cached] = Cached) -> Cached:
    drawn = with_boxes(f"{name}_drawn", scenes)
    latents = latents_of(name, scenes, drawn["picture"], device)
    return kind(latents, texts_of(f"{name}_texts", scenes, complete, device), drawn["boxes"], device)


def training_data(count: int, device: str = "cpu") -> Cached:
    return cached("unet", balanced_scenes(4, count, spoiled=SPOILED), complete=False, device=device)


def held_out_data(device: str = "cpu", count: int = 256) -> Cached:
    """Sound pictures of combinations that training never sees, with captions that leave nothing out."""
    rng, scenes = random.Random(14), []
    while len(scenes) < count:
        scene = random_scene(rng)
        scenes += [scene] if held_out(scene) else []
    return cached("unet_held", scenes, complete=True, device=device)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=50_000)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="of the text encoder")
    options = parser.parse_args()
    scenes = balanced_scenes(4, options.count, spoiled=SPOILED)
    with_boxes("unet_drawn", scenes), texts_of("unet_texts", scenes, False, options.device)
