"""What can go wrong, said in one line each: what, where, what to do. The command line prints it and exits with 2.

    raise DataError("{folder}: no picture in it; is it the right folder?", folder=folder)

The first argument is the text of a catalogue (language.py), the others fill it in once it is translated.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Collection
from typing import ClassVar, Protocol

# What a terminal would obey instead of showing: control characters, ESC above all, and marks that turn text around.
ORDERS = {n: f"\\x{n:02x}" for n in (*range(32), *range(127, 160)) if chr(n) not in "\n\t"}
ORDERS |= {n: f"\\u{n:04x}" for n in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}


LONGEST = 1600  # characters of a message


def printable(text: object) -> str:
    """The text for a terminal: what a stranger's file or server wrote into it cannot move the cursor or hide lines."""
    return str(text).translate(ORDERS)


def one_line(message: object) -> str:
    """A message as one line, fit for a terminal; of one that quotes a whole file the middle is left out."""
    text = printable(" ".join(str(message).split()))
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} … {text[-LONGEST // 2 :]}"


class Translation(Protocol):
    def __call__(self, text: str, /) -> str: ...


class Message(Exception):
    """One line for the user, fit for a terminal: `message` translated, its {names} filled in with `values`.

    A message without values is taken as it is, so that another's may be passed on whatever it holds. `values` are kept
    for those who answer by program.
    """

    translate: ClassVar[Translation] = str  # language.py puts its own here: it needs these classes, not they it

    def __init__(self, message: object = "", /, **values: object):
        text, self.values = type(self).translate(str(message)), values
        super().__init__(one_line(text.format(**values) if values else text))

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in a notebook: the line says it all, and `%tb` still has the rest."""
        return [f"{type(self).__name__}: {self}"]


class KolorsLabError(Message):
    """Anything the user can mend."""


class SettingError(KolorsLabError):
    """A field of a settings dataclass has a value that is not allowed."""


class DataError(KolorsLabError):
    """Pictures, captions, stories or folders cannot be read, or output cannot be written."""


class ModelError(KolorsLabError):
    """Weights are damaged, of another model, or went bad in training."""


class FetchError(KolorsLabError):
    """Something has to be downloaded first, or its download failed."""


class KolorsLabWarning(Message, UserWarning):
    """The work goes on, but the user should know. The command line prints it."""


class Interrupted(Message, KeyboardInterrupt):
    """Ctrl+C, SIGTERM or a notebook's stop button, obeyed after what was done had been kept."""


class UploadError(KolorsLabError):
    """Something could not be sent; the message says what arrived and how to go on."""


def check_number(field: str, value: object, low: float, high: float = float("inf"), whole: bool = False) -> None:
    """Raise SettingError unless `value` is a number (an int where `whole`) with low <= value <= high; NaN never is."""
    kind = int if whole else (int, float)
    if isinstance(value, kind) and not isinstance(value, bool) and low <= value <= high and value != float("inf"):
        return
    _ = Message.translate
    noun = _("a whole number") if whole else _("a number")
    if high == float("inf"):
        raise SettingError(
            "{field} = {value!r}: must be {noun} of at least {low}", field=field, value=value, noun=noun, low=bound(low)
        )
    raise SettingError(
        "{field} = {value!r}: must be {noun} from {low} to {high}",
        field=field,
        value=value,
        noun=noun,
        low=bound(low),
        high=bound(high),
    )


def bound(value: float) -> str:
    """A bound as people write it: a whole number with all its digits, be it 2^64 - 1."""
    return str(value) if isinstance(value, int) else f"{value:g}"


def check_name(field: str, name: object, known: Collection[str]) -> None:
    """Raise SettingError, with the nearest known name, unless `name` is known."""
    if not isinstance(name, str) or name not in known:
        near = difflib.get_close_matches(str(name), known, 1, 0)[0]
        raise SettingError(
            "{field} = {name!r}: there is none of that name, the nearest is {near}; {names}",
            field=field,
            name=name,
            near=near,
            names=", ".join(known),
        )


NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")  # torch's, CUDA's, cuBLAS'


def explain(error: BaseException) -> str | None:
    """What the user can do about an exception, in one line; None for one that is a fault of the program.

    Out of memory comes as MemoryError (Python, numpy) or as RuntimeError: torch's OutOfMemoryError for a GPU,
    a plain one from its allocator on the CPU and from CUDA's libraries.
    """
    _ = Message.translate
    if isinstance(error, KolorsLabError):
        return str(error)
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and lacks_memory(str(error))):
        on_gpu = "cuda" in f"{type(error).__module__} {error}".lower()
        told = _(
            "{memory} does not suffice for this; take smaller pictures (width, height, batch, batch_size), "
            "gradient_checkpointing full, text_encoder_bits 8, or close what else uses it"
        )
        return told.format(memory=_("the GPU's memory") if on_gpu else _("main memory"))
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        hint = _("; free some space or choose another place") if error.errno in NO_ROOM else ""
        return f"{where}{error.strerror or error}{hint}"
    return None


def lacks_memory(text: str) -> bool:
    """Whether an error's text says that memory did not suffice."""
    return any(sign in text.lower() for sign in NO_MEMORY)
