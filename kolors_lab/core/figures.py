"""Figures: every function returns a matplotlib Figure that belongs to no window; save it or end a cell with it."""

from __future__ import annotations

from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING

from kolors_lab.core.fonts import font_file
from kolors_lab.core.language import _

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from matplotlib.figure import Figure
    from PIL import Image


INK, SOFT, GATE_RED = "#4b3f72", "#c9c2de", "#c8553d"


def chinese_letters() -> None:
    """From now on texts are in matplotlib's own font, and in the bundled Chinese one where that lacks a character."""
    from matplotlib import font_manager, rcParams

    file = str(font_file())
    if file not in {known.fname for known in font_manager.fontManager.ttflist}:
        font_manager.fontManager.addfont(file)
    rcParams["font.family"] = ["DejaVu Sans", font_manager.FontProperties(fname=file).get_name()]


@contextmanager
def lettered() -> Iterator[None]:
    """Texts made within have these letters, and nothing else has."""
    from matplotlib import rc_context

    with rc_context():
        chinese_letters()
        yield


@lettered()
def funnel(steps: Sequence[tuple[str, int]]) -> Figure:
    """Bars, one per (step, number left after it), from the raw set at the top to the kept pictures at the bottom."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 0.9 + 0.38 * len(steps)), layout="constrained")
    axes = figure.subplots()
    names, counts = zip(*steps, strict=True)
    axes.barh(names, [counts[0]] * len(counts), color=SOFT, alpha=0.35, height=0.7)
    bars = axes.barh(names, counts, color=INK, height=0.7)
    losses = [0, *(before - after for before, after in pairwise(counts))]
    axes.bar_label(bars, [f" {n}" + (f"  (−{loss})" if loss else "") for n, loss in zip(counts, losses, strict=True)])
    axes.invert_yaxis()
    axes.set_xlim(0, max(counts[0], 1) * 1.18)
    axes.set_xlabel(_("pictures left"))
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(left=False)
    return figure


@lettered()
def picture_grid(
    images: Sequence[Image.Image], titles: Sequence[str] = (), columns: int = 4, side: float = 1.6
) -> Figure:
    """Pictures in rows of `columns`, each in a field of `side` inches under its title (may be missing)."""
    from matplotlib.figure import Figure

    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    lines = max((title.count("\n") + 1 for title in titles), default=0)
    figure = Figure(figsize=(columns * side, rows * (side + 0.16 * lines)), layout="constrained")
    for number, field in enumerate(figure.subplots(rows, columns, squeeze=False).flat):
        field.set_axis_off()
        if number < len(images):
            field.imshow(images[number])
            field.set_title(titles[number] if number < len(titles) else "", fontsize=8, pad=2)
    return figure


@lettered()
def loss_curve(metrics: Sequence[dict]) -> Figure:
    """Loss over the training's steps: every step as a dot, and the running mean of a tenth of them as a line."""
    import numpy as np
    from matplotlib.figure import Figure

    steps, losses = np.array([[row["step"], row["loss"]] for row in metrics]).T
    window = max(1, len(losses) // 10)
    mean = np.convolve(losses, np.ones(window) / window, mode="valid")
    figure = Figure(figsize=(7.2, 2.8), layout="constrained")
    axes = figure.subplots()
    axes.plot(steps, losses, ".", color=SOFT, markersize=4, label=_("each step"))
    axes.plot(steps[window - 1 :], mean, color=INK, linewidth=2, label=_("mean of {count}").format(count=window))
    axes.set_xlabel(_("step"))
    axes.set_ylabel(_("loss"))
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure


@lettered()
def score_histogram(scores: Sequence[float], gate: float = 6.0) -> Figure:
    """How the scores of a set are spread, with the gate and the mean and its 95 % interval."""
    import numpy as np
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    from kolors_lab.core.stats import interval

    figure = Figure(figsize=(6.4, 2.6), layout="constrained")
    axes = figure.subplots()
    axes.hist(scores, bins=np.histogram_bin_edges([*scores, gate], bins=24), color=SOFT)
    low, high = interval(scores)
    axes.axvspan(low, high, color=INK, alpha=0.25, linewidth=0, label=_("95 % interval of the mean"))
    axes.axvline(float(np.mean(scores)), color=INK, linewidth=2, label=_("mean"))
    axes.axvline(gate, color=GATE_RED, linestyle="--", linewidth=1.5, label=_("gate at {gate:g}").format(gate=gate))
    axes.set_xlabel(_("score"))
    axes.set_ylabel(_("pictures"))
    axes.yaxis.set_major_locator(MaxNLocator("auto", integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    return figure
