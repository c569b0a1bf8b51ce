"""Writing files so that what lies there under its name is whole."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import uuid
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kolors_lab.core.errors import DataError

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


def data_dir() -> Path:
    """The folder of the embedded models and sets: beside the package in a checkout, inside it in an installed wheel."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "data"
    return inside if inside.is_dir() else package.parent / "data"


SAMPLE = 1 << 20  # bytes read from each end of a large file: a new training changes every weight, so ends are enough


def fingerprint(path: str | Path) -> str:
    """16 hex digits that change with the names and bytes of a file or folder; "none" where there is nothing."""
    root, digest = Path(path), hashlib.sha256()
    if not root.exists():
        return "none"
    files = {f.relative_to(root): f for f in sorted(root.rglob("*")) if f.is_file()} if root.is_dir() else {"": root}
    for name, file in files.items():
        if any(part.startswith(".") for part in Path(name).parts):  # what file browsers and editors leave behind
            continue
        digest.update(f"{name} {file.stat().st_size}\n".encode())
        digest.update(_ends(file))
    return digest.hexdigest()[:16]


def _ends(file: Path) -> bytes:
    with file.open("rb") as stream:
        if file.stat().st_size <= 4 * SAMPLE:
            return stream.read()
        head = stream.read(SAMPLE)
        stream.seek(-SAMPLE, os.SEEK_END)
        return head + stream.read()


def write_json(file: Path, content: Any) -> None:
    """Write `content` as UTF-8 JSON, whole or not at all. DataError where it cannot be written."""
    with replacing(file) as part:
        part.write_text(json.dumps(content, ensure_ascii=False, indent=2), encoding="utf-8")


def write_config(file: Path, config: Any) -> None:
    """Write a settings dataclass as JSON. DataError, and the file stays, if it holds anything but such settings."""
    content = asdict(config)
    if file.exists():
        try:
            there = set(json.loads(file.read_text(encoding="utf-8")))
            ours = bool(there) and there <= set(content)  # fewer: written before some field was thought of
        except (OSError, ValueError, TypeError):
            ours = False
        if not ours:
            raise DataError(f"{file} was not made by this step, so it stays; choose another out folder")
    write_json(file, content)
