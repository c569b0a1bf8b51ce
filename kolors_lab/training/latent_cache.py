"""Pictures and captions encoded once, into the user's cache (cache_files.py), and read from there batch by batch.

Nothing but file names stays in memory, whatever the number of pictures:
so a picture is decoded twice, once to check the whole set before anything is written, once to be encoded.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kolors_lab.core.images import open_image
from kolors_lab.core.language import _
from kolors_lab.dataset.augment import bucket, crop, vary
from kolors_lab.dataset.captions import shuffled
from kolors_lab.dataset.sets import DataConfig
from kolors_lab.models.presets import MAX_TOKENS
from kolors_lab.sampling.text import encode_prompt, encode_text
from kolors_lab.training.cache_files import (
    at,
    cache_file,
    fill_files,
    latent_shape,
    read_bytes,
    read_tensors,
    weights_hash,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    import torch
    from diffusers import KolorsPipeline
    from PIL import Image

    from kolors_lab.dataset.folder import Example


@dataclass(frozen=True)
class Encoded:
    """A set as the UNet sees it: for each version of each picture the cache files that hold it and its caption.

    An entry is one version of one picture; those of a picture lie side by side. Beyond len(self) count the same entries
    again, without their captions.
    """

    pictures: list[Path]  # per entry
    captions: list[Path]  # per entry
    shapes: list[tuple[int, int]]  # per picture: height and width of its latents
    weights: list[float]  # per picture
    repeats: Sequence[int] = ()  # per picture: how often it comes in a round; once where this is empty
    variants: int = 1
    dropout: float = 0.0
    empty: Path | None = None  # the empty caption, where there is dropout

    def __len__(self) -> int:
        return len(self.pictures)

    def batch(self, index: torch.Tensor, device: torch.device | str) -> dict[str, torch.Tensor]:
        """The entries at `index`, (B,), on the device: latents (B, 4, h, w), float32 and scaled, the mean of the VAE's
        distribution; time_ids (B, 6); prompt_embeds (B, 256, D); pooled (B, D); weight (B,).

        Raises DataError where the cache was emptied meanwhile.
        """
        import torch

        rows = [self._entry(number) for number in index.tolist()]
        return {name: torch.stack([row[name] for row in rows]).to(device) for name in rows[0]}

    def _entry(self, number: int) -> dict[str, torch.Tensor]:
        import torch

        entry = number % len(self)
        picture = read_tensors(self.pictures[entry], "latent_mean", "time_ids")
        caption = read_tensors(self.captions[entry] if number < len(self) else self.empty, "prompt_embeds", "pooled")
        weight = torch.tensor(self.weights[entry // self.variants])
        return {"latents": picture["latent_mean"], "time_ids": picture["time_ids"], **caption, "weight": weight}

    def batches(self, sizes: Sequence[int], generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        """The entries of each step, `sizes[i]` of them, all of one shape; of that shape every picture comes as often as
        it repeats, once by itself, before the next round.

        All are drawn at once, before any noise, so that a run that goes on after a stop draws the same ones again.
        """
        import torch

        shapes: dict[tuple[int, int], list[int]] = {}
        for number, shape in enumerate(self.shapes):
            times = self.repeats[number] if self.repeats else 1
            shapes.setdefault(shape, []).extend([number] * times)
        turns = torch.zeros(len(sizes), dtype=torch.int64)
        if len(shapes) > 1:  # a shape's turn comes as often as its pictures do
            share = torch.tensor([float(len(members)) for members in shapes.values()])
            turns = torch.multinomial(share, len(sizes), replacement=True, generator=generator)
        steps: dict[int, torch.Tensor] = {}
        for turn, members in enumerate(shapes.values()):
            mine = [step for step in range(len(sizes)) if turns[step] == turn]
            order = _order(len(members), sum(sizes[step] for step in mine), generator)
            parts = torch.tensor(members)[order].split([sizes[step] for step in mine])
            steps.update(zip(mine, parts, strict=True))
        return tuple(self._entries(steps[step], generator) for step in range(len(sizes)))

    def _entries(self, pictures: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """One entry for each picture: a version at random, and at random without its caption."""
        import torch

        entries = pictures * self.variants
        if self.variants > 1:
            entries = entries + torch.randint(self.variants, entries.shape, generator=generator)
        if self.dropout:
            entries = entries + len(self) * (torch.rand(entries.shape, generator=generator) < self.dropout)
        return entries


def _order(count: int, total: int, generator: torch.Generator) -> torch.Tensor:
    """`total` of 0..count-1, shuffled anew for each round."""
    import torch

    rounds = [torch.randperm(count, generator=generator) for _round in range(-(-total // count))]
    return torch.cat(rounds)[:total] if rounds else torch.empty(0, dtype=torch.int64)


def encode(
    pipe: KolorsPipeline,
    examples: list[Example],
    size: int,
    device: torch.device | str = "cpu",
    on_step: Callable[[int, int], None] | None = None,
    config: DataConfig | None = None,
) -> Encoded:
    """One set, encoded as `encode_sets` does."""
    return encode_sets(pipe, [(examples, config or DataConfig())], size, device, on_step)[0]


def encode_sets(
    pipe: KolorsPipeline,
    sets: Sequence[tuple[list[Example], DataConfig]],
    size: int,
    device: torch.device | str = "cpu",
    on_step: Callable[[int, int], None] | None = None,
    having: Callable[[str], AbstractContextManager] = contextlib.nullcontext,
    prompts: Sequence[str] = (),
) -> list[Encoded]:
    """Encode pictures and captions of all sets, each different one once, where the user's cache lacks them.

    `having("text_encoder")`, then `having("vae")`, see to it that the pipeline has that part meanwhile; it comes to
    `device`, if there is work and room, and goes back. `prompts` are remembered for `encode_text`. `on_step(done,
    total)` is called after each caption and picture. Raises DataError for a picture that cannot be read.
    """
    import torch

    told = [_told(examples, config) for examples, config in sets]
    texts = list(dict.fromkeys(text for one in told for text in one))
    total = len(texts) + sum(len(examples) * config.variants for examples, config in sets)
    tick = (lambda done: on_step(done, total)) if on_step else (lambda done: None)
    with having("text_encoder"):
        captions = _caption_files(pipe, texts)
        owners = {
            text: examples[n // config.variants].image
            for (examples, config), one in zip(sets, told, strict=True)
            for n, text in enumerate(one[: len(examples) * config.variants])
        }
        work = [(file, lambda t=text: _encode_caption(pipe, t, owners.get(t))) for text, file in captions.items()]
        fill_files(work, pipe.text_encoder, device, pipe.text_encoder.dtype, tick)
        if prompts:
            with at(pipe.text_encoder, device, pipe.text_encoder.dtype):
                for text in prompts:
                    encode_text(pipe, text, "plain")
    with having("vae"):
        pictures = [_picture_files(pipe, examples, size, config) for examples, config in sets]
        work = []
        for (examples, config), files in zip(sets, pictures, strict=True):
            for entry, file in enumerate(files):
                picture, number = divmod(entry, config.variants)
                one = examples[picture].image, size, config, number, file.stem
                work.append((file, lambda one=one: _encode_image(pipe.vae, *one)))
        # float32: in half precision SDXL's VAE overflows
        fill_files(work, pipe.vae, device, torch.float32, lambda done: tick(len(captions) + done))
    return [
        Encoded(
            pictures=files,
            captions=[captions[text] for text in one[: len(files)]],
            shapes=[latent_shape(file) for file in files[:: config.variants]],
            weights=[example.weight for example in examples],
            repeats=[example.repeats for example in examples],
            variants=config.variants,
            dropout=config.caption_dropout,
            empty=captions.get("") if config.caption_dropout else None,
        )
        for (examples, config), one, files in zip(sets, told, pictures, strict=True)
    ]


def _told(examples: list[Example], config: DataConfig) -> list[str]:
    """The caption of every version of every picture; where captions are dropped, the empty one after them."""
    texts = [
        shuffled(example.text, number) if config.caption_shuffle and number else example.text
        for example in examples
        for number in range(config.variants)
    ]
    return [*texts, ""] if config.caption_dropout else texts


def _caption_files(pipe: KolorsPipeline, texts: list[str]) -> dict[str, Path]:
    """Each caption's cache file."""
    tokenizer = hashlib.sha256(read_bytes(Path(pipe.tokenizer.vocab_file))).hexdigest()
    model = weights_hash(pipe.text_encoder) + tokenizer
    return {text: cache_file("text", text, model, MAX_TOKENS) for text in texts}


def _picture_files(pipe: KolorsPipeline, examples: list[Example], size: int, config: DataConfig) -> list[Path]:
    """The cache file of every version of every picture."""
    model, files = weights_hash(pipe.vae), []
    shape = ("buckets",) if config.buckets else ()
    for example in examples:
        content = hashlib.sha256(read_bytes(example.image)).hexdigest()
        for number in range(config.variants):
            files.append(cache_file("latents", content, model, size, *shape, *config.changes(number)))
    return files


def _encode_caption(pipe: KolorsPipeline, text: str, owner: Path | None = None) -> dict[str, torch.Tensor]:
    """A caption as it stands: its brackets are no weights. Warns with PromptCut, naming its picture, if too long."""
    embeds, pooled = encode_prompt(pipe, text, "plain", _("the caption of {file}").format(file=owner))
    return {"prompt_embeds": embeds[0].cpu(), "pooled": pooled[0].cpu()}


def _encode_image(
    vae: torch.nn.Module, file: Path, size: int, config: DataConfig, number: int, seed: str
) -> dict[str, torch.Tensor]:
    """Mean and standard deviation, (4, h/8, w/8), both scaled; time ids (6,) as SDXL's training gives them: original
    height and width, crop top and left, target height and width, in px. What is random of a version comes from `seed`.
    """
    import numpy as np
    import torch

    image = open_image(file)
    part, corner = cut(image, size, config, number, seed)
    width, height = part.size
    pixels = torch.from_numpy(np.asarray(part, dtype=np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
    posterior = vae.encode(pixels.to(vae.device)).latent_dist
    scale = vae.config.scaling_factor
    return {
        "latent_mean": (posterior.mean[0] * scale).cpu(),
        "latent_std": (posterior.std[0] * scale).cpu(),
        "time_ids": torch.tensor([image.height, image.width, *corner, height, width], dtype=torch.float32),
    }


def cut(
    image: Image.Image, size: int, config: DataConfig, number: int, seed: str
) -> tuple[Image.Image, tuple[int, int]]:
    """Version `number` of a picture as it is encoded, and the (top, left) of its crop; `seed` decides what is random.

    A picture of the same size with the same seed is cut, turned and mirrored alike.
    """
    width, height = bucket(image.width, image.height, size) if config.buckets else (size, size)
    return vary(image, width, height, config, random.Random(seed)) if number else crop(image, width, height)
