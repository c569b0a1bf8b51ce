"""TrainLab: a training in a notebook: its settings, the captions it learns from, loss and pictures while it runs.

    TrainLab("runs/clean", steps=200)

The folder it trains into is that of `train`, and so is the call it shows.
"""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kolors_lab.core.figures import loss_curve
from kolors_lab.core.images import embed
from kolors_lab.core.language import _
from kolors_lab.dataset.folder import read_examples
from kolors_lab.notebook.labs import Lab, contact
from kolors_lab.notebook.widgets import THUMB, SettingsForm, captioned, jpeg, soon
from kolors_lab.training.callbacks import Callback
from kolors_lab.training.loop import TrainConfig, train

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from diffusers import KolorsPipeline
    from PIL import Image

    from kolors_lab.training.loop import Training

FIELDS = ("data", "out", "steps", "rank", "learning_rate", "sample_every")
FOLDED = ("seed", "batch_size", "size", "trigger_word", "held_out", "lr_scheduler", "optimizer", "precision")
WIDE, CAPTIONS = 420, 60  # px of the curve; captions shown
PAUSE = 1.0  # least seconds between two drawings of the curve


class Ear(Callback):
    """Hears a training for the window: hands on what it has so far, and ends it when the window says stop."""

    def __init__(self, lab: TrainLab, show: Callable[[list[dict], list[Path]], None], step: Callable[[int, int], None]):
        self.lab, self.show, self.step, self.rows, self.last = lab, show, step, [], 0.0

    def on_step(self, training: Training, row: dict[str, float]) -> None:
        self.rows.append({"step": training.step, "loss": row["loss"]})
        self.step(training.step, training.config.steps)
        training.ended |= self.lab.stop.is_set()
        every = training.config.sample_every
        if (every and training.step % every == 0) or time.monotonic() - self.last > PAUSE:
            self.last = time.monotonic()
            self.show(list(self.rows), samples(training.config.out))

    def on_end(self, training: Training) -> None:
        self.show(list(self.rows), samples(training.config.out))


class TrainLab(Lab):
    """A form for a training of the pictures in `data`; other settings are TrainConfig's.

    Stopped, it keeps what it has learned so far as the LoRA. The saved notebook keeps curve and pictures.
    """

    call = "train"

    def __init__(self, data: str | Path, pipe: KolorsPipeline | None = None, **settings: Any):
        from ipywidgets import HTML, Layout

        config = TrainConfig(data=str(data), **{"sample_every": 50} | settings)
        form = SettingsForm(config, (*FIELDS, *FOLDED), folded=FOLDED, names="11em")
        self.captions = HTML(layout=Layout(max_height="16em", overflow="hidden auto"))
        super().__init__(form, pipe, (WIDE, WIDE * 2 // 3), self.captions)
        self.buttons.children = [
            self.button(_("训练 Train"), self.train, "primary"),
            self.button(_("停止，留下学到的 Stop and keep"), lambda: self.stop.set(), "warning"),
            self.button(_("看图文 Captions"), self.show_captions),
        ]

    def train(self) -> None:
        """Train as the form says."""
        config, step = self.form.value, soon(self.step)
        ear = Ear(self, soon(self.show), step)
        doing = _("图文编码，再一步步训练 … pictures and captions are encoded, then it learns step by step")
        self.run(lambda _: train(config, self.pipe, on_encode=step, callbacks=[ear]), self._finish, doing)

    def show(self, rows: list[dict], files: list[Path]) -> None:
        """The loss so far, and the newest pictures drawn on the way."""
        picture = jpeg(stacked([_curve(rows), *([contact(files[-4:], side=WIDE // 4)] if files else [])]))
        self.picture.value = picture
        self.keep(picture)
        self.say(_("第 {step} 步 step {step}: loss {loss:.4f}").format(**rows[-1]))

    def show_captions(self) -> None:
        """The set as a table, each picture beside its caption. DataError for a folder that holds none."""
        examples = read_examples(self.form.value.data)
        shown = examples[:CAPTIONS]
        self.captions.value = captioned([embed(e.image, THUMB) for e in shown], [e.text for e in shown])
        few = len(examples) <= CAPTIONS
        told = _("{count} 张图 pictures") if few else _("{count} 张图 pictures, 这里有 shown {shown}")
        self.say(told.format(count=len(examples), shown=CAPTIONS))

    def promise(self) -> str:
        return _("损失曲线和途中的图会留在这里 loss and pictures will stay here")

    def _finish(self, file: Path) -> None:
        self.say(_("存好了 saved: {file}").format(file=file))


def samples(out: str | Path) -> list[Path]:
    """The pictures that a training has drawn on its way, oldest first."""
    return sorted((Path(out) / "samples").glob("*.png"))


def stacked(images: Sequence[Image.Image]) -> Image.Image:
    """Pictures one below the other."""
    from PIL import Image

    page = Image.new("RGB", (max(i.width for i in images), sum(i.height for i in images)), "white")
    top = 0
    for image in images:
        page.paste(image, (0, top))
        top += image.height
    return page


def _curve(rows: list[dict]) -> Image.Image:
    from PIL import Image

    stream = io.BytesIO()
    loss_curve(rows).savefig(stream, format="png", dpi=66)
    return Image.open(stream).convert("RGB")
