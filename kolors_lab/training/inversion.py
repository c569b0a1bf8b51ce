"""Textual inversion: one new word of the text encoder's vocabulary, learned from pictures; all else stays as it is.

The new word's embedding, hidden numbers in all (4096 in Kolors, 16 kB), is trained through the frozen text encoder and
UNet to make the pictures of the set. Kolors needs text encoder and UNet on the GPU together: about 24 GB.

    kolors-lab invert --data data/figurine --trigger_word aawxbc玩偶 --word '<toy>' --initial_word 玩偶
    kolors-lab generate --word runs/word/word.safetensors --prompt '<toy>，在夜空下'

Reference: https://arxiv.org/abs/2208.01618
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from kolors_lab.core.errors import ModelError, SettingError
from kolors_lab.core.fields import Range, check_fields
from kolors_lab.core.files import write_config
from kolors_lab.dataset.sets import DataConfig, read_sets
from kolors_lab.models.device import pick_device
from kolors_lab.models.loading import load_pipeline, place
from kolors_lab.models.presets import get_preset
from kolors_lab.sampling.text import run_text_encoder
from kolors_lab.sampling.vocabulary import add_word, embedding_of, remove_words, save_word
from kolors_lab.training.checkpoint import check_free
from kolors_lab.training.latent_cache import encode
from kolors_lab.training.loss import draw_noise, loss

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from diffusers import KolorsPipeline

    from kolors_lab.training.latent_cache import Encoded


@dataclass(frozen=True)
class InversionConfig:
    """Learning one new word from pictures (textual inversion).

    Args:
        preset: tiny, kolors, or a folder that holds a KolorsPipeline
        data: the folder of pictures and captions
        out: the folder for word.safetensors and config.json
        trigger_word: what the captions call the subject now; the new word takes its place, or stands in front
        word: the new word, in pointed brackets so that it is part of no other
        initial_word: a word of one token whose embedding the new one starts from, such as the class word
        steps: training steps
        seed: equal seeds give equal words
        batch_size: pictures per step; none: the preset's
        learning_rate: of the embedding
    """

    preset: str = "tiny"
    data: str = "runs/clean"
    out: str = "runs/word"
    trigger_word: str = "aawxbc玩偶"
    word: str = "<toy>"
    initial_word: str = "玩"
    steps: Annotated[int, Range(1)] = 300
    seed: Annotated[int, Range(0, 2**63 - 1)] = 0
    batch_size: Annotated[int | None, Range(1)] = None
    learning_rate: Annotated[float, Range(1e-9)] = 5e-3

    def __post_init__(self):
        if not (self.word[:1] == "<" and self.word[-1:] == ">" and self.word[1:-1].isalnum()):
            raise SettingError(
                "word = {word!r}: must be letters or digits in pointed brackets, such as <toy>", word=self.word
            )
        if not self.initial_word.strip():
            raise SettingError("initial_word is empty: must be the word to begin from, such as the class word 玩偶")
        check_fields(self)


def invert(
    config: InversionConfig,
    pipe: KolorsPipeline | None = None,
    on_step: Callable[[int, int, float], None] | None = None,
    on_encode: Callable[[int, int], None] | None = None,
) -> Path:
    """Learn the word; return `out/word.safetensors`. A pipeline that is passed in is given back without the word.

    Raises DataError for a set that cannot be used or a folder that holds a word already.
    """
    preset, file = get_preset(config.preset), Path(config.out) / "word.safetensors"
    check_free(file.parent, file.name)
    plain = DataConfig(data=config.data).plain()  # the captions are told anew at each step
    examples, _ = read_sets(plain)
    write_config(Path(config.out) / "config.json", config)
    device = pick_device()
    pipe = pipe or load_pipeline(preset)
    pipe.remove_all_hooks()
    data = encode(pipe, examples, preset.size, device, on_encode, plain)
    for part in (pipe.text_encoder, pipe.unet):
        part.to(device)
    start = embedding_of(pipe, config.initial_word)
    vector = add_word(pipe, config.word, start)
    try:
        captions = [name_it(example.text, config) for example in examples]
        _learn(pipe, vector, captions, data, config, config.batch_size or preset.batch_size, on_step)
        return save_word(file, config.word, vector, {"base_model": preset.base_model})
    finally:
        remove_words(pipe)
        place(pipe, device)


def name_it(text: str, config: InversionConfig) -> str:
    """The caption with the new word in place of what called the subject before, or in front."""
    replaced = text.replace(config.trigger_word, config.word) if config.trigger_word else text
    return replaced if config.word in replaced else f"{config.word}，{text}"


def _learn(
    pipe: KolorsPipeline,
    vector: torch.nn.Parameter,
    captions: list[str],
    data: Encoded,
    config: InversionConfig,
    batch_size: int,
    on_step: Callable[[int, int, float], None] | None,
) -> None:
    """Move `vector` down the gradient of the UNet's loss, by Adam; nothing else learns."""
    import torch
    from diffusers import DDPMScheduler

    device, scheduler = vector.device, DDPMScheduler.from_config(pipe.scheduler.config)
    generator = torch.Generator().manual_seed(config.seed)
    optimizer = torch.optim.Adam([vector], lr=config.learning_rate)
    # in half precision the word's small gradients would round to 0 on their way through the text encoder
    scaler = torch.amp.GradScaler(device.type, enabled=pipe.unet.dtype == torch.float16)
    for step, index in enumerate(data.batches([batch_size] * config.steps, generator), 1):
        batch = data.batch(index, device)
        texts = [captions[entry] for entry in index.tolist()]
        embeds, pooled = run_text_encoder(pipe, texts)
        noise, timesteps = draw_noise(batch["latents"].shape, len(scheduler), generator, device)
        with torch.autocast(device.type, pipe.unet.dtype, enabled=pipe.unet.dtype != torch.float32):
            value = loss(pipe.unet, scheduler, {**batch, "prompt_embeds": embeds, "pooled": pooled}, noise, timesteps)
        (vector.grad,) = torch.autograd.grad(scaler.scale(value), [vector])
        scaler.step(optimizer)
        scaler.update()
        if not vector.isfinite().all():
            raise ModelError(
                "the word is not finite after step {step}: nothing saved; try a lower learning_rate", step=step
            )
        if on_step:
            on_step(step, config.steps, value.item())
