"""What the judges weigh beside beauty: does a panel show its prompt, do the panels of a series look alike.

Chinese-CLIP (https://arxiv.org/abs/2211.01335) puts pictures and Chinese texts into one space, where the cosine of two
vectors says how near they are. The tiny preset's is one of the same class that knows the little picture world only;
beside it that world has a classifier, which names what is in a picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kolors_lab.core.errors import DataError, ModelError, SettingError
from kolors_lab.models.device import pick_device
from kolors_lab.models.loading import quietly
from kolors_lab.models.presets import local_path

if TYPE_CHECKING:
    import numpy as np
    import torch
    from PIL import Image

    from kolors_lab.models.presets import Preset

BATCH = 16
SIDE = 128  # px, of the pictures that the classifier has learned from


@dataclass(frozen=True)
class Eyes:
    """A loaded Chinese-CLIP with its own picture processor and tokenizer."""

    model: torch.nn.Module
    processor: Callable
    tokenizer: Callable
    device: torch.device

    def see(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """(n, D) vectors of length one, of PIL pictures of any size and mode."""
        import torch

        with torch.no_grad():
            rows = [self.model.visual_projection(found.pooler_output) for found in self.look(images)]
        return torch.nn.functional.normalize(torch.cat(rows), dim=-1)

    def look(self, images: Sequence[Image.Image], **options: bool) -> Iterator[Any]:
        """What the vision model gives for BATCH pictures after another; under `torch.no_grad()`."""
        for start in range(0, len(images), BATCH):
            batch = [image.convert("RGB") for image in images[start : start + BATCH]]
            pixels = self.processor(images=batch, return_tensors="pt")["pixel_values"].to(self.device)
            yield self.model.vision_model(pixel_values=pixels, **options)

    def read(self, texts: Sequence[str]) -> torch.Tensor:
        """(n, D) vectors of length one; of a text longer than the model takes, the beginning."""
        import torch

        longest, rows = self.model.config.text_config.max_position_embeddings, []
        options = {"padding": True, "truncation": True, "max_length": longest, "return_tensors": "pt"}
        for start in range(0, len(texts), BATCH):
            tokens = self.tokenizer(list(texts[start : start + BATCH]), **options).to(self.device)
            with torch.no_grad():
                first = self.model.text_model(**tokens).last_hidden_state[:, 0]
                rows.append(self.model.text_projection(first))
        return torch.nn.functional.normalize(torch.cat(rows), dim=-1)

    def fit(self, images: Sequence[Image.Image], texts: Sequence[str]) -> list[float]:
        """Cosine of each picture and its own text, -1..1; compare them with each other, not with a threshold.

        DataError if there are not as many texts as pictures.
        """
        if len(images) != len(texts):
            raise DataError(
                "{count} pictures and {texts} texts; each picture needs its text", count=len(images), texts=len(texts)
            )
        return (self.see(images) * self.read(texts)).sum(-1).tolist() if images else []

    def likeness(self, images: Sequence[Image.Image]) -> np.ndarray:
        """(n, n) cosines of every picture with every other."""
        seen = self.see(images)
        return (seen @ seen.T).cpu().numpy()

    def coherence(self, images: Sequence[Image.Image]) -> float:
        """Mean likeness of all pairs of different pictures; NaN for fewer than two."""
        return coherence(self.see(images)) if len(images) > 1 else float("nan")


def coherence(seen: torch.Tensor) -> float:
    """Mean cosine over all pairs of `Eyes.see`'s (n, D) vectors.

    No n x n table is needed: the squared length of their sum holds every pair twice and each vector with itself once.
    """
    n = len(seen)
    return ((seen.sum(0).square().sum() - seen.square().sum()) / (n * (n - 1))).item() if n > 1 else float("nan")


def load_eyes(preset: Preset, device: torch.device | None = None) -> Eyes:
    """The preset's Chinese-CLIP in fp32. FetchError if it is not here, ModelError if the folder holds no such model."""
    folder, device = local_path(preset.clip, "clip"), device or pick_device()
    from safetensors import SafetensorError

    try:
        with quietly():
            from transformers import BertTokenizer, ChineseCLIPImageProcessor, ChineseCLIPModel  # it warns

            model = ChineseCLIPModel.from_pretrained(folder).float().to(device).eval()
            processor = ChineseCLIPImageProcessor.from_pretrained(folder)
            tokenizer = BertTokenizer.from_pretrained(folder)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            "{folder}: no Chinese-CLIP can be loaded from it: {reason}", folder=folder, reason=str(error)[:200]
        ) from error
    return Eyes(model, processor, tokenizer, device)


def classify(images: Sequence[Image.Image], preset: Preset) -> list[dict[str, str]]:
    """What the picture world's classifier sees: per picture {"who": "girl", "style": "anime", …}.

    `config.id2label` holds "attribute=value"; of each attribute the likeliest value is taken. SettingError for a
    preset without a classifier: only the picture world of "tiny" has one.
    """
    if not preset.classifier:
        raise SettingError(
            "preset={name}: it has no classifier; only the tiny preset's picture world has one", name=preset.name
        )
    import torch
    from transformers import AutoModelForImageClassification

    model = AutoModelForImageClassification.from_pretrained(local_path(preset.classifier)).float().eval()
    labels = [model.config.id2label[i].split("=", 1) for i in range(len(model.config.id2label))]
    answers: list[dict[str, str]] = []
    for start in range(0, len(images), BATCH):
        pixels = torch.stack([_pixels(image) for image in images[start : start + BATCH]])
        with torch.no_grad():
            answers += [_likeliest(labels, row.tolist()) for row in model(pixels).logits]
    return answers


def _pixels(image: Image.Image) -> torch.Tensor:
    """(3, SIDE, SIDE) in -1..1."""
    import numpy as np
    import torch

    square = np.asarray(image.convert("RGB").resize((SIDE, SIDE)), dtype=np.float32)
    return torch.from_numpy(square).permute(2, 0, 1) / 127.5 - 1


def _likeliest(labels: list[list[str]], logits: list[float]) -> dict[str, str]:
    rising = sorted(zip(logits, labels, strict=True), key=lambda pair: pair[0])
    best = dict(label for _, label in rising)  # of each attribute the last
    return {attribute: best[attribute] for attribute, _ in labels}
