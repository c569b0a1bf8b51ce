"""Checkpoints of a training: written whole or not at all, checked when read, a damaged one passed over.

runs/train/checkpoints/step-000100.safetensors  the LoRA at that step, ready to use; all are kept
runs/train/checkpoints/step-000100.state        what going on from there needs; the last two, until the end

A state is a safetensors file behind its SHA-256: tensors, and around them JSON in the header. Nothing in it can be run.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kolors_lab.core.errors import DataError, ModelError
from kolors_lab.core.files import parse_json, replacing, writing
from kolors_lab.core.language import _

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch

KEPT = 2  # states: the newest, and one to fall back to
DIGEST = hashlib.sha256().digest_size


def checkpoint_file(run: Path, step: int, suffix: str) -> Path:
    """`checkpoints/step-000100.state` or `.safetensors` in the run's folder."""
    return run / "checkpoints" / f"step-{step:06d}{suffix}"


def check_free(run: Path, *results: str) -> None:
    """Raise DataError if the run's folder holds one of these results already: it would be lost."""
    for result in results:
        if (run / result).exists():
            raise DataError(
                "{folder} already holds a {result}; choose another folder or move it away", folder=run, result=result
            )


def states(run: Path) -> list[Path]:
    """The run's states, the oldest first."""
    return sorted((run / "checkpoints").glob("step-*.state"))


def save_state(run: Path, step: int, state: dict[str, Any]) -> None:
    """Keep the state, behind its SHA-256, and the one before; DataError, and all stay, where it cannot be written."""
    from safetensors.torch import save

    tensors: dict[str, torch.Tensor] = {}
    text = json.dumps(_take_apart(state, tensors))
    data = save(_apart(tensors), {"state": text})
    with replacing(checkpoint_file(run, step, ".state")) as temporary:
        temporary.write_bytes(hashlib.sha256(data).digest() + data)
    for old in states(run)[:-KEPT]:  # only now: until the new one is whole, the older ones are all there is
        old.unlink()


def load_state(run: Path, say: Callable[[str], None] | None = None) -> dict[str, Any] | None:
    """The newest state that is whole; None where there is none. ModelError if all are damaged."""
    found = states(run)
    for file in reversed(found):
        data = file.read_bytes()
        if hashlib.sha256(data[DIGEST:]).digest() == data[:DIGEST]:
            return _read_state(file, data[DIGEST:])
        if say:
            say(_("{file} is damaged: the one before it is taken").format(file=file))
    if found:
        raise ModelError(
            "every checkpoint in {folder} is damaged; delete that folder and begin anew", folder=found[0].parent
        )
    return None


def _read_state(file: Path, data: bytes) -> dict[str, Any]:
    """A whole file's state. ModelError for one of another kind, such as the pickles that older versions wrote."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        end = 8 + int.from_bytes(data[:8], "little")
        state = _put_together(parse_json(parse_json(data[8:end].decode())["__metadata__"]["state"]), load(data))
        if not isinstance(state, dict):
            raise ValueError("no table")
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ModelError(
            "{file} is no state that this version writes ({reason}); delete {folder} and begin anew",
            file=file,
            reason=reason[:100],
            folder=file.parent,
        ) from error
    return state


def _take_apart(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """The value as JSON can hold it, each container by its kind; tensors move to `tensors` and leave their names."""
    import torch

    if isinstance(value, torch.Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().cpu().contiguous()
        return {"tensor": name}
    if isinstance(value, dict):  # pairs: an optimiser counts its weights by numbers, which are no names in JSON
        return {"dict": [[_take_apart(part, tensors) for part in pair] for pair in value.items()]}
    if isinstance(value, (list, tuple)):
        return {type(value).__name__: [_take_apart(part, tensors) for part in value]}
    if value is not None and not isinstance(value, (bool, int, float, str)):
        raise TypeError(f"a state cannot hold a {type(value).__name__}")
    return value


def _apart(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors, each with memory of its own: safetensors refuses two views of one."""
    seen: set[int] = set()
    for name, tensor in tensors.items():
        memory = tensor.untyped_storage().data_ptr()
        tensors[name] = tensor.clone() if memory in seen else tensor
        seen.add(memory)
    return tensors


def _put_together(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """What `_take_apart` took apart."""
    if not isinstance(value, dict):
        return value
    ((kind, inside),) = value.items()
    if kind == "tensor":
        return tensors[inside]
    if kind == "dict":
        return {_put_together(key, tensors): _put_together(part, tensors) for key, part in inside}
    return {"list": list, "tuple": tuple}[kind](_put_together(part, tensors) for part in inside)


def clear_states(run: Path) -> None:
    """Remove what only going on needed: the run has ended."""
    for file in states(run):
        file.unlink()


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
                "{run} is in use by another training; wait for its end or choose another folder", run=run
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
