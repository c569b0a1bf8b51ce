"""Which steps of a run are done: a small JSON record, so that running again does only what is missing or changed."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from kolors_lab.core.errors import KolorsLabWarning
from kolors_lab.core.files import NUMBER, fingerprint, fits, parse_json, write_json
from kolors_lab.core.language import _

ENTRY = {"settings": dict, "made": dict, "seconds": NUMBER}  # what is noted of a step, beside its result


class Steps:
    """The record `steps.json` of a run folder: per step its settings, what it made and how long it took.

    `shapes` says, for `fits`, what the results of the steps are like: a record of another is damaged.
    """

    def __init__(self, run: Path, shapes: Mapping[str, Any] | None = None):
        self.run, self.file = run, run / "steps.json"
        self.record: dict[str, dict] = {}
        try:
            found = parse_json(self.file.read_text(encoding="utf-8"))
            like = {name: ENTRY | {"result": (shapes or {}).get(name, object)} for name in found}
            self.record = {
                name: entry for name, entry in found.items() if "result" in entry and fits(entry, like[name])
            }
            lost = [name for name in found if name not in self.record]
        except FileNotFoundError:
            lost = []
        except (OSError, ValueError, AttributeError, TypeError):
            lost = [_("everything")]
        if lost:
            warnings.warn(
                KolorsLabWarning("{file} is damaged: done anew is {names}", file=self.file, names=", ".join(lost)),
                stacklevel=2,
            )

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
