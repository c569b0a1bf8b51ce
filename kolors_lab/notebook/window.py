"""What every window of widgets has: buttons, a bar, a line that says how it goes, one job at a time, a picture kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from kolors_lab.core.errors import explain
from kolors_lab.core.fonts import font, wrap
from kolors_lab.core.language import _
from kolors_lab.models.loading import load_pipeline
from kolors_lab.models.presets import get_preset
from kolors_lab.notebook.widgets import aside, jpeg, soon
from kolors_lab.sampling.pipeline import Stop, Stopped

if TYPE_CHECKING:
    from diffusers import KolorsPipeline

RED, GREY = "#b3261e", "#444"


class Window:
    """A window whose `box` the notebook shows; `promise()` is what stands in its place until there is a picture."""

    def __init__(self, pipe: KolorsPipeline | None = None):
        import ipywidgets as w

        self.pipe, self.stop, self.busy, self.wrong = pipe, Stop(), False, False
        self.progress = w.IntProgress(max=1)
        self.status = w.HTML(layout=w.Layout(height="3em", overflow="auto"))  # long or short, nothing moves below it
        self.kept: Any = None  # the picture that stays in the saved notebook
        self.box: Any = None

    def button(self, text: str, action: Callable[[], None], style: str = "") -> Any:
        """A button that does `action`; what goes wrong is a line."""
        from ipywidgets import Button, Layout

        button = Button(description=text, button_style=style, layout=Layout(width="auto"))
        button.on_click(lambda _button: self.attempt(action))
        return button

    def attempt(self, action: Callable[[], None]) -> None:
        """Do `action`, or say in a line why not: an exception in a widget's handler would be seen by nobody."""
        try:
            action()
        except Exception as error:
            self.fail(error)

    def fail(self, error: Exception) -> None:
        self.say(explain(error) or f"{type(error).__name__}: {error}", wrong=True)

    def say(self, text: str, wrong: bool = False) -> None:
        self.wrong = wrong
        self.status.value = f'<span style="color:{RED if wrong else GREY}">{escape(text)}</span>'

    def run(
        self, work: Callable[[Callable[[int, int], None]], Any], done: Callable[[Any], None], doing: str = ""
    ) -> None:
        """Do `work(on_step)` beside the kernel's loop, then `done(its result)`, or say in a line why not."""
        if self.busy:
            self.say(_("上一件还没做完 the last one is still being done"), wrong=True)
            return
        self.busy, self.stop = True, Stop()
        self.progress.value = 0
        self.say((doing or _("正在画 … drawing")) if self.pipe else _("正在载入模型 … loading the model"))
        step = soon(self.step)

        def finish(result: Any) -> None:
            self.busy = False
            self.attempt(self.refresh)
            if isinstance(result, Stopped):
                self.say(_("停下了 stopped"))
            elif isinstance(result, Exception):
                self.fail(result)
            else:
                self.attempt(lambda: done(result))

        aside(lambda: work(step), finish)

    def step(self, done: int, total: int) -> None:
        self.progress.max, self.progress.value = total, done

    def refresh(self) -> None:
        """Called after every job, well ended or not, before its line is said."""

    def loaded(self, preset: str) -> KolorsPipeline:
        """The window's pipeline, loaded when it is first needed."""
        self.pipe = self.pipe or load_pipeline(get_preset(preset))
        return self.pipe

    def keep(self, jpeg: bytes) -> None:
        """Put a picture into the cell's own output, where it stays when the widgets are gone."""
        if self.kept:
            self.kept.update({"image/jpeg": jpeg}, raw=True)

    def promise(self) -> str:
        return _("图片会留在这里 pictures will stay here")

    def described(self) -> list[str]:
        """What stands in the window, in lines, for readers without a kernel."""
        return []

    def _ipython_display_(self) -> None:
        from IPython.display import display

        view = {"version_major": 2, "version_minor": 0, "model_id": self.box.model_id}
        still = portrait(type(self).__name__, self.described())
        told = _("{name}: 运行这一格就能用 run this cell to use it").format(name=type(self).__name__)
        words = {"text/plain": told}
        lost = _(
            "按钮没反应？内核重启过，再运行这一格 No button answers? The kernel was restarted: run this cell again"
        )
        display({"application/vnd.jupyter.widget-view+json": view, "image/jpeg": still} | words, raw=True)
        display({"text/html": f"<small>{lost}</small>", "text/plain": lost}, raw=True)
        self.kept = display({"text/plain": self.promise()}, raw=True, display_id=True)


def portrait(name: str, lines: Sequence[str]) -> bytes:
    """A still picture of a window, as JPEG: its name and what stands in it."""
    from PIL import Image, ImageDraw

    face, edge, wide, high = font(16), 16, 760, 24
    rows = [row for line in lines for row in wrap(line, face, wide - 2 * edge, 2)]
    picture = Image.new("RGB", (wide, high * (len(rows) + 1) + 2 * edge), "#f7f7f7")
    draw = ImageDraw.Draw(picture)
    for n, row in enumerate((name, *rows)):
        draw.text((edge, edge + n * high), row, fill=GREY if n else RED, font=face)
    return jpeg(picture)
