"""Casting: several seeds for every scene, ranked; the best plays, and whoever knows better changes one number.

The choice stands in `cast.csv`, one line a scene. A seed changed there, by hand or by `choose`, stays through later
rankings; running again makes only what has changed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from kolors_lab.comic.look import Look
from kolors_lab.comic.page import make_page
from kolors_lab.comic.panels import (
    CAST,
    StoryConfig,
    artist,
    chosen,
    draw_files,
    make_pages,
    panel_settings,
    read_cast,
    same_picture,
    speaks_of,
    story_file,
    tell_story,
)
from kolors_lab.comic.script import StoryScene, read_story
from kolors_lab.core.errors import DataError
from kolors_lab.core.fields import Range
from kolors_lab.core.files import NUMBER, fits, parse_json, replacing, write_json, write_table
from kolors_lab.core.images import open_image
from kolors_lab.models.presets import get_preset
from kolors_lab.sampling.config import prompts_of
from kolors_lab.sampling.loading import load_for
from kolors_lab.scoring.aesthetics import carried, find_scorer, load_scorer, score_images
from kolors_lab.scoring.clip import load_eyes

if TYPE_CHECKING:
    from diffusers import KolorsPipeline

    from kolors_lab.comic.panels import Pipe
    from kolors_lab.models.presets import Preset

MEASURES = ("score", "fit", "likeness")
FOOT = "分 score · 词 prompt fit · 像 likeness to the series · 由 AI 生成 AI-generated"


@dataclass(frozen=True)
class CastConfig(StoryConfig):
    """Draw every scene with several seeds, rank them, and tell the story with the best.

    Args:
        takes: seeds tried for each scene: its own and those that follow
    """

    takes: Annotated[int, Range(1, 64)] = 4


@dataclass(frozen=True)
class Take:
    """One try at a scene: three figures that are to be high, and its rank by them, 1 for the best."""

    panel: int
    seed: int
    file: Path
    score: float
    fit: float
    likeness: float
    rank: int = 0


@dataclass(frozen=True)
class Cast:
    """What a casting made: the takes of every scene, best first, the seeds that play, sheets and page."""

    takes: list[list[Take]]
    seeds: list[int]
    sheets: list[Path]
    page: Path


def cast(
    config: CastConfig, on_step: Callable[[int, int], None] | None = None, pipe: KolorsPipeline | None = None
) -> Cast:
    """Draw the takes, rank them, write `takes/N.png` (a sheet for each scene), `cast.csv`, the panels and the page.

    Takes and figures that are there already are kept. Raises ModelError or FetchError for a missing scorer.
    """
    preset, out = get_preset(config.preset), Path(config.out)
    find_scorer(preset)  # what is missing is found before hours of drawing
    scenes = read_story(story_file(config.story), count=config.count)
    tried = [
        (n, replace(scene, seed=seed))
        for n, (scene, now) in enumerate(zip(scenes, chosen(out, scenes), strict=True), 1)
        for seed in dict.fromkeys((*range(scene.seed, scene.seed + config.takes), now.seed))
    ]
    load = pipe or (lambda: load_for(preset, prompts_of(scene for _, scene in tried)))
    look = Look.of(config, scenes)
    takes = _ranked(_draw(config, preset, tried, look, load, on_step), preset, out / "takes")
    seeds = _choice(out, scenes, takes)
    for n, seed in enumerate(seeds, 1):
        _play(out / "takes" / str(n) / f"{seed}.png", out / "panels" / f"{n}.png")
    panels = tell_story(load, chosen(out, scenes), out, preset, **config.drawing(), together=config.together, look=look)
    sheets = [contact_sheet(out, n, scene, takes[n - 1], seeds[n - 1]) for n, scene in enumerate(scenes, 1)]
    return Cast(takes, seeds, sheets, make_pages(config, panels, [scene.scene for scene in scenes]))


def choose(out: str | Path, panel: int, seed: int) -> None:
    """Have `seed` play scene `panel` (from 1) from now on. DataError if there was no casting in this folder."""
    rows = read_cast(out)
    mine = [row for row in rows if row["panel"] == str(panel)]
    if not mine:
        raise DataError("{file}: no line for panel {panel}; run the casting first", file=Path(out) / CAST, panel=panel)
    mine[0]["seed"] = str(seed)
    write_cast(out, rows)


def _draw(
    config: CastConfig,
    preset: Preset,
    tried: Sequence[tuple[int, StoryScene]],
    look: Look,
    load: Pipe,
    on_step: Callable[[int, int], None] | None,
) -> dict[Path, dict]:
    """Takes `takes/PANEL/SEED.png` with their settings; those already there with equal settings are kept."""
    panels, scenes = zip(*tried, strict=True)
    settings = panel_settings(scenes, preset, look=look, panels=panels, **config.drawing())
    names = [Path(config.out) / "takes" / str(n) / f"{scene.seed}.png" for n, scene in tried]
    files = dict(zip(names, settings, strict=True))
    missing = {file: one for file, one in files.items() if not same_picture(carried(file), one)}
    with artist(load if missing else None, config.lora, config.lora_strength) as pipe:
        draw_files(pipe, missing, config.together, on_step, len(files), look)
    return files


def _ranked(files: dict[Path, dict], preset: Preset, folder: Path) -> list[list[Take]]:
    """The takes of each scene, best first: by the sum of their ranks in score, prompt fit and likeness."""
    panels = [int(file.parent.name) for file in files]
    figures = _figures(files, panels, preset, folder / "figures.json")
    takes: list[list[Take]] = [[] for _ in range(max(panels))]
    for n, file, row in zip(panels, files, figures, strict=True):
        takes[n - 1].append(Take(n, files[file]["seed"], file, *row))
    for mine in takes:
        places = {m: sorted((getattr(take, m) for take in mine), reverse=True) for m in MEASURES}
        mine.sort(key=lambda t: (sum(places[m].index(getattr(t, m)) for m in MEASURES), -t.score))
    return [[replace(take, rank=k) for k, take in enumerate(mine, 1)] for mine in takes]


def _figures(files: dict[Path, dict], panels: Sequence[int], preset: Preset, known: Path) -> list[list[float]]:
    """Score, prompt fit and likeness of each take, as far as they are not in the file `known` already.

    Likeness to the series is a take's mean likeness to all takes of the other scenes, since none is chosen yet.
    """
    judged = json.dumps([preset.scorer, preset.clip, [[str(file), one] for file, one in files.items()]])
    key = hashlib.sha256(judged.encode()).hexdigest()
    with contextlib.suppress(OSError, ValueError):  # none yet, or damaged: they are made anew
        record = parse_json(known.read_text(encoding="utf-8"))
        rows = record["figures"] if fits(record, {"key": str, "figures": [[NUMBER]]}) and record["key"] == key else []
        if [len(row) for row in rows] == [len(MEASURES)] * len(files):
            return rows
    import numpy as np

    images, eyes = [open_image(file) for file in files], load_eyes(preset)
    others = np.not_equal.outer(panels, panels)
    likeness = (eyes.likeness(images) * others).sum(1) / np.maximum(others.sum(1), 1)
    fit = eyes.fit(images, [one["prompt"] for one in files.values()])
    rows = np.transpose([score_images(load_scorer(preset), images), fit, likeness]).tolist()
    write_json(known, {"key": key, "figures": rows})
    return rows


def _choice(out: Path, scenes: Sequence[StoryScene], takes: Sequence[Sequence[Take]]) -> list[int]:
    """Write `cast.csv`: the best of each scene, but where somebody chose another seed than the first in rank."""
    seeds = [mine[0].seed for mine in takes]
    for row in read_cast(out):
        if row["seed"] != row.get("best") and speaks_of(row, scenes):  # by hand
            seeds[int(row["panel"]) - 1] = int(row["seed"])
    rows = [
        {"panel": n, "scene": scene.scene, "seed": seeds[n - 1], "best": takes[n - 1][0].seed}
        for n, scene in enumerate(scenes, 1)
    ]
    write_cast(out, rows)
    return seeds


def write_cast(out: str | Path, rows: Sequence[dict]) -> None:
    """Write the lines that `story.read_cast` reads."""
    columns = ("panel", "scene", "seed", "best")
    write_table(Path(out) / CAST, columns, (map(row.get, columns) for row in rows))


def _play(take: Path, panel: Path) -> None:
    """Put a take in the place of the panel, unless it is there already or the user's own picture is."""
    if panel.exists() and (not carried(panel) or same_picture(carried(panel), carried(take))):
        return
    with replacing(panel) as part:
        shutil.copyfile(take, part)


def contact_sheet(out: str | Path, n: int, scene: StoryScene, takes: Sequence[Take], seed: int) -> Path:
    """`takes/N.png`: the takes of a scene, best first, with seed and figures; ✓ marks the one that plays."""
    figures = [f"seed {t.seed}　分 {t.score:.2f}　词 {t.fit:.2f}　像 {t.likeness:.2f}" for t in takes]
    captions = [f"✓ {text}" if t.seed == seed else text for t, text in zip(takes, figures, strict=True)]
    sheet = Path(out) / "takes" / f"{n}.png"
    return make_page([take.file for take in takes], captions, sheet, f"{n}　{scene.scene}", FOOT)
