"""What all the training scripts share: folders, and what is made once and kept on the disk.

Everything in data/ is rebuilt by `make data` (see build.py). What is made on the way lies in build/, trained models in
build/models/: `made(name)` is where a script writes, `found(name)` what the next one reads, the shipped one where none
has been trained. `models.ship` puts them into data/.
"""

import hashlib
import json
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap
from world.scenes import Scene

DATA = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("KOLORS_LAB_BUILD") or DATA / "make" / "build")
MODELS = BUILD / "models"
SIZE = 128


def made(name: str) -> Path:
    """The folder that a model just trained is written to, as `tiny-kolors/vae`."""
    return MODELS / name


def found(name: str) -> Path:
    """The folder that a model is read from: the one trained here, else the shipped one."""
    return made(name) if made(name).exists() else DATA / name


def stored(name: str, count: int, kind, shape: tuple[int, ...], make, key: str, chunk: int = 512) -> np.ndarray:
    """The array (count, *shape) of dtype `kind` kept as build/<name>.npy, mapped into memory and not read into it.

    `make(range)` gives its rows, a chunk at a time; a killed run goes on at the chunk where it was. `key` says what
    the rows were made from: with another key they are made anew.
    """
    file, state = BUILD / f"{name}.npy", BUILD / f"{name}.json"
    wanted = {"key": key, "count": count}
    known = json.loads(state.read_text()) if state.exists() else {}
    if {**known, "done": count} != {**wanted, "done": count}:
        BUILD.mkdir(parents=True, exist_ok=True)
        open_memmap(file, "w+", kind, (count, *shape))
        known = {**wanted, "done": 0}
    rows = open_memmap(file, "r+")
    for first in range(known["done"], count, chunk):
        last = min(first + chunk, count)
        rows[first:last] = make(range(first, last))
        rows.flush()
        state.write_text(json.dumps({**wanted, "done": last}))
        print(f"{name}: {last} of {count}", flush=True)
    return np.load(file, mmap_mode="r")


def key_of(*parts) -> str:
    """A short name for what something was made from."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def drawn(item: Scene | int) -> np.ndarray:
    """The picture of a scene, or of the toy of a seed, as uint8 (128, 128, 3)."""
    from world.draw import render  # here, so that only the workers need skia
    from world.toys import toy

    image = render(item, SIZE, SIZE) if isinstance(item, Scene) else toy(item, SIZE, SIZE)
    return np.asarray(image, dtype=np.uint8)


def rendered(name: str, items: list, draw=drawn) -> np.ndarray:
    """The pictures of `items` as uint8 (N, 128, 128, 3), drawn once."""
    return worked(name, items, draw, np.uint8, (SIZE, SIZE, 3))


def worked(name: str, items: list, work, kind, shape: tuple[int, ...] = ()) -> np.ndarray:
    """`work(item)` of all items, (N, *shape) of `kind`, done once, by as many processes as torch has threads."""
    with ProcessPoolExecutor(torch.get_num_threads()) as pool:  # starts no process before it is given work
        rows = lambda at: np.array(list(pool.map(work, items[at.start : at.stop], chunksize=16)), kind)  # noqa: E731
        return stored(name, len(items), kind, shape, rows, key_of(items[:1000]))


def to_tensor(pictures: np.ndarray, device: str = "cpu") -> torch.Tensor:
    """uint8 (N, H, W, 3) -> float32 (N, 3, H, W) in -1..1."""
    return torch.from_numpy(np.array(pictures)).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_pictures(pixels: torch.Tensor) -> np.ndarray:
    """(N, 3, H, W) in -1..1, what lies outside cut off -> uint8 (N, H, W, 3)."""
    return ((pixels.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()


def forget_places(folder: Path) -> None:
    """Take out of the configurations below `folder` where on this machine their parts were loaded from."""
    for file in folder.rglob("*.json"):
        config = json.loads(file.read_text(encoding="utf-8"))
        if known := {"_name_or_path", "name_or_path", "is_local", "local_files_only"} & set(config):
            kept = {key: value for key, value in config.items() if key not in known}
            file.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def note(name: str, **figures) -> None:
    """Keep what a script measured in build/figures.json, for the cards."""
    file = BUILD / "figures.json"
    known = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**known, name: figures}, indent=1))
