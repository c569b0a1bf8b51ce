"""Two sets of pictures from the same seeds: what the LoRA, the prompt or the sampler changed, in score.

A pair of one seed differs in what was changed only, so the interval of the paired differences is far narrower than that
of two means.

    kolors-lab score compare runs/baseline/base/panels runs/baseline/lora/panels
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kolors_lab.core.errors import DataError
from kolors_lab.core.language import _
from kolors_lab.core.stats import interval
from kolors_lab.models.presets import get_preset
from kolors_lab.scoring.aesthetics import Scorer, carried, load_scorer, score_folder

if TYPE_CHECKING:
    from kolors_lab.models.presets import Preset


@dataclass(frozen=True)
class CompareConfig:
    """Compare two sets drawn from the same seeds: by how much the scores differ, picture by picture."""

    folder: str
    """folder with the one set"""
    other: str
    """folder with the other, its files of the same names"""
    preset: str = "tiny"
    """whose scorer: "tiny" (a practice score), "kolors" (the challenge's) or a folder"""


@dataclass(frozen=True)
class Comparison:
    """Scores of two sets, paired by file name; `mean` and `interval` are of second minus first.

    `left_out` pairs a file with the reason.
    """

    files: list[str]
    first: list[float]
    second: list[float]
    practice: bool
    left_out: Sequence[tuple[Path, str]] = ()

    @property
    def differences(self) -> list[float]:
        return [b - a for a, b in zip(self.first, self.second, strict=True)]

    @property
    def mean(self) -> float:
        return sum(self.differences) / len(self.files)

    @property
    def interval(self) -> tuple[float, float]:
        return interval(self.differences)

    def verdict(self) -> str:
        """The mean difference, its interval, and whether it tells anything."""
        low, high = self.interval
        kind = _("practice scores") if self.practice else _("scores")
        sure = _("the sets differ") if low > 0 or high < 0 else _("no difference is shown: the interval holds 0")
        told = _(
            "{kind}, second minus first: {mean:+.3f} (95 % interval {low:+.3f} to {high:+.3f}) "
            "over {count} pairs; {sure}"
        )
        return told.format(kind=kind, mean=self.mean, low=low, high=high, count=len(self.files), sure=sure)

    def lines(self) -> list[str]:
        rows = zip(self.files, self.first, self.second, self.differences, strict=True)
        return [
            *(f"{a:6.2f} → {b:5.2f}  {difference:+6.2f}  {file}" for file, a, b, difference in rows),
            *(_("left out  {file}: {reason}").format(file=file, reason=reason) for file, reason in self.left_out),
            self.verdict(),
        ]


def compare_folders(preset: Preset, folder: str | Path, other: str | Path, scorer: Scorer | None = None) -> Comparison:
    """Score two folders picture by picture. DataError if file names differ, or the seeds of two that carry one."""
    scorer = scorer or load_scorer(preset)
    sides = [(place, score_folder(preset, place, scorer)) for place in (folder, other)]
    first, second = (one for _place, one in sides)
    if odd := sorted(set(first.files) ^ set(second.files)):
        raise DataError(
            "{name} is in only one of {folder} and {other}; pairs need files of the same names",
            name=odd[0],
            folder=folder,
            other=other,
        )
    for name in first.files:
        here, there = (carried(Path(place) / name).get("seed") for place in (folder, other))
        if None not in (here, there) and here != there:
            raise DataError(
                "{name}: seed {here} in {folder}, {there} in {other}; a pair is drawn from one seed",
                name=name,
                here=here,
                folder=folder,
                there=there,
                other=other,
            )
    left_out = [(Path(place) / name, why) for place, one in sides for name, why in one.left_out]
    return Comparison(first.files, first.scores, second.scores, preset.practice, left_out)


def compare(config: CompareConfig) -> Comparison:
    """`compare_folders` for the settings of the command line."""
    return compare_folders(get_preset(config.preset), config.folder, config.other)
