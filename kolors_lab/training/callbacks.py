"""Who listens to a training: one list of callbacks, each told of every step, in their order.

    class Watch(Callback):
        def on_step(self, training, row):
            print(training.step, row["loss"])

    train(config, callbacks=[Watch()])

What a training does beside its steps stands in that list as well: pictures on the way and the look at held-out ones
(validation.py), metrics.jsonl, the caller's own, checkpoints last.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from typing import TYPE_CHECKING, Any

from kolors_lab.core.errors import DataError
from kolors_lab.core.files import replacing, writing
from kolors_lab.training.checkpoint import checkpoint_file, clear_states, save_state
from kolors_lab.training.processes import any_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from kolors_lab.training.loop import Training
    from kolors_lab.training.methods import Method


class Callback:
    """Hears of a training; every method may stay as it is."""

    everywhere = False  # in each of several processes; else in the main one alone

    def on_start(self, training: Training) -> None:
        """Before the first step, or the next one of a training that goes on."""

    def on_step(self, training: Training, row: dict[str, float]) -> None:
        """After each step; may add figures to its row, and end the training by `training.ended = True`."""

    def on_end(self, training: Training) -> None:
        """After the last step; not where the training was stopped."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint has to keep for it."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up where that was written."""


class Rows(Callback):
    """Calls `function(row)` with every step's row of metrics."""

    def __init__(self, function: Callable[[dict[str, float]], None]):
        self.function = function

    def on_step(self, training: Training, row: dict[str, float]) -> None:
        self.function(row)


class MetricsFile(Callback):
    """Writes metrics.jsonl in the run's folder, a line for each step, and TensorBoard's file where it is installed."""

    def __init__(self, run: Path):
        self.run, self.file, self.board = run, run / "metrics.jsonl", None

    def on_start(self, training: Training) -> None:
        """Keep the lines of the steps that are done: later ones of a run that was cut short are written anew."""
        done = training.step
        lines = self.file.read_text(encoding="utf-8").splitlines()[:done] if done and self.file.exists() else []
        with replacing(self.file) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        with contextlib.suppress(ImportError):
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(str(self.run / "tensorboard"), purge_step=done + 1)

    def on_step(self, training: Training, row: dict[str, float]) -> None:
        with writing(self.file), self.file.open("a", encoding="utf-8") as log:
            log.write(json.dumps(row) + "\n")
        for name, value in row.items() if self.board else ():
            self.board.add_scalar(name, value, row["step"])


class Checkpoints(Callback):
    """Saves every so many steps, when the training is stopped, and what was learned at its end. Comes last.

    It also says, for all processes, that one of them is to end, or that a signal has come: then the training stops once
    all is saved.
    """

    everywhere = True

    def __init__(
        self, run: Path, method: Method, header: dict[str, str], settings: dict[str, Any], others: Sequence[Callback]
    ):
        """`header` goes into the files; `settings` is what a training that goes on must agree with."""
        self.run, self.method, self.header, self.settings, self.others = run, method, header, settings, others

    def on_start(self, training: Training) -> None:
        if training.processes.is_main_process:
            need_room(self.run, training.bytes_saved())

    def on_step(self, training: Training, row: dict[str, float]) -> None:
        training.ended = any_of(training.processes, training.ended)  # alone it would wait for the others for ever
        training.stopped = any_of(training.processes, bool(training.signals))
        every = training.config.checkpoint_every
        due = every and training.step % every == 0
        if (training.stopped or due) and not training.ended and training.processes.is_main_process:
            need_room(self.run, training.bytes_saved())
            file = checkpoint_file(self.run, training.step, ".safetensors")
            training.save(file, self.header, self.method.write)
            heard = {type(other).__name__: other.state_dict() for other in self.others}
            state = {"training": training.state_dict(), "callbacks": heard, "settings": self.settings}
            save_state(self.run, training.step, state)

    def on_end(self, training: Training) -> None:
        if training.processes.is_main_process:
            need_room(self.run, sum(weight.nbytes for weight in training.weights))
            training.save(self.run / self.method.result, self.header, self.method.write)
            clear_states(self.run)


def need_room(run: Path, size: int) -> None:
    """Raise DataError unless the disk has room for `size` bytes more: nothing half-written, what is saved stays."""
    free = shutil.disk_usage(run).free
    if free < size:
        raise DataError(
            "{run}: a checkpoint of this training takes {size:.0f} MiB and {free:.0f} MiB are free; what is saved "
            "stays; free some space or choose another place",
            run=run,
            size=size / 2**20,
            free=free / 2**20,
        )
