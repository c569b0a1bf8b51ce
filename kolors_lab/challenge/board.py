"""Every run of a folder side by side: pictures, steps, seconds, score, likeness, copies, fit, and its report.

    kolors-lab leaderboard runs

The best score comes first. A practice score stands apart from the challenge's: the two are different scales.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kolors_lab.challenge.report import mean_loss, read_metrics, read_object, svg
from kolors_lab.core.errors import DataError
from kolors_lab.core.figures import GATE_RED, INK, SOFT, lettered
from kolors_lab.core.files import NUMBER, fits
from kolors_lab.core.language import _
from kolors_lab.core.stats import interval
from kolors_lab.core.templates import write_page
from kolors_lab.scoring.aesthetics import GATE, mean_fit
from kolors_lab.scoring.likeness import ALARM

if TYPE_CHECKING:
    from matplotlib.figure import Figure


COLUMNS = ("run", "pictures", "steps", "loss", "seconds", "score", "heroine", "style", "copies", "fit", "report")


@dataclass(frozen=True)
class LeaderboardConfig:
    """Compare all runs of a folder: a table here, and a page with table, plot and links to the reports."""

    folder: str = "runs"
    """folder whose runs are compared, however deep they lie in it"""
    out: str | None = None
    """the HTML page to write; without it FOLDER/leaderboard.html"""


@dataclass(frozen=True)
class Entry:
    """One run's figures; None where it has none (a training alone has no score)."""

    run: str
    folder: Path
    pictures: int | None = None
    steps: int | None = None
    loss: float | None = None
    seconds: float | None = None
    scores: tuple[float, ...] = ()
    practice: bool = True
    heroine: float | None = None
    style: float | None = None
    copies: float | None = None
    fit: float | None = None

    @property
    def score(self) -> float | None:
        return sum(self.scores) / len(self.scores) if self.scores else None

    @property
    def report(self) -> Path | None:
        file = self.folder / "report.html"
        return file if file.is_file() else None

    def cells(self) -> list[str]:
        """The figures as text, in the order of COLUMNS but for the report; — for what there is not."""
        forms = {"pictures": "d", "steps": "d", "loss": ".4f", "seconds": ".0f", "score": ".2f"}
        forms |= {"heroine": ".3f", "style": ".3f", "copies": ".0%", "fit": ".3f"}
        values = {name: getattr(self, name) for name in forms}
        known = {name: value is not None and not math.isnan(value) for name, value in values.items()}
        texts = {name: format(values[name], form) if known[name] else "—" for name, form in forms.items()}
        if known["copies"] and self.copies > ALARM:
            texts["copies"] += " !"
        texts["score"] = f"练习 {texts['score']}" if self.practice and self.scores else texts["score"]
        return [self.run, *texts.values()]


def find_runs(folder: str | Path) -> list[Entry]:
    """The runs in a folder, the challenge's scores first, then practice scores, each best first, then those without.

    A whole run is known by its steps.json, a training alone by metrics.jsonl. DataError if there is none.
    """
    root = Path(folder)
    whole = [file.parent for file in root.rglob("steps.json")]
    alone = [f.parent for f in root.rglob("metrics.jsonl") if not set(f.parents) & set(whole)]
    entries = [_entry(place, root) for place in sorted([*whole, *alone])]
    if not entries:
        raise DataError(
            "{folder}: no run in it; give the folder that holds yours, or run kolors-lab baseline", folder=folder
        )
    return sorted(entries, key=lambda e: (not e.scores, e.practice, -(e.score or 0), e.run))


SCORE = {"scores": [NUMBER], "practice": bool, "fits": (list, type(None))}
SERIES = {"heroine": NUMBER, "style": NUMBER, "copies": NUMBER}


def _entry(place: Path, root: Path) -> Entry:
    found: dict = {"run": place.relative_to(root).as_posix(), "folder": place}
    steps = read_object(place / "steps.json")
    if fits(steps.get("juice"), {"result": {"kept": int}}):
        found["pictures"] = steps["juice"]["result"]["kept"]
    if times := [step["seconds"] for step in steps.values() if fits(step, {"seconds": NUMBER})]:
        found["seconds"] = sum(times)
    for file in (place / "train" / "metrics.jsonl", place / "metrics.jsonl"):
        with suppress(OSError, ValueError, LookupError, TypeError, DataError):
            found |= _training(file, whole=bool(steps))
    score = read_object(place / "scores.json").get("lora", {})
    if fits(score, SCORE) and score["scores"]:
        found |= {"scores": tuple(score["scores"]), "practice": score["practice"]}
        if fits(score.get("series"), SERIES):
            found |= {name: score["series"][name] for name in SERIES}
        found |= {"fit": mean_fit(score.get("fits"))}
    return Entry(**found)


def _training(file: Path, whole: bool) -> dict:
    rows = read_metrics(file)
    found = {"steps": rows[-1]["step"], "loss": mean_loss(rows)}
    return found if whole or "seconds" not in rows[-1] else found | {"seconds": rows[-1]["seconds"]}


def table(entries: Sequence[Entry], links: bool = False) -> str:
    """A Markdown table, as a notebook shows it; with `links` to the reports, relative to the working folder."""
    columns = COLUMNS if links else COLUMNS[:-1]
    lines = ["| " + " | ".join(columns) + " |", "|---|" + "---:|" * (len(columns) - 1)]
    for entry in entries:
        report = [f"[report]({entry.report.as_posix()})" if entry.report else "—"] if links else []
        lines.append("| " + " | ".join([*entry.cells(), *report]) + " |")
    return "\n".join(lines)


def columns_of(entries: Sequence[Entry]) -> Iterator[str]:
    """The table as lines of equal columns, for a terminal."""
    rows = [headings()[:-1], *(entry.cells() for entry in entries)]
    widths = [max(_width(row[k]) for row in rows) for k in range(len(rows[0]))]
    for row in rows:
        first, *rest = [(" " * (width - _width(cell)), cell) for cell, width in zip(row, widths, strict=True)]
        yield "  ".join([first[1] + first[0], *(space + cell for space, cell in rest)])


def headings() -> list[str]:
    """COLUMNS for a reader: `pictures` are those of the training, not the story's."""
    return [_("training pictures") if name == "pictures" else name for name in COLUMNS]


def _width(text: str) -> int:
    """Columns a text takes in a terminal: two for each Chinese character."""
    return len(text) + sum("\u2e80" < char < "\uffe0" for char in text)


def leaderboard(config: LeaderboardConfig) -> list[str]:
    """Write the page for the settings of the command line and return the table's lines and where the page lies."""
    entries = find_runs(config.folder)
    page = Path(config.out) if config.out else Path(config.folder) / "leaderboard.html"
    links = {e.run: Path(os.path.relpath(e.report, page.parent)).as_posix() for e in entries if e.report}
    scored = [entry for entry in entries if entry.scores]
    plot = svg(draw_board(scored)) if scored else ""
    content = {"columns": headings(), "entries": entries, "links": links, "plot": plot}
    write_page(page, Path(__file__).with_name("leaderboard.html.j2"), content)
    return [*columns_of(entries), _("page: {file}").format(file=page)]


@lettered()
def draw_board(entries: Sequence[Entry]) -> Figure:
    """Runs from top to bottom: score with its interval and the gate, likenesses, prompt fit, each on its own axis.

    What no run was measured by has no axis.
    """
    import numpy as np
    from matplotlib.figure import Figure

    practice = _("practice score")
    names = [entry.run + (f"\n{practice}" if entry.practice else "") for entry in entries]
    rows = np.arange(len(entries))
    labels = {"heroine": _("heroine's likeness"), "style": _("style likeness"), "fit": _("prompt fit")}
    told = {label: [getattr(entry, name) for entry in entries] for name, label in labels.items()}
    told = {label: values for label, values in told.items() if any(value is not None for value in values)}
    figure = Figure(figsize=(8.4, 1.2 + 0.45 * len(entries)), layout="constrained")
    widths = (2, *[1] * len(told))
    score, *others = figure.subplots(1, len(widths), sharey=True, width_ratios=widths, squeeze=False).flat
    bounds = np.array([interval(entry.scores) for entry in entries])
    score.hlines(rows, *bounds.T, color=SOFT, linewidth=6)
    score.plot([entry.score for entry in entries], rows, "o", color=INK)
    score.axvline(GATE, color=GATE_RED, linestyle="--", linewidth=1.5)
    score.set_xlabel(_("score, its 95 % interval, gate at {gate:g}").format(gate=GATE))
    for axes, (label, values) in zip(others, told.items(), strict=True):
        axes.plot([np.nan if value is None else value for value in values], rows, "o", color=INK)
        axes.set_xlabel(label)
    for axes in (score, *others):
        axes.grid(axis="y", color=SOFT, alpha=0.4)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(left=False)
        axes.margins(x=0.15)
    score.set_yticks(rows, names, fontsize=9)
    score.set_ylim(len(entries) - 0.5, -0.5)
    return figure
