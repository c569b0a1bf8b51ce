"""A set in a zip, unpacked once into the user's cache and from then on a folder like any other."""

from __future__ import annotations

import contextlib
import lzma
import re
import shutil
import stat
import uuid
import zipfile
import zlib
from pathlib import Path, PurePosixPath, PureWindowsPath

from kolors_lab.core.errors import DataError
from kolors_lab.core.files import cache_dir, elsewhere, fingerprint, writing

MOST_FILES = 100_000
LEFT_BEHIND = ("__macosx", "@eadir", "thumbs.db", "ehthumbs.db", "desktop.ini")  # of macOS, Synology and Windows
FACTOR, SMALL = 50, 2**26  # a zip of pictures unpacks to little more than it is; bytes that are no matter


def set_folder(path: str | Path) -> Path:
    """The folder of a set: itself, or what a zip holds. Raises DataError for a zip that leads out of its folder, would
    fill the disk, holds links, or is damaged or locked."""
    path = Path(path)
    if not path.is_file():
        return path
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in _named(archive.infolist()) if not entry.filename.endswith("/")]
            _check(entries, path)
            entries = [entry for entry in entries if not is_hidden(entry.filename)]
            folder = cache_dir() / "sets" / fingerprint(path)
            if not folder.is_dir():
                _unpack(archive, entries, folder)
    except (zipfile.BadZipFile, RuntimeError, EOFError, zlib.error, lzma.LZMAError, ValueError, OSError) as error:
        raise DataError("{path}: no folder, and no zip that can be read ({error})", path=path, error=error) from error
    while len(inside := list(folder.iterdir())) == 1 and inside[0].is_dir() and not inside[0].name[0].isdigit():
        folder = inside[0]  # all of it lies in one folder, which is none of kohya's
    return folder


def is_hidden(name: str) -> bool:
    """Whether a path within a set is what systems leave behind: ._1.png, .DS_Store, __MACOSX/1.png, Thumbs.db."""
    parts = (part for part in PurePosixPath(name).parts if part != "..")
    return any(part.startswith(".") or part.lower() in LEFT_BEHIND for part in parts)


def _named(entries: list[zipfile.ZipInfo]) -> list[zipfile.ZipInfo]:
    """The entries under the names they were given: Windows packs them in GBK, and with backslashes."""
    told = [entry for entry in entries if not entry.flag_bits & 0x800]  # not said to be UTF-8: Python takes cp437
    with contextlib.suppress(UnicodeError):
        given = "\n".join(entry.filename for entry in told).encode("cp437")
        try:
            text = given.decode()
        except UnicodeError:
            text = given.decode("gb18030")
        if re.search("[\u0100-\u07ff]", text):  # by chance UTF-8, too: of two bytes each, as in GBK
            text = given.decode("gb18030")
        for entry, name in zip(told, text.split("\n"), strict=True):
            entry.filename = name
    for entry in entries:
        entry.filename = entry.filename.replace("\\", "/")
    return entries


def _check(entries: list[zipfile.ZipInfo], path: Path) -> None:
    size = sum(entry.file_size for entry in entries)
    if len(entries) > MOST_FILES or size > FACTOR * path.stat().st_size + SMALL:
        raise DataError(
            "{path}: would unpack to {count} files and {size:,} bytes; no set of pictures does",
            path=path,
            count=len(entries),
            size=size,
        )
    names = [entry.filename for entry in entries]
    if len({name.casefold() for name in names}) < len(names):
        raise DataError("{path}: holds a file twice; make the zip anew", path=path)
    for entry in entries:
        name = entry.filename
        if not name:
            raise DataError("{path}: holds a file without a name; make the zip anew", path=path)
        climbs = ".." in name.replace("\\", "/").split("/") or "\0" in entry.orig_filename
        if climbs or PureWindowsPath(name).drive or name.startswith(("/", "\\")):
            raise DataError(
                "{path}: {name!r} leads out of the folder; unpack it by hand, with care", path=path, name=name[:200]
            )
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise DataError("{path}: {name!r} is a link; put the file itself into the zip", path=path, name=name[:200])


def _unpack(archive: zipfile.ZipFile, entries: list[zipfile.ZipInfo], folder: Path) -> None:
    part = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    try:
        with writing(f"{folder} ({elsewhere()})"):
            part.mkdir(parents=True)
            free = shutil.disk_usage(part).free
            if (size := sum(entry.file_size for entry in entries)) > free:
                raise DataError(
                    "{folder}: {size:,} bytes are to be unpacked, {free:,} are free; {hint}",
                    folder=folder,
                    size=size,
                    free=free,
                    hint=elsewhere(),
                )
            for entry in entries:
                archive.extract(entry, part)
            part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
