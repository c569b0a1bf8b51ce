"""Which steps of a run are done: a small JSON record, so that running again does only what is missing or changed."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .errors import DataError
from .files import replacing

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
            ours = set(json.loads(file.read_text(encoding="utf-8"))) == set(content)
        except (OSError, ValueError, TypeError):
            ours = False
        if not ours:
            raise DataError(f"{file} was not made by this step, so it stays; choose another out folder")
    write_json(file, content)


class Steps:
    """The record `steps.json` of a run folder: per step its settings, what it made and how long it took."""

    def __init__(self, run: Path):
        self.run, self.file = run, run / "steps.json"
        try:
            self.record: dict[str, dict] = json.loads(self.file.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # none yet, or damaged: every step is done anew
            self.record = {}

    def do(
        self, name: str, settings: dict, outputs: Iterable[str], work: Callable[[], Any], by_hand: bool = False
    ) -> Any:
        """The JSON-able result of `work`, or the recorded one if settings are equal and nothing it made has changed.

        `outputs` are the files and folders, relative to the run, that the step makes; with `by_hand` the user may have
        changed them and the step counts as done.
        """
        settings = json.loads(json.dumps(settings))
        entry = self.record.get(name, {})
        marks = {path: fingerprint(self.run / path) for path in entry.get("made", {})}
        kept = "none" not in marks.values() and (by_hand or marks == entry.get("made"))
        if kept and entry.get("settings") == settings:
            return entry["result"]
        if self.record.pop(name, None):
            write_json(self.file, self.record)  # from here on the old outputs no longer count as done
        start = time.perf_counter()
        result = json.loads(json.dumps(work()))
        seconds = round(time.perf_counter() - start, 1)
        made = {output: fingerprint(self.run / output) for output in outputs}
        self.record[name] = {"settings": settings, "made": made, "result": result, "seconds": seconds}
        write_json(self.file, self.record)
        return result
