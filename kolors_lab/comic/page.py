"""The comic page: panels with captions, a headline, one line that says who drew it; as a picture and as a web page.

Two layouts: `grid`, rows of four (eight panels printed fill an A4 sheet), and `strip`, one below the other for phones.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from kolors_lab.core.errors import DataError, check_name
from kolors_lab.core.fonts import font, legible, wrap
from kolors_lab.core.images import embed, open_image, write_png
from kolors_lab.core.templates import write_page

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

PAPER, BLACK, GREY, ACCENT = "#fbf7f0", "#2b2622", "#8b8178", "#c8553d"
FOOT = "由 AI 生成 · AI-generated · kolors_lab"


DPI = 300  # of a page for print
MADE_BY = '<meta name="generator" content="kolors_lab">'  # tells our web page from the user's own


@dataclass(frozen=True)
class Layout:
    """Measures of a page in px, of a page for screens; `scaled` makes those of a page for print."""

    columns: int = 4
    panel: int = 384
    gap: int = 24
    margin: int = 48
    head: int = 132
    caption: int = 92
    foot: int = 64
    title: int = 58  # px of the headline's letters
    text: int = 24
    ratio: float = 1.0  # height of a panel / its width

    def scaled(self, factor: float) -> Layout:
        whole = [f.name for f in fields(self) if f.name not in ("columns", "ratio")]
        sizes = {name: round(getattr(self, name) * factor) for name in whole}
        return Layout(columns=self.columns, ratio=self.ratio, **sizes)

    @property
    def tall(self) -> int:
        """Height of a panel."""
        return round(self.panel * self.ratio)

    def width(self) -> int:
        return 2 * self.margin + self.columns * self.panel + (self.columns - 1) * self.gap

    def height(self, rows: int) -> int:
        return self.margin + self.head + rows * (self.tall + self.caption) + self.foot

    def corner(self, n: int) -> tuple[int, int]:
        """Upper left corner of panel `n` (from 0)."""
        row, column = divmod(n, self.columns)
        step = self.panel + self.gap
        return self.margin + column * step, self.margin + self.head + row * (self.tall + self.caption)


LAYOUTS = {"grid": Layout(), "strip": Layout(columns=1, panel=640, margin=56, title=52, text=28, caption=104)}
PRINT = 3508 / LAYOUTS["grid"].width()  # the long side of A4 at 300 dpi


def get_layout(name: str) -> Layout:
    """The layout of that name. SettingError names those there are."""
    check_name("layout", name, LAYOUTS)
    return LAYOUTS[name]


def make_page(
    panels: Sequence[str | Path],
    captions: Sequence[str],
    file: str | Path,
    title: str = "",
    foot: str = FOOT,
    layout: str = "grid",
    for_print: bool = False,
) -> Path:
    """Write a page of panels to a PNG: about 1700 px wide in the layout `grid`, 3508 px (A4 at 300 dpi) `for_print`.

    Title, captions and that a model drew it go into the file as text, too. DataError if a panel cannot be read, has
    another shape than the first, or captions do not match the panels.
    """
    from PIL import Image, ImageDraw

    images, captions, title = _opened(panels, captions, file), [legible(c) for c in captions], legible(title)
    few, ratio = min(get_layout(layout).columns, len(panels)), images[0].height / images[0].width
    measures = replace(get_layout(layout), columns=few, ratio=ratio).scaled(PRINT if for_print else 1)
    page = Image.new("RGB", (measures.width(), measures.height(-(-len(panels) // measures.columns))), PAPER)
    draw = ImageDraw.Draw(page)
    _head(draw, measures, title)
    for n, (image, caption) in enumerate(zip(images, captions, strict=True)):
        _panel(page, draw, measures, n, _fitted(image, (measures.panel, measures.tall)), caption)
    at = (page.width / 2, page.height - measures.foot / 2)
    draw.text(at, foot, fill=GREY, font=font(measures.text * 5 // 6), anchor="mm")
    dpi = DPI if for_print else round(DPI / PRINT)
    texts = {"Title": title, "Description": " / ".join(captions), "Comment": foot}
    texts |= {"kolors_lab": json.dumps({"page": title}, ensure_ascii=False)}
    return write_png(page, file, texts, dpi=(dpi, dpi))


def _opened(panels: Sequence[str | Path], captions: Sequence[str], file: str | Path) -> list[Image]:
    if len(panels) != len(captions) or not panels:
        raise DataError(
            "{file}: {panels} panels and {captions} captions; each panel needs one caption",
            file=file,
            panels=len(panels),
            captions=len(captions),
        )
    images = [open_image(Path(panel)) for panel in panels]
    first = images[0]
    for panel, image in zip(panels, images, strict=True):
        if abs(image.width * first.height - image.height * first.width) > max(first.size):  # more than rounding does
            raise DataError(
                "{panel}: {size} px, the first panel {first}; panels of one page need one shape: "
                "draw it again in that of the others",
                panel=panel,
                size=f"{image.width} x {image.height}",
                first=f"{first.width} x {first.height}",
            )
    return images


def _head(draw: ImageDraw, layout: Layout, title: str) -> None:
    face = font(layout.title)
    (line,) = wrap(title, face, layout.width() - 2 * layout.margin, 1) or [""]
    middle, bar = layout.width() / 2, layout.head * 3 / 11
    draw.text((middle, layout.margin + layout.head * 17 / 66), line, fill=BLACK, font=face, anchor="mm")
    y = layout.margin + layout.head * 2 / 3
    draw.rectangle((middle - bar, y, middle + bar, y + layout.head / 44), fill=ACCENT)


def _panel(page: Image, draw: ImageDraw, layout: Layout, n: int, picture: Image, caption: str) -> None:
    (x, y), line = layout.corner(n), max(2, layout.panel // 192)
    page.paste(picture, (x, y))
    draw.rectangle((x - 1, y - 1, x + layout.panel, y + layout.tall), outline=BLACK, width=line)
    face, number = font(layout.text), f"{n + 1}"
    left, top = x + face.getlength(f"{number}\u2002"), y + layout.tall + layout.text * 1.25
    draw.text((x, top), number, fill=ACCENT, font=face, anchor="lm")
    for k, words in enumerate(wrap(caption, face, x + layout.panel - left, 2)):
        draw.text((left, top + k * layout.text * 4 / 3), words, fill=BLACK, font=face, anchor="lm")


def _fitted(image: Image, size: tuple[int, int]) -> Image:
    """The panel in that size; small ones sharpened after enlarging, so that edges stay crisp."""
    from PIL import Image, ImageFilter

    small = image.width < size[0]
    image = image.resize(size, Image.Resampling.LANCZOS)
    return image.filter(ImageFilter.UnsharpMask(radius=2, percent=80, threshold=2)) if small else image


def make_html(
    panels: Sequence[str | Path], captions: Sequence[str], file: str | Path, title: str = "", layout: str = "grid"
) -> Path:
    """Write the page as one HTML file that holds panels and letters itself; it may be sent, opened offline, printed.

    DataError as for `make_page`.
    """
    images, measures = _opened(panels, captions, file), get_layout(layout)
    content = {
        "title": title,
        "panels": [
            (embed(panel, 1024), caption, f"{image.width}/{image.height}")
            for panel, caption, image in zip(panels, captions, images, strict=True)
        ],
        "foot": FOOT,
        "columns": min(measures.columns, len(panels)),
        "generator": MADE_BY,
        "colors": {"paper": PAPER, "ink": BLACK, "soft": GREY, "accent": ACCENT},
    }
    return write_page(file, Path(__file__).with_name("page.html.j2"), content)
