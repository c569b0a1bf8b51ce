"""What Training asks of a model that learns, where that is more than a UNet with a LoRA on it."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kolors_lab.core.files import writing

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from diffusers import UNet2DConditionModel


class Learner:
    """A UNet and what learns with it, called like the UNet."""

    def __init__(self, unet: UNet2DConditionModel):
        self.unet, self.conv_in = unet, unet.conv_in

    def parts(self) -> list[torch.nn.Module]:
        """The modules that go where the learner goes, those that learn at the end."""
        return [self.unet]

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        return (parameter for part in self.parts() for parameter in part.parameters())

    def to(self, device: torch.device | str) -> Learner:
        for part in self.parts():
            part.to(device)
        return self

    def train(self) -> Learner:
        self.parts()[-1].train()
        return self

    def eval(self) -> Learner:
        for part in self.parts():
            part.eval()
        return self

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self.unet(*args, **options)


def save_folder(model: Any, folder: Path) -> Path:
    """Write a model of diffusers as a folder, whole or not at all, in place of one that is there. DataError."""
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with writing(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            model.save_pretrained(temporary)
            if folder.exists():
                shutil.rmtree(folder)
            temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder
