"""The fields of settings dataclasses: bounds beside their types, what they mean, and how they are read from text.

    steps: Annotated[int | None, Range(1)] = None       a whole number of at least 1, or None
    precision: Annotated[str, OneOf(PRECISIONS)] = "auto"

The command line and the notebooks' forms are made from this and nothing else.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from kolors_lab.core.errors import SettingError, check_name, check_number

INFINITY = float("inf")
NONE, TRUE, FALSE = ("none", "null"), ("true", "yes", "on", "1"), ("false", "no", "off", "0")


@dataclass(frozen=True)
class Range:
    """A number from `low` to `high`, both allowed."""

    low: float
    high: float = INFINITY


@dataclass(frozen=True)
class OneOf:
    """One of these names."""

    names: Collection[str]


@cache
def hints(config: type) -> dict[str, Any]:
    """Each field's type, its bounds included."""
    found = get_type_hints(config, include_extras=True)
    return {field.name: found[field.name] for field in fields(config)}


@cache
def meanings(config: type) -> dict[str, str]:
    """What the docstrings of the dataclass and its bases say of each field, in `Args:` or below the field itself."""
    from docstring_parser import parse_from_object

    bases = [base for base in reversed(config.__mro__) if is_dataclass(base)]
    return {part.arg_name: part.description or "" for base in bases for part in parse_from_object(base).params}


def kinds(hint: Any) -> tuple[Any, ...]:
    """The types that a field may have: Annotated[int | None, …] → (int, NoneType)."""
    hint = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    return (hint,) if get_origin(hint) is tuple or not get_args(hint) else get_args(hint)


def bounds(hint: Any) -> tuple[Any, ...]:
    """What Annotated adds to a type."""
    return get_args(hint)[1:] if get_origin(hint) is Annotated else ()


def check_fields(config: Any) -> None:
    """Raise SettingError for the first field of a settings dataclass whose value is out of its bounds."""
    kind: type = type(config)
    for name, hint in hints(kind).items():
        value = getattr(config, name)
        if value is None and type(None) in kinds(hint):
            continue
        for bound in bounds(hint):
            if isinstance(bound, Range):
                check_number(name, value, bound.low, bound.high, whole=float not in kinds(hint))
            elif isinstance(bound, OneOf):
                check_name(name, value, bound.names)


def read_field(name: str, hint: Any, text: str) -> Any:
    """A field's value from text: `none` where it may be None, several words with commas or as a list in brackets.

    Raises SettingError in a learner's words.
    """
    allowed = kinds(hint)
    if type(None) in allowed and text.strip().lower() in NONE:
        return None
    if tuple[str, ...] in allowed:
        return read_words(name, text)
    if bool in allowed:
        return _read_bool(name, text)
    if str in allowed:
        return text
    for kind in (int, float):
        if kind in allowed:
            try:
                return kind(text)
            except ValueError:
                pass
    raise SettingError(f"{name} = {text!r}: must be {'a number' if float in allowed else 'a whole number'}")


def _read_bool(name: str, text: str) -> bool:
    if text.strip().lower() not in TRUE + FALSE:
        raise SettingError(f"{name} = {text!r}: must be true or false")
    return text.strip().lower() in TRUE


def read_words(name: str, text: str) -> tuple[str, ...]:
    """`attention,conv1`, `[attention, conv1]` or `["attention", "conv1"]` → ("attention", "conv1"). SettingError."""
    if not text.startswith("["):
        return tuple(word.strip() for word in text.split(","))
    import yaml

    try:
        found = yaml.load(text, yaml.BaseLoader)  # which leaves every item text; JSON is a part of YAML
    except (yaml.YAMLError, RecursionError):
        found = [None]
    if not all(isinstance(word, str) for word in found):
        raise SettingError(f"{name} = {text!r}: must be like [one, two]; put what holds other brackets into quotes")
    return tuple(found)
