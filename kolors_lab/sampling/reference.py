"""A reference picture beside the prompt, by an IP-Adapter: "a girl like this one".

    with reference(pipe, "Kwai-Kolors/Kolors-IP-Adapter-Plus", picture, 0.6) as like:
        image = generate(pipe, "白马", reference=like)

Loading is diffusers' own; it moves Kolors' text projection to `unet.text_encoder_hid_proj` for as long as the adapter
is on. Reference: https://arxiv.org/abs/2308.06721
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kolors_lab.core.errors import ModelError, check_number
from kolors_lab.core.images import open_image
from kolors_lab.models.device import device_of
from kolors_lab.models.loading import quietly
from kolors_lab.models.presets import local_path

if TYPE_CHECKING:
    import torch
    from diffusers import KolorsPipeline
    from PIL import Image

    from kolors_lab.sampling.denoiser import Guided

WEIGHTS = "ip_adapter_plus_general.safetensors"  # Kolors' own


@dataclass(frozen=True)
class Reference:
    """What an adapter on the pipeline sees in a picture: for each adapter (2, 1, tokens, width), nothing and it."""

    seen: tuple[torch.Tensor, ...]

    def beside(self, denoiser: Guided) -> Any:
        """The denoiser's UNet with the picture among its conditions; of guidance's two halves one is shown nothing."""
        inner, dtype = denoiser.unet, denoiser.dtype
        halves = [seen if denoiser.guided else seen[1:] for seen in self.seen]

        def unet(sample: torch.Tensor, *args: Any, added_cond_kwargs: dict, **options: Any) -> Any:
            each = [half.repeat_interleave(len(sample) // len(half), 0) for half in halves]
            image_embeds = [row.to(sample.device, dtype) for row in each]
            return inner(sample, *args, added_cond_kwargs=added_cond_kwargs | {"image_embeds": image_embeds}, **options)

        return unet


@contextlib.contextmanager
def reference(
    pipe: KolorsPipeline,
    folder: str | Path,
    image: Image.Image | str | Path,
    strength: float = 0.6,
    weight_name: str = WEIGHTS,
) -> Iterator[Reference]:
    """Put an IP-Adapter, folder or downloaded id, on the pipeline for as long as the block lasts.

    Raises SettingError for a strength outside 0..2, FetchError where it is not on this machine, ModelError for one that
    was made for another model.
    """
    check_number("strength", strength, 0, 2)
    picture = image if hasattr(image, "convert") else open_image(image)
    path, before = local_path(str(folder)), dict(pipe.unet.attn_processors)
    try:
        with quietly():
            pipe.load_ip_adapter(str(path), subfolder="", weight_name=weight_name, local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError, AttributeError) as error:
        _unload(pipe, before)
        raise ModelError(
            "the IP-Adapter in {folder} cannot be put on this model ({error})", folder=folder, error=error
        ) from error
    try:
        pipe.set_ip_adapter_scale(strength)
        device = device_of(pipe)
        if pipe.image_encoder is None:
            raise ModelError("the IP-Adapter in {folder} has no image_encoder folder beside its weights", folder=folder)
        pipe.image_encoder.to(device)
        seen = pipe.prepare_ip_adapter_image_embeds([picture.convert("RGB")], None, device, 1, True)
        yield Reference(tuple(seen))
    finally:
        _unload(pipe, before)


def _unload(pipe: KolorsPipeline, before: dict[str, Any]) -> None:
    """Take the adapter off, also one that was put on by half: the text projection goes back to its place, and attention
    is worked out as `before`."""
    if getattr(pipe.unet, "text_encoder_hid_proj", None) is not None:
        pipe.unload_ip_adapter()
        pipe.unet.set_attn_processor(before)
        del pipe.unet.text_encoder_hid_proj  # left there as None it would keep the next adapter from being put on
