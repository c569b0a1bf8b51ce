"""What a notebook shows beside figures: how far a long call is, and a picture in few bytes."""

from __future__ import annotations

import io
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from IPython.display import Image as Shown
    from PIL import Image

BAR, PAUSE = 24, 0.2  # characters of a full bar; least seconds between two updates


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


def show(picture: Image.Image | str | Path, width: int | None = None) -> Shown:
    """A picture, or the file of one, scaled to `width` px if given: as JPEG, so that a saved notebook stays small."""
    from IPython.display import Image as Shown

    from .dataset import open_image

    image = picture.convert("RGB") if hasattr(picture, "convert") else open_image(picture)
    if width:
        image = image.resize((width, round(image.height * width / image.width)))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=85)
    return Shown(data=stream.getvalue(), format="jpeg")
