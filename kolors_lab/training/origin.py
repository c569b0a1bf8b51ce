"""What a LoRA file says of its training: settings, base model, and a mark by which the training is known again."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from kolors_lab.dataset.sets import read_sets
from kolors_lab.lora.reading import read_lora
from kolors_lab.models.identity import model_fingerprint
from kolors_lab.training.config import PLACES, identity, settle

if TYPE_CHECKING:
    from kolors_lab.dataset.folder import Example
    from kolors_lab.models.presets import Preset
    from kolors_lab.training.config import TrainConfig


def is_trained(config: TrainConfig) -> bool:
    """Whether `out` holds the LoRA that `train(config)` would make: of these settings, pictures and this base model.

    For a run that was cut off between the training's end and its own note of it.
    """
    file, (preset, config) = Path(config.out) / "lora.safetensors", settle(config)
    if not file.exists():
        return False
    examples, _ = read_sets(config)
    return read_lora(file).header.get("training") == _mark(config, preset, examples)


def _mark(config: TrainConfig, preset: Preset, examples: list[Example]) -> str:
    """16 hex digits that say what a LoRA was trained from."""
    made_of = {**identity(config, examples), "preset": preset.name, "model": model_fingerprint(preset)}
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:16]


def make_header(config: TrainConfig, preset: Preset, examples: list[Example]) -> dict[str, str]:
    """What the LoRA file says about itself. Paths stay out: the file is made to be shared."""
    settings = {key: value for key, value in asdict(config).items() if key not in ("preset", *PLACES)}
    used = any(config.trigger_word in example.text for example in examples)
    return {
        "base_model": preset.base_model,
        "trigger_word": config.trigger_word if used else "",
        "examples": str(len(examples)),
        "training": _mark(config, preset, examples),
        "settings": json.dumps(settings, ensure_ascii=False, sort_keys=True),
    }
