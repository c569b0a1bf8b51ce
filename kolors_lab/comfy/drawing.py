"""A workflow's graph as a figure, as ComfyUI shows it."""

from __future__ import annotations

from bisect import bisect
from itertools import accumulate
from typing import TYPE_CHECKING

from kolors_lab.comfy.graph import Graph, running_order, sources
from kolors_lab.core.errors import DataError
from kolors_lab.core.figures import INK, SOFT
from kolors_lab.core.fonts import font_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


DRAWN = 300  # nodes
BOX = 1.65  # inches, the width of a node in a figure


def layout(graph: Graph) -> dict[str, tuple[int, int]]:
    """(column, row) of each node: every link leads to a column further right, rows fill from the top."""
    places: dict[str, tuple[int, int]] = {}
    rows: dict[int, int] = {}
    order = dict.fromkeys((*running_order(graph), *graph))
    for key in order:
        column = max((places[source][0] for source in sources(graph, key) if source in places), default=-1) + 1
        places[key] = column, rows.get(column, 0)
        rows[column] = places[key][1] + 1
    return places


def draw(graph: dict[str, dict]) -> Figure:
    """A figure of the graph: a box per node with its settings, a line for every link, running from left to right.

    Raises DataError for a graph of more nodes than a figure can show.
    """
    if len(graph) > DRAWN:
        raise DataError("{count} nodes are more than a picture can show ({most} at most)", count=len(graph), most=DRAWN)
    from matplotlib.figure import Figure

    wide, line = 2.1, 0.15  # inches from column to column, from line to line
    places, boxes = layout(graph), {key: _box(node) for key, node in graph.items()}
    heights, corners = [0.0] * (1 + max(column for column, _ in places.values())), {}
    for key, (column, _) in sorted(places.items(), key=lambda item: item[1]):
        corners[key] = wide * column, heights[column]
        heights[column] += line * len(boxes[key]) + 0.34
    figure = Figure(figsize=(wide * len(heights), max(heights)))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-0.1, wide * len(heights) - 0.1), ylim=(max(heights) - 0.1, -0.1))
    axes.set_axis_off()
    for key in graph:
        _draw_box(axes, corners[key], boxes[key], line)
        for source in sources(graph, key):
            _draw_link(axes, corners[source], corners[key])
    return figure


def _box(node: dict) -> list[str]:
    """What a node's box says: its type, then its settings, cut to the box's width; Chinese takes twice the room."""
    values = {name: value for name, value in node["inputs"].items() if not isinstance(value, list)}
    lines = []
    for name, value in values.items():
        text = " ".join(f"{name}: {value}".split())
        ends = list(accumulate(2 if char >= "\u2e80" else 1 for char in text))
        lines.append(text if not ends or ends[-1] <= 32 else text[: bisect(ends, 31)] + "…")
    return [node["class_type"], *lines]


def _draw_box(axes: Axes, corner: tuple[float, float], lines: list[str], height: float) -> None:
    from matplotlib.font_manager import FontProperties
    from matplotlib.patches import FancyBboxPatch

    (x, y), font = corner, FontProperties(fname=font_file(), size=6.5)
    style = {"boxstyle": "round,pad=0,rounding_size=0.05", "edgecolor": INK, "linewidth": 0.8, "zorder": 2}
    axes.add_patch(FancyBboxPatch((x, y), BOX, height * len(lines) + 0.14, facecolor="white", **style))
    axes.add_patch(FancyBboxPatch((x, y), BOX, height + 0.04, facecolor=INK, **style))
    for n, text in enumerate(lines):
        at = (x + 0.06, y + height * (n + 0.62) + (0.06 if n else 0))
        axes.text(*at, text, fontproperties=font, va="center", color=INK if n else "white", zorder=3)


def _draw_link(axes: Axes, source: tuple[float, float], target: tuple[float, float]) -> None:
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path

    (x0, y0), (x1, y1) = (source[0] + BOX, source[1] + 0.1), (target[0], target[1] + 0.1)
    bend = (x1 - x0) / 2
    path = Path([(x0, y0), (x0 + bend, y0), (x1 - bend, y1), (x1, y1)], [Path.MOVETO, *[Path.CURVE4] * 3])
    axes.add_patch(FancyArrowPatch(path=path, arrowstyle="-|>", mutation_scale=7, color=SOFT, linewidth=1.1, zorder=1))
