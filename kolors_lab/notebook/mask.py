"""A mask drawn with the mouse.

    pen = MaskPen("picture.png")          # paint over what is to be drawn anew; end the cell with it
    generate(pipe, "白马", image=pen.image, mask=pen.mask())

The plain call beside it, which needs no mouse: `mask="ellipse:40,10,48,48"`.
"""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING

from kolors_lab.core.errors import DataError
from kolors_lab.core.images import open_image
from kolors_lab.core.language import _
from kolors_lab.notebook.widgets import jpeg
from kolors_lab.sampling.masks import read_mask

if TYPE_CHECKING:
    from PIL import Image

SIDE = 384  # px on the screen, of the longer side
SCRIPT = """
function render({ model, el }) {
  const canvas = document.createElement("canvas"), pen = canvas.getContext("2d");
  const paint = document.createElement("canvas"), ink = paint.getContext("2d"), picture = new Image();
  const clear = document.createElement("button");
  [canvas.width, canvas.height] = [paint.width, paint.height] = model.get("size");
  canvas.style.cssText = "cursor:crosshair;touch-action:none;border:1px solid #ccc";
  clear.textContent = "清除，重涂 clear";
  const show = () => { pen.globalAlpha = 1; pen.drawImage(picture, 0, 0, canvas.width, canvas.height);
    pen.globalAlpha = 0.6; pen.drawImage(paint, 0, 0); };
  const send = () => { model.set("drawn", paint.toDataURL("image/png")); model.save_changes(); };
  let last = null;
  const at = (event) => [event.offsetX, event.offsetY];
  canvas.onpointerdown = (event) => { last = at(event); canvas.setPointerCapture(event.pointerId); stroke(event); };
  canvas.onpointermove = (event) => { if (last) stroke(event); };
  canvas.onpointerup = () => { last = null; send(); };
  function stroke(event) {
    ink.strokeStyle = "white"; ink.lineCap = "round"; ink.lineWidth = model.get("width");
    ink.beginPath(); ink.moveTo(...last); last = at(event); ink.lineTo(...last); ink.stroke(); show(); }
  clear.onclick = () => { ink.clearRect(0, 0, paint.width, paint.height); show(); send(); };
  picture.onload = show; picture.src = model.get("picture");
  el.append(canvas, document.createElement("br"), clear);
}
export default { render };
"""


def MaskPen(image: Image.Image | str | Path, width: int = 24):
    """A widget that shows a picture and takes strokes of `width` px; `.image` is it, `.mask()` what was painted."""
    import anywidget
    import traitlets

    class Pen(anywidget.AnyWidget):
        _esm = SCRIPT.replace("清除，重涂 clear", _("清除，重涂 clear"))
        picture, drawn = traitlets.Unicode().tag(sync=True), traitlets.Unicode().tag(sync=True)
        size = traitlets.List().tag(sync=True)
        width = traitlets.Int().tag(sync=True)

        def mask(self) -> Image.Image:
            """What was painted, white, in the picture's own size. DataError where nothing was yet."""
            return painted(self.drawn, self.image.size)

    found = image if hasattr(image, "convert") else open_image(image)
    scale = SIDE / max(found.size)
    pen = Pen(picture=_address(found), width=width, size=[round(side * scale) for side in found.size])
    pen.image = found
    return pen


def painted(address: str, size: tuple[int, int]) -> Image.Image:
    """The mask behind a data: address of white strokes, scaled to `size`. DataError where there are none."""
    from PIL import Image

    if not address:
        raise DataError("nothing is painted yet: paint over what is to be drawn anew, then run this again")
    stream = io.BytesIO(base64.b64decode(address.partition(",")[2]))
    strokes = Image.open(stream, formats=("PNG",)).convert("RGBA").getchannel("A").resize(size)
    if not strokes.point(lambda value: 255 * (value > 127)).getbbox():
        raise DataError("nothing is painted yet: paint over what is to be drawn anew, then run this again")
    return read_mask(strokes, size)


def _address(image: Image.Image) -> str:
    shown = image.convert("RGB")
    shown.thumbnail((2 * SIDE, 2 * SIDE))
    return "data:image/jpeg;base64," + base64.b64encode(jpeg(shown)).decode()
