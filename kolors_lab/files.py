"""Writing files so that what lies there under its name is whole."""

from __future__ import annotations

import contextlib
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def writing(what: str | Path) -> Iterator[None]:
    """Turn an OSError inside (disk full, read-only, a file where a folder should be) into a DataError naming `what`."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"cannot write {what}: {reason}; free some space or choose another place") from error


@contextlib.contextmanager
def replacing(file: str | Path) -> Iterator[Path]:
    """Yield a temporary name beside `file`; on success it takes the place of `file` at once, on failure it is removed.

    Makes the folder where needed. An OSError becomes a DataError.
    """
    file = Path(file)
    temporary = file.with_name(f".{file.name[:40]}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with writing(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            temporary.replace(file)
    finally:
        with contextlib.suppress(OSError):  # there is none where even its folder could not be made
            temporary.unlink()
