"""The texts that a picture carries: chunks of a PNG, EXIF and comments of WebP and JPEG."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from kolors_lab.core.errors import DataError
from kolors_lab.core.images import MAX_PIXELS, MAX_SIDE

if TYPE_CHECKING:
    from PIL import Image

MAGIC = {b"\x89PNG": "PNG", b"RIFF": "WEBP", b"\xff\xd8\xff": "JPEG"}
SUFFIXES = (".png", ".webp", ".jpg", ".jpeg")
EXIF, USER_COMMENT = 0x8769, 0x9286  # the directory of further tags, and the tag in it that the web UI writes
# ComfyUI's tags: `prompt:{…}`, or what is left where there is no graph; behind `Prompt: ` words are words
NAMED = re.compile(r"\s*(prompt|workflow)\s*:\s*(?=\{|(?:NaN|-?Infinity|null)?\s*$)", re.IGNORECASE)


def picture_texts(file: Path, names: Collection[str]) -> dict[str, str] | None:
    """The texts under these names, and under `parameters` what has no name; None for a file that is no picture.

    Raises DataError for one that is damaged or too large, OSError where it cannot be read.
    """
    from PIL import Image, UnidentifiedImageError

    with file.open("rb") as stream:
        start = stream.read(4)
    kind = next((kind for magic, kind in MAGIC.items() if start.startswith(magic)), None)
    if kind is None and file.suffix.lower() not in SUFFIXES:
        return None
    try:
        with Image.open(file, formats=(kind or "PNG",)) as image:
            if image.width * image.height > MAX_PIXELS or max(image.size) > MAX_SIDE:
                raise DataError(
                    "{file} has {width} x {height} px, more than can be handled safely",
                    file=file,
                    width=image.width,
                    height=image.height,
                )
            image.load()  # some writers put their text behind the pixels
            texts = _png_texts(image) if kind == "PNG" else dict(_exif_texts(image))
    except (UnidentifiedImageError, SyntaxError, ValueError, TypeError, Image.DecompressionBombError) as error:
        raise DataError("{file} cannot be read as a picture ({reason})", file=file, reason=error) from error
    except OSError as error:
        if error.errno:  # the file, not what is in it
            raise
        raise DataError("{file} is cut short or damaged ({error}); get it again", file=file, error=error) from error
    return {name: text for name, text in texts.items() if name in names}


def _png_texts(image: Image.Image) -> dict[str, str]:
    from PIL.PngImagePlugin import iTXt

    return {key: text if isinstance(text, iTXt) else _as_utf8(text) for key, text in image.text.items()}


def _as_utf8(text: str) -> str:
    """tEXt is Latin-1 by the standard, and Pillow reads it so; some programs write raw UTF-8 into it."""
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text


def _exif_texts(image: Image.Image) -> Iterator[tuple[str, str]]:
    """ComfyUI's tags name themselves; a comment is the web UI's parameters, or JSON that holds both forms."""
    exif = image.getexif()
    tags = [*exif.values(), exif.get_ifd(EXIF).get(USER_COMMENT), image.info.get("comment")]
    for text in (_decoded(value) for value in tags):
        if found := NAMED.match(text):
            yield found[1].lower(), text[found.end() :]
        elif text.startswith("{") and (forms := _forms(text)):
            yield from forms.items()
        elif text.startswith("{") or "Steps: " in text:
            yield "parameters", text


def _forms(text: str) -> dict[str, str]:
    """ComfyUI's parts of a comment that is one JSON object, each a text of its own; another program's has none."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    texts = {name: part if isinstance(part, str) else json.dumps(part) for name, part in data.items()}
    parts = [name for name in ("prompt", "workflow") if name in data]
    graphs = any(texts[name].lstrip().startswith("{") for name in parts)
    broken = any(isinstance(data[name], float) for name in parts)  # NaN: a graph's place, whatever is left of it
    return texts if graphs or broken else {}


def _decoded(value: object) -> str:
    """A tag's text. A user comment says in its first 8 bytes how the rest is written."""
    if isinstance(value, str):
        return _as_utf8(value)
    if not isinstance(value, bytes):
        return ""
    code, rest = value[:8], value[8:]
    if code.startswith(b"UNICODE"):
        order = "utf-16-le" if rest[1:2] == b"\0" and rest[:1] != b"\0" else "utf-16-be"
        return rest.decode(order, "replace").strip("\0")
    text = rest if code.startswith((b"ASCII", b"\0\0\0\0")) else value
    return text.decode("utf-8", "replace").strip("\0")
