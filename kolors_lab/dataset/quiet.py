"""Data-Juicer without what it does to the process that imports it: logs, lenient Pillow, packages installed unasked."""

from __future__ import annotations

import contextlib
import logging
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from kolors_lab.core.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextlib.contextmanager
def data_juicer() -> Iterator[tuple[Callable, type]]:
    """Data-Juicer's `load_ops` and dataset class; its log, progress bars and pip installs are off meanwhile."""
    import datasets
    from loguru import logger

    bars = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    logger.disable("data_juicer")  # errors still come as exceptions
    try:
        with _process_kept():
            from data_juicer.utils.lazy_loader import LazyLoader
        with _without_installs(LazyLoader):
            with _process_kept():
                from data_juicer.core.data import NestedDataset
                from data_juicer.ops import load_ops

                for point in entry_points(group="data_juicer.ops"):
                    if point.value.startswith("kolors_lab."):
                        point.load()  # registers our operators
            yield load_ops, NestedDataset
    finally:
        logger.enable("data_juicer")
        if bars:
            datasets.enable_progress_bars()


@contextlib.contextmanager
def _process_kept() -> Iterator[None]:
    """Undo what importing Data-Juicer does to the process: Pillow accepts truncated pictures, INFO is printed."""
    from PIL import ImageFile

    root = logging.getLogger()
    level, handlers, lenient = root.level, root.handlers[:], ImageFile.LOAD_TRUNCATED_IMAGES
    try:
        yield
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers
        ImageFile.LOAD_TRUNCATED_IMAGES = lenient


@contextlib.contextmanager
def _without_installs(loader: type) -> Iterator[None]:
    """Data-Juicer has no switch for its pip installs: its own method makes room for a refusal."""
    before = vars(loader)["_install_package"]
    loader._install_package = staticmethod(_refuse)
    try:
        yield
    finally:
        loader._install_package = before


def _refuse(package: str, *_: Any) -> None:
    """In place of Data-Juicer's own pip install, which would change the user's environment without a question."""
    raise DataError("Data-Juicer needs the package {package}; install it with: pip install {package}", package=package)
