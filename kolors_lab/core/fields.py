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
from kolors_lab.core.language import _

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


def meanings(config: type) -> dict[str, str]:
    """What each field means, in the learner's language (see `documented`)."""
    return {name: _(text) for name, text in documented(config).items()}


@cache
def documented(config: type) -> dict[str, str]:
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
    noun = _("a number") if float in allowed else _("a whole number")
    raise SettingError("{name} = {text!r}: must be {noun}", name=name, text=text, noun=noun)


def _read_bool(name: str, text: str) -> bool:
    if text.strip().lower() not in TRUE + FALSE:
        raise SettingError("{name} = {text!r}: must be true or false", name=name, text=text)
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
        raise SettingError(
            "{name} = {text!r}: must be like [one, two]; put what holds other brackets into quotes",
            name=name,
            text=text,
        )
    return tuple(found)


LABELS = {  # what stands before a field in a form, in front of its own name, which is English
    "preset": "预设", "prompt": "提示词", "negative_prompt": "反向提示词", "prompt_syntax": "权重写法",
    "seed": "随机种子", "control_after_generate": "生成后种子", "steps": "步数", "cfg": "引导强度",
    "sampler_name": "采样器", "scheduler": "调度器", "denoise": "去噪程度", "width": "宽", "height": "高",
    "batch": "一批几张", "lora": "LoRA", "lora_strength": "LoRA 强度", "image": "参考图", "out": "存到",
    "hires": "放大再画", "hires_denoise": "再画程度",
    "x": "横轴", "y": "纵轴", "z": "分组", "story": "故事", "title": "标题", "folder": "文件夹",
    "layout": "版式", "scene": "场景",
    "rank": "秩", "alpha": "缩放系数", "learning_rate": "学习率", "batch_size": "批大小", "data": "数据集",
    "size": "边长", "sample_every": "隔几步画图", "trigger_word": "触发词", "held_out": "留出比例",
    "lr_scheduler": "学习率变化", "optimizer": "优化器", "precision": "精度",
}  # fmt: skip


def label(name: str) -> str:
    """A field's name in Chinese and English: `步数 steps`."""
    return f"{LABELS[name]} {name}" if name in LABELS and LABELS[name].lower() != name else name
