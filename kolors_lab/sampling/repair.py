"""Mending a place: find it, enlarge it to the model's size, draw it over with the panel's own prompt, paste it back.

    kolors-lab repair runs/story/panels/3.png --find face
    kolors-lab repair photo.jpg --box 40,10,48,48 --prompt "微笑的脸" --preset kolors

As ADetailer does it: a small face gets the pixels of a whole picture. The original stays beside the repaired one.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from kolors_lab.core.errors import DataError, SettingError
from kolors_lab.core.fields import OneOf, Range, check_fields
from kolors_lab.core.files import NUMBER, fits, replacing
from kolors_lab.core.images import open_image
from kolors_lab.core.language import _
from kolors_lab.lora.adapter import wearing
from kolors_lab.models.loading import load_pipeline
from kolors_lab.models.presets import get_preset
from kolors_lab.sampling.face_probe import Found
from kolors_lab.sampling.finding import KINDS, find
from kolors_lab.sampling.ksampler import MAX_SEED, KSampler
from kolors_lab.sampling.masks import Box, draw_mask, parse_box, paste
from kolors_lab.sampling.metadata import file_mark, original_of, read_settings, write_picture
from kolors_lab.sampling.pipeline import generate_batch

if TYPE_CHECKING:
    from diffusers import KolorsPipeline
    from PIL import Image

    from kolors_lab.models.presets import Preset

ROOM = 2.0  # side of what is drawn, in multiples of the box: closer breaks more whole faces, wider heals fewer
SAMPLING = ("steps", "cfg", "sampler_name", "scheduler", "seed")
GIVEN = ("prompt", "seed", "lora_strength")  # what a repair may have that is not the picture's own
FULL = re.compile("全身(像|照|图)?|从头到脚")
FULL_ENGLISH = re.compile(r"\b(full|whole)[- ](body|figure|length)( (shot|portrait|view))?\b", re.IGNORECASE)


@dataclass(frozen=True)
class RepairConfig:
    """Draw faces, hands or any box of finished pictures over; the originals are kept as NAME.before.png.

    Args:
        pictures: pictures to repair; those drawn here bring their prompt and settings, others want a prompt
        find: what to look for: face or hand
        which: broken: of these only what the finder does not call intact; all. Only tiny's own probe can tell
        box: x,y,w,h in px, in place of looking for anything
        finder: what looks for it, if not the preset's own: OpenCV's cascade (.xml), or folder or id of an
            object-detection model
        preset: tiny, kolors, or a folder that holds a KolorsPipeline; none: the one that drew the picture
        prompt: what the place shows; none: the picture's own prompt
        lora: the LoRA that the picture was drawn with, or another
        lora_strength: 0 without effect, 1 as trained; none: the picture's own
        denoise: how much of the place is drawn anew
        seed: another seed, another try; none: the picture's own
    """

    pictures: tuple[str, ...]
    find: Annotated[str, OneOf(KINDS)] = "face"
    which: Annotated[str, OneOf(("broken", "all"))] = "broken"
    box: str | None = None
    finder: str | None = None
    preset: str | None = None
    prompt: str | None = None
    lora: str | None = None
    lora_strength: Annotated[float | None, Range(-10, 10)] = None
    denoise: Annotated[float, Range(0.01, 1)] = 0.5
    seed: Annotated[int | None, Range(0, MAX_SEED)] = None

    def __post_init__(self):
        check_fields(self)
        if self.box:
            parse_box(self.box)


def repair(
    config: RepairConfig,
    pipe: KolorsPipeline | None = None,
    on_step: Callable[[int, int], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> list[Path]:
    """Repair each picture; the files written. `say(line)` names a picture that stays as it is, and why.

    A full figure that the prompt asks for is read as an upper body: see `closer`.

    A PNG that was drawn here is replaced, its original kept beside it; the repair of any other picture is written as
    NAME.repaired.png. Before anything is drawn all pictures are read and searched; `say` hears what a probe that tells
    whole faces from broken ones thinks of what was drawn. Raises DataError if nothing is found
    in any, and for a picture that cannot be read; SettingError for a box outside and for a prompt or LoRA missing.
    """
    work, intact = [], 0
    for file in map(Path, config.pictures):
        image, settings = open_image(file), _settings(file, config)
        preset = get_preset(config.preset or settings.get("model", ""))
        if config.box:
            found = [Found(parse_box(config.box, image.size))]
        else:
            found = find(image, preset, config.find, config.finder)
        if boxes := [one.box for one in found if config.which == "all" or one.broken]:
            work.append((file, image, settings, preset, boxes))
        else:
            intact += len(found)
            if say:
                say(_stays(file, config.find, len(found)))
    if not work and intact:
        return []
    if not work:
        names = ", ".join(config.pictures[:3]) + (" …" if len(config.pictures) > 3 else "")
        raise DataError(
            "{names}: no {kind} found, nothing is changed; give a box, such as --box 40,10,48,48 (in Python: box=…)",
            names=names,
            kind=_called(config.find),
        )
    if len(models := {preset.name: preset for *_, preset, _ in work}) > 1:
        names = ", ".join(models)
        raise SettingError("preset: these pictures were drawn by {names}; repair those of one at a time", names=names)
    pipe, written = pipe or load_pipeline(next(iter(models.values()))), []
    for done, (file, image, settings, preset, boxes) in enumerate(work):
        chain = [(config.lora, settings.get("lora_strength", 1.0))] if config.lora else []
        drawn = image
        with wearing(pipe, chain):
            for box in boxes:
                drawn = mend(pipe, drawn, box, preset, settings, config.denoise)
        written.append(_write(file, drawn, settings, boxes, config))
        if say and preset.practice and (verdict := _verdict(image, drawn, boxes, preset)):
            kept = original_of(file).name if written[-1] == file else file.name
            say(_("{file}: after: {verdict}; the original is {kept}").format(file=file, verdict=verdict, kept=kept))
        if on_step:
            on_step(done + 1, len(work))
    return written


def _stays(file: Path, kind: str, found: int) -> str:
    if found:
        told = _("{file}: {found} x {kind} found, all intact, left as they are; --which all draws them over as well")
        return told.format(file=file, found=found, kind=_called(kind))
    told = _("{file}: no {kind} found; give its box, such as --box 40,10,48,48 (in Python: box=…)")
    return told.format(file=file, kind=_called(kind))


def _called(kind: str) -> str:
    return {"face": _("face"), "hand": _("hand")}[kind]


def _verdict(before: Image.Image, after: Image.Image, boxes: Sequence[Box], preset: Preset) -> str:
    """What the preset's probe says of the faces in these boxes; "" where there is none, or no probe."""
    old, new = ([one for one in find(image, preset) if _lies_in(one.box, boxes)] for image in (before, after))
    if any(one.intact is None for one in (*old, *new)) or not (old or new):
        return ""
    if not new:
        return _("the probe finds no face there any more")
    return _("the probe calls it broken") if any(one.broken for one in new) else _("the probe calls it intact")


def _lies_in(face: Box, boxes: Sequence[Box]) -> bool:
    """Whether the middle of a face lies in one of the boxes."""
    across, down = face[0] + face[2] / 2, face[1] + face[3] / 2
    return any(x <= across <= x + w and y <= down <= y + h for x, y, w, h in boxes)


def repairs_of(settings: dict[str, Any]) -> list[dict[str, Any]]:
    """What a picture's settings tell of its repairs, the first first: `boxes`, `denoise`, and what was not its own.

    DataError for what `repair` does not write.
    """
    found = settings.get("repaired", [])
    if not fits(found, [{"boxes": [[NUMBER]], "denoise": NUMBER}]):
        raise DataError("the settings of a repaired picture are damaged: repaired = {found}", found=found)
    return found


def repeat(
    pipe: KolorsPipeline, image: Image.Image, preset: Preset, settings: dict[str, Any], lora: str | Path | None = None
) -> Image.Image:
    """The picture as its settings draw it, with the repairs that they tell of done again: identical on a CPU.

    `lora`: the picture's own, if it has one. A repair by another is not done again, its file being elsewhere.
    """
    for one in repairs_of(settings):
        if "lora" in one:
            continue
        known = settings | one
        chain = [(lora, known.get("lora_strength", 1.0))] if lora and "lora" in settings else []
        with wearing(pipe, chain):
            for box in one["boxes"]:
                image = mend(pipe, image, box, preset, known, one["denoise"])
    return image


def mend(
    pipe: KolorsPipeline, image: Image.Image, box: Box, preset: Preset, settings: dict[str, Any], denoise: float = 0.5
) -> Image.Image:
    """The picture with the box drawn over, every pixel outside of it as before.

    `settings`: prompt, and whatever of negative_prompt, prompt_syntax and KSampler's fields is not to be the preset's.
    The square around the box is drawn at the model's size, as the picture that it then is: see `closer`. SettingError
    for a box outside.
    """
    x, y, w, h = parse_box(",".join(map(str, box)), image.size)
    left, top, side = _around((x, y, w, h), image.size)
    part = image.crop((left, top, left + side, top + side)).resize((preset.size, preset.size))
    scale = preset.size / side
    place = (round((x - left) * scale), round((y - top) * scale), round(w * scale), round(h * scale))
    mask = draw_mask("box", place, part.size)
    knobs = {name: settings[name] for name in SAMPLING if name in settings}
    options = {"prompt_syntax": settings["prompt_syntax"]} if "prompt_syntax" in settings else {}
    if mask.getextrema() != (255, 255):  # else the box is the whole square: there is no outside
        options["mask"] = mask
    sampler = KSampler(**knobs, denoise=denoise, width=preset.size, height=preset.size)
    texts = [closer(settings["prompt"])], [settings.get("negative_prompt", "")]
    (drawn,) = generate_batch(pipe, *texts, [sampler], image=part, **options)
    whole = image.copy()
    whole.paste(drawn.resize((side, side)), (left, top))
    return paste(image, whole, draw_mask("box", (x, y, w, h), image.size), max(2, min(w, h) // 8))


def closer(prompt: str) -> str:
    """The prompt for a part of the picture: who asks for a full figure there gets a little one inside the face."""
    return FULL_ENGLISH.sub("upper body", FULL.sub("上半身", prompt))


def _around(box: Box, size: tuple[int, int]) -> tuple[int, int, int]:
    """Left, top and side of a square around the box with room on all sides, shifted into the picture.

    A picture narrower than the box needs cuts it off. SettingError, since a part of the box would stay as it was.
    """
    x, y, w, h = box
    side = min(round(ROOM * max(w, h)), *size)
    if side < max(w, h):
        raise SettingError(
            "box = {box}: no square around it lies in {width} x {height} px; make it smaller",
            box=f"{x},{y},{w},{h}",
            width=size[0],
            height=size[1],
        )
    left, top = (x + w / 2 - side / 2, y + h / 2 - side / 2)
    return (*(min(max(round(at), 0), limit - side) for at, limit in zip((left, top), size, strict=True)), side)


def _settings(file: Path, config: RepairConfig) -> dict[str, Any]:
    """What the picture carries, with what the config says in its place."""
    try:
        settings = read_settings(file)
    except DataError:
        settings = {}
    if not settings.get("prompt") and not config.prompt:
        raise SettingError("{file} carries no prompt; say as prompt what the place shows", file=file)
    if not settings.get("model") and not config.preset:
        raise SettingError("{file} does not say which model drew it; name one as preset", file=file)
    if "lora" in settings and not config.lora:
        name = settings["lora"].split(":")[0]
        raise SettingError(
            "{file} was drawn with the LoRA {name}; give that file with --lora FILE (in Python: lora=…)",
            file=file,
            name=name,
        )
    given = {"prompt": config.prompt, "seed": config.seed, "lora_strength": config.lora_strength}
    return settings | {name: value for name, value in given.items() if value is not None}


def _write(
    file: Path, image: Image.Image, settings: dict[str, Any], boxes: Sequence[Box], config: RepairConfig
) -> Path:
    """Write the repaired picture; a PNG of ours is replaced once its first original lies beside it."""
    try:
        own = read_settings(file)
    except DataError:
        own, target = {}, file.with_name(f"{file.stem}.repaired.png")
        if target.exists():
            raise DataError("{file} is there already; move it away first", file=target) from None
    else:
        target, before = file, original_of(file)
        if not before.exists():
            with replacing(before) as part:
                shutil.copyfile(file, part)
    how = {name: settings[name] for name in GIVEN if settings.get(name) != own.get(name)}
    base = own or dict(how)
    if config.lora and (mark := file_mark("LoRA", config.lora)).split(":")[-1] != str(own.get("lora")).split(":")[-1]:
        how["lora"] = mark
    repaired = [*own.get("repaired", []), {"boxes": [list(box) for box in boxes], "denoise": config.denoise, **how}]
    return write_picture(image, target, base | {"repaired": repaired})
