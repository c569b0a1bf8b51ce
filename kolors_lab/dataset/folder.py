"""Picture-caption folders: reading and checking them, opening pictures of every sort."""

from __future__ import annotations

import csv
import io
import json
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kolors_lab.core.errors import DataError, KolorsLabWarning
from kolors_lab.core.files import read_text
from kolors_lab.core.images import SUFFIXES, open_image

if TYPE_CHECKING:
    from collections.abc import Iterator


PAIRS = ("prompt.json", "prompt.jsonl")  # lists of pairs, source and target


@dataclass(frozen=True)
class Example:
    """One picture and its caption. `image` may not exist and `text` may be empty: `check_examples` tells."""

    image: Path
    text: str
    weight: float = 1.0  # how much it counts in the loss


# Reading a folder ----------------------------------------------------------------------------------------------------


def read_examples(folder: str | Path) -> list[Example]:
    """Read metadata.jsonl (`text`, `image`), metadata.csv (`file_name,text`), a list of pairs for a ControlNet
    (prompt.json: `source`, `target`, `prompt`) or pictures with a .txt of the same stem.

    A table is looked for in the folder and in its `train/`, pictures with a .txt in all its folders; one called
    `10_name` counts ten times, as in kohya's scripts. Hidden files are passed over. Paths are relative to the metadata
    and stay in the folder. Pictures are not opened. Warns where a .txt says something else than the table. Raises
    DataError, naming the line, for what cannot be read; for a folder without examples.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(
            f"the folder {folder} does not exist; give one with pictures and captions, as `kolors-lab juice` makes it"
        )
    readers = {"metadata.jsonl": _read_jsonl, "metadata.csv": _read_csv} | dict.fromkeys(PAIRS, _read_targets)
    for place in (folder, folder / "train"):
        for name, reader in readers.items():
            if (place / name).is_file():
                return _resolve(reader(place / name), place / name, folder)
    places = [folder, *(place for place in sorted(folder.iterdir()) if place.is_dir() and place.name[0] != ".")]
    if examples := [example for place in places for example in _read_txt(place, folder)]:
        return examples
    raise DataError(f"{folder} holds no metadata.jsonl, no metadata.csv and no pictures with .txt captions")


def _resolve(rows: Iterator[tuple[int, str, str]], metadata: Path, folder: Path) -> list[Example]:
    """Examples from (line, path, caption); a path that leaves the folder, by `..` or by a link, is an error."""
    root, examples = folder.resolve(), []
    for line, name, text in rows:
        image = metadata.parent / name
        try:
            inside = image.resolve().is_relative_to(root)
        except (OSError, RuntimeError, ValueError) as error:  # a link to itself, a NUL or half a character in the name
            raise DataError(f"{metadata} line {line}: {name!r} is no file's name ({error})") from error
        if not inside:
            raise DataError(f"{metadata} line {line}: {name!r} lies outside {folder}; copy the picture into it")
        examples.append(Example(image, caption_of(text)))
    if not examples:
        raise DataError(f"{metadata} lists no pictures")
    _compare_txt(examples, metadata)
    return examples


def _compare_txt(examples: list[Example], metadata: Path) -> None:
    """Warn where a tagger wrote .txt files beside a table: only one of the two can count."""
    beside = [(example, example.image.with_suffix(".txt")) for example in examples]
    others = [txt for example, txt in beside if txt.is_file() and caption_of(read_text(txt)) != example.text]
    if others:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        count = f"the captions in {metadata.name} count, not those of {others[0]}{more}"
        warnings.warn(
            KolorsLabWarning(f"{count}, which differ; remove {metadata.name} or the .txt files"), stacklevel=4
        )


def caption_of(text: str) -> str:
    """A caption as it is written in a file: without the backslashes that taggers put before brackets."""
    return re.sub(r"\\([()\[\]])", r"\1", text).strip()


def _read_jsonl(file: Path) -> Iterator[tuple[int, str, str]]:
    for number, line in enumerate(read_text(file).split("\n"), 1):  # not splitlines: JSON may hold U+2028
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            image = row["image"]
            image = image[0] if isinstance(image, list) and len(image) == 1 else image
            text = row.get("text") or ""
            if not (isinstance(image, str) and image and isinstance(text, str)):
                raise ValueError("image must be one path and text a string")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else error
            raise DataError(
                f'{file} line {number}: not like {{"text": "...", "image": ["train/1.jpg"]}} ({reason})'
            ) from error
        yield number, image, text


def read_sources(folder: str | Path) -> dict[Path, Path]:
    """The control of each picture that a list of pairs in the folder, or its `train/`, names; {} without such a list.

    DataError, naming the line, for a list that cannot be read and a control outside of the folder.
    """
    root, found = Path(folder).resolve(), {}
    for file in (place / name for place in (Path(folder), Path(folder) / "train") for name in PAIRS):
        for line, source, target, _ in _read_pairs(file) if file.is_file() else ():
            if not (file.parent / source).resolve().is_relative_to(root):
                raise DataError(f"{file} line {line}: {source!r} lies outside {folder}; copy the picture into it")
            found[file.parent / target] = file.parent / source
    return found


def _read_targets(file: Path) -> Iterator[tuple[int, str, str]]:
    return ((line, target, prompt) for line, _, target, prompt in _read_pairs(file))


def _read_pairs(file: Path) -> Iterator[tuple[int, str, str, str]]:
    """(line, source, target, prompt) of a list as ControlNet's fill50k has it, one JSON object a line."""
    for number, line in enumerate(read_text(file).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            source, target, prompt = (row[name] for name in ("source", "target", "prompt"))
            if not all(isinstance(value, str) and value for value in (source, target, prompt)):
                raise ValueError("all three must be text")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else error
            raise DataError(
                f'{file} line {number}: not like {{"source": "…", "target": "…", "prompt": "…"}} ({reason})'
            ) from error
        yield number, source, target, prompt


def _read_csv(file: Path) -> Iterator[tuple[int, str, str]]:
    rows = csv.DictReader(io.StringIO(read_text(file), newline=""))
    try:
        if not {"file_name", "text"} <= set(rows.fieldnames or ()):
            raise DataError(f"{file} line 1: needs the columns file_name,text; has {','.join(rows.fieldnames or ())}")
        for row in rows:
            if not row["file_name"] or None in row:
                raise DataError(f"{file} line {rows.line_num}: needs a file_name and a text; quote texts with commas")
            yield rows.line_num, row["file_name"], row["text"] or ""
    except csv.Error as error:
        raise DataError(f"{file} line {rows.line_num}: not CSV ({error})") from error


def _read_txt(folder: Path, top: Path) -> list[Example]:
    """Pictures and captions of the same stem; what lacks its other half is listed too."""
    files = [file for file in sorted(folder.iterdir()) if not file.name.startswith(".")]  # macOS leaves ._1.png
    pictures = [file for file in files if file.suffix.lower() in SUFFIXES]
    captions = {file.stem: file for file in files if file.suffix.lower() == ".txt"}
    if not pictures or not captions:
        return []
    root, examples = top.resolve(), []
    repeats = re.match(r"(\d{1,4})_", folder.name) if folder != top else None
    weight = float(repeats[1]) if repeats else 1.0
    for picture in pictures:
        caption = captions.get(picture.stem)
        for file in (picture, caption):
            if file and not file.resolve().is_relative_to(root):
                raise DataError(f"{file} is a link to outside of {top}; copy the file into it")
        examples.append(Example(picture, caption_of(read_text(caption)) if caption else "", weight))
    stems = {picture.stem for picture in pictures}
    return examples + [Example(file.with_suffix(""), "") for stem, file in captions.items() if stem not in stems]


def check_examples(examples: list[Example]) -> None:
    """Raise DataError, naming the first and the count, if a picture cannot be read or a caption is missing."""
    faults = []
    for example in examples:
        try:
            if not example.text:
                raise DataError(f"{example.image} has no caption")
            open_image(example.image)
        except DataError as error:
            faults.append(str(error))
    if faults:
        more = f", and {len(faults) - 1} more like it" if len(faults) > 1 else ""
        raise DataError(f"{faults[0]}{more}; `kolors-lab juice` makes a folder without such examples")
