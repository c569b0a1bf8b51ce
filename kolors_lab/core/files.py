"""Writing files so that what lies there under its name is whole."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import os
import uuid
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kolors_lab.core.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


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


BOM = "\ufeff"
BOMS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


def read_text(file: str | Path, missing: str = "no such file", encoding: str = "utf-8") -> str:
    """A text file, its byte order mark left out. DataError says which encoding a file of another one seems to have.

    What is not UTF-8 is never read by a guess: the wrong one gives other characters and no error.
    """
    file = Path(file)
    try:
        content = file.read_bytes()
        text = content.decode(encoding)
    except FileNotFoundError:
        raise DataError(f"{file}: {missing}") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        if isinstance(error, UnicodeError):
            raise DataError(f"{file}: not {encoding.upper()} text; {_other_encoding(content)}") from None
        raise DataError(f"{file}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if "\0" in text:
        raise DataError(f"{file}: holds NUL characters; it is no text, or in UTF-16: save it again as UTF-8")
    return text.removeprefix(BOM)


def _other_encoding(content: bytes) -> str:
    """What a text that is not UTF-8 would say in the encodings of Windows, for its owner to judge."""
    for encoding in (BOMS.get(content[:2], "GBK"), "Big5"):
        with contextlib.suppress(UnicodeError):
            shown = " ".join(content.decode("gb18030" if encoding == "GBK" else encoding).split())[:24]
            return f"in {encoding} it begins “{shown}”: if that is right, save it again as UTF-8 (in Excel: CSV UTF-8)"
    return "save it again as UTF-8 (in Excel: CSV UTF-8)"


def parse_json(text: str) -> Any:
    """`json.loads`, whose every failure is a ValueError: too deeply nested, too."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def write_table(
    file: str | Path, columns: Sequence[str], rows: Iterable[Sequence[Any]], above: Iterable[str] = ()
) -> Path:
    """Write a CSV, whole or not at all, with a byte order mark, without which Excel misreads Chinese; None is empty.

    `above`: lines before the header. DataError where it cannot be written.
    """
    with replacing(file) as part, part.open("w", encoding="utf-8-sig", newline="") as stream:
        stream.writelines(f"{line}\n" for line in above)
        csv.writer(stream).writerows([columns, *rows])
    return Path(file)


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
