"""Juicing: a raw folder of pictures and captions becomes a clean one, with a reason for everything left out.

Each picture is opened once before; then Data-Juicer runs the operators of a recipe, one after another. Left to itself,
it replaces a whole batch by nothing when one picture in it cannot be read, and reports success.
"""

from __future__ import annotations

import contextlib
import glob
import multiprocessing
import os
import platform
import shutil
import tempfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import psutil

from kolors_lab.core.errors import DataError, FetchError, SettingError
from kolors_lab.core.fields import OneOf, Range, check_fields
from kolors_lab.core.files import ENCODINGS, fingerprints, parse_json, write_json, write_table, writing
from kolors_lab.core.language import _
from kolors_lab.dataset.archive import set_folder
from kolors_lab.dataset.folder import Example, open_example, read_examples
from kolors_lab.dataset.measures import HASH_SIZE, distance
from kolors_lab.dataset.quiet import data_juicer
from kolors_lab.dataset.scale import measured_by_ray, ray_running
from kolors_lab.dataset.tables import REPEATS
from kolors_lab.models.presets import MAX_TOKENS, PREFIX, Preset, get_preset, local_path, pipeline_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Row = dict[str, Any]  # index and file name in the raw set, caption, the checked picture; Data-Juicer adds to it

MADE = ".made.json"  # fingerprints of all that juice wrote, to know later whether somebody edited it

EXECUTORS = ("default", "ray")
HASHES = {"image_exact_deduplicator": "__dj__hash", "image_near_deduplicator": "__dj__imagehash"}


def speech() -> dict[str, tuple[str, str, str]]:
    """Per operator: its name in the funnel, what is said of a picture it drops, the setting that loosens it."""
    return {
        "image_shape_filter": (
            _("size"),
            _("{image_width} x {image_height} px, needs {min_width} x {min_height}"),
            "min_size",
        ),
        "image_aspect_ratio_filter": (
            _("aspect ratio"),
            _("{aspect_ratios:.2f}, needs {min_ratio:g} to {max_ratio:g}"),
            _("min_ratio or max_ratio"),
        ),
        "image_sharpness_filter": (
            _("sharpness"),
            _("{image_sharpness:.0f}, needs {min_sharpness:g}"),
            "min_sharpness",
        ),
        "image_exact_deduplicator": (_("exact duplicates"), _("the same picture as {twin}"), "data"),
        "image_near_deduplicator": (
            _("near duplicates"),
            _("like {twin}, {bits} of 256 bits differ"),
            "max_distance",
        ),
        "image_preset_score_filter": (_("score"), _("{preset_score:.2f}, needs {min_score:g}"), "min_score"),
    }


@dataclass(frozen=True)
class CleanConfig:
    """Clean a picture set: drop what is unreadable, too small, too narrow, blurred or there twice."""

    preset: str = "tiny"
    """whose thresholds and set: "tiny", "kolors" or a folder that holds a KolorsPipeline"""
    data: str | None = None
    """raw folder, or zip of it, with metadata.jsonl, metadata.csv or .txt captions; none: the preset's own set"""
    out: str = "runs/clean"
    """folder for the clean set; one that an earlier juice made is replaced"""
    np: Annotated[int, Range(1)] = 1
    """number of processes"""
    executor: Annotated[str, OneOf(EXECUTORS)] = "default"
    """what measures the pictures: default, this machine; ray, the cluster of RAY_ADDRESS or a Ray started here"""
    min_size: Annotated[int | None, Range(0)] = None
    """least width and height in px; none: the preset's"""
    min_ratio: Annotated[float | None, Range(0)] = None
    """least width / height; none: the preset's"""
    max_ratio: Annotated[float | None, Range(0)] = None
    """greatest width / height; none: the preset's"""
    min_sharpness: Annotated[float | None, Range(0)] = None
    """least variance of the Laplacian at the preset's picture size; none: the preset's; 0 keeps blurred pictures"""
    max_distance: Annotated[int, Range(-1, HASH_SIZE**2)] = 12
    """pictures whose perceptual hashes differ in at most so many of 256 bits are near duplicates; -1 keeps them"""
    min_score: Annotated[float | None, Range(0)] = None
    """least score of the preset's scorer, about 1 to 10; none: no scoring"""
    encoding: Annotated[str | None, OneOf(ENCODINGS)] = None
    """of captions that are not UTF-8: gbk, big5 or utf-16; none: they are refused"""

    def __post_init__(self):
        check_fields(self)
        if self.executor == "ray" and self.np > 1:
            raise SettingError("np = {np}: with executor ray, Ray itself says how many at a time", np=self.np)


@dataclass(frozen=True)
class CleanResult:
    """`rejected`: (file in the raw folder, reason); `funnel`: (step, number of pictures left after it); `too_long`: the
    pictures in the clean set of whose captions the model reads only the first 256 tokens."""

    kept: int
    rejected: list[tuple[str, str]]
    funnel: list[tuple[str, int]]
    out: Path
    too_long: list[str]


def clean(config: CleanConfig, on_step: Callable[[int, int], None] | None = None) -> CleanResult:
    """Clean `config.data` into `config.out`: train/NNNN.jpg, train/metadata.csv, rejected.csv, funnel.png, recipe.yaml.

    NNNN is the picture's place in the raw set, from 0. All of it is written or nothing; equal for any `np`.
    `on_step(done, total)` counts pictures checked and operators run. Raises DataError for a raw folder that cannot be
    read, a set of which nothing is left, and an `out` that holds anything else than an untouched earlier juice.
    """
    preset = get_preset(config.preset)
    data, out = set_folder(config.data or local_path(preset.dataset, "data")), Path(config.out).absolute()
    _check_replaceable(out)
    examples, recipe = read_examples(data, config.encoding), make_recipe(config, preset, data)
    total = len(examples) + len(recipe["process"])
    tick = (lambda done: on_step(done, total)) if on_step else (lambda done: None)
    engine = ray_running() if config.executor == "ray" else contextlib.nullcontext()
    with engine, writing(out), _workplace(out) as work:
        made = work / "made"
        rows, reasons = _check(examples, data, made / "train", tick)
        funnel = [(_("raw"), len(examples)), (_("readable"), len(rows))]
        for done, (step, rows, dropped) in enumerate(run_recipe(recipe, rows), len(examples) + 1):  # noqa: B020
            reasons |= dropped
            funnel.append((step, len(rows)))
            tick(done)
        rejected = [reasons[index] for index in sorted(reasons)]
        if not rows:
            raise _nothing_left(data, funnel, rejected)
        _write(made, rows, examples, rejected, funnel, recipe)
        _move(made, out, work)
    return CleanResult(len(rows), rejected, funnel, Path(config.out), _too_long(rows, preset))


# The recipe ----------------------------------------------------------------------------------------------------------


def make_recipe(config: CleanConfig, preset: Preset, data: Path) -> dict[str, Any]:
    """The Data-Juicer recipe for these settings: the baseline's two filters, then sharpness, duplicates, score.

    Sharpness goes before duplicates, so that of a picture and its blurred copy the sharp one stays.
    """

    def limit(field: str) -> float:
        value = getattr(config, field)
        return getattr(preset, field) if value is None else value

    side, sharp = limit("min_size"), limit("min_sharpness")
    ratio = {field: limit(field) for field in ("min_ratio", "max_ratio")}
    process: list[dict[str, dict]] = [
        {"image_shape_filter": {"min_width": side, "min_height": side, "any_or_all": "any"}},
        {"image_aspect_ratio_filter": {**ratio, "any_or_all": "any"}},
        {"image_sharpness_filter": {"size": preset.size, "min_sharpness": sharp}},
        {"image_exact_deduplicator": {}},
        {"image_near_deduplicator": {"max_distance": config.max_distance}},
    ]
    if config.min_score is not None:
        process.append({"image_preset_score_filter": {"preset": config.preset, "min_score": config.min_score}})
    return {
        "project_name": "kolors_lab",
        "dataset_path": str(data / "metadata.jsonl"),
        "export_path": "juiced/metadata.jsonl",
        "executor_type": config.executor,
        "np": config.np,
        "text_keys": "text",
        "image_key": "image",
        "skip_op_error": False,  # Data-Juicer's default, True, drops a batch of up to 1000 for one bad picture
        "process": process,
    }


def run_recipe(recipe: dict[str, Any], rows: list[Row]) -> Iterator[tuple[str, list[Row], dict[int, tuple[str, str]]]]:
    """Run the recipe's operators with Data-Juicer, one by one: step, rows left, {index: (file, reason)} of the dropped.

    One at a time, because only the difference between before and after tells which operator dropped which picture.
    Rows have `index`, `file`, `text` and `image`, a list with one path; their order is kept. An error in an operator
    stops the run.
    """
    shared = {key: recipe[key] for key in ("image_key", "skip_op_error")}
    # Data-Juicer's own guess at a good number of processes would overrule `np`; in one, none is started
    parallel = recipe["np"] > 1 and "fork" in multiprocessing.get_all_start_methods()
    shared |= {"auto_op_parallelism": False, "num_proc": recipe["np"] if parallel else None}
    for entry in recipe["process"]:
        [(name, settings)] = entry.items()
        if not rows:
            return
        with data_juicer() as (load_ops, Dataset):
            [operator] = load_ops([{name: settings | shared | {"batch_mode": name not in HASHES}}])
            if recipe.get("executor_type") == "ray":
                measured = Dataset.from_list(measured_by_ray(operator, rows))
            else:
                measured = operator.run(Dataset.from_list(rows), reduce=False)
            before, left = list(measured), list(measured.process([operator], open_monitor=False))
        yield speech()[name][0], left, _reasons(name, settings, before, left)
        rows = left


def _reasons(name: str, settings: dict, before: list[Row], left: list[Row]) -> dict[int, tuple[str, str]]:
    """{index: (file, reason)} of the rows that the operator dropped."""
    step, words, _setting = speech()[name]
    kept = {row["index"] for row in left}
    reasons = {}
    for row in before:
        if row["index"] not in kept:
            figures = settings | _twin(row, left, HASHES[name]) if name in HASHES else settings | _figures(row)
            reasons[row["index"]] = (row["file"], f"{step}: {words.format(**figures)}")
    return reasons


def _figures(row: Row) -> dict[str, Any]:
    """What the filters measured; Data-Juicer's own keep a list, one figure per picture of a sample."""
    return {key: value[0] if isinstance(value, list) else value for key, value in row["__dj__stats__"].items()}


def _twin(row: Row, left: list[Row], key: str) -> dict[str, Any]:
    nearest = min(left, key=lambda other: distance(row[key], other[key]))
    return {"twin": nearest["file"], "bits": distance(row[key], nearest[key])}


# Reading and writing -------------------------------------------------------------------------------------------------


def _check(
    examples: list[Example], data: Path, folder: Path, tick: Callable[[int], None]
) -> tuple[list[Row], dict[int, tuple[str, str]]]:
    """Open every picture and save what is sound to `folder` as RGB JPEG, upright; (rows, {index: (file, reason)})."""
    folder.mkdir(parents=True)
    rows, reasons = [], {}
    for index, example in enumerate(examples):
        name, file = Path(os.path.relpath(example.image, data)).as_posix(), folder / f"{index:04d}.jpg"
        try:
            # 4:4:4: line art loses its colours' edges in the usual 4:2:0
            open_example(example).save(file, quality=95, subsampling=0)
            rows.append({"index": index, "file": name, "text": example.text, "image": [str(file)]})
        except DataError as error:
            reasons[index] = (name, str(error).removeprefix(str(example.image)).lstrip(" :："))
        tick(index + 1)
    return rows, reasons


def _write(made: Path, rows: list[Row], examples: list[Example], rejected: list, funnel: list, recipe: dict) -> None:
    """Complete the folder `made`, which so far holds every sound picture; its fingerprints come last."""
    import yaml

    from kolors_lab.core.figures import funnel as draw

    kept = {Path(row["image"][0]).name: (row["text"], examples[row["index"]].repeats) for row in rows}
    for file in (made / "train").iterdir():
        if file.name not in kept:
            file.unlink()
    columns, table = ["file_name", "text", REPEATS], [(name, *told) for name, told in kept.items()]
    if all(repeats == 1 for _, repeats in kept.values()):
        columns, table = columns[:2], [row[:2] for row in table]
    write_table(made / "train" / "metadata.csv", columns, table)
    write_table(made / "rejected.csv", ("file", "reason"), rejected)
    draw(funnel).savefig(made / "funnel.png", dpi=100)
    with (made / "recipe.yaml").open("w", encoding="utf-8") as stream:
        stream.write("# What kolors-lab juice ran, after it had opened every picture\n")
        yaml.safe_dump(recipe, stream, sort_keys=False, allow_unicode=True)
    write_json(made / MADE, fingerprints(made))


@contextlib.contextmanager
def _workplace(out: Path) -> Iterator[Path]:
    """A temporary folder beside `out`: moving from there into place is one rename on one disk.

    Its name tells machine and process, so that what a killed run left is known and swept.
    """
    mine = f".juice-{platform.node()}-"
    out.parent.mkdir(parents=True, exist_ok=True)
    for old in out.parent.glob(f"{glob.escape(mine)}*"):
        process = old.name.removeprefix(mine).partition("-")[0]
        if process.isdigit() and not psutil.pid_exists(int(process)):
            shutil.rmtree(old, ignore_errors=True)
    with tempfile.TemporaryDirectory(
        prefix=f"{mine}{os.getpid()}-", dir=out.parent, ignore_cleanup_errors=True
    ) as work:
        yield Path(work)


def _too_long(rows: list[Row], preset: Preset) -> list[str]:
    """The pictures whose captions the model does not read to their end; none where its tokenizer is not at hand."""
    from sentencepiece import SentencePieceProcessor

    with contextlib.suppress(FetchError, OSError, RuntimeError):
        tokenizer = SentencePieceProcessor(str(pipeline_path(preset) / "tokenizer" / "tokenizer.model"))
        return [Path(row["image"][0]).name for row in rows if len(tokenizer.encode(row["text"])) > MAX_TOKENS - PREFIX]
    return []


def _check_replaceable(out: Path) -> None:
    """DataError unless `out` is missing, empty, or what an earlier juice made and nobody edited."""
    if not out.exists():
        return
    if not out.is_dir():
        raise DataError("out = {out}: there is a file of this name; choose another folder", out=out)
    there = fingerprints(out)
    try:
        made = parse_json((out / MADE).read_text(encoding="utf-8")) if there else {}
        changed = sorted(name for name in there.keys() | made.keys() if there.get(name) != made.get(name))
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(
            "out = {out}: the folder is not empty and not made by juice; choose another one", out=out
        ) from error
    if changed and changed[0] not in made:
        raise DataError(
            "{file} was not made by juice; keep a copy elsewhere or choose another out folder", file=out / changed[0]
        )
    if changed:
        raise DataError(
            "{file} was edited after it was made; keep a copy elsewhere or choose another out folder",
            file=out / changed[0],
        )


def _move(made: Path, out: Path, work: Path) -> None:
    """Put `made` in the place of `out`; if that fails, `out` is as before."""
    old = work / "old"
    if out.exists():
        out.replace(old)
    try:
        made.replace(out)
    except OSError:
        if old.exists():
            old.replace(out)
        raise


def _nothing_left(data: Path, funnel: list[tuple[str, int]], rejected: list[tuple[str, str]]) -> DataError:
    """The step that took the most, an example of it, and what to loosen."""
    losses = {step: before - after for (_, before), (step, after) in pairwise(funnel)}
    worst = max(losses, key=losses.get)
    loosen = {step: setting for step, _words, setting in speech().values()}.get(worst)
    start = f"{worst}: " if loosen else ""
    file, reason = next(pair for pair in rejected if pair[1].startswith(start))
    return DataError(
        "nothing is left of the {count} pictures in {data}: {lost} went at the step '{step}', "
        "e.g. {file}: {reason}{way}",
        count=funnel[0][1],
        data=data,
        lost=losses[worst],
        step=worst,
        file=file,
        reason=reason.removeprefix(start),
        way=_("; change {setting}").format(setting=loosen) if loosen else "",
    )
