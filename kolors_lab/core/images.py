"""Pictures: opening every sort of file as 8-bit RGB, the text inside a PNG, the label of what a model made."""

from __future__ import annotations

import base64
import contextlib
import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kolors_lab.core.errors import DataError
from kolors_lab.core.files import replacing
from kolors_lab.core.language import _

if TYPE_CHECKING:
    from PIL import Image


SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".jfif", ".heic", ".heif")


FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "HEIF")  # none that starts another program, as EPS does


MAX_SIDE = 65_500  # px, JPEG's limit: a longer picture could not be written back


MAX_PIXELS = 2**27  # 134 megapixels: more than a camera takes; a decompression bomb beyond


def open_image(file: str | Path) -> Image.Image:
    """Open a picture as 8-bit RGB, turned as its EXIF says, transparency on white, the first frame of an animation.

    What it is goes by the content, not by the suffix. Raises DataError for what is missing, empty, truncated, no
    picture at all, or larger than MAX_PIXELS.
    """
    from PIL import Image, ImageFile, ImageOps

    file = Path(file)
    ImageFile.LOAD_TRUNCATED_IMAGES = False  # importing data_juicer switches it on for the whole process
    try:
        if file.stat().st_size == 0:
            raise DataError("{file} is empty (0 bytes)", file=file)
        # Pillow's bomb warning and broken EXIF: judged here, not printed; catch_warnings is not safe in threads
        warnings.filterwarnings("ignore", module=r"PIL\.")
        Image.init()
        with contextlib.suppress(ImportError):  # the extra heif
            from pillow_heif import register_heif_opener

            register_heif_opener(thumbnails=False)
        formats = [name for name in FORMATS if name in Image.OPEN]  # AVIF only where Pillow was built with it
        with Image.open(file, formats=formats) as image:
            if image.width * image.height > MAX_PIXELS or max(image.size) > MAX_SIDE:
                raise DataError(
                    "{file} has {width} x {height} px, more than can be handled safely",
                    file=file,
                    width=image.width,
                    height=image.height,
                )
            image.load()
            return _to_rgb(ImageOps.exif_transpose(image))
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError("{file} does not exist", file=file) from error
    except Exception as error:  # a damaged file makes Pillow's decoders raise nearly anything
        reason = _format(file) if isinstance(error, Image.UnidentifiedImageError) else error
        raise DataError("{file} cannot be read as a picture ({reason})", file=file, reason=reason) from error


def _format(file: Path) -> str:
    """Why Pillow does not know a file: by its first bytes, since suffixes lie."""
    with file.open("rb") as stream:
        head = stream.read(12)
    if head[4:8] == b"ftyp":  # the container of AVIF and HEIC
        kind, package = ("AVIF", "pillow") if head[8:12] in (b"avif", b"avis") else ("HEIC", "pillow-heif")
        told = _("a picture in the format {kind}; pip install --upgrade {package}, or save it as JPEG or PNG")
        return told.format(kind=kind, package=package)
    return _("no picture in a format known here")


def _to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB; Pillow's own conversion would cut 16-bit greys off at 255 and turn transparency black."""
    import numpy as np
    from PIL import Image

    if image.mode == "F":
        raise ValueError(_("its pixels are fractions, of which nothing says what is white; save it as PNG"))
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


# Says to machines that the picture was made by a model: IPTC's term, and the label of China's GB 45438-2025.
AI_GENERATED = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" \
xmlns:TC260="http://www.tc260.org.cn/ns/AIGC/1.0/" TC260:AIGC='{"Label":"1"}' \
Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"/>
</rdf:RDF></x:xmpmeta>"""


def embed(file: str | Path, side: int) -> str:
    """A picture, at most `side` px wide and high, as a data: address."""
    image = open_image(Path(file))
    image.thumbnail((side, side))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=90, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


def write_png(
    image: Image.Image,
    file: str | Path,
    texts: dict[str, str],
    ascii_texts: dict[str, str] | None = None,
    **options: Any,
) -> Path:
    """Write a PNG, whole or not at all, with `texts` as UTF-8 chunks (iTXt), `ascii_texts` as Latin-1 ones (tEXt, which
    ComfyUI reads), and XMP that says a model made it. `options` are Pillow's. DataError where it cannot be written.
    """
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    for key, text in (texts | {"XML:com.adobe.xmp": AI_GENERATED}).items():
        info.add_itxt(key, text)
    for key, text in (ascii_texts or {}).items():
        info.add_text(key, text)
    with replacing(file) as temporary:
        image.save(temporary, format="PNG", pnginfo=info, **options)
    return Path(file)
