"""The folder to hand in, and the same as a zip: LoRA, model card, panels, prompts and page.

The challenge asks for a LoRA on ModelScope named 队伍名称-可图Kolors训练-xxxxxx with its description, at least eight
pictures with their prompts, and a page of eight; a mean aesthetic score below 6 is invalid.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from kolors_lab.challenge.check import COMFYUI, MARK, PLACEHOLDER, lora_of, missing, panel_files, read_mark
from kolors_lab.challenge.report import read_object
from kolors_lab.comic.page import make_html, make_page
from kolors_lab.core.errors import DataError, ModelError, SettingError, printable
from kolors_lab.core.files import fingerprints, replacing, write_json, write_table, writing
from kolors_lab.core.images import open_image
from kolors_lab.core.language import _
from kolors_lab.core.templates import render
from kolors_lab.dataset.captions import shared
from kolors_lab.dataset.folder import read_examples
from kolors_lab.lora.alpha import table
from kolors_lab.lora.layers import Lora
from kolors_lab.lora.reading import read_lora
from kolors_lab.lora.writing import write_lora
from kolors_lab.models.presets import get_preset
from kolors_lab.pictures.files import save_picture
from kolors_lab.sampling.metadata import file_mark, read_settings
from kolors_lab.scoring.aesthetics import ScoreResult, judge, score_folder

PLACES = ("lora/", "", "story/")  # where in a run the panels and their page are: baseline's, the run itself, story's
WRONG = {*'/\\:*?"<>|`', *map(chr, range(32))}


@dataclass(frozen=True)
class SubmitConfig:
    """Put together the folder to hand in, and say what is still missing in it."""

    run: str = "runs/baseline"
    """folder of a run: its LoRA (in train/), its panels and its page (in lora/, as baseline has them, or story/)"""
    out: str | None = None
    """folder to write; without it RUN/submission"""
    team: str | None = None
    """your team's name, the first part of the model's name on ModelScope; without it the run's"""
    title: str | None = None
    """the story's title, the last part of the model's name; without it the headline of the run's page"""
    trigger_word: str | None = None
    """word that calls the LoRA, '' if it needs none; without it the LoRA's own, or a guess from the captions"""
    preset: str | None = None
    """whose scorer; without it that of the preset which drew the panels"""

    def __post_init__(self):
        for field in ("team", "title"):
            value = getattr(self, field)
            if value is None:
                continue
            if isinstance(value, str) and not value.strip():
                raise SettingError(
                    "{field} = {value!r}: it is empty; give up to 60 characters", field=field, value=value
                )
            if not isinstance(value, str) or set(value) & WRONG or len(value) > 60:
                raise SettingError(
                    "{field} = {value!r}: it becomes part of a file name; up to 60 characters, none of "
                    '/ \\ : * ? " < > | ` nor a line break',
                    field=field,
                    value=value,
                )

    @property
    def name(self) -> str:
        return f"{self.team}-可图Kolors训练-{self.title}"

    @property
    def folder(self) -> Path:
        return Path(self.out) if self.out else Path(self.run) / "submission"

    @property
    def zip(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.zip")


def submit(config: SubmitConfig, on_step: Callable[[int, int], None] | None = None) -> list[str]:
    """Write the folder to hand in, whole or not at all, and its zip beside it; return what is `missing` in it.

    DataError if the run holds no LoRA or no panels, or if the folder in the way is not an earlier submission.
    """
    config = from_run(config)
    lora = _find(config.run, ("train/lora.safetensors", "lora.safetensors"), _("train a LoRA first"))
    folder = _find(config.run, [f"{place}panels" for place in PLACES], _("tell a story first"))
    if not (panels := panel_files(folder)):
        raise DataError("{folder}: no panels 1.png, 2.png, … in it; tell a story first", folder=folder)
    _check_ours(config.folder)
    _check_zip(config.zip)
    settings = [read_settings(panel) for panel in panels]
    if not (config.preset or isinstance(settings[0].get("model"), str)):
        raise DataError("{panel} does not say which model drew it; name it with --preset", panel=panels[0])
    part = config.folder.with_name(f".{config.folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        with writing(config.folder):
            settings = _images(part / "images", panels, settings, config.name, lora)
            preset = get_preset(config.preset or settings[0]["model"])
            result = judge(preset, part / "images", score_folder(preset, part / "images", on_step=on_step))
            _fill(part, config, lora, panels, settings, result)
            if config.folder.exists():
                shutil.rmtree(config.folder)
            part.rename(config.folder)
        _pack(config.folder, config.zip, config.name)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return missing(config.folder)


def from_run(config: SubmitConfig) -> SubmitConfig:
    """The config with what it leaves open taken from the run: its config.json and its page's headline."""
    run, title = Path(config.run), None
    known = read_object(run / "config.json")
    for page in (run / place / "page.png" for place in PLACES):
        with contextlib.suppress(DataError):
            title = title or read_settings(page).get("page")
    return replace(
        config,
        team=config.team or known.get("team") or PLACEHOLDER,
        title=config.title or title or run.resolve().name,
        preset=config.preset or known.get("preset"),
    )


def find_trigger(config: SubmitConfig, lora: Lora) -> tuple[str, bool]:
    """The word that calls the LoRA, and whether it is only guessed from what all captions of the run share."""
    told = lora.header.get("trigger_word") or None if config.trigger_word is None else config.trigger_word
    if told is not None:
        return told, False
    run = Path(config.run)
    noted = [read_object(run / file).get("data") for file in ("train/config.json", "config.json")]
    for folder in (run / "clean", *(Path(place) for place in noted if isinstance(place, str))):
        with contextlib.suppress(DataError):
            return shared([example.text for example in read_examples(folder)]), True
    return "", True


def _find(run: str, places: Sequence[str], way: str) -> Path:
    for place in places:
        if (Path(run) / place).exists():
            return Path(run) / place
    raise DataError("{run}: no {place} in this run; {way}", run=run, place=places[0], way=way)


def _check_ours(folder: Path) -> None:
    """DataError unless the folder is free, empty, or an earlier submission that nobody changed by hand."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    try:
        files = read_mark(folder)["files"]
    except DataError:
        raise DataError(
            "{folder}: it holds other files, which stay; move it away or choose another folder", folder=folder
        ) from None
    for name, mark in fingerprints(folder).items():
        if name != MARK and files.get(name) != mark:
            raise DataError(
                "{folder}: {name} was changed by hand, so it stays; move the folder away to make it anew",
                folder=folder,
                name=name,
            )


def _images(folder: Path, panels: list[Path], settings: list[dict], name: str, lora: Path) -> list[dict]:
    """Write the panels as they are handed in, and return what each then says of itself.

    They name the LoRA by its new name, and their workflow the one for ComfyUI; it draws this one picture. Not a pixel
    changes, and the size of the batch, which `reproduce` needs, stays among the settings.
    """
    here, said = file_mark("LoRA", lora).rpartition(":")[2], []
    comfyui = f"{name}.safetensors" if read_lora(lora).dora else f"{name}{COMFYUI}"
    for panel, there in zip(panels, settings, strict=True):
        mine = lora_of(there) == here
        said.append(there | ({"lora": f"{name}.safetensors:{here}"} if mine else {}))
        drawn = said[-1] | {"batch": 1} | ({"lora": f"{comfyui}:{here}"} if mine else {})
        save_picture(open_image(panel), folder / panel.name, said[-1], drawn)
    return said


def _fill(
    part: Path, config: SubmitConfig, lora: Path, panels: list[Path], settings: list[dict], result: ScoreResult
) -> None:
    shutil.copyfile(lora, part / f"{config.name}.safetensors")
    weights = read_lora(lora)
    trigger, guessed = find_trigger(config, weights)
    if not weights.dora:  # ComfyUI draws a DoRA otherwise
        write_lora(weights, part / f"{config.name}{COMFYUI}", "comfyui")
    captions = [s.get("scene", "") for s in settings]
    make_page(panels, captions, part / "page.png", config.title)
    make_html(panels, captions, part / "page.html", config.title)
    _prompts(part / "prompts.csv", panels, settings)
    (part / "README.md").write_text(card(config, panels, settings, weights, trigger, result), encoding="utf-8")
    mark = {
        "trigger": {"word": trigger, "guessed": guessed},
        "name": config.name,
        "score": asdict(result) | {"mean": result.mean},
        "files": fingerprints(part),
    }
    write_json(part / MARK, mark)


def _prompts(file: Path, panels: list[Path], settings: list[dict]) -> None:
    columns = ("scene", "prompt", "negative_prompt", "seed", "steps", "cfg", "lora_strength")
    rows = ((f"images/{panel.name}", *map(s.get, columns)) for panel, s in zip(panels, settings, strict=True))
    write_table(file, ("image", *columns), rows)


def card(
    config: SubmitConfig, panels: list[Path], settings: list[dict], lora: Lora, trigger: str, result: ScoreResult
) -> str:
    """The model card in ModelScope's form (card.md.j2): front matter, what it is, how to use it, how it was made.

    Whatever a prompt or a trigger word holds, `<toy>` and `<lora:a:1>` too, is read as text in YAML, Markdown and
    Python. ModelError for a LoRA whose header holds no settings but something else.
    """
    header = lora.header
    trained = {"rank": header.get("rank"), "alpha": header.get("alpha"), "pictures": header.get("examples")}
    try:
        trained |= table(header.get("settings", "{}"))
    except ValueError as error:
        raise ModelError(
            "the LoRA's header says of its settings what is none ({error}); train it again", error=error
        ) from error
    content = {
        "name": config.name,
        "title": config.title,
        "trigger": trigger,
        "first": settings[0],
        "panels": [(panel.stem, s) for panel, s in zip(panels, settings, strict=True)],
        "comfyui": None if lora.dora else f"{config.name}{COMFYUI}",
        "score": result,
        "trained": {key: value for key, value in trained.items() if value not in (None, "", [])},
    }
    yaml = partial(json.dumps, ensure_ascii=False)
    return render(Path(__file__).with_name("card.md.j2"), content, md=markdown, python=repr, yaml=yaml)


def markdown(text: object) -> str:
    """The text as Markdown shows it letter by letter, in one line: no tag, table cell, link or emphasis comes of it."""
    return re.sub(r"([\\`*_\[\]<>|~&$])", r"\\\1", " ".join(printable(text).split()))


def _check_zip(file: Path) -> None:
    """DataError unless the file is free or an earlier submission's."""
    try:
        with zipfile.ZipFile(file) as archive:
            ours = any(entry.endswith(f"/{MARK}") for entry in archive.namelist())
    except FileNotFoundError:
        return
    except (OSError, ValueError, RuntimeError, zipfile.BadZipFile):  # of another version, say
        ours = False
    if not ours:
        raise DataError(
            "{file}: it is not a submission of ours, so it stays; move it away or choose another folder", file=file
        )


def _pack(folder: Path, file: Path, name: str) -> None:
    """The folder as one zip; inside, everything lies in a folder of the submission's name."""
    with replacing(file) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(f for f in folder.rglob("*") if f.is_file()):
            archive.write(path, f"{name}/{path.relative_to(folder).as_posix()}")
