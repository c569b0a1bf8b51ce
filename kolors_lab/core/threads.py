"""How many of OpenMP's threads start in this process and how they wait, said before torch loads it: the environment is
read only once.

By default they are as many as the machine has cores, whatever a container allows, and one that waits for the others
spins for milliseconds, on a core that a busy neighbour would use: beside seven processes on two cores a training step
of tiny took 4.3 s at the best, 1.2 s with passive waiting. But on an idle machine, where to sleep and to wake costs
more than to spin, passive waiting made a training step up to three times as slow (0.94 against 0.33 s). SPINS lies
between: longer than most moments between two operations of a step, shorter than a neighbour's turn. It takes 1.3 s in
the same crowd, and on an idle machine as long as by default (0.23 s, means of four medians taken by turns). What a user
has set stays.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, MutableMapping
from pathlib import Path

CGROUPS, OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
SPINS = "10000"  # turns of the waiting loop of libgomp, torch's OpenMP on Linux; its own choice is 300,000
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def settle_threads(environ: MutableMapping[str, str] = os.environ, root: Path = CGROUPS) -> None:
    """Spin for a moment only, and start no more threads than the processor time of this container is worth."""
    if not any(name in environ for name in WAITING):
        environ["GOMP_SPINCOUNT"] = SPINS
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if (worth := cpu_quota(root)) and worth < cores:
        environ.setdefault("OMP_NUM_THREADS", str(worth))


def cpu_quota(root: Path = CGROUPS) -> int | None:
    """How many cores' time the containers around this process leave it, rounded up; None without such a limit."""
    worth = [_quota(folder) for folder in control_groups(root, "cpu")]
    return min((cores for cores in worth if cores), default=None)


def _quota(folder: Path) -> int | None:
    """One control group's: in version 2 "quota period", in version 1 a file for each."""
    try:
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return -(-int(quota) // int(period)) if int(quota) > 0 else None
    except (OSError, ValueError):  # "max" is no number: no limit
        return None


def control_groups(root: Path, controller: str) -> Iterator[Path]:
    """The folders of this process's control groups, versions 1 and 2, innermost first, down to those of `root`."""
    try:
        lines = OWN.read_text().splitlines()
    except OSError:  # no Linux
        lines = []
    folders = [root, root / controller]  # where a container sees no more than its own
    for _number, controllers, path in (line.split(":", 2) for line in lines):
        base = root / controller if controller in controllers.split(",") else root
        inner = base / path.lstrip("/")
        folders += [folder for folder in (inner, *inner.parents) if folder.is_relative_to(base)]
    yield from dict.fromkeys(reversed(folders))
