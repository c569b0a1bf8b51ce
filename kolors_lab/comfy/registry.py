"""What a ComfyUI node is here: one decorated function, whose signature is the node's own.

    @node("RepeatLatentBatch", outputs=("LATENT",))
    def repeat(bench, *, samples: Latents, amount: Count = 1): ...

Names, order, kinds and defaults of the parameters are those of ComfyUI, so that the values of the editor's form find
their inputs; the body is what the node does. It takes the workbench and its inputs by name and returns a tuple, one
value for each output. `NODES` is read by everything that reads, checks, writes and runs workflows.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, get_args, get_origin

from kolors_lab.core.errors import DataError
from kolors_lab.core.language import _
from kolors_lab.sampling.ksampler import MAX_SEED
from kolors_lab.sampling.samplers import SAMPLERS
from kolors_lab.sampling.schedules import SCHEDULERS

MAX_TEXT = 10_000  # characters of a value; the model reads 256 tokens of them
MAX_SIDE, MAX_PIXELS = 4096, 2**26  # px of a picture's side, and of all pictures that a node makes: 64 of 1024 x 1024


@dataclass(frozen=True)
class Link:
    """An input that takes another node's output of this kind; a parameter with a default may be left open."""

    kind: str
    optional: bool = False


@dataclass(frozen=True)
class Widget:
    """An input that is set in the node itself: bounds (both included), names to choose from, the folder of a file.

    A file counts only while the widget `switch` is On. `dynamic` texts are settled by ComfyUI's editor before they
    run: comments go, of `{a|b}` one is taken.
    """

    low: float = 0
    high: float = 0
    step: int = 1
    choices: tuple[str, ...] = ()
    folder: str = ""
    switch: str = ""
    dynamic: bool = False
    kind: type = str
    default: object = None  # None: must be given

    @property
    def is_seed(self) -> bool:
        return self.high == MAX_SEED

    def cast(self, value: object) -> object:
        """The value as this widget's type, as ComfyUI casts it ("25" → 25); what cannot be cast stays."""
        try:
            whole = self.kind is not int or float(value) == int(value)
            plain = self.kind is not bool and not isinstance(value, (list, dict, bool))
            return self.kind(value) if whole and plain else value
        except (TypeError, ValueError, OverflowError):
            return value

    def fault(self, value: object) -> str | None:
        """What is wrong with a value that was cast, or None."""
        if not isinstance(value, self.kind) or (isinstance(value, bool) and self.kind is not bool):
            wanted = {int: _("must be a whole number"), float: _("must be a number"), bool: _("must be true or false")}
            return wanted.get(self.kind, _("must be text"))
        if self.kind is str:
            return self._text_fault(value)
        if self.kind is bool or self.kind is dict:
            return None
        if not self.low <= value <= self.high:  # NaN never is
            return _("must be from {low:g} to {high:g}").format(low=self.low, high=self.high)
        wrong = self.step > 1 and value % self.step
        return _("must be a multiple of {step}").format(step=self.step) if wrong else None

    def _text_fault(self, value: str) -> str | None:
        if len(value) > MAX_TEXT:
            return _("has {count} characters; {most} at most are read").format(count=len(value), most=MAX_TEXT)
        if self.choices and value not in self.choices:
            near = nearest(value, self.choices)
            return _("there is no such one here; the nearest is {near}").format(near=near)
        return None


class Ours:
    """Marks a parameter that ComfyUI does not have: our own word, which rides along in `_meta`."""


@dataclass(frozen=True)
class Node:
    """A node's inputs by name, in order, the kinds it puts out, and the function that it is.

    `pictures`: its inputs `images` are what a run gives. `constant`: it gives its own value, known before anything
    runs. `rows`: it takes any number of further inputs of this kind, called lora_1, lora_2, …
    """

    run: Callable[..., tuple]
    inputs: dict[str, Link | Widget]
    outputs: tuple[str, ...] = ()
    pictures: bool = False
    constant: bool = False
    rows: Widget | None = None
    ours: tuple[str, ...] = ()

    @property
    def widgets(self) -> dict[str, Widget]:
        return {name: kind for name, kind in self.inputs.items() if isinstance(kind, Widget)}

    @property
    def links(self) -> dict[str, Link]:
        return {name: kind for name, kind in self.inputs.items() if isinstance(kind, Link)}

    def knows(self, name: str) -> bool:
        """Whether it has an input of this name."""
        return name in self.inputs or name in self.ours or self.is_row(name)

    def is_row(self, name: str) -> bool:
        return self.rows is not None and name.startswith("lora_") and name[5:].isdecimal()


NODES: dict[str, Node] = {}
UNKNOWN = Node(lambda *_: (), {})


def kind_of(node: Mapping[str, Any]) -> Node:
    """What a node of a graph is; UNKNOWN, which has neither inputs nor outputs, where there is none such here."""
    return NODES.get(node["class_type"], UNKNOWN)


def node(*names: str, outputs: tuple[str, ...] = (), pictures: bool = False, constant: bool = False) -> Callable:
    """Enter a function as the ComfyUI node of these names, all with the same inputs and outputs."""

    def enter(function: Callable[..., tuple]) -> Callable[..., tuple]:
        made = _read(function, outputs, pictures, constant)
        for name in names:
            if name in NODES:
                raise ValueError(f"two nodes of the name {name}")
            NODES[name] = made
        return function

    return enter


def _read(function: Callable[..., tuple], outputs: tuple[str, ...], pictures: bool, constant: bool) -> Node:
    inputs: dict[str, Link | Widget] = {}
    rows, ours = None, []
    for name, parameter in list(inspect.signature(function).parameters.items())[1:]:
        hint = eval(parameter.annotation, function.__globals__)  # the others may name what only type checkers import
        mark = get_args(hint)[1] if get_origin(hint) is Annotated else None
        given = None if parameter.default is parameter.empty else parameter.default
        if isinstance(mark, Widget):
            mark = replace(mark, kind=get_args(hint)[0], default=given)
        if parameter.kind is parameter.VAR_KEYWORD:
            rows = mark
        elif isinstance(mark, Ours):
            ours.append(name)
        elif isinstance(mark, Widget):
            inputs[name] = mark
        elif isinstance(mark, Link):
            inputs[name] = replace(mark, optional=parameter.default is not parameter.empty)
        else:
            raise TypeError(f"{function.__name__}: {name} is neither a link nor a widget")
    return Node(function, inputs, outputs, pictures, constant, rows, tuple(ours))


def nearest(name: object, names: Iterable[str]) -> str:
    """The one of `names` most like `name`."""
    return difflib.get_close_matches(str(name)[:100], list(names), 1, 0)[0]


def check_size(count: int, width: int, height: int) -> None:
    """Raise DataError where a node would make more, or larger, pictures than is sensible."""
    if not (8 <= width <= MAX_SIDE and 8 <= height <= MAX_SIDE and count * width * height <= MAX_PIXELS):
        raise DataError(
            "{count} x {width} x {height} px: at most {side} px a side and {area} megapixels in all",
            count=count, width=width, height=height, side=MAX_SIDE, area=MAX_PIXELS >> 20,
        )  # fmt: skip


# Kinds of inputs, each the type of a parameter ------------------------------------------------------------------------

Model = Annotated[Any, Link("MODEL")]  # its chain of LoRAs: ((file or Lora, strength), …)
Clip = Annotated[Any, Link("CLIP")]
Vae = Annotated[Any, Link("VAE")]
Conditioning = Annotated[Any, Link("CONDITIONING")]  # values.Prompt
Latents = Annotated[Any, Link("LATENT")]  # values.Latent
Images = Annotated[Any, Link("IMAGE")]  # a list of PIL pictures, RGB
Mask = Annotated[Any, Link("MASK")]  # (B, H, W), 0 to 1
ControlNet = Annotated[Any, Link("CONTROL_NET")]
KolorsModel = Annotated[Any, Link("KOLORSMODEL")]  # as Model
ChatGlm = Annotated[Any, Link("CHATGLM3MODEL")]
KolorsEmbeds = Annotated[Any, Link("KOLORS_EMBEDS")]  # (positive, negative)
LoraStack = Annotated[Any, Link("LORA_STACK")]  # as Model

Text = Annotated[str, Widget()]
DynamicText = Annotated[str, Widget(dynamic=True)]
Weights = Annotated[str, Widget(folder="weights")]  # whatever it names, the pipeline's own weights are used
LoraFile = Annotated[str, Widget(folder="loras")]  # the function gets a path; None where none is to be put on
ImageFile = Annotated[str, Widget(folder="images")]
Syntax = Annotated[str, Ours()]
Seed = Annotated[int, Widget(0, MAX_SEED)]
Steps = Annotated[int, Widget(1, 1000)]
Step = Annotated[int, Widget(0, 10_000)]
Cfg = Annotated[float, Widget(0, 100)]
Part = Annotated[float, Widget(0, 1)]
Strength = Annotated[float, Widget(-100, 100)]
Count = Annotated[int, Widget(1, 64)]
Size = Annotated[int, Widget(64, MAX_SIDE, step=8)]  # px
AnySize = Annotated[int, Widget(0, MAX_SIDE)]  # px; 0: as the other side asks for
Place = Annotated[int, Widget(0, MAX_SIDE)]  # px
Scale = Annotated[float, Widget(0.01, 8)]
Number = Annotated[float, Widget(-1e18, 1e18)]
Whole = Annotated[int, Widget(-(2**63), 2**63)]
Sampler = Annotated[str, Widget(choices=tuple(SAMPLERS))]
Scheduler = Annotated[str, Widget(choices=tuple(SCHEDULERS))]
Switch = Annotated[str, Widget(choices=("enable", "disable"))]
Toggle = Annotated[bool, Widget()]
Crop = Annotated[str, Widget(choices=("disabled", "center"))]
