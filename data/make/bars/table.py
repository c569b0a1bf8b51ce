"""A bar: a name, how it is measured, and what it must reach."""

import json
import operator
from collections.abc import Callable
from dataclasses import dataclass

from models.common import BUILD

RELATIONS = {">=": operator.ge, "<=": operator.le}
SHARE = [1.0]  # of all pictures and steps, for a try


@dataclass(frozen=True)
class Bar:
    """`measure()` gives a figure that must be >= or <= `limit`; without a limit it is there to read others by."""

    part: str
    name: str
    measure: Callable[[], float]
    relation: str = ""
    limit: float = 0.0

    def holds(self, value: float) -> bool:
        """NaN holds no bar."""
        return not self.relation or RELATIONS[self.relation](value, self.limit)

    def line(self, value: float) -> str:
        wanted = f"{self.relation} {self.limit:g}" if self.relation else ""
        return f"{self.part:10s} {self.name:52s} {value:8.3f}   {wanted}{'' if self.holds(value) else '   FALLS SHORT'}"


def scaled(count: int, least: int = 4) -> int:
    """The count of pictures or steps that this run makes."""
    return max(min(least, count), round(count * SHARE[0]))


def keep(values: dict[str, float]) -> None:
    """Write figures to build/bars.json, those of other parts as they were."""
    file = BUILD / "bars.json"
    known = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(known | {name: round(value, 4) for name, value in values.items()}, indent=1) + "\n")
