"""The comic page: panels in rows of four, a headline, a caption under each panel, one line that says who drew it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import DataError
from .files import replacing
from .models import data_dir

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

PAPER, INK, SOFT, ACCENT = "#fbf7f0", "#2b2622", "#8b8178", "#c8553d"
FOOT = "由 AI 生成 · AI-generated · kolors_lab"
NEVER_FIRST = "，。、；：！？”’）》」』…,.;:!?)"  # a line never begins with these (避头尾)


@dataclass(frozen=True)
class Layout:
    """Measures of a page in px."""

    columns: int = 4
    panel: int = 384
    gap: int = 24
    margin: int = 48
    head: int = 132
    caption: int = 92
    foot: int = 64

    def width(self) -> int:
        return 2 * self.margin + self.columns * self.panel + (self.columns - 1) * self.gap

    def height(self, rows: int) -> int:
        return self.margin + self.head + rows * (self.panel + self.caption) + self.foot

    def corner(self, n: int) -> tuple[int, int]:
        """Upper left corner of panel `n` (from 0)."""
        row, column = divmod(n, self.columns)
        step = self.panel + self.gap
        return self.margin + column * step, self.margin + self.head + row * (self.panel + self.caption)


def font_file() -> Path:
    """The bundled Chinese font. DataError if it is missing."""
    files = sorted(f for f in (data_dir() / "fonts").glob("*") if f.suffix in (".ttf", ".otf"))
    if not files:
        raise DataError(f"{data_dir() / 'fonts'}: no font in it; restore the folder from the repository")
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
    """How much of `row` stays on its line: whole Latin words, and no line that begins with punctuation."""
    if following in NEVER_FIRST:
        return len(row) - 1 or 1
    if following.isascii() and following.isalnum() and " " in row and row[-1].isascii():
        return row.rindex(" ") + 1
    return len(row)


def make_page(
    panels: Sequence[str | Path], captions: Sequence[str], file: str | Path, title: str = "", foot: str = FOOT
) -> Path:
    """Write a page of PNG panels, four a row and about 1700 px wide, to `file`; titles and captions go into it as text.

    DataError if a panel cannot be read or captions do not match the panels.
    """
    if len(panels) != len(captions) or not panels:
        raise DataError(f"{file}: {len(panels)} panels and {len(captions)} captions; each panel needs one caption")
    from PIL import Image, ImageDraw

    layout = Layout()
    page = Image.new("RGB", (layout.width(), layout.height(-(-len(panels) // layout.columns))), PAPER)
    draw = ImageDraw.Draw(page)
    _head(draw, layout, title)
    for n, (panel, caption) in enumerate(zip(panels, captions, strict=True)):
        _panel(page, draw, layout, n, _picture(panel, layout.panel), caption)
    small = font(20)
    at = (page.width / 2, page.height - layout.foot / 2)
    draw.text(at, foot, fill=SOFT, font=small, anchor="mm")
    return _save(page, Path(file), {"Title": title, "Description": " / ".join(captions), "Comment": foot})


def _head(draw: ImageDraw, layout: Layout, title: str) -> None:
    face = font(58)
    (line,) = wrap(title, face, layout.width() - 2 * layout.margin, 1) or [""]
    middle = layout.width() / 2
    draw.text((middle, layout.margin + 34), line, fill=INK, font=face, anchor="mm")
    y = layout.margin + 88
    draw.rectangle((middle - 36, y, middle + 36, y + 3), fill=ACCENT)


def _panel(page: Image, draw: ImageDraw, layout: Layout, n: int, picture: Image, caption: str) -> None:
    x, y = layout.corner(n)
    page.paste(picture, (x, y))
    draw.rectangle((x - 1, y - 1, x + layout.panel, y + layout.panel), outline=INK, width=2)
    face, number = font(24), f"{n + 1}"
    left = x + face.getlength(f"{number}\u2002")
    draw.text((x, y + layout.panel + 30), number, fill=ACCENT, font=face, anchor="lm")
    for k, line in enumerate(wrap(caption, face, x + layout.panel - left, 2)):
        draw.text((left, y + layout.panel + 30 + k * 32), line, fill=INK, font=face, anchor="lm")


def _picture(file: str | Path, side: int) -> Image:
    """The panel fitted into a square, small ones enlarged by steps of whole pixels first, so that edges stay crisp."""
    from PIL import Image, ImageFilter, ImageOps

    from .dataset import open_image

    image = open_image(Path(file))
    small = image.width < side
    image = ImageOps.fit(image, (side, side), Image.Resampling.LANCZOS)
    return image.filter(ImageFilter.UnsharpMask(radius=2, percent=80, threshold=2)) if small else image


def _save(page: Image, file: Path, texts: dict[str, str]) -> Path:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    for key, text in texts.items():
        info.add_itxt(key, text)
    info.add_itxt("kolors_lab", json.dumps({"page": texts["Title"]}, ensure_ascii=False))
    with replacing(file) as part:
        page.save(part, "PNG", pnginfo=info)
    return file
