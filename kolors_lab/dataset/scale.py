"""Juicing on more than one machine: Data-Juicer's Ray datasets measure the pictures, the rest stays where it was.

    kolors-lab juice --executor ray                     # a Ray of this machine's own, for as long as it takes
    RAY_ADDRESS=HEAD:6379 kolors-lab juice --executor ray    # a cluster that runs

Opening and measuring a picture is what takes time, and that is shared out. Which pictures stay is said here, from all
figures in their order, so that the same rows are left as on one machine. Each machine of a cluster needs kolors_lab
installed, and the pictures under the same path.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from typing import TYPE_CHECKING, Any

from kolors_lab.core.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

    Row = dict[str, Any]

PICTURES = 32  # that one task measures


@contextlib.contextmanager
def ray_running() -> Iterator[None]:
    """Connected to the cluster of RAY_ADDRESS, or to a Ray that is started here, and ended with the block.

    A Ray that this process runs already is used and left. DataError where no cluster answers.
    """
    import ray
    import ray.data

    log, context = logging.getLogger("ray.data"), ray.data.DataContext.get_current()
    level, bars, running = log.level, context.enable_progress_bars, ray.is_initialized()
    log.setLevel(logging.ERROR)  # else a page of its plans for every operator
    context.enable_progress_bars = False
    try:
        if not running:
            _check_answers(os.environ.get("RAY_ADDRESS", ""))
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            ray.init(include_dashboard=False, log_to_driver=False, logging_level="error")
        yield
    finally:
        log.setLevel(level)
        context.enable_progress_bars = bars
        if not running:
            ray.shutdown()


def measured_by_ray(operator: Any, rows: list[Row]) -> list[Row]:
    """The rows, in their order, with what a Data-Juicer operator measures of each."""
    import ray
    from data_juicer.core.data.ray_dataset import RayDataset
    from data_juicer.ops import Filter

    data = ray.data.from_items(rows, override_num_blocks=-(-len(rows) // PICTURES))
    if isinstance(operator, Filter):
        data = RayDataset(data, auto_op_parallelism=False).process([operator], stats_only=True).data
    else:  # a deduplicator: it compares all with all, which Ray's own would do by other hashes
        data = data.map(operator.compute_hash)
    return sorted(data.take_all(), key=lambda row: row["index"])


def _check_answers(address: str) -> None:
    """DataError where nobody listens at HOST:PORT: Ray itself would try for minutes, and then end the process."""
    host, _colon, port = address.removeprefix("ray://").rpartition(":")
    if not host:  # none given, or auto
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError) as error:
        raise DataError(
            "RAY_ADDRESS = {address}: no Ray answers there ({error}); start one with `ray start --head`, "
            "or unset it to have one started here",
            address=address,
            error=error,
        ) from error
