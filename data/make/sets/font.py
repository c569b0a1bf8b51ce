"""Cuts the font of the comic page out of Noto Sans CJK: all of GBK, and the signs that go with it.

The whole font is 19 MB. GB2312 alone would be 1.6 MB, but lacks characters of people's names (玥, 喆, 堃).
Run: python data/make/build.py sets.font NotoSansCJK-Regular.ttc
(Debian package fonts-noto-cjk 1:20220127+repack1-1, /usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc)
"""

from __future__ import annotations

import argparse
from pathlib import Path

from fontTools import subset
from fontTools.ttLib import TTCollection, TTFont

OUT = Path(__file__).parents[2] / "fonts" / "NotoSansSC-Regular-GBK.otf"
FACE = "Noto Sans CJK SC"
# Beyond GBK: Latin letters with accents, dashes, quotes, bullets, arrows, stars and notes, full-width forms.
EXTRA = "·—–…‘’“”•‰′″※€™←↑→↓★☆♀♂♪♫♥♡✓✗　、。〈〉《》「」『』【】〔〕〖〗〜〝〞﹏￥"


def gbk() -> set[int]:
    """Code points of GBK: the 6,763 Chinese characters of GB2312, rarer and traditional ones, signs; 21,855 in all."""
    pairs = (bytes([row, cell]) for row in range(0x81, 0xFF) for cell in range(0x40, 0xFF))
    return {ord(char) for pair in pairs for char in pair.decode("gbk", errors="ignore")}


def wanted() -> set[int]:
    """Code points the page's font holds, as far as the source font has them."""
    return gbk() | set(range(0x20, 0x180)) | set(range(0xFF01, 0xFF5F)) | set(map(ord, EXTRA))


def open_face(file: Path) -> TTFont:
    """The simplified Chinese face of a collection; a plain font file as it is."""
    if file.suffix.lower() not in (".ttc", ".otc"):
        return TTFont(file)
    faces = TTCollection(file).fonts
    return next(face for face in faces if face["name"].getDebugName(1) == FACE)


def cut(font: TTFont) -> TTFont:
    """`font` with the wanted characters only, without hints and layout tables, which a drawn page does not use."""
    options = subset.Options(hinting=False, layout_features=["kern"], notdef_outline=True)
    options.name_IDs = [0, 1, 2, 3, 4, 5, 6, 13, 14]  # copyright, names, version, licence
    options.drop_tables += ["vhea", "vmtx", "VORG", "BASE"]
    font.recalcTimestamp = False  # the same input gives the same file
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes=wanted())
    subsetter.subset(font)
    return font


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("font", type=Path, help="NotoSansCJK-Regular.ttc")
    OUT.parent.mkdir(exist_ok=True)
    cut(open_face(parser.parse_args().font)).save(OUT)


if __name__ == "__main__":
    main()
