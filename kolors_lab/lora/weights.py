"""A LoRA file's tensors as they lie there: no more memory than the file has bytes, and nothing of it is ever run."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from kolors_lab.core.errors import ModelError
from kolors_lab.core.language import _

if TYPE_CHECKING:
    import torch

PICKLES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")
IN_FOLDER = (  # peft's, diffusers'
    "adapter_model.safetensors", "adapter_model.bin", "pytorch_lora_weights.safetensors", "pytorch_lora_weights.bin",
)  # fmt: skip


class Weights(NamedTuple):
    """An open file: the tensors' names, which cost no memory, how to read one of them, and what the header says."""

    names: list[str]
    read: Callable[[str], torch.Tensor]
    header: dict[str, str]


def lora_file(path: str | Path) -> Path:
    """The file of a LoRA: itself, or the one in the folder that peft or diffusers wrote. Raises ModelError."""
    path = Path(path)
    with contextlib.suppress(OSError, ValueError):  # a name that no file can have
        found = [file for file in (path, *(path / name for name in IN_FOLDER)) if file.is_file()]
        if found:
            return found[0]
        if path.is_dir():
            files = _(" or ").join(IN_FOLDER)
            raise ModelError(
                "LoRA {path} is a folder without {files}; give a .safetensors file", path=path, files=files
            )
    raise ModelError("LoRA {path} does not exist; give a .safetensors or .ckpt file, or peft's folder", path=path)


@contextlib.contextmanager
def open_weights(file: Path) -> Iterator[Weights]:
    """Open a .safetensors file or a pickle of tensors. Raises ModelError for what is damaged or holds anything else."""
    _check_start(file)
    if file.suffix.lower() in PICKLES:
        tensors = _unpickle(file)
        yield Weights(list(tensors), tensors.__getitem__, {})
        return
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as source:
            yield Weights(list(source.keys()), source.get_tensor, source.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        why = str(error)[:200]
        raise ModelError("LoRA {file} is damaged or no safetensors file ({why})", file=file, why=why) from error


def _check_start(file: Path) -> None:
    """ModelError for what was downloaded in place of a file."""
    with contextlib.suppress(OSError), file.open("rb") as stream:  # an OSError is told where it is read
        start = stream.read(64).lstrip().lower()
        if start.startswith(b"version https://git-lfs"):
            raise ModelError("LoRA {file} is a pointer of Git LFS, not the file: `git lfs pull` gets it", file=file)
        if start.startswith((b"<!doctype", b"<html", b"<?xml")):
            raise ModelError("LoRA {file} is a web page, not the file: download it again", file=file)


def _unpickle(file: Path) -> dict[str, torch.Tensor]:
    """A pickle's tensors, by torch's reader that can make nothing else."""
    import torch

    if torch.__version__ < (2, 6):  # that reader could be tricked: CVE-2025-32434
        raise ModelError("LoRA {file} is a pickle, safe to open from torch 2.6 on; give a .safetensors file", file=file)
    _check_archive(file)
    try:
        tensors = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # the reader itself stumbles in many ways over what is no list of tensors
        raise ModelError(
            "LoRA {file} is a pickle that is damaged or holds more than weights, which could run code; "
            "nothing of it was run: give a .safetensors file",
            file=file,
        ) from error
    if isinstance(tensors, dict) and isinstance(tensors.get("state_dict"), dict):  # Lightning's checkpoints
        tensors = tensors["state_dict"]
    if not isinstance(tensors, dict) or not all(isinstance(value, torch.Tensor) for value in tensors.values()):
        raise ModelError("LoRA {file} is no table of weights; give a .safetensors file", file=file)
    claimed, there = sum(tensor.nbytes for tensor in tensors.values()), file.stat().st_size
    if claimed > there:  # a number repeated by a stride of 0 takes no room there, and gigabytes here
        raise ModelError(
            "LoRA {file} claims {claimed:,} bytes of weights and has {there:,}; give a .safetensors file",
            file=file,
            claimed=claimed,
            there=there,
        )
    return {str(key): value for key, value in tensors.items()}


def _check_archive(file: Path) -> None:
    """ModelError for a zip that would unpack to more than it is: torch stores, and never packs."""
    try:
        with zipfile.ZipFile(file) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except NotImplementedError as error:  # torch's reader might take it all the same, and nobody has measured it
        raise ModelError(
            "LoRA {file} is a zip that no torch wrote ({error}); give a .safetensors file", file=file, error=error
        ) from error
    except (OSError, ValueError, zipfile.BadZipFile):  # torch's older form, or damaged: torch says so
        return
    if unpacked > file.stat().st_size:
        raise ModelError(
            "LoRA {file} would unpack to {size:,} bytes; no torch wrote it: give a .safetensors file",
            file=file,
            size=unpacked,
        )
