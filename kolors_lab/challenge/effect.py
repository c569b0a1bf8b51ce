"""What the LoRA did to the story: the same prompts and seeds drawn without it and with it, figure beside figure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kolors_lab.core.images import open_image
from kolors_lab.core.language import _
from kolors_lab.core.stats import interval
from kolors_lab.scoring.aesthetics import GATE, mean_fit
from kolors_lab.scoring.clip import classify
from kolors_lab.scoring.likeness import ALARM, alarm_text

if TYPE_CHECKING:
    from kolors_lab.models.presets import Preset

SAMPLE = 24  # pictures of the set that are asked for their style


@dataclass(frozen=True)
class Effect:
    """Figures of the panels without (`base`) and with (`lora`) the LoRA, as the step "score" notes them.

    `word` is the trigger word, empty where none is known.
    """

    base: Mapping[str, Any]
    lora: Mapping[str, Any]
    word: str
    practice: bool

    def rows(self) -> list[tuple[str, str, str]]:
        """What was measured, and how it is without and with the LoRA; what cannot be measured here is left out."""
        kind = _("练习分 practice score") if self.practice else _("美学分 aesthetic score")
        word = self.word or _("the pictures learned from")
        return [
            *self._row(_("panels in the style of {word}").format(word=word), "styled", self._counted),
            *self._row(kind, "mean", self._judged),
            *self._row(_("prompt fit"), "fit", "{:.3f}".format),
            *self._row(_("heroine's likeness"), "heroine", "{:.3f}".format),
            *self._row(_("style likeness"), "style", "{:.3f}".format),
            *self._row(_("nearly equal pairs of panels"), "copies", "{:.0%}".format),
        ]

    def advice(self) -> list[str]:
        """What to try where the panels are copies, where the LoRA takes them below the gate, or where they tell less of
        their prompts than without it, beyond chance."""
        copied = [alarm_text()] if (self._figure(self.lora, "copies") or 0) > ALARM else []
        return copied + self._below() + self._fallen()

    def _below(self) -> list[str]:
        before, after = self._figure(self.base, "mean"), self._figure(self.lora, "mean")
        if None in (before, after) or not after < GATE <= before:
            return []
        told = _("with the LoRA the mean score is {after:.2f}, without it {before:.2f}, the gate {gate:g}: {way}")
        way = _("it may be too strong; try --lora_strength 0.7, or train with fewer --steps")
        return [told.format(after=after, before=before, gate=GATE, way=way)]

    def _fallen(self) -> list[str]:
        pairs = zip(self.base.get("fits") or (), self.lora.get("fits") or (), strict=False)
        changes = [after - before for before, after in pairs if None not in (before, after)]
        low, high = interval(changes)
        if not high < 0:
            return []
        fall = _("prompt fit fell by {change:.3f} a panel (95 % interval {low:.3f} to {high:.3f}): {way}")
        way = _("the LoRA drowns the prompt; try --lora_strength 0.6, or train with fewer --steps")
        change = -sum(changes) / len(changes)
        return [fall.format(change=change, low=-high, high=-low, way=way)]

    def _row(self, name: str, figure: str, show: Any) -> list[tuple[str, str, str]]:
        known = [self._figure(side, figure) for side in (self.base, self.lora)]
        return [] if None in known else [(name, *map(show, known))]

    @staticmethod
    def _figure(side: Mapping[str, Any], name: str) -> float | None:
        series = {figure: value for figure, value in (side.get("series") or {}).items() if not math.isnan(value)}
        return {**side, **series, "fit": mean_fit(side.get("fits"))}.get(name)

    def _counted(self, count: int) -> str:
        return _("{count} of {all}").format(count=count, all=len(self.lora["files"]))

    def _judged(self, mean: float) -> str:
        side = _("above {gate:g}") if mean >= GATE else _("below {gate:g}")
        return f"{mean:.2f} ({side.format(gate=GATE)})"


def count_style(preset: Preset, learned: Sequence[Path], panels: Mapping[str, Sequence[Path]]) -> dict[str, int | None]:
    """Per story, how many panels have the style of most pictures `learned` from, as the picture world's classifier
    sees it; None for each where the preset has no classifier."""
    if not preset.classifier:
        return dict.fromkeys(panels)
    sample = learned[:: -(-len(learned) // SAMPLE)]
    files = [*sample, *(file for story in panels.values() for file in story)]
    seen = iter([answer["style"] for answer in classify([open_image(file) for file in files], preset)])
    styles = [next(seen) for _file in sample]
    usual = max(sorted(set(styles)), key=styles.count)
    return {name: sum(next(seen) == usual for _file in story) for name, story in panels.items()}
