"""What a notebook shows beside figures: how far a long call is, a picture in few bytes, a form for settings.

Widgets live only in a running session, and each front end has its own trouble with them. So each thing they do is a
plain call too, and pictures stay in the saved notebook as pictures.
"""

from __future__ import annotations

import asyncio
import dataclasses
import io
import time
from typing import TYPE_CHECKING, Any

from kolors_lab.core.errors import KolorsLabError, SettingError
from kolors_lab.core.fields import OneOf, bounds, hints, kinds, label, meanings, read_field
from kolors_lab.core.language import _

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from IPython.display import Image as Shown
    from ipywidgets import Widget
    from PIL import Image

BAR, PAUSE = 24, 0.2  # characters of a full bar; least seconds between two updates
THUMB = 64  # px of a picture in a gallery or beside its caption


def progress(stage: str) -> Callable[..., None]:
    """Show a line with a text bar and return the on_step(done, total, loss) that fills it.

    `train(config, on_step=progress("train"))`; `baseline(config, progress)` makes a line for every stage. Plain text,
    written over in place: it also shows where widgets do not, and stays readable in the saved notebook.
    """
    from IPython.display import display

    line = display({"text/plain": f"{stage:8} …"}, raw=True, display_id=True)
    last = 0.0

    def on_step(done: int, total: int, loss: float | None = None) -> None:
        nonlocal last
        if line is None or (done < total and time.monotonic() - last < PAUSE):  # None: not in a notebook
            return
        last = time.monotonic()
        full = BAR * done // max(total, 1)
        text = f"{stage:8} {'█' * full}{'░' * (BAR - full)} {done}/{total}"
        line.update({"text/plain": text if loss is None else f"{text}  loss {loss:.4f}"}, raw=True)

    return on_step


def live_loss(pause: float = 2.0) -> Callable[[int, int, float], None]:
    """Show a training's loss curve while it runs, drawn anew every `pause` s: `train(config, on_step=live_loss())`."""
    from IPython.display import Image as Shown
    from IPython.display import display

    from kolors_lab.core.figures import loss_curve

    line, rows, last = display({"text/plain": "loss …"}, raw=True, display_id=True), [], time.monotonic()

    def on_step(done: int, total: int, loss: float) -> None:
        nonlocal last
        rows.append({"step": done, "loss": loss})
        if line is None or (done < total and time.monotonic() - last < pause):  # None: not in a notebook
            return
        stream = io.BytesIO()
        loss_curve(rows).savefig(stream, format="png", dpi=80)
        line.update(Shown(data=stream.getvalue()))
        last = time.monotonic()

    return on_step


def show(picture: Image.Image | str | Path, width: int | None = None) -> Shown:
    """A picture, or the file of one, scaled to `width` px if given: as JPEG, so that a saved notebook stays small."""
    from IPython.display import Image as Shown

    from kolors_lab.core.images import open_image

    image = picture.convert("RGB") if hasattr(picture, "convert") else open_image(picture)
    if width:
        image = image.resize((width, round(image.height * width / image.width)))
    return Shown(data=jpeg(image), format="jpeg")


def jpeg(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=85)
    return stream.getvalue()


# Forms ----------------------------------------------------------------------------------------------------------------

SLIDERS = {  # least, most, step; what lies beyond can be typed in code
    "steps": (1, 60, 1), "cfg": (0.0, 12.0, 0.5), "denoise": (0.0, 1.0, 0.05), "lora_strength": (-1.0, 2.0, 0.05),
    "batch": (1, 8, 1), "hires": (1.0, 2.0, 0.125), "hires_denoise": (0.0, 1.0, 0.05),
}  # fmt: skip
LONG = ("prompt", "negative_prompt")
FILES = ("image",)


class SettingsForm:
    """A form for the fields of a settings dataclass, or of one of its instances, which gives the first values.

    `value` is the dataclass made of what stands in the form, checked by itself; SettingError where something is wrong,
    which a line under the form says too. `fields`: which ones, in their order; None: all. `choices`: a field's allowed
    values, for a menu. `folded`: those of the fields that lie in a fold, closed. `names`: the width of the names, such
    as 9em, in a form as wide as its place. `update(seed=3)` writes into it, `on_change(function)` calls with every
    valid new value.

        form = SettingsForm(GenerateConfig, ("prompt", "seed")); display(form); form.value
    """

    def __init__(
        self,
        config: Any,
        fields: Sequence[str] | None = None,
        choices: Mapping[str, Sequence[Any]] | None = None,
        folded: Sequence[str] = (),
        names: str = "",
    ):
        from ipywidgets import HTML, Layout, VBox

        self.start = config() if isinstance(config, type) else config
        kind = type(self.start)
        wanted = tuple(fields or (field.name for field in dataclasses.fields(kind)))
        types, about = hints(kind), meanings(kind)
        if unknown := [name for name in wanted if name not in types]:
            raise SettingError(
                "fields: {kind} has no {unknown}; it has {names}",
                kind=kind.__name__,
                unknown=", ".join(unknown),
                names=", ".join(types),
            )
        choices = {**known_choices(kind), **(choices or {})}
        self.listeners: list[Callable[[Any], None]] = []
        self.problem = HTML(layout=Layout(min_height="1.6em"))  # its place is kept: nothing jumps when it speaks
        self.widgets = {
            name: _widget(name, types[name], getattr(self.start, name), choices.get(name), about.get(name) or "")
            for name in wanted
        }
        for widget in self.widgets.values():
            widget.observe(self._changed, "value")
            if names:
                widget.layout.width, widget.style.description_width = "98%", names
        shown = [widget for name, widget in self.widgets.items() if name not in folded]
        fold = [foldable(_("更多 more"), VBox([self.widgets[name] for name in folded]))] if folded else []
        self.box = VBox([*shown, *fold, self.problem])
        self.box.add_class("kolors-form")

    @property
    def value(self) -> Any:
        """The dataclass with what stands in the form. Raises SettingError."""
        types = hints(type(self.start))
        read = {name: _read(name, types[name], widget.value) for name, widget in self.widgets.items()}
        return dataclasses.replace(self.start, **read)

    def update(self, **values: Any) -> None:
        """Write values into the form; fields it does not show are kept for `value`. SettingError for a wrong one."""
        self.start = dataclasses.replace(self.start, **values)
        for name in self.widgets.keys() & values.keys():
            _show(self.widgets[name], values[name])

    def lines(self) -> list[str]:
        """What stands in the form, a line a field; fields that are empty are left out."""
        return [f"{label(name)}: {widget.value}" for name, widget in self.widgets.items() if widget.value != ""]

    def on_change(self, function: Callable[[Any], None]) -> None:
        self.listeners.append(function)

    def _changed(self, _change: object) -> None:
        from html import escape

        try:
            value = self.value
        except KolorsLabError as error:
            self.problem.value = f'<span style="color:#b3261e">{escape(str(error))}</span>'
            return
        self.problem.value = ""
        for function in self.listeners:
            function(value)

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display(self.box)


def foldable(title: str, inside: Widget) -> Widget:
    """A fold, closed, which opens by a click on its title."""
    from ipywidgets import Accordion

    fold = Accordion([inside], selected_index=None)
    fold.set_title(0, title)  # as in ipywidgets 7 too
    return fold


def captioned(pictures: Sequence[str], texts: Sequence[str]) -> str:
    """Pictures, as data: addresses, each beside its caption, as an HTML table; the shorter of the two says how many."""
    from html import escape

    pairs = zip(pictures, texts, strict=False)
    rows = [f'<tr><td><img src="{picture}"></td><td>{escape(text)}</td></tr>' for picture, text in pairs]
    return f"<table>{''.join(rows)}</table>"


def known_choices(config: type) -> dict[str, Sequence[Any]]:
    """What the fields that take a name from a list may be."""
    from kolors_lab.prompts.syntax import SYNTAXES

    lists = {name: bound for name, hint in hints(config).items() for bound in bounds(hint) if isinstance(bound, OneOf)}
    return {"prompt_syntax": SYNTAXES} | {name: tuple(bound.names) for name, bound in lists.items()}


def _widget(name: str, kind: Any, value: Any, choices: Sequence[Any] | None, about: str) -> Widget:
    """The widget for a field: a menu, a tick, a slider, a text that may be empty (None), or text over some lines."""
    import ipywidgets as w

    given = {"description": label(name), "style": {"description_width": "17em"}, "tooltip": about}
    wide, narrow = {"layout": w.Layout(width="40em")}, {"layout": w.Layout(width="31em")}
    if choices is not None:
        options = [("—", "") if choice is None else (str(choice), choice) for choice in choices]  # None: nothing chosen
        return w.Dropdown(options=options, value="" if value is None else value, **given, **narrow)
    if isinstance(value, bool):
        return w.Checkbox(value=value, indent=True, **given)
    if name in SLIDERS and value is not None:
        low, high, step = SLIDERS[name]
        slider = w.IntSlider if isinstance(step, int) else w.FloatSlider
        return slider(
            min=min(low, value), max=high if value <= high else 2 * value, step=step, value=value, **given, **wide
        )
    if name in LONG:
        return w.Textarea(value=value, rows=3 if name == "prompt" else 2, **given, **wide)
    nothing = _("空着用预设值 empty: the preset's") if type(None) in kinds(kind) else ""
    nothing = _("文件路径，空着不用 a file; empty: none") if name in FILES else nothing
    shape = wide if name in FILES else {"layout": w.Layout(width="30em")}
    return w.Text(value="" if value is None else str(value), placeholder=nothing, **given, **shape)


def _show(widget: Widget, value: Any) -> None:
    if isinstance(widget.value, str):
        value = "" if value is None else str(value)
    if hasattr(widget, "options") and value not in dict(widget.options).values():  # a LoRA from another folder
        widget.options = [*widget.options, (value, value)]
    widget.value = value


def _read(name: str, hint: Any, value: Any) -> Any:
    """What a widget holds as the field's own type; an empty text is None where the field may be. SettingError."""
    if not isinstance(value, str):
        return value
    if not value.strip() and type(None) in kinds(hint):
        return None
    return value if str in kinds(hint) else read_field(name, hint, value)


# Long calls behind a button -------------------------------------------------------------------------------------------


def aside(work: Callable[[], Any], done: Callable[[Any], None]) -> None:
    """Do `work()` while the kernel goes on hearing clicks; then `done(its result)`, or done(the exception it raised).

    A handler that draws by itself leaves the kernel deaf until it ends: no stop button could work. So `work` runs
    beside the kernel's loop, and touches no widget: what it shows, it hands over with `soon`. Without a running loop,
    outside a notebook, all of it happens at once.
    """

    def attempt() -> Any:
        try:
            return work()
        except Exception as error:  # also what no one thought of: the button must come back
            return error

    async def wait() -> None:
        done(await asyncio.get_running_loop().run_in_executor(None, attempt))

    try:
        task = asyncio.get_running_loop().create_task(wait())
    except RuntimeError:
        done(attempt())
    else:
        TASKS.add(task)  # the loop itself holds tasks only weakly
        task.add_done_callback(TASKS.discard)


TASKS: set[asyncio.Task] = set()


def uploaded(value: Any) -> list[tuple[str, bytes]]:
    """Name and content of each file in a FileUpload's value: dicts in a tuple, in ipywidgets 7 in a dict by name."""
    if isinstance(value, dict):
        return [(name, bytes(file["content"])) for name, file in value.items()]
    return [(file["name"], bytes(file["content"])) for file in value]


def soon(function: Callable[..., None]) -> Callable[..., None]:
    """`function`, to be called by what runs `aside`: it then runs in the kernel's loop, where widgets live."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return function
    return lambda *values: loop.call_soon_threadsafe(function, *values)
