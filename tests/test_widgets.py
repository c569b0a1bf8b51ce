"""What notebooks show: a line of progress that is written over, a picture in few bytes."""

import io

from PIL import Image

from kolors_lab.widgets import progress, show


class Line:
    """In place of IPython's display handle."""

    def __init__(self):
        self.texts = []

    def update(self, data, raw):
        self.texts.append(data["text/plain"])


def test_progress_ends_full_however_fast_it_goes(monkeypatch):
    line = Line()
    monkeypatch.setattr("IPython.display.display", lambda *_, **__: line)
    on_step = progress("train")
    for step in range(1, 201):
        on_step(step, 200, 0.5 / step)
    assert line.texts[-1] == f"train    {'█' * 24} 200/200  loss 0.0025"
    assert len(line.texts) < 100


def test_progress_outside_a_notebook_does_no_harm(capsys):
    progress("juice")(1, 1)


def test_shown_picture_is_a_small_jpeg_of_the_width_asked(tmp_path):
    Image.effect_noise((400, 200), 50).convert("RGBA").save(tmp_path / "a.png")
    for picture in (tmp_path / "a.png", Image.open(tmp_path / "a.png")):
        shown = Image.open(io.BytesIO(show(picture, 100).data))
        assert (shown.format, shown.size) == ("JPEG", (100, 50))
    assert Image.open(io.BytesIO(show(tmp_path / "a.png").data)).size == (400, 200)
