"""A batch over a folder of controls, and the sheet that shows each: control · target · result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from kolors_lab.core.errors import DataError, SettingError
from kolors_lab.core.images import SUFFIXES, open_image
from kolors_lab.dataset.folder import read_examples, read_sources
from kolors_lab.dataset.tables import PAIRS
from kolors_lab.models.presets import get_preset
from kolors_lab.pictures.files import generate_file
from kolors_lab.pictures.grids import SIDE, Axis, sheet
from kolors_lab.sampling.config import GenerateConfig, prompts_of
from kolors_lab.sampling.control import control_picture
from kolors_lab.sampling.loading import load_for
from kolors_lab.sampling.metadata import write_picture

if TYPE_CHECKING:
    from diffusers import KolorsPipeline
    from PIL import Image

HEADS = ("控制 control", "目标 target", "结果 result")
MOST = 100  # rows of a sheet


@dataclass(frozen=True)
class ControlsConfig(GenerateConfig):
    """Draw one picture after each control of a folder, and a sheet of all: control, target where there is one, result.

    Args:
        folder: control pictures, or pictures with captions to make controls of, or a list of pairs (prompt.json)
        out: the sheet to write (.png); the pictures lie beside it
    """

    folder: str = "controls"
    out: str = "runs/controls/sheet.png"

    def __post_init__(self):
        if self.control or not self.control_net:
            raise SettingError(
                "control_net = {net}: a net is wanted, the controls come from the folder", net=self.control_net
            )
        replace_control(self, self.folder)  # which checks the rest


@dataclass(frozen=True)
class Row:
    """One row of the sheet: files of control and target, and the prompt, "" for the config's."""

    control: Path
    target: Path | None
    prompt: str


def replace_control(config: ControlsConfig, control: str | Path, **changes: object) -> GenerateConfig:
    """The GenerateConfig that draws after one control."""
    names = [field.name for field in fields(GenerateConfig) if field.name != "control"]
    return GenerateConfig(**{name: getattr(config, name) for name in names} | {"control": str(control)} | changes)


def read_rows(folder: str | Path) -> list[Row]:
    """The controls of a folder. A list of pairs brings control, target, prompt; pictures with captions are control and
    target in one; pictures alone are controls. DataError for none, and for more than MOST."""
    place = Path(folder)
    if not place.is_dir():
        raise DataError("the folder {folder} does not exist; give one with control pictures", folder=folder)
    if any((place / name).is_file() for name in PAIRS):
        sources = read_sources(place)
        rows = [Row(sources[e.image], e.image, e.text) for e in read_examples(place)]
    else:
        try:
            rows = [Row(e.image, e.image, e.text) for e in read_examples(place)]
        except DataError:  # no captions there
            rows = [Row(file, None, "") for file in sorted(place.iterdir()) if file.suffix.lower() in SUFFIXES]
    if not 0 < len(rows) <= MOST:
        raise DataError(
            "{folder}: holds {count} control pictures; a sheet has 1 to {most}",
            folder=folder,
            count=len(rows),
            most=MOST,
        )
    return rows


def controls(
    config: ControlsConfig, pipe: KolorsPipeline | None = None, on_step: Callable[[int, int], None] | None = None
) -> Path:
    """Draw a picture after each control, `out`'s folder / NAME.png, and the sheet; its path.

    Raises DataError, SettingError, FetchError, ModelError.
    """
    rows, preset = read_rows(config.folder), get_preset(config.preset)
    wanted = [
        replace_control(
            config, row.control, out=str(Path(config.out).parent / f"{n:03d}-{row.control.stem}.png"),
            prompt=row.prompt or config.prompt,
        )
        for n, row in enumerate(rows, 1)
    ]  # fmt: skip
    pipe, files = pipe or load_for(preset, prompts_of(wanted), config.text_encoder_bits, config.word), []
    for done, one in enumerate(wanted, 1):
        files.append(generate_file(one, pipe))
        if on_step:
            on_step(done, len(wanted))
    image = controls_sheet(rows, files, config.control_kind)
    return write_picture(image, config.out, {"controls": len(rows), "control_kind": config.control_kind})


def controls_sheet(rows: Sequence[Row], files: Sequence[Path], kind: str) -> Image.Image:
    """Control · target · result, one row for each; the control as the net saw it."""
    pictures = {}
    for y, (row, file) in enumerate(zip(rows, files, strict=True)):
        result = open_image(file)
        shown = control_picture(open_image(row.control), kind, *result.size, what=str(row.control))
        target = open_image(row.target) if row.target else None
        for x, picture in enumerate((shown, target, result)):
            if picture:
                picture.thumbnail((SIDE, SIDE))
                pictures[x, y, 0] = picture
    names = tuple(row.control.stem for row in rows)
    return sheet(pictures, [Axis("prompt", HEADS), Axis("prompt", names), Axis("", (None,))])
