"""What lies in main memory at which stage of a training: its plan, made from the headers of the weights.

    text encoder → all captions → gone; VAE → all latents → gone; UNet → the training

so that the most that is held is the largest part, not the sum of them.
"""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from math import prod
from typing import TYPE_CHECKING

from kolors_lab.core.files import parse_json
from kolors_lab.core.language import _
from kolors_lab.lora.adapter import expand_targets
from kolors_lab.models.device import pick_dtype
from kolors_lab.models.loading import add_parts, load_quantized_unet
from kolors_lab.models.memory import (
    Plan,
    first_that_fits,
    free_memory,
    free_on,
    largest_part,
    parameter_count,
    tensor_shapes,
    working_memory,
)
from kolors_lab.models.presets import GIB, pipeline_path
from kolors_lab.training.config import CHECKPOINTING, PRECISIONS
from kolors_lab.training.optim import batch_sizes

if TYPE_CHECKING:
    import torch
    from diffusers import KolorsPipeline

    from kolors_lab.models.presets import Preset
    from kolors_lab.training.config import TrainConfig

# GiB that autograd keeps for one picture of 1024 px in 16 bit; counted over Kolors' UNet with rank 16 on attention
ACTIVATIONS = {"none": 5.3, "partial": 1.9, "full": 0.5}
ON_CPU, WORK = 1.7, 2.4  # a CPU keeps so many times as much, and works in so many GiB (benchmarks/README: full_size)
MARGIN = 1.5  # times what is counted must be free before memory is spent on time
FIRST_HALF = ("conv_in", "time_", "add_", "encoder_hid", "down_blocks", "mid_block")  # what a ControlNet copies


def plan_training(
    preset: Preset,
    config: TrainConfig,
    device: torch.device,
    dtype: torch.dtype | None = None,
    processes: int = 1,
) -> Plan:
    """The first way to train that fits into the main memory that is free, one stage after the other.

    Its number type is the config's precision, or `dtype`, that of a training that goes on; without both on a CPU
    float32 where it fits, else bfloat16, on a GPU its own 16 bit type. Last, on a CPU, the text encoder in 8 bit.
    `processes` train on this machine at once. `config` is resolved. Raises ModelError where nothing fits: needs, has,
    and what would; FetchError if the model is not here.
    """
    import torch

    dtype = getattr(torch, PRECISIONS[config.precision] or "", dtype)
    types = [dtype] if dtype else [torch.float32, torch.bfloat16] if device.type == "cpu" else [pick_dtype(device)]
    ways = [(dtype, None) for dtype in types]
    ways += [(types[-1], 8)] if device.type == "cpu" and find_spec("torchao") else []
    mapped = largest_part(pipeline_path(preset))
    plans = [Plan(*way, True, stages(preset, config, device, *way, processes), mapped) for way in ways]
    what = _("training {model} at {size} px").format(model=preset.model, size=preset.size)
    return first_that_fits(plans, what, lambda way, free: _way_out(preset, config, way, free))


def stages(
    preset: Preset, config: TrainConfig, device: torch.device, dtype: torch.dtype, bits: int | None, processes: int
) -> dict[str, int]:
    """Bytes of main memory at each stage; a part goes through it on its way to a GPU."""
    folder, cpu = pipeline_path(preset), device.type == "cpu"
    encoder = parameter_count(folder, "text_encoder") * (bits / 8 if bits else dtype.itemsize)
    vae = parameter_count(folder, "vae")
    training = needs(preset, config, device, dtype)
    there = sum(training.values()) if cpu else training["UNet"]
    if config.sample_every:
        there += dtype.itemsize * vae + (working_memory(preset.size) * dtype.itemsize // 2 if cpu else 0)
    latents = 4 * vae + (working_memory(preset.size) if cpu else 0)  # the VAE encodes in float32
    return {"captions": int(encoder), "latents": latents, "training": processes * there}


def needs(preset: Preset, config: TrainConfig, device: torch.device, dtype: torch.dtype) -> dict[str, int]:
    """Bytes that the training itself takes, where it computes: the frozen UNet, what learns, a batch of pictures."""
    folder = pipeline_path(preset)
    shapes = {name.removeprefix("unet/"): shape for name, shape in tensor_shapes(folder, "unet").items()}
    width = parse_json((folder / "unet/config.json").read_text(encoding="utf-8"))["block_out_channels"][0]
    base = sum(map(prod, shapes.values()))
    size = base * config.base_bits // 8 if config.base_bits else base * dtype.itemsize
    copies = 5 if config.ema_decay is not None else 4  # float32: weights, gradients, two moments of AdamW, the average
    kept = ACTIVATIONS[config.gradient_checkpointing or "full"]  # unset, the least that it can do with
    kept = ON_CPU * kept + WORK if device.type == "cpu" else kept
    pictures = max(batch_sizes(config)) * kept * (preset.size / 1024) ** 2
    return {
        "UNet": size,
        "what learns, and its optimizer": 4 * copies * learned(shapes, config),
        "pictures": int(GIB * pictures * width / 320 * dtype.itemsize / 2),
    }


def learned(shapes: dict[str, tuple[int, ...]], config: TrainConfig) -> int:
    """How many numbers learn: those of the LoRA, of the ControlNet, of the whole UNet; 0 for a method of one's own, of
    which nothing is known."""
    if config.method == "full":
        return sum(map(prod, shapes.values()))
    if config.method == "controlnet":
        return sum(prod(shape) for name, shape in shapes.items() if name.startswith(FIRST_HALF))
    ends = tuple(f".{end}.weight" for end in expand_targets(config.target_modules or ()))
    layers = [shape for name, shape in shapes.items() if f".{name}".endswith(ends) and len(shape) > 1]
    return sum(config.rank * (shape[0] + prod(shape[1:])) for shape in layers)


def _way_out(preset: Preset, config: TrainConfig, least: Plan, free: int) -> str:
    """A smaller size, or 16 bit, that would fit, if there is one."""
    import torch

    cpu = torch.device("cpu")
    if least.dtype == torch.float32 and _fits(stages(preset, config, cpu, torch.bfloat16, least.bits, 1), free):
        return _("16 bit would fit (--precision bf16)")
    for size in (size for size in (768, 512, 256) if size < preset.size):
        if _fits(stages(replace(preset, size=size), config, cpu, least.dtype, least.bits, 1), free):
            return _("{size} px would fit (--size {size})").format(size=size)
    return ""


def _fits(stages: dict[str, int], free: int) -> bool:
    return Plan(None, None, True, stages).peak <= free


def with_checkpointing(
    preset: Preset, config: TrainConfig, dtype: torch.dtype, device: torch.device, processes: int = 1
) -> TrainConfig:
    """The config with the gradient checkpointing that it asks for, else the least that has room where it computes:
    working a block out twice takes a third of a step. `processes` train on this machine at once."""
    if config.gradient_checkpointing:
        return config
    free = free_on(device) if device.type == "cuda" else free_memory() // processes
    ways = [replace(config, gradient_checkpointing=mode) for mode in CHECKPOINTING]
    return next((way for way in ways if MARGIN * sum(needs(preset, way, device, dtype).values()) <= free), ways[-1])


def gpu_line(preset: Preset, config: TrainConfig, dtype: torch.dtype, device: torch.device) -> str:
    """One line: about how many GiB the training takes where it computes; on a GPU, what is free there."""
    unet, learning, pictures = (size / GIB for size in needs(preset, config, device, dtype).values())
    total = unet + learning + pictures
    line = _(
        "memory: about {total:.2g} GiB at {batch} x {size} px: UNet {unet:.2g}, what learns, and its optimizer "
        "{learning:.2g}, pictures {pictures:.2g} (gradient checkpointing: {mode})"
    ).format(
        total=total, batch=max(batch_sizes(config)), size=preset.size, unet=unet, learning=learning, pictures=pictures,
        mode=config.gradient_checkpointing,
    )  # fmt: skip
    if device.type != "cuda":
        return line
    free = free_on(device) / GIB
    told = _("{line}; {free:.1f} GiB are free on the GPU")
    if total > free:
        told = _(
            "{line}; {free:.1f} GiB are free on the GPU; may not fit: try gradient_checkpointing full, a smaller size "
            "or batch_size, or base_bits 4"
        )
    return told.format(line=line, free=free)


def add_what_trains(pipe: KolorsPipeline, preset: Preset, config: TrainConfig, dtype: torch.dtype) -> None:
    """Load the UNet, in few bits where the config says so, and the VAE where pictures are drawn on the way."""
    parts = ["vae"] if config.sample_every else []
    if config.base_bits:
        pipe.register_modules(unet=load_quantized_unet(preset, config.base_bits, dtype))
    else:
        parts.append("unet")
    if parts:
        add_parts(pipe, preset, parts, dtype)
