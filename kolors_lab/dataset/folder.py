"""Picture-caption folders: reading and checking them, opening pictures of every sort."""

from __future__ import annotations

import os
import re
import shlex
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kolors_lab.core.errors import DataError, KolorsLabWarning
from kolors_lab.core.files import read_text
from kolors_lab.core.images import SUFFIXES, open_image
from kolors_lab.core.language import _
from kolors_lab.dataset.archive import MOST_FILES, is_hidden, set_folder
from kolors_lab.dataset.tables import PAIRS, READERS, Row, read_pairs, way

if TYPE_CHECKING:
    from PIL import Image

CAPTIONS = (".txt", ".caption")
DRAFT = "captions.csv"  # what scoring/tagging.py proposes
BESIDE = (*CAPTIONS, ".json", ".npz", ".csv", ".safetensors")  # what trainers and taggers put beside a picture
LONGEST, UNWRITABLE = 10_000, re.compile("[\0\ud800-\udfff]")  # characters of a caption; what is no text
NOTHING = " \t\n,，.。、;；|\ufeff\u200b"  # what a tagger that found nothing leaves
REPEATS = re.compile(r"(\d+)_.")  # a folder of kohya's: 10_name


@dataclass(frozen=True)
class Example:
    """One picture and its caption. `image` may not exist and `text` may be empty: `open_example` tells."""

    image: Path
    text: str
    weight: float = 1.0  # how much it counts in the loss
    repeats: int = 1  # how often it is drawn in a round over the set


# Reading a folder ----------------------------------------------------------------------------------------------------


def read_examples(folder: str | Path, encoding: str | None = None) -> list[Example]:
    """Read metadata.jsonl (`text`, `image`), metadata.csv (`file_name,text`), a list of pairs for a ControlNet
    (prompt.json: `source`, `target`, `prompt`) or pictures with a .txt or .caption of the same stem; or a zip of it.

    A table is looked for in the folder and in its `train/`, captions of their own in all folders within; one called
    `10_name` is drawn ten times a round, as in kohya's scripts. Hidden files are passed over. Paths are relative to the
    metadata and stay in the folder. Pictures are not opened. `encoding` is that of texts that are not UTF-8. Warns of
    what is not used: other columns, another table, pictures in no line, files that are neither picture nor caption, a
    .txt that says something else than the table; and of one caption for two pictures. Raises
    DataError, naming the line, for what cannot be read; for a folder without examples.
    """
    given, folder = folder, set_folder(folder)
    if not folder.is_dir():
        raise DataError(
            "the folder {folder} does not exist; give one of pictures, each with its caption in metadata.csv "
            "(file_name,text) or in a .txt of its name",
            folder=folder,
        )
    for place in (folder, folder / "train"):
        for name, reader in READERS.items():
            if (place / name).is_file():
                _tell_tables(place / name, folder)
                return _resolve(list(reader(place / name, encoding)), place / name, folder)
    places = list(walk(folder))
    examples = [example for place, files in places for example in _captioned(place, files, folder, encoding)]
    captions = {file for _, files in places for file in files if file.suffix.lower() in CAPTIONS}
    everything = [file for _, files in places for file in files]
    if not captions or captions >= {example.image for example in examples}:
        raise DataError(
            "{given} holds no metadata.jsonl, no metadata.csv and no pictures with .txt captions{way}",
            given=given,
            way=_way_to_captions(Path(given), folder, everything),
        )
    _tell_left(everything, examples, captions)
    return examples


def _way_to_captions(given: Path, folder: Path, files: list[Path]) -> str:
    """What to do with a folder without captions: use the draft that lies there, have one made; "" without pictures."""
    if drafts := [file.relative_to(folder) for file in files if file.name == DRAFT]:
        told = _("; {draft} is a draft: look through it, then rename it to metadata.csv")
        return told.format(draft=drafts[0].as_posix())
    if not any(file.suffix.lower() in SUFFIXES for file in files):
        return ""
    told = _("; to have captions drafted for its pictures: kolors-lab captions {folder} --tag")
    return told.format(folder=shlex.quote(str(given)) if given.is_dir() else "FOLDER")


def _resolve(rows: list[Row], metadata: Path, folder: Path) -> list[Example]:
    """Examples of a table's rows; a path that leaves the folder, by `..` or by a link, is an error."""
    root, examples = folder.resolve(), []
    for row in rows:
        image = metadata.parent / row.image
        if "\\" in row.image and not image.exists():  # as Windows writes it
            image = metadata.parent / row.image.replace("\\", "/")
        try:
            inside = image.resolve().is_relative_to(root)
        except (OSError, RuntimeError, ValueError) as error:  # a link to itself, a NUL or half a character in the name
            raise DataError(
                "{file} line {line}: {image!r} is no file's name ({error})",
                file=metadata,
                line=row.line,
                image=row.image,
                error=error,
            ) from error
        if not inside:
            raise _outside(metadata, row.line, row.image, folder)
        examples.append(Example(image, caption_of(row.text), repeats=row.repeats))
    if not examples:
        raise DataError("{metadata} lists no pictures", metadata=metadata)
    _tell_unused(rows, examples, metadata)
    return examples


def _outside(file: Path, line: int, image: str, folder: Path) -> DataError:
    return DataError(
        "{file} line {line}: {image!r} lies outside {folder}; copy the picture into it",
        file=file, line=line, image=image, folder=folder,
    )  # fmt: skip


def _tell_unused(rows: list[Row], examples: list[Example], metadata: Path) -> None:
    """Warn of what lies there and does not count: other columns, pictures in no line, other captions in .txt files."""
    beside = [(example, example.image.with_suffix(".txt")) for example in examples]
    others = [txt for example, txt in beside if txt.is_file() and caption_of(read_text(txt, way=way())) != example.text]
    if others:
        _warn(
            KolorsLabWarning(
                "the captions in {table} count, not those of {others}, which differ; remove {table} or the .txt files",
                table=metadata.name,
                others=_some(others),
            )
        )
    if columns := dict.fromkeys(name for row in rows for name in row.others):
        _warn(KolorsLabWarning("{table}: not used: {columns}", table=metadata, columns=", ".join(columns)[:200]))
    if metadata.name in PAIRS:
        return  # the sources, too, are in no line of their own
    listed = {Path(os.path.normpath(example.image)) for example in examples}
    files = _files(Path(os.path.normpath(metadata.parent)))
    if unlisted := [file for file in files if file.suffix.lower() in SUFFIXES and file not in listed]:
        _warn(KolorsLabWarning("{table} has no line for {files}: left out", table=metadata.name, files=_some(unlisted)))


def _files(top: Path) -> list[Path]:
    """All files within, in order, without hidden ones and those that a link leads to."""
    files = sorted(Path(place, name) for place, _folders, names in os.walk(top) for name in names)
    return [file for file in files if not is_hidden(file.relative_to(top).as_posix())]


def _tell_tables(table: Path, top: Path) -> None:
    """Warn of a second metadata.csv or .jsonl among pictures; lists of pairs are read beside one."""
    files = _files(top)
    pictures = {top, top / "train", *(file.parent for file in files if file.suffix.lower() in SUFFIXES)}
    tables = (file for file in files if file.name in READERS.keys() - {*PAIRS} and file != table)
    if others := [file for file in tables if file.parent in pictures]:
        warning = KolorsLabWarning("{table} is read, {others} not", table=table, others=_some(others))
        _warn(warning, 4)


def _tell_left(files: list[Path], examples: list[Example], captions: set[Path]) -> None:
    """Warn of files that are neither picture nor caption, and of a caption that two pictures share."""
    used = captions | {example.image for example in examples}
    if left := [file for file in files if file not in used and file.suffix.lower() not in ("", ".md")]:
        _warn(KolorsLabWarning("neither picture nor caption, not used: {files}", files=_some(left)), 4)
    own = {caption.with_suffix("") for caption in captions}
    alone = [example.image for example in examples if example.image not in captions and example.image not in own]
    count = Counter(image.with_suffix("") for image in alone)
    if twice := [image for image in alone if image.with_suffix("") in own and count[image.with_suffix("")] > 1]:
        warning = KolorsLabWarning("{files} have one caption; rename one if they are not the same", files=_some(twice))
        _warn(warning, 4)


def _some(files: list[Path]) -> str:
    more = _("{file} and {count} more")
    return more.format(file=files[0], count=len(files) - 1) if len(files) > 1 else str(files[0])


def _warn(warning: KolorsLabWarning, level: int = 5) -> None:
    warnings.warn(warning, stacklevel=level)


def caption_of(text: str) -> str:
    """A caption as it is written in a file: without the backslashes that taggers put before brackets."""
    return re.sub(r"\\([()\[\]])", r"\1", text).strip()


def read_sources(folder: str | Path) -> dict[Path, Path]:
    """The control of each picture that a list of pairs in the folder, or its `train/`, names; {} without such a list.

    DataError, naming the line, for a list that cannot be read and a control outside of the folder.
    """
    folder = set_folder(folder)
    root, found = folder.resolve(), {}
    for file in (place / name for place in (folder, folder / "train") for name in PAIRS):
        for line, source, target, _prompt in read_pairs(file) if file.is_file() else ():
            if not (file.parent / source).resolve().is_relative_to(root):
                raise _outside(file, line, source, folder)
            found[file.parent / target] = file.parent / source
    return found


# Captions of their own -----------------------------------------------------------------------------------------------


def walk(top: Path) -> Iterator[tuple[Path, list[Path]]]:
    """Every folder within and its files, in order, hidden ones left out. DataError: a link that leads out, too much."""

    def stop(error: OSError) -> None:
        raise DataError("{file}: cannot be read: {reason}", file=error.filename, reason=error.strerror) from error

    root, count = top.resolve(), 0
    for place, folders, names in os.walk(top, onerror=stop):
        inner = [Path(place, name) for name in sorted(folders) if not is_hidden(name)]
        for link in (folder for folder in inner if folder.is_symlink()):
            _check_inside(link, root, top)
        folders[:] = [folder.name for folder in inner if not folder.is_symlink()]  # what a link leads to is read there
        count += len(names)
        if count > MOST_FILES:
            raise DataError(
                "{top}: more than {most} files; give the folder of the pictures alone", top=top, most=MOST_FILES
            )
        yield Path(place), [Path(place, name) for name in sorted(names) if not is_hidden(name)]


def _check_inside(file: Path, root: Path, top: Path) -> None:
    if not file.resolve().is_relative_to(root):
        raise DataError("{file} is a link to outside of {top}; copy what it leads to into it", file=file, top=top)


def _captioned(place: Path, files: list[Path], top: Path, encoding: str | None) -> Iterator[Example]:
    """The pictures of a folder, each with its caption, 1.txt or 1.png.txt; what lacks its other half comes as well."""
    captions: dict[str, Path] = {}
    for file in files:
        if file.suffix.lower() in CAPTIONS and captions.setdefault(file.stem, file) != file:
            raise DataError(
                "{first} and {second} are captions of one picture; remove one",
                first=captions[file.stem],
                second=file.name,
            )
    repeats, told = repeats_of(place, top), set()
    pictures = [file for file in files if file.suffix.lower() in SUFFIXES]
    seen = {file.stem for file in pictures} | {file.name for file in pictures}
    # What has a caption is meant to be a picture, whatever its suffix: what it is goes by its content.
    pictures += [file for file in files if file.stem in captions.keys() - seen and file.suffix.lower() not in BESIDE]
    for picture in pictures:
        caption = captions.get(picture.stem) or captions.get(picture.name)
        told.add(caption)
        for file in (picture, caption):
            if file:
                _check_inside(file, top.resolve(), top)
        text = caption_of(read_text(caption, otherwise=encoding, way=way())) if caption else ""
        yield Example(picture, text, repeats=repeats)
    yield from (Example(caption, "", repeats=repeats) for caption in captions.values() if caption not in told)


def repeats_of(place: Path, top: Path) -> int:
    """How often a folder's pictures come in a round: ten times within `10_name`. DataError for 0 and for a year."""
    for folder in (place, *place.parents):
        if folder == top:
            break
        if found := REPEATS.match(folder.name):
            if not 0 < (repeats := int(found[1][:9])) < 1000:
                raise DataError(
                    "{folder}: its pictures would be drawn {repeats} times; rename it, 10_name means ten times",
                    folder=folder,
                    repeats=repeats,
                )
            return repeats
    return 1


# Checking -------------------------------------------------------------------------------------------------------------


def open_example(example: Example) -> Image.Image:
    """The picture. DataError for one that cannot be read or has no caption, or a caption without a picture."""
    if example.image.suffix.lower() in CAPTIONS:
        raise DataError("{image} is a caption without a picture of its name", image=example.image)
    if not example.text.strip(NOTHING):
        raise DataError("{image} has no caption", image=example.image)
    if len(example.text) > LONGEST or UNWRITABLE.search(example.text):
        length = len(example.text)
        raise DataError(
            "{image} has no caption that can be meant: {length} characters, {text!r}…",
            image=example.image,
            length=length,
            text=example.text[:20],
        )
    return open_image(example.image)


def check_examples(examples: list[Example]) -> None:
    """Raise DataError, naming the first and the count, if a picture cannot be read or a caption is missing."""
    faults = []
    for example in examples:
        try:
            open_example(example)
        except DataError as error:
            faults.append(str(error))
    if faults:
        more = _(", and {count} more like it").format(count=len(faults) - 1) if len(faults) > 1 else ""
        raise DataError(
            "{fault}{more}; `kolors-lab juice` makes a folder without such examples", fault=faults[0], more=more
        )
