"""Files of the user's cache: named by what they depend on, made where they are missing, read back.

A file is named by a hash of all that its content depends on (the picture's bytes, its size and changes, the model), so
runs share what they have in common.
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from kolors_lab.core.errors import DataError
from kolors_lab.core.files import cache_dir, elsewhere, replacing
from kolors_lab.models.memory import fitting_device

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch


@contextlib.contextmanager
def caching(file: Path) -> Iterator[Path]:
    """As `replacing`; a DataError says how to have the cache elsewhere."""
    try:
        with replacing(file) as temporary:
            yield temporary
    except DataError as error:
        raise DataError("{why}; {how}", why=error, how=elsewhere()) from error


def cache_file(*parts: object, suffix: str = ".safetensors") -> Path:
    """The file named by one hash over the parts, each with its length, so that no two lists of parts run together."""
    digest = hashlib.sha256()
    for part in parts:
        data = str(part).encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    key = digest.hexdigest()
    return cache_dir() / key[:2] / f"{key}{suffix}"


def weights_hash(module: torch.nn.Module) -> str:
    """A hash of name, shape, type and first values of every parameter: another model or training gives another."""
    digest = hashlib.sha256()
    for name, parameter in module.named_parameters():
        few = parameter.detach()[:16].dequantize()  # weights in 8 bit have no flat view
        values = few.flatten()[:16].float().cpu().numpy().tobytes()
        digest.update(f"{name} {tuple(parameter.shape)} {parameter.dtype}".encode() + values)
    return digest.hexdigest()


def read_bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise DataError("{file} cannot be read: {why}", file=file, why=error.strerror) from error


def fill_files(
    work: list[tuple[Path, Callable[[], dict[str, torch.Tensor]]]],
    module: torch.nn.Module,
    device: torch.device | str,
    dtype: torch.dtype,
    tick: Callable[[int], None],
) -> None:
    """Make each file that is missing or damaged; the module is on the device, in that type, while there is work."""
    import torch
    from safetensors.torch import save

    idle = all(_whole(file) for file, _make in work)
    with contextlib.nullcontext() if idle else at(module, device, dtype):
        for done, (file, make) in enumerate(work, 1):
            if not _whole(file):
                with torch.no_grad(), caching(file) as temporary:
                    temporary.write_bytes(save({name: tensor.contiguous() for name, tensor in make().items()}))
            tick(done)


@contextlib.contextmanager
def at(module: torch.nn.Module, device: torch.device | str, dtype: torch.dtype) -> Iterator[None]:
    """With the module on the device, or on the CPU where a GPU has no room for it, in that type; then as it was."""
    import torch

    before, move = module.dtype, torch.nn.Module.to  # not diffusers' own, which warns of half precision, needed or not
    try:
        move(module, fitting_device(module, device), dtype)
        yield
    finally:
        move(module, "cpu", before)


def _whole(file: Path) -> bool:
    """Whether the file is there and as long as its header says; its tensors are not read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt"):
            return True
    except (OSError, SafetensorError):
        return False


def latent_shape(file: Path) -> tuple[int, int]:
    from safetensors import safe_open

    with safe_open(file, framework="pt") as source:
        return tuple(source.get_slice("latent_mean").get_shape()[1:])


def read_tensors(file: Path, *names: str) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as source:
            return {name: source.get_tensor(name) for name in names}
    except (OSError, SafetensorError) as error:
        raise DataError(
            "{file} is gone from the cache or damaged ({error}); run the same command again", file=file, error=error
        ) from error
