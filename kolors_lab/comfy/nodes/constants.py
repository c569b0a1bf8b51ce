"""Nodes that give a value for other nodes' inputs, primitives of every kind and what is made of texts: it is filled in
before a run."""

from __future__ import annotations

from typing import Annotated, Any

from kolors_lab.comfy.registry import Number, Seed, Text, Whole, Widget, node

CASES = {"UPPERCASE": str.upper, "lowercase": str.lower, "Capitalize": str.capitalize, "Title Case": str.title}
TRIMS = {"Both": str.strip, "Left": str.lstrip, "Right": str.rstrip}
Case = Annotated[str, Widget(choices=tuple(CASES))]
Trim = Annotated[str, Widget(choices=tuple(TRIMS))]


@node("PrimitiveInt", "INTConstant", outputs=("INT",), constant=True)
def whole(bench: Any, *, value: Whole = 0) -> tuple[int]:
    return (value,)


@node("PrimitiveFloat", "FloatConstant", outputs=("FLOAT",), constant=True)
def number(bench: Any, *, value: Number = 0.0) -> tuple[float]:
    return (value,)


@node("PrimitiveString", "PrimitiveStringMultiline", outputs=("STRING",), constant=True)
def words(bench: Any, *, value: Text = "") -> tuple[str]:
    return (value,)


@node("StringConstant", "StringConstantMultiline", outputs=("STRING",), constant=True)
def constant(bench: Any, *, string: Text = "") -> tuple[str]:
    return (string,)


@node("CR Seed", outputs=("INT", "STRING"), constant=True)
def cr_seed(bench: Any, *, seed: Seed = 0) -> tuple[int, str]:
    return seed, ""


@node("Seed (rgthree)", "Seed Everywhere", outputs=("INT",), constant=True)
def one_seed(bench: Any, *, seed: Seed = 0) -> tuple[int]:
    """Below 0 rgthree's editor puts a random seed there before it queues: such a file has none to draw from."""
    return (seed,)


# Of texts -------------------------------------------------------------------------------------------------------------


@node("StringConcatenate", outputs=("STRING",), constant=True)
def concatenate(bench: Any, *, string_a: Text = "", string_b: Text = "", delimiter: Text = "") -> tuple[str]:
    return (delimiter.join((string_a, string_b)),)


@node("StringReplace", outputs=("STRING",), constant=True)
def replace_text(bench: Any, *, string: Text = "", find: Text = "", replace: Text = "") -> tuple[str]:
    return (string.replace(find, replace),)


@node("StringTrim", outputs=("STRING",), constant=True)
def trim(bench: Any, *, string: Text = "", mode: Trim = "Both") -> tuple[str]:
    return (TRIMS[mode](string),)


@node("StringSubstring", outputs=("STRING",), constant=True)
def substring(bench: Any, *, string: Text = "", start: Whole = 0, end: Whole = 0) -> tuple[str]:
    return (string[start:end],)


@node("CaseConverter", outputs=("STRING",), constant=True)
def convert_case(bench: Any, *, string: Text = "", mode: Case = "UPPERCASE") -> tuple[str]:
    return (CASES[mode](string),)


@node("StringLength", outputs=("INT",), constant=True)
def length(bench: Any, *, string: Text = "") -> tuple[int]:
    return (len(string),)
