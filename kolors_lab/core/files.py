"""Writing files so that what lies there under its name is whole."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
import sys
import uuid
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kolors_lab.core.errors import DataError
from kolors_lab.core.language import _

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


@contextlib.contextmanager
def writing(what: str | Path) -> Iterator[None]:
    """Turn an OSError inside (disk full, read-only, a file where a folder should be) into a DataError naming `what`."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise DataError(
            "cannot write {what}: {reason}; free some space or choose another place", what=what, reason=reason
        ) from error


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


def elsewhere() -> str:
    """What to do where the cache cannot be written."""
    return _("set the environment variable KOLORS_LAB_CACHE to a folder that can be written")


def cache_dir() -> Path:
    """Where encoded examples and unpacked sets are kept: KOLORS_LAB_CACHE, else `kolors_lab` in the user's cache.
    DataError for a user without a home."""
    if chosen := os.environ.get("KOLORS_LAB_CACHE"):
        return Path(chosen)
    home = {"win32": os.environ.get("LOCALAPPDATA"), "darwin": "~/Library/Caches"}.get(sys.platform)
    try:
        return Path(home or os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "kolors_lab"
    except RuntimeError as error:  # no HOME, and the user has no entry in the system's list
        raise DataError("there is no home folder for what is encoded or unpacked; {hint}", hint=elsewhere()) from error


BOM = "\ufeff"
BOMS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


ENCODINGS = {"gbk": "gb18030", "big5": "big5", "utf-16": "utf-16"}  # those of Windows, and Python's names of them


def read_text(
    file: str | Path, missing: str | None = None, otherwise: str | None = None, way: str | None = None
) -> str:
    """A text file, its byte order mark left out. DataError says which encoding a file of another one seems to have.

    What is not UTF-8 is never read by a guess, since the wrong one gives other characters and no error, but in one of
    ENCODINGS, `otherwise`, that the user named. `way` is how to name it, with {} for the encoding.
    """
    file = Path(file)
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        raise DataError("{file}: {missing}", file=file, missing=missing or _("no such file")) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise DataError("{file}: cannot be read: {reason}", file=file, reason=reason) from error
    for encoding in ("utf-8", *([ENCODINGS[otherwise]] if otherwise else ())):
        with contextlib.suppress(UnicodeError):
            if "\0" not in (text := content.decode(encoding)):
                return text.removeprefix(BOM)
    if not otherwise and b"\0" in content and content[:2] not in BOMS:
        how = (way or _save()).format("utf-16")
        raise DataError("{file}: holds NUL characters; it is no text, or in UTF-16: {how}", file=file, how=how)
    tried = _(", nor {encoding}").format(encoding=otherwise.upper()) if otherwise else ""
    raise DataError("{file}: not UTF-8 text{tried}; {how}", file=file, tried=tried, how=_other_encoding(content, way))


def _save() -> str:
    return _("save it again as UTF-8 (in Excel: CSV UTF-8)")


def _other_encoding(content: bytes, way: str | None) -> str:
    """What a text that is not UTF-8 would say in the encodings of Windows, for its owner to judge."""
    for encoding in (BOMS.get(content[:2], "GBK"), "Big5"):
        with contextlib.suppress(UnicodeError):
            shown = " ".join(content.decode(ENCODINGS[encoding.lower()]).split())[:24]
            told = _("in {encoding} it begins “{shown}”: if that is right, {how}")
            return told.format(encoding=encoding, shown=shown, how=(way or _save()).format(encoding.lower()))
    return _save()


def parse_json(text: str) -> Any:
    """`json.loads`, whose every failure is a ValueError: too deeply nested, too."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError(_("nested too deeply")) from None


NUMBER = (int, float)


def fits(value: Any, like: Any) -> bool:
    """Whether a value from a JSON file has a shape: {"key": shape}, [shape] for lists of any length, a type or several.

    true and false are no numbers.
    """
    if isinstance(like, dict):
        return isinstance(value, dict) and all(fits(value.get(key), inner) for key, inner in like.items())
    if isinstance(like, list):
        return isinstance(value, list) and all(fits(inner, like[0]) for inner in value)
    return isinstance(value, like) and (like is bool or not isinstance(value, bool))


def write_table(
    file: str | Path, columns: Sequence[str], rows: Iterable[Sequence[Any]], above: Iterable[str] = ()
) -> Path:
    """Write a CSV, whole or not at all, with a byte order mark, without which Excel misreads Chinese; None is empty.

    `above`: lines before the header. DataError where it cannot be written.
    """
    with replacing(file) as part, part.open("w", encoding="utf-8-sig", errors="backslashreplace", newline="") as stream:
        stream.writelines(f"{line}\n" for line in above)
        csv.writer(stream).writerows([columns, *rows])
    return Path(file)


def read_table(file: str | Path) -> list[dict[str, str]]:
    """The rows of a CSV by its columns. DataError where it is none or cannot be read."""
    try:
        return list(csv.DictReader(io.StringIO(read_text(file), newline="")))
    except csv.Error as error:
        raise DataError("{file}: no CSV ({error}); mend or remove the file", file=file, error=error) from error


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


def fingerprints(folder: Path) -> dict[str, str]:
    """The fingerprint of every file in a folder by its path, to know later, whatever the clock says, what was changed.

    Hidden ones are left out: file browsers write them.
    """
    files = {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*")) if file.is_file()}
    return {name: fingerprint(f) for name, f in files.items() if not any(p.startswith(".") for p in Path(name).parts)}


def _ends(file: Path) -> bytes:
    with file.open("rb") as stream:
        if file.stat().st_size <= 4 * SAMPLE:
            return stream.read()
        head = stream.read(SAMPLE)
        stream.seek(-SAMPLE, os.SEEK_END)
        return head + stream.read()


def write_json(file: Path, content: Any) -> None:
    """Write `content` as UTF-8 JSON, whole or not at all. DataError where it cannot be written.

    A path that is not UTF-8 holds half characters: as \\udcff, which JSON reads as that again.
    """
    with replacing(file) as part:
        part.write_bytes(json.dumps(content, ensure_ascii=False, indent=2).encode("utf-8", "backslashreplace"))


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
            raise DataError("{file} was not made by this step, so it stays; choose another out folder", file=file)
    write_json(file, content)
