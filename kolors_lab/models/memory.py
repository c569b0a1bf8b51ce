"""What lies in memory when: a plan before a byte is loaded, and the ways to take less.

A pipeline is used in stages, text encoder first, UNet and VAE after, which need not lie in memory together. `plan`
reads the weights' headers, asks what is free (containers' limits included) and takes the first way that fits.
"""

from __future__ import annotations

import contextlib
import ctypes
from dataclasses import dataclass
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from kolors_lab.core.errors import ModelError
from kolors_lab.core.language import _
from kolors_lab.core.threads import CGROUPS, control_groups
from kolors_lab.models.device import pick_dtype
from kolors_lab.models.presets import GIB, pipeline_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import torch
    from diffusers import UNet2DConditionModel

    from kolors_lab.models.presets import Preset

LIBRARIES = GIB  # torch, diffusers and transformers, loaded and at work


def set_checkpointing(unet: UNet2DConditionModel, mode: str | None) -> None:
    """Gradient checkpointing: none; partial, the deepest blocks, which hold two thirds of memory and work; full."""
    unet.disable_gradient_checkpointing()
    if mode in ("partial", "full"):
        unet.enable_gradient_checkpointing()
    if mode == "partial":
        for block in (*unet.down_blocks[:-1], *unet.up_blocks[1:]):
            for module in block.modules():
                if hasattr(module, "gradient_checkpointing"):
                    module.gradient_checkpointing = False


def memory_used(device: torch.device) -> float:
    """GiB: on a GPU the most that was held so far, else what the process holds now."""
    import psutil
    import torch

    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / GIB
    return psutil.Process().memory_info().rss / GIB


# What there is --------------------------------------------------------------------------------------------------------


def free_memory(mapped: int = 0) -> int:
    """Bytes of main memory that this process may still take: what the system calls available, within the limits of
    its container (cgroup v1 and v2) and of its own address space (ulimit -v), where `mapped` bytes of files lie too."""
    import psutil

    _give_back()
    rooms = [room - mapped for room in _own_room()]
    return max(0, min(psutil.virtual_memory().available, *_container_room(), *rooms))


def _give_back() -> None:
    """Have the C library give back what was freed: glibc keeps blocks of up to 32 MiB, most of a UNet's weights, for
    later use, and with them in its hands a text encoder that would have fitted does not."""
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def _container_room(root: Path = CGROUPS) -> list[int]:
    """Limit less use of every memory controller above this process that sets one; file pages count as free."""
    rooms = []
    for folder in control_groups(root, "memory"):
        for limit, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            with contextlib.suppress(OSError, ValueError):  # "max" is no number: no limit
                room = int((folder / limit).read_text()) - int((folder / used).read_text())
                rooms.append(room + _reclaimable(folder / "memory.stat"))
    return rooms


def _reclaimable(stat: Path) -> int:
    """Bytes of files that the system holds in memory and drops when asked: safetensors files are mapped."""
    rows = dict(line.split() for line in stat.read_text().splitlines())
    return int(rows.get("inactive_file", 0)) + int(rows.get("active_file", 0))


def _own_room() -> list[int]:
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return []
    import psutil

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return [] if limit == resource.RLIM_INFINITY else [limit - psutil.Process().memory_info().vms]


# What is needed -------------------------------------------------------------------------------------------------------


def weights_variant(folder: Path, part: str = "*") -> str | None:
    """`fp16` where parts of a pipeline folder lie there under that name only, as Kolors-diffusers' do, and this one has
    it; Kolors-Inpainting's UNet does not, even beside those."""
    parts: dict[str, list[bool]] = {}
    for file in folder.glob("*/*.safetensors"):
        parts.setdefault(file.parent.name, []).append(".fp16" in file.name)
    here = any(any(half) for name, half in parts.items() if part in ("*", name))
    return "fp16" if here and any(all(half) for half in parts.values()) else None


def weight_files(folder: Path, part: str = "*") -> list[Path]:
    """The safetensors files of a pipeline folder, or of one part, that are loaded: no second copy in another type."""
    return [
        file
        for file in sorted(folder.glob(f"{part}/*.safetensors"))
        if (".fp16" in file.name) == (weights_variant(folder, file.parent.name) is not None)
    ]


def tensor_shapes(folder: Path, part: str = "*") -> dict[str, tuple[int, ...]]:
    """Shape of every tensor in the safetensors files of a pipeline folder, or of one part, from their headers, by
    `part/name`. Raises ModelError for a damaged file."""
    from safetensors import SafetensorError, safe_open

    shapes = {}
    for file in weight_files(folder, part):
        try:
            with safe_open(file, framework="pt") as tensors:
                for key in tensors.keys():  # noqa: SIM118
                    shapes[f"{file.parent.name}/{key}"] = tuple(tensors.get_slice(key).get_shape())
        except (SafetensorError, OSError) as error:
            raise ModelError("{file} cannot be loaded ({error}); fetch it again", file=file, error=error) from error
    return shapes


def parameter_count(folder: Path, part: str = "*") -> int:
    """How many parameters a pipeline folder, or one part of it, holds. Raises ModelError for a damaged file."""
    return sum(map(prod, tensor_shapes(folder, part).values()))


def largest_part(folder: Path) -> int:
    """Bytes of the files of the part that has most; the parts are read one after the other."""
    parts = {file.parent.name for file in weight_files(folder)}
    return max((sum(file.stat().st_size for file in weight_files(folder, part)) for part in parts), default=0)


def working_memory(size: int) -> int:
    """Bytes that sampling or the VAE takes beside the weights: about 4 GiB at 1024 px, most of it the VAE's."""
    return int(4 * GIB * (size / 1024) ** 2)


@dataclass(frozen=True)
class Plan:
    """How a pipeline comes into main memory: its number type, the bits of the text encoder's weights (None: as all
    else), whether the text encoder goes before the rest comes, and what each stage takes, in bytes. `mapped`: bytes of
    files that are open while they are read; they count where the address space is limited. `tiled`: whether the VAE
    works picture by picture and in tiles."""

    dtype: torch.dtype
    bits: int | None
    in_turn: bool
    stages: dict[str, int]
    mapped: int = 0
    tiled: bool = False

    @property
    def peak(self) -> int:
        """The most bytes that are held at a time, libraries included."""
        return LIBRARIES + (max(self.stages.values()) if self.in_turn else sum(self.stages.values()))

    def __str__(self) -> str:
        kind = str(self.dtype).removeprefix("torch.")
        if self.bits:
            kind += _(", text encoder in {bits} bit").format(bits=self.bits)
        parts = ", ".join(f"{name} {size / GIB:.1f} GiB" for name, size in self.stages.items())
        order = _("one after the other") if self.in_turn else _("together")
        return f"{kind}: {parts}" + (f", {order}" if len(self.stages) > 1 else "")


def plan(preset: Preset, device: torch.device, size: int | None = None, together: bool = False) -> Plan:
    """The first way to draw pictures of `size` px (None: the preset's) that fits into the main memory that is free.

    The text encoder goes before the rest comes, unless all must lie `together`. On a CPU float32 where it fits, else
    bfloat16, on a GPU its own 16 bit type; decoding in tiles where it fits no other way; last the text encoder in 8
    bit. Raises ModelError where nothing fits: needs, has, and a size that would; FetchError if the model is not here.
    """
    import torch

    size = size or preset.size
    counts = {part: parameter_count(pipeline_path(preset), part) for part in ("text_encoder", "unet", "vae")}
    types = [torch.float32, torch.bfloat16] if device.type == "cpu" else [pick_dtype(device)]
    ways, mapped = [], largest_part(pipeline_path(preset))
    for dtype, bits, tiled in (
        *((dtype, None, tiled) for dtype in types for tiled in ((False,) if together else (False, True))),
        *([(types[-1], 8, not together)] if device.type == "cpu" and find_spec("torchao") else []),
    ):
        working = working_memory(size) * dtype.itemsize // (4 if tiled else 2) if device.type == "cpu" else 0
        pictures = (counts["unet"] + counts["vae"]) * dtype.itemsize + working
        encoder = int(counts["text_encoder"] * (bits / 8 if bits else dtype.itemsize))
        ways.append(Plan(dtype, bits, not together, {"text": encoder, "pictures": pictures}, mapped, tiled))
    what = _("{model} at {size} px").format(model=preset.model, size=size)
    return first_that_fits(ways, what, lambda way, free: _way_out(way, size, free))


def first_that_fits(ways: Iterable[Plan], what: str, way_out: Callable[[Plan, int], str]) -> Plan:
    """The first of the ways that free memory holds. ModelError where none does: what the last one needs, what is free,
    and what `way_out(way, free bytes)` says would fit."""
    for way in ways:
        free = free_memory(way.mapped)
        if way.peak <= free:
            return way
    raise ModelError(
        "{what} needs {need:.1f} GiB of main memory at the least, {free:.1f} GiB are free: {way}",
        what=what,
        need=way.peak / GIB,
        free=free / GIB,
        way=way_out(way, free) or _("close other programs, or take a machine or container with more"),
    )


def _way_out(least: Plan, size: int, free: int) -> str:
    """A smaller size that would fit, if there is one."""
    working = working_memory(size) * least.dtype.itemsize // 4
    for smaller in (768, 512, 256):
        spared = working - working * smaller**2 // size**2
        stages = least.stages | {"pictures": least.stages["pictures"] - spared}
        if smaller < size and LIBRARIES + max(stages.values()) <= free:
            return _("{size} px would fit (--width {size} --height {size})").format(size=smaller)
    return ""


# What a GPU holds -----------------------------------------------------------------------------------------------------


def free_on(gpu: torch.device) -> int:
    """Bytes that are free on the GPU, what torch keeps in reserve among them."""
    import torch

    torch.cuda.empty_cache()
    return torch.cuda.mem_get_info(gpu)[0]


def fitting_device(module: torch.nn.Module, device: torch.device | str) -> torch.device:
    """The device, or the CPU where it is a GPU without room for the module and a quarter of a GiB to work in."""
    import torch

    device = torch.device(device)
    weights = sum(parameter.nbytes for parameter in module.parameters())
    return torch.device("cpu") if device.type == "cuda" and weights + GIB // 4 > free_on(device) else device


def _told(plan: str) -> str:
    """What gpu_plan's answer means: how a pipeline lies on a GPU."""
    return {
        "whole": _("all of it stays on the GPU"),
        "parts": _("each part goes to the GPU only while it works"),
        "encode": _("prompts are encoded in main memory, then the text encoder goes (or take text_encoder_bits 4)"),
        "turns": _(
            "prompts are encoded in main memory, UNet and VAE then take turns: tight, so draw smaller where it fails"
        ),
        "none": _("too small for pictures of this size: draw smaller ones"),
    }[plan]


def gpu_plan(encoder: int, rest: int, size: int, free: int) -> str:
    """whole, parts, encode, turns or none, at `size` px with `free` bytes free; encoder and rest in bytes."""
    working, room = working_memory(size), int(GIB / 4 * (size / 1024) ** 2)
    if encoder + rest + working <= free:
        return "whole"
    if rest + working <= free:
        return "parts" if encoder + room <= free else "encode"
    return "turns" if rest + 4 * room <= free else "none"


def gpu_plan_here(preset: Preset, device: torch.device, dtype: torch.dtype | None = None) -> str:
    """`gpu_plan` by what is free on the device now; main memory takes all. FetchError if the model is not here."""
    if device.type != "cuda":
        return "whole"
    encoder, rest = _weights(preset, (dtype or pick_dtype(device)).itemsize)
    return gpu_plan(encoder, rest, preset.size, free_on(device))


def _weights(preset: Preset, itemsize: int) -> tuple[int, int]:
    """Bytes of the text encoder, and of all else. FetchError if the model is not on this machine."""
    folder = pipeline_path(preset)
    encoder = itemsize * parameter_count(folder, "text_encoder")
    return encoder, itemsize * parameter_count(folder) - encoder


def memory_plan(preset: Preset, device: torch.device | str) -> str:
    """One line that says how the preset's pipeline will lie in memory when it draws.

    Raises ModelError where it does not fit, FetchError if it is not on this machine.
    """
    import torch

    device = torch.device(device)
    told = _("{plan}, of {free:.1f} GiB free in main memory")
    main = told.format(plan=plan(preset, device), free=free_memory() / GIB)
    if device.type != "cuda":
        return main
    there = _("{free:.1f} GiB are free on the GPU: {plan}")
    held = torch.cuda.mem_get_info(device)[0] / GIB
    return f"{main}; {there.format(free=held, plan=_told(gpu_plan_here(preset, device)))}"


def gpu_plans(preset: Preset) -> str:
    """The plan for the preset, in 16 bit, on GPUs of 24, 15 (a T4) and 8 GB. FetchError if it is not here."""
    encoder, rest = _weights(preset, 2)
    free = {size: int(0.95 * size * GIB) for size in (24, 15, 8)}  # the driver keeps some
    return "; ".join(f"{size} GB: {_told(gpu_plan(encoder, rest, preset.size, room))}" for size, room in free.items())
