"""The bundled Chinese font: measuring, breaking and checking text, and carrying it inside a page."""

from __future__ import annotations

import base64
import io
import unicodedata
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from kolors_lab.core.errors import DataError
from kolors_lab.core.files import data_dir

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont


NEVER_FIRST = "，。、；：！？”’）》」』…,.;:!?)"  # a line never begins with these (避头尾)


def font_file() -> Path:
    """The bundled Chinese font. DataError if it is missing."""
    files = sorted(f for f in (data_dir() / "fonts").glob("*") if f.suffix in (".ttf", ".otf"))
    if not files:
        raise DataError("{folder}: no font in it; restore the folder from the repository", folder=data_dir() / "fonts")
    return files[0]


def font(size: int) -> FreeTypeFont:
    """The bundled Chinese font at `size` px. DataError if it is missing."""
    from PIL import ImageFont

    return ImageFont.truetype(str(font_file()), size)


def wrap(text: str, face: FreeTypeFont, width: float, lines: int) -> list[str]:
    """`text` in at most `lines` lines of `width` px, Chinese broken anywhere but before punctuation; … if too long."""
    rows, row = [], ""
    for char in " ".join(text.split()):
        if face.getlength(row + char) <= width or not row:
            row += char
        else:
            keep = _break(row, char)
            rows.append(row[:keep].rstrip())
            row = (row[keep:] + char).lstrip()
    rows = [r for r in (*rows, row) if r]
    if len(rows) <= lines:
        return rows
    last = rows[lines - 1]
    while last and face.getlength(last + "…") > width:
        last = last[:-1]
    return [*rows[: lines - 1], last + "…"]


def _break(row: str, following: str) -> int:
    """How much of `row` stays on its line: whole Latin words or up to a _, and no line that begins with punctuation."""
    if following in NEVER_FIRST:
        return len(row) - 1 or 1
    if following.isascii() and following.isalnum() and row[-1].isascii():
        return max(row.rfind(" "), row.rfind("_")) + 1 or len(row)
    return len(row)


@lru_cache
def _drawable() -> frozenset[int]:
    """Code points of the characters that the bundled font has."""
    from fontTools.ttLib import TTFont

    return frozenset(TTFont(font_file(), lazy=True).getBestCmap())


def legible(text: str) -> str:
    """`text` without emoji and the like, which the font lacks. DataError for a character that would show as a box."""
    absent = {char for char in text if ord(char) not in _drawable() and not char.isspace()}
    if odd := "".join(char for char in absent if unicodedata.category(char)[0] in "LN"):
        raise DataError("{text}: the page's font has no {odd}; write it in another way", text=text, odd=odd)
    return "".join(char for char in text if char not in absent).strip()


def embed_font(text: str) -> str:
    """The bundled Chinese font, cut to the characters of `text`, as a data: address: they show on every machine."""
    from fontTools.subset import Options, Subsetter
    from fontTools.ttLib import TTFont

    font, stream = TTFont(font_file(), lazy=True), io.BytesIO()
    cut = Subsetter(Options(layout_features=[], hinting=False))
    cut.populate(text="".join(set(text)))
    cut.subset(font)
    font.save(stream)
    return "data:font/otf;base64," + base64.b64encode(stream.getvalue()).decode()
