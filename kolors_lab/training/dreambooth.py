"""DreamBooth's prior preservation: pictures of the class, drawn by the base, remind it what the class word meant.

The identifier is the trigger word: captions say aawxbc玩偶，在桃花林里, the class pictures' captions the same without
it. Drawn once and kept in the user's cache. Reference: https://arxiv.org/abs/2208.12242
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kolors_lab.core.errors import DataError
from kolors_lab.core.images import open_image
from kolors_lab.dataset.captions import join, parts
from kolors_lab.dataset.folder import Example
from kolors_lab.models.identity import model_fingerprint
from kolors_lab.models.loading import place
from kolors_lab.sampling.ksampler import KSampler
from kolors_lab.sampling.loading import load_for
from kolors_lab.sampling.pipeline import generate_batch
from kolors_lab.training.cache_files import cache_file, caching

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import torch
    from diffusers import KolorsPipeline

    from kolors_lab.dataset.sets import DataConfig
    from kolors_lab.models.presets import Preset

BATCH = 8


def class_examples(
    pipe: KolorsPipeline | None,
    examples: list[Example],
    config: DataConfig,
    preset: Preset,
    device: torch.device | str = "cpu",
    on_step: Callable[[int, int], None] | None = None,
) -> list[Example]:
    """Pictures of the class, as many as config says, with its prior weight; none without a class word.

    The pipeline, without a LoRA, draws those that the cache lacks, and then lies on the CPU; None: one that is loaded
    for it where some are lacking, and freed again. `on_step(done, total)` is called after each few.
    """
    if not (config.class_word and config.prior_weight):
        return []
    captions = class_captions([example.text for example in examples], config)
    model = model_fingerprint(preset)
    drawn, total = [], config.class_pictures or len(captions)
    for seed in range(total):
        prompt = captions[seed % len(captions)]
        file = cache_file("class", prompt, seed, model, preset.size, preset.steps, preset.cfg, suffix=".png")
        drawn.append(Example(file, prompt, config.prior_weight))
    missing = [seed for seed, example in enumerate(drawn) if not _whole(example.image)]
    if missing:
        pipe = pipe or load_for(preset, [(text, "plain") for text in ("", *dict.fromkeys(captions))])
        place(pipe, device)
        for first in range(0, len(missing), BATCH):
            seeds = missing[first : first + BATCH]
            _draw(pipe, [drawn[seed] for seed in seeds], seeds, preset)
            if on_step:
                on_step(total - len(missing) + first + len(seeds), total)
        pipe.remove_all_hooks()
        pipe.to("cpu")
    return drawn


def class_captions(texts: list[str], config: DataConfig) -> list[str]:
    """The subject's captions without its identifier. DataError if none holds it."""
    told = [text for text in texts if config.trigger_word in text]
    if not told:
        raise DataError(
            "no caption holds the trigger word {word}, so there is no class to preserve", word=config.trigger_word
        )
    # a caption that names the subject by its identifier alone gets the class word in its place
    plain = [text.replace(config.trigger_word, "" if config.class_word in text else config.class_word) for text in told]
    return [join(parts(text), text) for text in plain]


def _draw(pipe: KolorsPipeline, examples: list[Example], seeds: list[int], preset: Preset) -> None:
    settings, texts = [KSampler(seed=seed).resolve(preset) for seed in seeds], [example.text for example in examples]
    # plain: brackets in a caption are no weights
    images = generate_batch(pipe, texts, [""] * len(texts), settings, prompt_syntax="plain")
    for example, image in zip(examples, images, strict=True):
        with caching(example.image) as temporary:
            image.save(temporary, format="PNG")


def _whole(file: Path) -> bool:
    try:
        return bool(open_image(file))
    except DataError:
        return False
