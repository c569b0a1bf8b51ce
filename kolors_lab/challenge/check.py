"""Is a submission ready: what it lacks or has wrong, a line each; and can its panels be made again from it alone.

kolors-lab submit check runs/baseline/submission
kolors-lab submit reproduce runs/baseline/submission
"""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

from kolors_lab.comic.look import with_anchor
from kolors_lab.comic.panels import redraw
from kolors_lab.core.errors import DataError, KolorsLabError
from kolors_lab.core.files import NUMBER, fingerprint, fits, parse_json, read_table
from kolors_lab.core.images import open_image
from kolors_lab.core.language import _
from kolors_lab.lora.adapter import load_lora, unload_lora
from kolors_lab.lora.reading import read_lora
from kolors_lab.models.hub import leads_out
from kolors_lab.models.identity import model_fingerprint
from kolors_lab.models.presets import get_preset
from kolors_lab.sampling.config import prompts_of
from kolors_lab.sampling.loading import load_for
from kolors_lab.sampling.metadata import file_mark, read_settings
from kolors_lab.sampling.repair import closer, repairs_of, repeat
from kolors_lab.scoring.aesthetics import GATE, carried, passes

if TYPE_CHECKING:
    from diffusers import KolorsPipeline
    from PIL import Image

PLACEHOLDER = "队伍名称"
NAME = re.compile(r"^(?P<team>.+?)-可图Kolors训练-(?P<title>.+)$")
PANELS = 8  # the challenge wants at least so many, and a page of them
MARK = "submission.json"  # a folder that holds it is ours to replace
COMFYUI = "-comfyui.safetensors"  # end of the name of the LoRA for ComfyUI
WRITTEN = ("README.md", "page.png", "page.html", "prompts.csv")


@dataclass(frozen=True)
class CheckConfig:
    """List what a submission lacks or has wrong, one line each."""

    folder: str = "runs/baseline/submission"
    """folder that `kolors-lab submit` wrote"""


@dataclass(frozen=True)
class ReproduceConfig:
    """Make the panels of a submission again, from its own folder alone, and compare them with those in it."""

    folder: str = "runs/baseline/submission"
    """folder that `kolors-lab submit` wrote"""
    preset: str | None = None
    """which model; without it the one that the pictures name ("tiny" or "kolors")"""


@dataclass(frozen=True)
class Reproduced:
    """Per panel the largest difference of a pixel's value, 0 to 255, between the one handed in and the one made now."""

    differences: dict[str, int]
    repaired: Sequence[str] = ()  # panels whose repairs were done again as well
    elsewhere: Sequence[str] = ()  # panels repaired with a LoRA that is not in the folder

    @property
    def identical(self) -> bool:
        return not any(self.differences.values())

    def lines(self) -> list[str]:
        """A line per panel and one for all."""
        same, differs = _("{file}: identical"), _("{file}: differs by up to {most} of 255")
        lines = [(differs if d else same).format(file=name, most=d) for name, d in self.differences.items()]
        again = _("repaired (repair), and the repair was done again: {names}")
        lines += [again.format(names=", ".join(self.repaired))] if self.repaired else []
        if self.identical:
            told = _("all {count} panels come out again, to the last pixel")
            return [*lines, told.format(count=len(self.differences))]
        odd = [name for name, d in self.differences.items() if d]
        told = _("repaired (repair) with a LoRA that is not in the folder, which settings alone cannot repeat: {names}")
        lines += [told.format(names=", ".join(self.elsewhere))] if self.elsewhere else []
        why = _("another model, other versions, another number of threads, a GPU instead of a CPU?")
        if set(odd) <= set(self.elsewhere):
            why = _("what was drawn over them is not drawn again")
        told = _("{odd} of {all} panels differ: {why}")
        return [*lines, told.format(odd=len(odd), all=len(self.differences), why=why)]


def check(config: CheckConfig) -> list[str]:
    """`missing` for the settings of the command line. DataError if the folder is no submission at all."""
    read_mark(config.folder)
    return missing(config.folder)


def missing(folder: str | Path) -> list[str]:
    """What a folder still needs before it can be handed in, one sentence each; nothing for a complete one."""
    folder = Path(folder)
    try:
        mark = read_mark(folder)
    except DataError as error:
        return [str(error)]
    pictures = panel_files(folder / "images")
    settings = {file.name: carried(file) for file in pictures}
    return [
        *_name(mark["name"]),
        *_loras(folder, mark["name"]),
        *_trigger(folder / f"{mark['name']}.safetensors", mark["trigger"]),
        *(_again(_("{file}: it is missing").format(file=f)) for f in WRITTEN if not (folder / f).is_file()),
        *_pictures(folder / "images", pictures),
        *_settings(folder / f"{mark['name']}.safetensors", settings),
        *_prompts(folder / "prompts.csv", settings),
        *_score(folder, mark["score"], mark["files"]),
    ]


def notes(folder: str | Path) -> list[str]:
    """What is worth knowing of a submission and no fault of it: which panels were repaired."""
    repaired = [file.stem for file in panel_files(Path(folder) / "images") if carried(file).get("repaired")]
    told = _("panel {numbers} was repaired (repair): its settings note how, and submit reproduce does that again")
    return [told.format(numbers=", ".join(repaired))] if repaired else []


def _again(line: str) -> str:
    return _("{line}; run kolors-lab submit again").format(line=line)


def read_mark(folder: str | Path) -> dict:
    """What `submit` noted in the folder: `name`, `score`, the fingerprints of its `files`, and the `trigger` word with
    whether it is `guessed`, where it was noted. DataError if there is nothing, or something else."""
    way = _("make one with: kolors-lab submit --run FOLDER --out {folder}").format(folder=folder)
    try:
        mark = parse_json((Path(folder) / MARK).read_text(encoding="utf-8"))
        name, score, files = (mark[key] for key in ("name", "score", "files"))
        trigger = mark.get("trigger")
        good = fits(mark, {"name": str, "score": {"mean": NUMBER, "practice": bool}, "files": dict})
        good = good and not leads_out(f"{name}.safetensors") and "/" not in name
        good = good and all(isinstance(mark, str) and not leads_out(path) for path, mark in files.items())
        good = good and (trigger is None or fits(trigger, {"word": str, "guessed": bool}))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError("{folder}: no submission here; {way}", folder=folder, way=way) from error
    if not good:
        raise DataError(
            "{folder}: its {mark} was changed by hand and says what it cannot; {way}",
            folder=folder,
            mark=MARK,
            way=way,
        )
    return {"name": name, "score": score, "files": files, "trigger": trigger}


def panel_files(folder: str | Path) -> list[Path]:
    """The pictures 1.png, 2.png, … of a folder in the order of their numbers."""
    return sorted((f for f in Path(folder).glob("*.png") if f.stem.isdigit()), key=lambda f: int(f.stem))


def _name(name: str) -> list[str]:
    match = NAME.match(name)
    if not match:
        told = _("name {name}: it must read 队伍名称-可图Kolors训练-xxxxxx; set --team and --title")
        return [told.format(name=repr(name))]
    if match["team"] == PLACEHOLDER:
        told = _("team: {placeholder} is only a placeholder; give your team's name with --team")
        return [told.format(placeholder=PLACEHOLDER)]
    return []


def _loras(folder: Path, name: str) -> list[str]:
    """The LoRA for diffusers, and the one for ComfyUI, which a DoRA does not have."""
    try:
        lora = read_lora(folder / f"{name}.safetensors")
        if not lora.dora:
            read_lora(folder / f"{name}{COMFYUI}")
    except KolorsLabError as error:
        return [f"LoRA: {error}"]
    return []


def _trigger(lora: Path, trigger: dict | None) -> list[str]:
    """Whether it is known by which word the LoRA is called, or that there is none (an empty one)."""
    if trigger is None:  # by an older version
        with contextlib.suppress(KolorsLabError):
            trigger = {"word": read_lora(lora).header.get("trigger_word", ""), "guessed": False}
            trigger["guessed"] = not trigger["word"]
    if not trigger or not trigger["guessed"]:
        return []
    if trigger["word"]:
        told = _(
            "trigger word: {word} is only guessed, as all captions share it; "
            "say it with kolors-lab submit --trigger_word {word}"
        )
        return [told.format(word=trigger["word"])]
    return [
        _(
            "trigger word: none is known, and people will look for it; "
            "say it with kolors-lab submit --trigger_word WORD, or '' if it needs none"
        )
    ]


def _pictures(folder: Path, pictures: Sequence[Path]) -> list[str]:
    wants, sizes = [], {}
    if len(pictures) < PANELS:
        told = _("images: {count} pictures, at least {least} are needed; add scenes to the story")
        wants.append(told.format(count=len(pictures), least=PANELS))
    if len(pictures) > PANELS:
        told = _("images: {count} pictures, the page to post holds {most}; take a scene out of the story")
        wants.append(told.format(count=len(pictures), most=PANELS))
    strays = sorted(f.name for f in folder.glob("*") if f not in pictures)
    stray = _("images/{name}: no panel, and the challenge scores every file there; delete it")
    wants += [stray.format(name=name) for name in strays]
    for file in pictures:
        try:
            sizes[file.name] = open_image(file).size
        except DataError as error:
            wants.append(_again(f"images: {error}"))
    usual = Counter(sizes.values()).most_common(1)[0][0] if sizes else None
    other = _("images/{name}: {size} px, the others {usual}; draw it again at their size")
    wants += [
        other.format(name=name, size=" x ".join(map(str, size)), usual=" x ".join(map(str, usual)))
        for name, size in sizes.items()
        if size != usual
    ]
    return wants


def _settings(lora: Path, settings: dict[str, dict]) -> list[str]:
    """Whether each picture says how it was made, and that it was with the LoRA that is handed in."""
    mute = [name for name, found in settings.items() if "prompt" not in found]
    here = file_mark("LoRA", lora).rpartition(":")[2] if lora.is_file() else None
    other = [n for n, s in settings.items() if n not in mute and lora_of(s) != here]
    lines = {
        _("no settings inside, so nobody can make it again; put the picture in as it was drawn"): mute,
        _("not drawn with the LoRA that is handed in; tell the story again with it"): other if here else [],
    }
    return [f"images/{', '.join(names)}: {line}" for line, names in lines.items() if names]


def lora_of(settings: dict) -> str:
    """The start of the SHA-256 of the LoRA that a picture was drawn with; "" without one."""
    return str(settings.get("lora") or "").rpartition(":")[2]


def _prompts(file: Path, settings: dict[str, dict]) -> list[str]:
    """Whether the table says of every picture what the picture says."""
    if not file.is_file():
        return []
    try:
        table = {(row.get("image") or "").removeprefix("images/"): row for row in read_table(file)}
    except DataError as error:
        return [_again(_("prompts.csv: cannot be read ({error})").format(error=error))]
    odd = [n for n, s in settings.items() if "prompt" in s and table.get(n, {}).get("prompt") != s["prompt"]]
    told = _("prompts.csv: not the prompt that made images/{names}").format(names=", ".join(odd))
    return [_again(told)] if odd else []


def _score(folder: Path, score: dict, files: dict[str, str]) -> list[str]:
    here = {f"images/{file.name}": fingerprint(file) for file in panel_files(folder / "images")}
    if here != {name: mark for name, mark in files.items() if name.startswith("images/")}:
        return [_again(_("score: it belongs to other pictures"))]
    if not passes(score["mean"]) and not score["practice"]:
        told = _("score: the mean {mean:.7g} is below the gate of {gate:g}; better data or training lifts it")
        return [told.format(mean=score["mean"], gate=GATE)]
    if score["practice"]:
        low = _(", and with {mean:.7g} below the gate of {gate:g} even so").format(mean=score["mean"], gate=GATE)
        told = _(
            "score: 练习分, a practice score of the small model{low}; the challenge scores pictures of Kolors itself"
        )
        return [told.format(low="" if passes(score["mean"]) else low)]
    return []


def reproduce(config: ReproduceConfig, pipe: KolorsPipeline | None = None) -> Reproduced:
    """Draw every panel again from what it carries and the folder's LoRA; on a CPU they must be identical.

    DataError if the folder is no submission, holds no panels, or one without settings; ModelError if the LoRA is
    damaged or of another model.
    """
    mark, pictures = read_mark(config.folder), panel_files(Path(config.folder) / "images")
    if not pictures:
        raise DataError(
            "{folder}: no panels images/1.png, … in it; give the folder of a submission", folder=config.folder
        )
    settings = [read_settings(file) for file in pictures]
    preset = get_preset(config.preset or settings[0]["model"])
    if settings[0].get("model_hash") not in (None, model_fingerprint(preset)):
        raise DataError(
            "{folder}: another model than {preset} drew its panels; name it with --preset",
            folder=config.folder,
            preset=preset.name,
        )
    repairs = {file.name: repairs_of(one) for file, one in zip(pictures, settings, strict=True)}
    drawn = [SimpleNamespace(**one) for panel in settings for one in [*with_anchor([panel]), *_patches(panel)]]
    pipe, lora = pipe or load_for(preset, prompts_of(drawn)), Path(config.folder) / f"{mark['name']}.safetensors"
    try:
        load_lora(pipe, lora, settings[0].get("lora_strength", 1.0))
        images = [
            repeat(pipe, image, preset, one, lora) for image, one in zip(redraw(pipe, settings), settings, strict=True)
        ]
    finally:
        unload_lora(pipe)
    pairs = zip(pictures, images, strict=True)
    differences = {file.name: _difference(open_image(file), image) for file, image in pairs}
    elsewhere = [name for name, found in repairs.items() if any("lora" in one for one in found)]
    again = [name for name, found in repairs.items() if found and name not in elsewhere]
    return Reproduced(differences, again, elsewhere)


def _patches(panel: dict) -> list[dict]:
    """The settings of what was drawn over in a panel, as `mend` draws it."""
    known = [panel | one for one in repairs_of(panel)]
    return [one | {"prompt": closer(one["prompt"])} for one in known]


def _difference(one: Image.Image, other: Image.Image) -> int:
    """Largest difference of a pixel's value, 0 to 255; 255 for pictures of unequal size."""
    from PIL import ImageChops

    if one.size != other.size:
        return 255
    return max(high for _, high in ImageChops.difference(one, other.convert("RGB")).getextrema())
