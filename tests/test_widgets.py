"""What notebooks show: a line of progress that is written over, a picture in few bytes, a form for settings."""

from __future__ import annotations

import asyncio
import io
from dataclasses import asdict, dataclass
from threading import Event

import pytest
from PIL import Image

from kolors_lab.core.errors import SettingError, check_number
from kolors_lab.core.fields import label
from kolors_lab.notebook.widgets import SettingsForm, aside, live_loss, progress, show, soon


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


def test_the_live_loss_ends_with_all_steps_drawn_in_few_drawings(monkeypatch):
    class Curve:
        drawn = []  # noqa: RUF012

        def update(self, picture):
            self.drawn.append(Image.open(io.BytesIO(picture.data)))

    monkeypatch.setattr("IPython.display.display", lambda *_, **__: Curve())
    on_step = live_loss(pause=60.0)
    for step in range(1, 51):
        on_step(step, 50, 1 / step)
    assert len(Curve.drawn) == 1 and Curve.drawn[0].format == "PNG"


def test_shown_picture_is_a_small_jpeg_of_the_width_asked(tmp_path):
    Image.effect_noise((400, 200), 50).convert("RGBA").save(tmp_path / "a.png")
    for picture in (tmp_path / "a.png", Image.open(tmp_path / "a.png")):
        shown = Image.open(io.BytesIO(show(picture, 100).data))
        assert (shown.format, shown.size) == ("JPEG", (100, 50))
    assert Image.open(io.BytesIO(show(tmp_path / "a.png").data)).size == (400, 200)


@dataclass(frozen=True)
class Settings:
    """Something to set.

    Args:
        prompt: what the picture shows
        steps: how many
        cfg: how closely; none: the preset's
        sampler_name: which
        lora: which file
        keep: whether to keep it
        hidden: not in the form
    """

    prompt: str = "少女"
    steps: int = 20
    cfg: float | None = None
    sampler_name: str = "euler"
    lora: str | None = None
    keep: bool = True
    hidden: int = 5

    def __post_init__(self):
        check_number("steps", self.steps, 1, 100, whole=True)


FIELDS = ("prompt", "steps", "cfg", "sampler_name", "lora", "keep")


def test_a_form_gives_back_what_it_was_made_of():
    for start in (Settings(), Settings("白马", 3, 2.5, "heun", "a.safetensors", False, 7)):
        form = SettingsForm(start, FIELDS, {"lora": (None, "a.safetensors")})
        assert form.value == start
    assert SettingsForm(Settings).value == Settings()


def test_what_is_typed_and_clicked_is_in_the_value():
    form = SettingsForm(Settings(hidden=9), FIELDS)
    seen = []
    form.on_change(seen.append)
    form.widgets["prompt"].value = "白马"
    form.widgets["steps"].value = 7
    form.widgets["cfg"].value = "6.5"
    form.widgets["sampler_name"].value = "dpmpp_2m"
    form.widgets["lora"].value = "my.safetensors"
    form.widgets["keep"].value = False
    assert form.value == Settings("白马", 7, 6.5, "dpmpp_2m", "my.safetensors", False, 9) == seen[-1]
    form.widgets["cfg"].value = " "
    assert form.value.cfg is None


def test_a_wrong_value_is_said_in_the_form_and_not_handed_on():
    form, seen = SettingsForm(Settings(cfg=4.0, steps=5), ("steps",)), []
    form.on_change(seen.append)
    form.widgets["steps"].min = 0
    form.widgets["steps"].value = 0
    assert "steps = 0: must be" in form.problem.value and not seen
    with pytest.raises(SettingError, match="steps = 0"):
        form.value  # noqa: B018
    form.widgets["steps"].value = 6
    assert form.problem.value == "" and seen == [Settings(cfg=4.0, steps=6)]
    form = SettingsForm(Settings(), ("cfg",))
    form.widgets["cfg"].value = "<b>much</b>"
    assert "must be a number" in form.problem.value and "<b>" not in form.problem.value


def test_settings_can_be_put_into_a_form():
    form = SettingsForm(Settings(), FIELDS, {"lora": (None,)})
    new = Settings("夜空", 9, 3.0, "ddim", "other.safetensors", False, 1)
    form.update(**asdict(new))
    assert form.value == new
    with pytest.raises(SettingError, match="steps = -1"):
        form.update(steps=-1)
    assert form.value == new
    with pytest.raises(SettingError, match="Settings has no speed"):
        SettingsForm(Settings, ("speed",))


def test_labels_are_chinese_and_english():
    assert (label("steps"), label("lora"), label("unheard_of")) == ("步数 steps", "lora", "unheard_of")
    form = SettingsForm(Settings, FIELDS)
    assert form.widgets["prompt"].description == "提示词 prompt"
    assert form.widgets["prompt"].tooltip == "what the picture shows"


def test_a_long_call_aside_leaves_room_for_clicks():
    order = []

    async def kernel():
        stop, finished = Event(), asyncio.Event()
        tell = soon(order.append)

        def work():
            tell("begun")
            return stop.wait(10)

        aside(work, lambda result: (order.append(result), finished.set()))
        while "begun" not in order:
            await asyncio.sleep(0)
        order.append("click")
        stop.set()
        await finished.wait()

    asyncio.run(kernel())
    assert order == ["begun", "click", True]


def test_an_error_aside_comes_as_a_value():
    def fail():
        raise SettingError("cfg = x")

    found = []
    aside(fail, found.append)
    assert str(found[0]) == "cfg = x"
