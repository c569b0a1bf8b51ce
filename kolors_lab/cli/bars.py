"""Progress on stderr while a command works."""

from __future__ import annotations

import sys
from collections.abc import Callable


class Bars:
    """Progress bars on stderr, one at a time: `bars("train")` names what is to come, on_step(done, total) fills it."""

    def __init__(self):
        self.bar, self.stage, self.figures = None, "", {}

    def __call__(self, stage: str) -> Callable[..., None]:
        if self.bar is None or self.bar.bar_format is None:  # a name still waiting for its first step stays
            self.open(stage)

        def on_step(done: int, total: int, loss: float | None = None) -> None:
            if self.stage != stage:
                self.open(stage)
            if self.bar.bar_format:
                self.bar.bar_format = None
                self.bar.reset(total)
            if loss is not None:
                self.bar.set_postfix(loss=f"{loss:.4f}", **self.figures, refresh=False)
            self.bar.update(done - self.bar.n)

        return on_step

    def note(self, row: dict[str, float]) -> None:
        """Figures of a training step, shown behind its loss: learning rate, pictures per second, memory."""
        rate, speed, memory = (row[name] for name in ("learning_rate", "pictures_per_second", "memory_gib"))
        self.figures = {"lr": f"{rate:.1e}", "pictures/s": f"{speed:.2g}", "GiB": f"{memory:.1f}"}

    def open(self, stage: str) -> None:
        from tqdm import tqdm

        self.close()
        self.stage = stage
        self.bar = tqdm(desc=f"{stage:8}", file=sys.stderr, bar_format="{desc} …", dynamic_ncols=True)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.leave = self.bar.bar_format is None  # a name that never came to a step goes
            self.bar.close()

    def __enter__(self) -> Bars:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
