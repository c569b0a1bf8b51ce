"""Captions as training sees them: trigger word, prefix, words deleted or replaced, parts shuffled.

What a caption names, the model can tell apart from the rest; what all pictures share and no caption names moves into
the trigger word. So deleting the words of a style lets the style live in its trigger.

    kolors-lab captions runs/clean --caption_delete 水墨画,国画 --add_trigger
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from kolors_lab.core.errors import SettingError
from kolors_lab.core.fields import Range, check_fields
from kolors_lab.dataset.folder import read_examples

COMMA = re.compile("[，,]")


@dataclass(frozen=True)
class CaptionConfig:
    """What becomes of the captions.

    Args:
        trigger_word: calls what was learned (DreamBooth's identifier); noted in the LoRA if captions hold it
        add_trigger: put the trigger word in front of captions without it
        class_word: DreamBooth: what the subject is, such as 玩偶; the trigger word then stands before it
        caption_prefix: put in front of every caption
        caption_delete: words to take out of the captions
        caption_replace: words to replace, each as OLD=NEW
        caption_shuffle: put the parts of each further variant's caption, the first excepted, into another order
        caption_dropout: share of the examples, at each step, without their caption; cfg measures a prompt against
            none, so a LoRA that never met none is thinned by it
    """

    trigger_word: str = "二次元"
    add_trigger: bool = False
    class_word: str = ""
    caption_prefix: str = ""
    caption_delete: tuple[str, ...] = ()
    caption_replace: tuple[str, ...] = ()
    caption_shuffle: bool = False
    caption_dropout: Annotated[float, Range(0, 1)] = 0.15

    def __post_init__(self):
        check_fields(self)
        for pair in self.caption_replace:
            if not pair.partition("=")[0] or "=" not in pair:
                raise SettingError("caption_replace = {pair!r}: must be OLD=NEW, such as 女孩=少女", pair=pair)
        if "" in self.caption_delete:
            raise SettingError("caption_delete = '': must be words")
        if (self.add_trigger or self.class_word) and not self.trigger_word:
            raise SettingError("trigger_word = '': must be a word where add_trigger or class_word ask for one")

    @property
    def called(self) -> str:
        """What calls the subject or style in a prompt: the trigger word, followed by the class word if there is one."""
        return self.trigger_word + self.class_word


def rewrite(text: str, config: CaptionConfig) -> str:
    """The caption as training sees it; delete, replace, prefix, trigger, in this order."""
    changed = text
    for word in config.caption_delete:
        changed = _replace(changed, word, "")
    for pair in config.caption_replace:
        old, _, new = pair.partition("=")
        changed = _replace(changed, old, new)
    if changed != text:
        changed = join(parts(re.sub("、+", "、", changed)), text)  # no commas left over where a word was
    if config.caption_prefix:
        changed = join([config.caption_prefix, changed], text)
    if (config.add_trigger or config.class_word) and config.trigger_word not in changed:
        changed = join([config.called, changed], text)
    return changed


def _replace(text: str, old: str, new: str) -> str:
    """Chinese, which has no spaces, anywhere; Latin script as whole words only: red leaves bored and covered alone."""
    before, after = (r"(?<![A-Za-z0-9])" if c.isascii() and c.isalnum() else "" for c in (old[0], old[-1]))
    after = after and r"(?![A-Za-z0-9])"
    return re.sub(before + re.escape(old) + after, lambda _: new, text)


def shuffled(text: str, number: int) -> str:
    """The parts between commas in another order for each number; the first, where the trigger word is, stays."""
    first, *rest = parts(text) or [""]
    random.Random(f"{number} {text}").shuffle(rest)
    return join([first, *rest], text)


def shared(captions: Sequence[str]) -> str:
    """What every caption has between its commas, else its spaces, the first in the first one; else how all begin.

    >>> shared(["a girl, 二次元", "a horse, 二次元"])
    '二次元'
    """
    for marks in ("，,、。；;", r"，,、。；;\s"):
        phrases = [[phrase.strip() for phrase in re.split(f"[{marks}]+", caption)] for caption in captions]
        everywhere = set(phrases[0]).intersection(*phrases) - {""} if phrases else set()
        if everywhere:
            return next(phrase for phrase in phrases[0] if phrase in everywhere)
    return os.path.commonprefix(list(captions)).strip("，,、。；; ")  # noqa: RUF071  character by character, just so


def join(words: list[str], like: str) -> str:
    """The parts that are not empty, with commas as in `like`: Chinese ones unless it has only others."""
    comma = ", " if "," in like and "，" not in like else "，"
    return comma.join(word for word in words if word)


def parts(text: str) -> list[str]:
    """What stands between commas; parts of punctuation alone are left out."""
    return [part.strip().strip("、") for part in COMMA.split(text) if re.search(r"\w", part)]


@dataclass(frozen=True)
class CaptionsConfig(CaptionConfig):
    """Show what the caption settings would make of a folder's captions; nothing is written.

    Args:
        folder: the folder of pictures and captions, such as juice makes
    """

    folder: str = "runs/clean"


def captions(config: CaptionsConfig) -> list[tuple[str, str, str]]:
    """(file name, caption before, caption after) of every picture. Raises DataError."""
    return [(e.image.name, e.text, rewrite(e.text, config)) for e in read_examples(config.folder)]
