"""Loading a KolorsPipeline where it fits."""

from __future__ import annotations

import contextlib
import warnings
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kolors_lab.core.errors import ModelError, SettingError, lacks_memory
from kolors_lab.models.device import pick_device
from kolors_lab.models.memory import free_on, plan, weights_variant, working_memory
from kolors_lab.models.presets import Preset, local_path, pipeline_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch
    from diffusers import KolorsPipeline, UNet2DConditionModel


PARTS = ("text_encoder", "unet", "vae")


def load_pipeline(
    preset: Preset,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    text_encoder_bits: int | None = None,
) -> KolorsPipeline:
    """Load the preset's pipeline whole and place it on `device` (None: the best one), offloading parts that do not fit.

    `dtype` None: what main memory has room for, see memory.plan. `text_encoder_bits`, 4 or 8, keeps the text encoder's
    linear layers in so many bits. Raises FetchError where the weights are not on this machine, ModelError where they do
    not fit into main memory together, or cannot be read or quantized.
    """
    import torch

    need_quantization("text_encoder_bits", text_encoder_bits)
    device = torch.device(device) if device else pick_device()
    if dtype is None:
        way = plan(preset, device, together=True)
        dtype, text_encoder_bits = way.dtype, text_encoder_bits or way.bits
    pipe = load_parts(preset, PARTS, dtype, text_encoder_bits)
    place(pipe, device)
    return pipe


def load_parts(
    preset: Preset, parts: Sequence[str], dtype: torch.dtype, text_encoder_bits: int | None = None
) -> KolorsPipeline:
    """A pipeline in main memory with some of PARTS, its tokenizer and scheduler; the other parts are None.

    Raises FetchError where the weights are not on this machine, ModelError where they cannot be read or quantized.
    """
    from safetensors import SafetensorError

    from kolors_lab.models.padding import read_padding_once

    folder = pipeline_path(preset)
    vae = local_path(preset.vae) if preset.vae and "vae" in parts else None
    absent = {part: None for part in PARTS if part not in parts}
    try:
        with quietly():
            pipe = _from_pretrained(folder, vae, dtype, text_encoder_bits, absent)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        if lacks_memory(str(error)):  # somebody took it after the plan; the files are whole
            raise MemoryError(str(error)) from error
        raise ModelError(
            "the pipeline in {folder} cannot be loaded ({error}); fetch it again", folder=folder, error=error
        ) from error
    for part in _parts(pipe):
        part.requires_grad_(False)  # only a LoRA is trained; CPU kernels round otherwise where gradients are asked for
    if pipe.unet is not None:
        read_padding_once(pipe.unet)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def add_parts(
    pipe: KolorsPipeline,
    preset: Preset,
    parts: Sequence[str],
    dtype: torch.dtype,
    text_encoder_bits: int | None = None,
) -> None:
    """Load further parts of the preset into a pipeline that lacks them. Raises as `load_parts`."""
    more = load_parts(preset, parts, dtype, text_encoder_bits)
    pipe.register_modules(**{part: getattr(more, part) for part in parts})


@contextlib.contextmanager
def having(
    pipe: KolorsPipeline, preset: Preset, part: str, dtype: torch.dtype, text_encoder_bits: int | None = None
) -> Iterator[None]:
    """With that part of PARTS in the pipeline: loaded for the while and freed again, unless the pipeline has it.

    Raises as `load_parts`.
    """
    if getattr(pipe, part) is not None:
        yield
        return
    add_parts(pipe, preset, [part], dtype, text_encoder_bits)
    try:
        yield
    finally:
        pipe.register_modules(**{part: None})


def _from_pretrained(
    folder: Path, vae: Path | None, dtype: torch.dtype, text_encoder_bits: int | None, absent: dict[str, None]
) -> Any:
    from diffusers import AutoencoderKL, KolorsPipeline
    from diffusers.pipelines.kolors import ChatGLMModel

    # transformers 5 would otherwise keep whatever type the files hold; use_safetensors: no pickle is ever opened
    options = {"torch_dtype": dtype, "use_safetensors": True, "local_files_only": True}
    parts = {**absent, **({"vae": AutoencoderKL.from_pretrained(vae, **options)} if vae else {})}
    options["variant"] = weights_variant(folder)
    if text_encoder_bits and "text_encoder" not in absent:
        few = quantization(text_encoder_bits, dtype, "transformers")
        few_options = options | {"variant": weights_variant(folder, "text_encoder"), "quantization_config": few}
        parts["text_encoder"] = ChatGLMModel.from_pretrained(folder, subfolder="text_encoder", **few_options)
    return KolorsPipeline.from_pretrained(folder, **options, **parts)


def check_bits(field: str, bits: int | None) -> None:
    """Raise SettingError unless weights can be kept in so many bits."""
    if bits not in (None, 4, 8):
        raise SettingError("{field} = {bits!r}: must be 4, 8 or none", field=field, bits=bits)


def need_quantization(field: str, bits: int | None) -> None:
    """Raise ModelError where weights are to be kept in 4 or 8 bits and what that needs is missing: CUDA and the package
    bitsandbytes, or, for a text encoder in 8 bit on a CPU, the package torchao."""
    from importlib.util import find_spec

    cuda = pick_device().type == "cuda"
    if bits and not cuda and (bits, field) != (8, "text_encoder_bits"):
        raise ModelError("{field} = {bits}: needs a CUDA GPU; there is none here that works", field=field, bits=bits)
    package = "bitsandbytes" if cuda else "torchao"
    if bits and find_spec(package) is None:
        raise ModelError(
            "{field} = {bits}: needs the package {package}; install it: pip install {package}",
            field=field,
            bits=bits,
            package=package,
        )


def quantization(bits: int, dtype: torch.dtype, package: str) -> Any:
    """What `package`, diffusers or transformers, takes to load linear layers in 4 or 8 bits that compute in `dtype`."""
    if pick_device().type != "cuda":
        from torchao.quantization import Int8WeightOnlyConfig
        from transformers import TorchAoConfig

        return TorchAoConfig(Int8WeightOnlyConfig())
    config = import_module(package).BitsAndBytesConfig
    if bits == 4:
        return config(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)
    return config(load_in_8bit=True)


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Without the libraries' notes and bars on loading, which are not for the learner."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    diffusers_logging.disable_progress_bar()
    # one of the two supported lines calls torch_dtype deprecated; not catch_warnings, which is not safe in threads
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers|diffusers")
    yield


def _parts(pipe: KolorsPipeline) -> list[torch.nn.Module]:
    return [part for part in (pipe.text_encoder, pipe.unet, pipe.vae) if part is not None]


def place(pipe: KolorsPipeline, device: torch.device | str) -> None:
    """Put the pipeline on `device` for sampling: whole if it fits, else each part only while it works."""
    import torch

    device = torch.device(device)
    pipe.remove_all_hooks()
    size = sum(parameter.nbytes for part in _parts(pipe) for parameter in part.parameters())
    needed = size + working_memory(pipe.unet.config.sample_size * 8)
    if device.type == "cuda" and needed > free_on(device):
        pipe.to("cpu")
        pipe.enable_model_cpu_offload(device=device)
        pipe.vae.enable_slicing()  # batches picture by picture, and what is larger than the VAE was made for in tiles
        pipe.vae.enable_tiling()
    else:
        pipe.to(device)


def load_quantized_unet(preset: Preset, bits: int, dtype: torch.dtype) -> UNet2DConditionModel:
    """The preset's UNet on the GPU, its linear layers in 4 or 8 bits, computing in `dtype`."""
    from diffusers import UNet2DConditionModel

    config, folder = quantization(bits, dtype, "diffusers"), pipeline_path(preset)
    options = {"subfolder": "unet", "variant": weights_variant(folder, "unet"), "use_safetensors": True}
    return UNet2DConditionModel.from_pretrained(folder, quantization_config=config, torch_dtype=dtype, **options)
