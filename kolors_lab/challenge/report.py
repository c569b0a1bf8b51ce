"""One self-contained HTML file about a run: what went in, what came out, how long it took, what to do next."""

from __future__ import annotations

import contextlib
import io
import json
import os
import platform
import warnings
from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from kolors_lab.core.errors import DataError, KolorsLabWarning
from kolors_lab.core.figures import loss_curve
from kolors_lab.core.files import parse_json
from kolors_lab.core.images import embed
from kolors_lab.core.language import _
from kolors_lab.core.templates import write_page
from kolors_lab.scoring.aesthetics import GATE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from kolors_lab.challenge.effect import Effect
    from kolors_lab.comic.panels import StoryScene
    from kolors_lab.models.presets import Preset

PACKAGES = (
    "torch", "transformers", "diffusers", "peft", "accelerate", "safetensors", "datasets", "modelscope",
    "py-data-juicer", "simple-aesthetics-predictor", "numpy", "pillow",
)  # fmt: skip


def step_names() -> dict[str, str]:
    """What the steps of a run do, in the learner's language."""
    return {
        "juice": _("清洗数据 Clean the pictures"),
        "train": _("训练 LoRA Train the LoRA"),
        "base": _("故事，无 LoRA Story without LoRA"),
        "lora": _("故事，有 LoRA Story with LoRA"),
        "score": _("打分 Score"),
        "submit": _("整理作品 Put together what to hand in"),
    }


def write_report(
    run: Path, preset: Preset, title: str, scenes: Sequence[StoryScene], record: dict, effect: Effect
) -> Path:
    """Write `run/report.html` from the run's files and its record of steps (see `Steps`); pictures lie inside it."""
    results = {name: step["result"] for name, step in record.items()}
    metrics = read_metrics(run / "train" / "metrics.jsonl")
    content = {
        "title": title,
        "preset": preset,
        "gate": GATE,
        "made": datetime.now().strftime("%Y-%m-%d %H:%M"),
        "page": embed(run / "lora" / "page.png", 1700),
        "juice": results["juice"],
        "samples": [embed(f, 160) for f in _spread(sorted((run / "clean" / "train").glob("*.jpg")), 8)],
        "loss": mean_loss(metrics),
        "steps": metrics[-1]["step"],
        "curve": svg(loss_curve(metrics)),
        "panels": list(_panels(run, scenes, results["score"])),
        "score": results["score"],
        "effect": effect,
        "missing": results["submit"]["missing"],
        "settings": json.loads((run / "config.json").read_text(encoding="utf-8")),
        "times": [(label, record[name]["seconds"]) for name, label in step_names().items()],
        "seconds": sum(step["seconds"] for step in record.values()),
        "versions": versions(),
        "machine": machine(),
    }
    return write_page(run / "report.html", Path(__file__).with_name("report.html.j2"), content)


def read_object(file: Path) -> dict:
    """What a JSON file holds; nothing where there is none or it is damaged: a run that goes on has no scores yet."""
    with contextlib.suppress(OSError, ValueError):
        content = parse_json(file.read_text(encoding="utf-8"))
        return content if isinstance(content, dict) else {}
    return {}


def read_metrics(file: Path) -> list[dict]:
    """The training's measurements, one {"step", "loss", "learning_rate", "seconds"} a line.

    A line that is cut, by a full disk or a kill, is named and left out; DataError where none is whole.
    """
    rows, lost = [], []
    with contextlib.suppress(FileNotFoundError):
        for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            try:
                row = json.loads(line)
                rows.append({**row, "step": int(row["step"]), "loss": float(row["loss"])})
            except (ValueError, LookupError, TypeError, RecursionError):
                lost.append(str(number))
    if not rows:
        raise DataError("{file}: holds no whole line of measurements; move its folder away and train again", file=file)
    if lost:
        warnings.warn(
            KolorsLabWarning("{file}: line {lines} is damaged and left out", file=file, lines=", ".join(lost[:5])),
            stacklevel=2,
        )
    return rows


def mean_loss(metrics: Sequence[dict]) -> float:
    """Mean loss of the last tenth of the steps: a single step's depends mostly on the timesteps it drew."""
    last = [m["loss"] for m in metrics[-max(1, len(metrics) // 10) :]]
    return sum(last) / len(last)


def svg(figure: Figure) -> str:
    """A figure as an SVG element, without a background."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]


def versions() -> dict[str, str]:
    """The versions of Python and of PACKAGES, — for one that is not installed."""
    return {"python": platform.python_version(), **{name: installed(name) or "—" for name in PACKAGES}}


def installed(package: str) -> str | None:
    """Its version; None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def machine() -> str:
    """Processor, cores and GPU in one line."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {gpu}"


def _spread(files: list[Path], count: int) -> list[Path]:
    """`count` files spread evenly over the list."""
    return [files[k * len(files) // count] for k in range(count)] if len(files) > count else files


def _panels(run: Path, scenes: Sequence[StoryScene], score: dict):
    marks = {name: dict(zip(side["files"], side["scores"], strict=True)) for name, side in score.items()}
    for file, scene in ((f"{n}.png", scene) for n, scene in enumerate(scenes, 1)):
        pictures = {name: embed(run / name / "panels" / file, 512) for name in score}
        yield {"scene": scene, "score": {name: known[file] for name, known in marks.items()}, "picture": pictures}
