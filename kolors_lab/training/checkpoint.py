"""Checkpoints of a training: written whole or not at all, checked when read, a damaged one passed over.

runs/train/checkpoints/step-000100.safetensors  the LoRA at that step, ready to use; all are kept
runs/train/checkpoints/step-000100.state        what going on from there needs; the last two, until the end
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kolors_lab.core.errors import DataError, ModelError
from kolors_lab.core.files import replacing, writing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEPT = 2  # states: the newest, and one to fall back to
DIGEST = hashlib.sha256().digest_size


def checkpoint_file(run: Path, step: int, suffix: str) -> Path:
    """`checkpoints/step-000100.state` or `.safetensors` in the run's folder."""
    return run / "checkpoints" / f"step-{step:06d}{suffix}"


def states(run: Path) -> list[Path]:
    """The run's states, the oldest first."""
    return sorted((run / "checkpoints").glob("step-*.state"))


def save_state(run: Path, step: int, state: dict[str, Any]) -> None:
    """Keep the state, behind its SHA-256, and the one before; DataError, and all stay, where it cannot be written."""
    import torch

    stream = io.BytesIO()
    torch.save(state, stream)
    data = stream.getvalue()
    with replacing(checkpoint_file(run, step, ".state")) as temporary:
        temporary.write_bytes(hashlib.sha256(data).digest() + data)
    for old in states(run)[:-KEPT]:
        old.unlink()


def load_state(run: Path, say: Callable[[str], None] | None = None) -> dict[str, Any] | None:
    """The newest state that is whole; None where there is none. ModelError if all are damaged."""
    import torch

    found = states(run)
    for file in reversed(found):
        data = file.read_bytes()
        if hashlib.sha256(data[DIGEST:]).digest() == data[:DIGEST]:
            return torch.load(io.BytesIO(data[DIGEST:]), map_location="cpu", weights_only=True)
        if say:
            say(f"{file} is damaged: the one before it is taken")
    if found:
        raise ModelError(f"every checkpoint in {found[0].parent} is damaged; delete that folder and begin anew")
    return None


def clear_states(run: Path) -> None:
    """Remove what only going on needed: the run has ended."""
    for file in states(run):
        file.unlink()


class Metrics:
    """metrics.jsonl in the run's folder, one line for each step, and TensorBoard's file where it is installed."""

    def __init__(self, run: Path, done: int):
        """Keep the lines of the first `done` steps: later ones of a run that was cut short are written anew."""
        self.file, self.board = run / "metrics.jsonl", None
        lines = self.file.read_text(encoding="utf-8").splitlines()[:done] if done and self.file.exists() else []
        with replacing(self.file) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        with contextlib.suppress(ImportError):
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(str(run / "tensorboard"), purge_step=done + 1)

    def write(self, row: dict[str, float]) -> None:
        with writing(self.file), self.file.open("a", encoding="utf-8") as log:
            log.write(json.dumps(row) + "\n")
        for name, value in row.items() if self.board else ():
            self.board.add_scalar(name, value, row["step"])


@contextlib.contextmanager
def claim(run: Path) -> Iterator[None]:
    """Hold the folder for one training; DataError while another holds it. The system lets go of it when a run dies."""
    from filelock import FileLock, Timeout

    with writing(run):
        run.mkdir(parents=True, exist_ok=True)
        lock = FileLock(run / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise DataError(
                f"{run} is in use by another training; wait for its end or choose another folder"
            ) from error
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Note SIGTERM and Ctrl+C in the list that is given, for the body to save and leave; they take effect after it.

    A second one takes effect at once. In any thread but the main one signals cannot be caught: the list stays empty.
    """
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return

    def note(number: int, frame: Any) -> None:
        caught.append(number)
        signal.signal(number, before[number])

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number in before:
            signal.signal(number, note)
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if caught:
        signal.raise_signal(caught[0])
