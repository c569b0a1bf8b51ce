"""Which model it is: a fingerprint of its weights, not of the files around them.

A README that was added, shards of another size or another name of the folder leave it as it is; other weights, another
number type and the VAE that takes the model's own place change it.
"""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from kolors_lab.core.errors import ModelError
from kolors_lab.models.memory import weight_files
from kolors_lab.models.presets import local_path, pipeline_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kolors_lab.models.presets import Preset

SAMPLE = 1024  # bytes read from each end of a tensor: a training changes every weight


def model_fingerprint(preset: Preset) -> str:
    """16 hex digits for the weights that the preset draws with. FetchError if they are not on this machine, ModelError
    if a file of them is damaged."""
    folder = pipeline_path(preset)
    files = [file for part in ("text_encoder", "unet", "vae") for file in weight_files(folder, part)]
    if preset.vae:
        vae = local_path(preset.vae)
        files = [file for file in files if file.parent.name != "vae"] + sorted(vae.glob("*.safetensors"))
    return _hash_of(tuple((str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files))


@lru_cache(maxsize=8)  # a form asks at every keystroke; what was read counts as long as no file has changed
def _hash_of(files: tuple[tuple[str, int, int], ...]) -> str:
    rows = sorted(row for name, *_ in files for row in _tensors(Path(name)))
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()[:16]


def _tensors(file: Path) -> Iterator[str]:
    """A line for each tensor: the part it belongs to, its name, type, shape and a hash of its two ends."""
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(min(length, file.stat().st_size)))
            header.pop("__metadata__", None)
            for name, tensor in header.items():
                begin, end = (8 + length + offset for offset in tensor["data_offsets"])
                stream.seek(begin)
                ends = stream.read(min(SAMPLE, end - begin))
                stream.seek(max(begin, end - SAMPLE))
                digest = hashlib.sha256(ends + stream.read(min(SAMPLE, end - begin))).hexdigest()
                yield f"{file.parent.name} {name} {tensor['dtype']} {tensor['shape']} {digest}"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError("{file} cannot be loaded ({error}); fetch it again", file=file, error=error) from error
