"""What panels have in common beside their words: the first panel's look, and where things stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Annotated, Any

from kolors_lab.core.errors import DataError
from kolors_lab.core.fields import Range
from kolors_lab.core.language import _
from kolors_lab.sampling.control import ControlConfig, control_of_panel, find_control
from kolors_lab.sampling.metadata import file_mark

if TYPE_CHECKING:
    from diffusers import KolorsPipeline

    from kolors_lab.comic.script import StoryScene

CONTROLS = tuple(field.name for field in fields(ControlConfig) if field.name != "control")
ANCHOR = ("prompt", "negative_prompt", "seed", "control")  # what of the first panel the others are drawn after
ALIKE = ("consistency", "anchor", *CONTROLS)  # equal for panels that are drawn at once


@dataclass(frozen=True)
class LookConfig(ControlConfig):
    """What the panels of a story have in common.

    Args:
        consistency: how far every panel takes after the first, 0 to 1: its people and style, at some cost in variety
        control: the picture that says where things stand, for all panels, or a folder of 1.png, 2.png, … for each
    """

    consistency: Annotated[float, Range(0, 1)] = 0.0


@dataclass(frozen=True)
class Look:
    """A LookConfig as one story has it: the control of each panel, and the anchor, the script's first scene.

    The anchor keeps the script's seed whatever seed plays the scene, so that a panel depends on itself and the script.
    """

    config: LookConfig = LookConfig()
    anchor: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)  # controls by the mark that panels carry

    @staticmethod
    def of(config: LookConfig, script: Sequence[StoryScene]) -> Look:
        """The look of a story told after this script. DataError where a panel's control is missing."""
        controls = [control_of_panel(config, n).control for n in range(1, len(script) + 1)]
        marks = {file: file_mark(_("control"), file) for file in dict.fromkeys(controls) if file}
        first = {name: getattr(script[0], name) for name in ANCHOR[:3]} if config.consistency else {}
        first |= {"control": marks[controls[0]]} if first and controls[0] else {}
        return Look(config, first, {mark: file for file, mark in marks.items()})

    def controls(self, number: int) -> dict[str, Any]:
        """The control settings of panel `number`, from 1, as a GenerateConfig takes them."""
        one = control_of_panel(self.config, number)
        return {name: getattr(one, name) for name in ("control", *CONTROLS)} if one.control else {}

    def shared(self) -> dict[str, Any]:
        """What a panel carries of the anchor; nothing without consistency."""
        return {"consistency": self.config.consistency, "anchor": self.anchor} if self.anchor else {}

    def options(self, pipe: KolorsPipeline, group: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """generate_batch's options for panels with these settings. DataError for a control that is not at hand."""
        options = {"consistency": group[0]["consistency"]} if "consistency" in group[0] else {}
        if marks := [one["control"] for one in group if "control" in one]:
            if lost := set(marks) - set(self.files):
                raise DataError(
                    "control {control}: the panel was drawn after it and cannot be without; give it", control=min(lost)
                )
            pictures = [self.files[mark] for mark in marks]
            options["control"] = find_control(pipe, replace(self.config, control=pictures[0]), pictures)
        return options


def with_anchor(group: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The settings of panels drawn at once, the anchor's before them if they have one."""
    return [*([group[0] | group[0]["anchor"]] if "anchor" in group[0] else []), *group]
