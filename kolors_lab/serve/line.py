"""One drawing at a time, the others in a line of bounded length."""

from __future__ import annotations

import itertools
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kolors_lab.core.errors import KolorsLabError
from kolors_lab.sampling.pipeline import Stop

if TYPE_CHECKING:
    from PIL import Image


class Full(KolorsLabError):
    """So many wait already that no more are taken."""


@dataclass
class Job:
    """A drawing that waits or is at work: its place in the order of all, how far it is, and its last rough view.

    `about` is whatever the one who put it into the line wants to find with it.
    """

    key: str
    number: int
    about: Any = None
    stop: Stop = field(default_factory=Stop)
    step: int = 0
    total: int = 0
    preview: Image.Image | None = None
    future: Future = field(default_factory=Future)

    def on_step(self, step: int, total: int) -> None:
        self.step, self.total = step, total

    def on_preview(self, picture: Image.Image) -> None:
        self.preview = picture


class Line:
    """Jobs in the order they came, done one by one in a thread of its own; at most `limit` wait.

    `on_change` is called, in any thread, when a job has come to the line or left it.
    """

    def __init__(self, limit: int):
        self.limit = limit
        self.on_change: Callable[[], None] = lambda: None
        self.jobs: dict[str, Job] = {}  # those that wait, and the one at work
        self.running: Job | None = None
        self.numbers, self.lock = itertools.count(), threading.Lock()
        self.pool = ThreadPoolExecutor(1, "drawing")

    @property
    def waiting(self) -> list[Job]:
        with self.lock:
            return [job for job in self.jobs.values() if job is not self.running]

    def put(self, work: Callable[[Job], Any], about: Any = None, key: str | None = None) -> Job:
        """Put `work(job)` into the line; what it returns or raises is `job.future`'s. Raises Full."""
        with self.lock:
            if len(self.jobs) > self.limit:
                raise Full("{count} drawings wait already; try again later", count=self.limit)
            key = key or str(uuid.uuid4())
            if key in self.jobs:
                raise KolorsLabError("{id}: a drawing of this id waits already", id=key)
            job = self.jobs[key] = Job(key, next(self.numbers), about)
            job.future = self.pool.submit(self._do, job, work)
        job.future.add_done_callback(lambda _: self._left(job))
        self.on_change()
        return job

    def _do(self, job: Job, work: Callable[[Job], Any]) -> Any:
        with self.lock:
            self.running = job
        return work(job)

    def _left(self, job: Job) -> None:
        with self.lock:
            self.jobs.pop(job.key, None)
            self.running = None if self.running is job else self.running
        self.on_change()

    def interrupt(self, key: str | None = None) -> None:
        """End the drawing at work after its step, if it is the one of that key."""
        job = self.running
        if job and key in (None, job.key):
            job.stop.set()

    def drop(self, key: str) -> None:
        """Take a waiting job out of the line; one at work, and one that is not there, stay as they are."""
        job = self.jobs.get(key)
        if job:
            job.future.cancel()

    def close(self) -> None:
        """Drop what waits, end the drawing at work, and return when it has ended."""
        self.interrupt()
        self.pool.shutdown(cancel_futures=True)
