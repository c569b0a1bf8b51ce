"""A mask painted with the mouse: what the strokes become."""

from __future__ import annotations

import base64
import io

import pytest
from PIL import Image, ImageDraw

from kolors_lab.core.errors import DataError
from kolors_lab.notebook.mask import MaskPen


def strokes(*box, size=(384, 192)):
    image = Image.new("RGBA", size)
    if box:
        ImageDraw.Draw(image).rectangle(box, fill="white")
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


@pytest.mark.parametrize(("language", "label"), [("zh", "清除，重涂"), ("en", "clear"), ("both", "清除，重涂 clear")])
def test_the_button_that_wipes_is_not_called_as_drawing_over_is(monkeypatch, language, label):
    monkeypatch.setenv("KOLORS_LAB_LANG", language)
    assert f'textContent = "{label}"' in MaskPen(Image.new("RGB", (8, 8)))._esm


def test_strokes_become_a_mask_of_the_pictures_own_size():
    pen = MaskPen(Image.new("RGB", (128, 64), "red"))
    assert pen.size == [384, 192]
    pen.drawn = strokes(96, 48, 191, 95)
    mask = pen.mask()
    assert (mask.size, mask.mode, mask.getextrema()) == ((128, 64), "L", (0, 255))
    left, top, right, bottom = mask.getbbox()
    assert abs(left - 32) <= 1 and abs(top - 16) <= 1 and abs(right - 64) <= 1 and abs(bottom - 32) <= 1


@pytest.mark.parametrize("drawn", ["", strokes()])
def test_nothing_painted_is_said(drawn):
    pen = MaskPen(Image.new("RGB", (128, 64)))
    pen.drawn = drawn
    with pytest.raises(DataError, match="nothing is painted yet"):
        pen.mask()
