"""X/Y/Z grids: one picture over one to three settings, side by side under their labels; and how fast samplers converge.

    grid(GridConfig(prompt="…", x="steps=5-20 (+5)", y="cfg=1,4,7", out="runs/grid/grid.png"))

Ranges are the web UI's: `1-5`, `1-9 (+2)`, `1-10 [4]` (so many, evenly spaced), single values, and all of these between
commas. `prompt=少女,王子,白马` puts each word in the place of the first one (prompt search and replace).
"""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kolors_lab.core.errors import SettingError
from kolors_lab.core.images import open_image, write_png
from kolors_lab.core.language import _
from kolors_lab.lora.adapter import set_loras, unload_lora
from kolors_lab.models.identity import model_fingerprint
from kolors_lab.models.presets import get_preset
from kolors_lab.models.processes import start_processes
from kolors_lab.pictures.files import save_picture
from kolors_lab.sampling.config import GenerateConfig, draw, picture_settings, prompts_of, settle_tags
from kolors_lab.sampling.loading import load_for
from kolors_lab.scoring.aesthetics import carried

if TYPE_CHECKING:
    from diffusers import KolorsPipeline
    from PIL import Image

    from kolors_lab.sampling.pipeline import Stop

# What may vary, the costliest to change first: it changes least often. The type tells how values are written.
AXES: dict[str, type] = {
    "lora": str, "lora_strength": float, "prompt": str, "sampler_name": str, "scheduler": str, "steps": int,
    "control": str, "control_kind": str, "control_strength": float, "control_start": float, "control_end": float,
    "denoise": float, "cfg": float, "seed": int,
}  # fmt: skip
RECIPES = {  # name: (x, y)
    "LoRA strength": ("lora_strength=0-1.5 [7]", ""),
    "steps × cfg": ("steps=4,8,16,32", "cfg=1,2.5,4,7"),
    "samplers × steps": ("sampler_name=euler,heun,dpmpp_2m,euler_ancestral", "steps=5,10,20"),
    "schedulers": ("scheduler=leading,karras,exponential,sgm_uniform,beta", ""),
    "seeds": ("seed=0-7", ""),
}
MOST = 400  # pictures of a grid
NUMBER = r"[+-]?\d+(?:\.\d*)?|[+-]?\.\d+"
RANGE = re.compile(rf"\s*({NUMBER})\s*-\s*({NUMBER})\s*(?:\(\s*({NUMBER})\s*\)|\[\s*(\d+)\s*\])?\s*")
SIDE, PAD, LETTERS = 256, 8, 17  # px: a picture on the sheet at most, between two, height of letters


@dataclass(frozen=True)
class GridConfig(GenerateConfig):
    """Pictures over one to three settings, each kept in `cells` beside the sheet that shows them under their labels.

    Args:
        x: what varies from left to right, as "steps=5-20 (+5)" or "sampler_name=euler,heun"
        y: what varies from top to bottom; none: nothing
        z: what varies from block to block; none: nothing
        out: the sheet to write (.png); pictures of an earlier run that still fit are not drawn again
    """

    x: str = "seed=0-3"
    y: str = ""
    z: str = ""
    out: str = "runs/grid/grid.png"

    def __post_init__(self):
        super().__post_init__()
        cells(self)


@dataclass(frozen=True)
class Axis:
    """A setting and the values it takes, in the order of the sheet."""

    field: str
    values: tuple[Any, ...]

    def label(self, value: Any) -> str:
        if self.field == "prompt":
            return value
        shown = f"{value:g}" if isinstance(value, float) else Path(str(value)).stem
        return f"{self.field} {shown}"


# From text to cells ---------------------------------------------------------------------------------------------------


def parse_axis(text: str) -> Axis:
    """`steps=1-9 (+2)` → Axis("steps", (1, 3, 5, 7, 9)). SettingError, naming the part that cannot be read."""
    field, sign, values = (part.strip() for part in text.partition("="))
    if field not in AXES or not sign or not values:
        raise SettingError("axis {text!r}: must be like steps=5-20 (+5), of {names}", text=text, names=", ".join(AXES))
    parts = [part.strip() for part in next(csv.reader([values], skipinitialspace=True))]
    if AXES[field] is str:
        named = [None if field == "lora" and part.lower() in ("", "none") else part for part in parts]
        return Axis(field, tuple(named))
    found = [value for part in parts for value in _numbers(field, part)]
    return Axis(field, tuple(dict.fromkeys(found)))


def _numbers(field: str, part: str) -> list[int] | list[float]:
    """The values of one part between commas: a number, or a range with a step or a count."""
    kind = AXES[field]
    try:
        if not (found := RANGE.fullmatch(part)):
            return [kind(part)]
        low, high, step, count = found.groups()
        if count:
            low, high, parts = float(low), float(high), max(int(count) - 1, 1)
            spread = [low + (high - low) * i / parts for i in range(min(int(count), MOST + 1))]
            return [round(value) if kind is int else round(value, 6) for value in spread]
        low, high = kind(low), kind(high)
        step = kind(step) if step else (1 if low <= high else -1)
        if not step or (high - low) / step < 0:
            raise SettingError(
                "axis {field}: {part!r} never comes from {low} to {high}; write 1-9 (+2) or 9-1 (-2)",
                field=field,
                part=part,
                low=low,
                high=high,
            )
        return [round(low + step * i, 6) for i in range(min(int((high - low) / step + 1e-9), MOST) + 1)]
    except ValueError:
        noun = _("a whole number") if kind is int else _("a number")
        raise SettingError(
            "axis {field}: {part!r} must be {noun} or a range: 1-5, 1-9 (+2), 1-10 [4]",
            field=field,
            part=part,
            noun=noun,
        ) from None


def axes(config: GridConfig) -> list[Axis]:
    """The axes of x, y and z; one of a single value stands for an axis that is not there. Raises SettingError."""
    given = [parse_axis(text) if text.strip() else Axis("", (None,)) for text in (config.x, config.y, config.z)]
    names = [axis.field for axis in given if axis.field]
    if not names:
        raise SettingError("x: it is empty; say what varies, as in x='steps=5-20 (+5)'")
    if doubled := {name for name in names if names.count(name) > 1 and name != "prompt"}:
        raise SettingError(
            "axes: {names} stands on two of them; each setting varies along one", names=", ".join(doubled)
        )
    count = len(given[0].values) * len(given[1].values) * len(given[2].values)
    if count > MOST:
        raise SettingError("axes: they make {count} pictures, at most {most} go on a sheet", count=count, most=MOST)
    return given


def cells(config: GridConfig) -> dict[tuple[int, int, int], GenerateConfig]:
    """(column, row, block) → the settings of the picture there, in the order of drawing: costly axes change least.

    Raises SettingError for a value that its field does not allow.
    """
    given = axes(config)
    base = GenerateConfig(
        **{f.name: getattr(config, f.name) for f in fields(GenerateConfig) if f.name not in ("out", "batch")}
    )
    order = sorted(range(3), key=lambda n: [*AXES, ""].index(given[n].field))
    found = {}
    for places in itertools.product(*(range(len(given[n].values)) for n in order)):
        place = tuple(places[order.index(n)] for n in range(3))
        cell = base
        for axis, number in zip(given, place, strict=True):
            cell = replace(cell, **_change(cell, axis, axis.values[number]))
        found[place] = cell
    if any(axis.field == "lora_strength" for axis in given) and not any(cell.lora for cell in found.values()):
        raise SettingError("lora_strength: it varies, but there is no LoRA; give the file as lora")
    return found


def _change(cell: GenerateConfig, axis: Axis, value: Any) -> dict[str, Any]:
    if axis.field != "prompt":
        return {axis.field: value} if axis.field else {}
    search = axis.values[0]
    if not search or search not in cell.prompt + cell.negative_prompt:
        raise SettingError(
            "axis prompt: {search!r}, which the others replace, does not stand in the prompt", search=search
        )
    return {name: getattr(cell, name).replace(search, value) for name in ("prompt", "negative_prompt")}


# Drawing --------------------------------------------------------------------------------------------------------------


def grid(
    config: GridConfig,
    pipe: KolorsPipeline | None = None,
    on_step: Callable[[int, int], None] | None = None,
    on_picture: Callable[[Image.Image], None] | None = None,
    stop: Stop | None = None,
) -> Path:
    """Draw what is missing of a grid and write its sheet; return the sheet's path.

    Each picture is a PNG with its settings, under a name made of them: a run that was stopped goes on, and a grid with
    another axis keeps the pictures it shares. Several processes share the rest out. `on_step(done, total)` counts
    pictures, `on_picture` gets each sheet. Raises SettingError, DataError, FetchError, ModelError, Stopped.
    """
    preset, processes = get_preset(config.preset), start_processes()
    wanted = {place: settle_tags(cell) for place, cell in cells(config).items()}
    model = model_fingerprint(preset)
    files = {place: _file(config, picture_settings(cell, preset), model) for place, cell in wanted.items()}
    pictures = {place: _open(file) for place, file in files.items() if carried(file)}
    missing = [place for place in wanted if place not in pictures]
    processes.wait_for_everyone()  # until all have looked: what is missing is the same for each of them

    def tell() -> None:
        if on_picture:
            on_picture(sheet(pictures, axes(config)))
        if on_step:
            on_step(len(pictures), len(wanted))

    if pictures:
        tell()
    loaded: list[tuple[str, float]] = []
    if missing and not pipe:
        with processes.main_process_first():  # one after the other: main memory holds one text encoder
            pipe = load_for(preset, prompts_of(wanted.values()), config.text_encoder_bits, config.word)
    try:
        with processes.split_between_processes(missing) as mine:
            for place in mine:
                cell = wanted[place]
                chain = [(cell.lora, cell.lora_strength)] if cell.lora else []
                if chain != loaded:
                    loaded = chain
                    set_loras(pipe, chain)
                (image,) = draw(pipe, cell, preset, stop=stop)
                save_picture(image, files[place], picture_settings(cell, preset))
                pictures[place] = _open(files[place])
                tell()
    finally:
        if loaded:
            unload_lora(pipe)
    processes.wait_for_everyone()
    pictures |= {place: _open(file) for place, file in files.items() if place not in pictures}
    said = {"kolors_lab": json.dumps({"grid": [config.x, config.y, config.z]}, ensure_ascii=False)}
    return write_png(sheet(pictures, axes(config)), config.out, said)


def _file(config: GridConfig, settings: dict, model: str) -> Path:
    text = json.dumps(settings | {"model_hash": model}, sort_keys=True, ensure_ascii=False)
    return Path(config.out).parent / "cells" / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.png"


def _open(file: Path) -> Image.Image:
    picture = open_image(file)
    picture.thumbnail((SIDE, SIDE))
    return picture


def sheet(pictures: dict[tuple[int, int, int], Image.Image], given: Sequence[Axis]) -> Image.Image:
    """The grid on white: columns under their labels, rows beside theirs, blocks one below the other.

    Places that have no picture yet stay empty.
    """
    from PIL import Image, ImageDraw

    from kolors_lab.core.fonts import font, wrap

    face, columns, rows, blocks = font(LETTERS), *(len(axis.values) for axis in given)
    width, height = (max(size) for size in zip(*(picture.size for picture in pictures.values()), strict=True))
    left = max((int(face.getlength(text)) for text in _labels(given[1])), default=0)
    left = min(left, width) + 2 * PAD if left else PAD
    heads = [wrap(text, face, width, 3) for text in _labels(given[0])] or [[]]
    line = LETTERS + 4
    title, head = (LETTERS + 3 * PAD) * bool(given[2].field), max(map(len, heads)) * line + PAD
    block = title + head + rows * (height + PAD)
    image = Image.new("RGB", (left + columns * (width + PAD), blocks * block + PAD), "white")
    draw = ImageDraw.Draw(image)

    def write(lines: Sequence[str], x: int, y: int, **options: Any) -> None:
        for n, text in enumerate(lines):
            draw.text((x, y + n * line), text, fill="#222", font=face, **options)

    for z in range(blocks):
        top = z * block + title + head
        write(_labels(given[2])[z : z + 1], left, z * block + PAD)
        for n, lines in enumerate(heads):
            write(lines, left + n * (width + PAD) + width // 2, top - len(lines) * line - 2, anchor="ma")
        for n, text in enumerate(_labels(given[1])):
            lines = wrap(text, face, left - 2 * PAD, 4)
            write(lines, left - PAD, top + n * (height + PAD) + (height - len(lines) * line) // 2, anchor="ra")
    for (x, y, z), picture in pictures.items():
        image.paste(picture, (left + x * (width + PAD), z * block + title + head + y * (height + PAD)))
    return image


def _labels(axis: Axis) -> list[str]:
    return [axis.label(value) for value in axis.values] if axis.field else []
