"""Loading a pipeline for prompts that are known: the text encoder may go before the rest comes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kolors_lab.models.device import pick_device
from kolors_lab.models.loading import add_parts, load_parts, load_pipeline, need_quantization, place
from kolors_lab.models.memory import gpu_plan_here, plan
from kolors_lab.sampling.text import encode_then_free

if TYPE_CHECKING:
    from collections.abc import Iterable

    from diffusers import KolorsPipeline

    from kolors_lab.models.presets import Preset


def load_for(
    preset: Preset, texts: Iterable[tuple[str, str]], text_encoder_bits: int | None = None, word: str | None = None
) -> KolorsPipeline:
    """The preset's pipeline for drawing these (prompt, syntax) and no others.

    The prompts are encoded first and the text encoder goes before the rest comes, so that the most that is held is the
    larger of the two; a learned word keeps it, being put into it later. Raises FetchError, ModelError.
    """
    device = pick_device()
    need_quantization("text_encoder_bits", text_encoder_bits)
    if word or (text_encoder_bits and device.type == "cuda"):
        return load_pipeline(preset, device, text_encoder_bits=text_encoder_bits)
    way, lies = plan(preset, device), gpu_plan_here(preset, device)
    pipe = load_parts(preset, ("text_encoder",), way.dtype, text_encoder_bits or way.bits)
    if lies in ("whole", "parts"):  # the encoder alone has room there
        pipe.to(device)
    encode_then_free(pipe, texts)
    add_parts(pipe, preset, ("unet", "vae"), way.dtype)
    if way.tiled:
        pipe.vae.enable_slicing()
        pipe.vae.enable_tiling()
    place(pipe, device)
    return pipe
