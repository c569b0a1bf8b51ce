"""Nodes that hold a value for other nodes' inputs, primitives of every kind: it is filled in before a run."""

from __future__ import annotations

from typing import Any

from kolors_lab.comfy.registry import Number, Seed, Text, Whole, node


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


@node("Seed (rgthree)", outputs=("INT",), constant=True)
def rgthree_seed(bench: Any, *, seed: Seed = 0) -> tuple[int]:
    """Below 0 its editor puts a random seed there before it queues: such a file has none to draw from."""
    return (seed,)
