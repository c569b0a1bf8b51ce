"""How many of OpenMP's threads start in this process, said before torch loads it: the environment is read only once.

By default they are as many as the machine has cores, whatever a container allows. How they wait is left alone: on an
idle machine of two cores passive waiting made a training step three times as slow (0.94 against 0.33 s), however much
it spares a busy neighbour. What a user has set stays.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from pathlib import Path

QUOTAS = ("cpu.max", "cpu/cpu.cfs_quota_us")  # cgroup v2: "quota period"; v1: the quota, and the period beside it


def settle_threads(environ: MutableMapping[str, str] = os.environ, root: Path = Path("/sys/fs/cgroup")) -> None:
    """Start no more threads than the processor time of this container is worth."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if (worth := cpu_quota(root)) and worth < cores:
        environ.setdefault("OMP_NUM_THREADS", str(worth))


def cpu_quota(root: Path) -> int | None:
    """How many cores' time the container may use, rounded up; None without such a limit."""
    for name in QUOTAS:
        try:
            quota, *period = (root / name).read_text().split()
            period = period or [(root / name).with_name("cpu.cfs_period_us").read_text()]
            if quota != "max" and int(quota) > 0:
                return -(-int(quota) // int(period[0]))
        except (OSError, ValueError):
            continue
    return None
