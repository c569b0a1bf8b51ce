"""The pictures that a training learns from: one folder or several, each with its trigger and weight; some held out."""

from __future__ import annotations

import hashlib
import shlex
import warnings
from dataclasses import dataclass, replace
from typing import Annotated

from kolors_lab.core.errors import DataError, KolorsLabWarning, SettingError, check_number
from kolors_lab.core.fields import Range
from kolors_lab.core.language import _
from kolors_lab.dataset.augment import VariantConfig
from kolors_lab.dataset.captions import CaptionConfig, rewrite, shared
from kolors_lab.dataset.folder import Example, check_examples, read_examples


@dataclass(frozen=True)
class DataConfig(CaptionConfig, VariantConfig):
    """What a training learns from.

    Args:
        data: the folder of pictures and captions, such as juice makes
        more_data: further folders, each as FOLDER, FOLDER=WEIGHT or FOLDER=WEIGHT:TRIGGER, such as runs/prince=0.5:王子
        held_out: share of the pictures that are not learned from but tell, as validation, how well it goes
        class_pictures: DreamBooth: pictures of the class that the base draws; none: as many as there are of the subject
        prior_weight: DreamBooth: how much the class counts against the subject; 0: no class pictures
    """

    data: str = "runs/clean"
    more_data: tuple[str, ...] = ()
    held_out: Annotated[float, Range(0, 0.9)] = 0.0
    class_pictures: Annotated[int | None, Range(1)] = None
    prior_weight: Annotated[float, Range(0)] = 1.0

    def __post_init__(self):
        CaptionConfig.__post_init__(self)  # checks the fields of all
        for text in self.more_data:
            parse_set(text)
        if self.caption_shuffle and self.variants < 2:
            raise SettingError("caption_shuffle: needs variants of at least 2, one for each order of the parts")

    def plain(self) -> DataConfig:
        """The same without what is random, for held-out pictures."""
        return replace(self, variants=1, caption_shuffle=False, caption_dropout=0.0)


def parse_set(text: str) -> tuple[str, float, str]:
    """FOLDER, FOLDER=WEIGHT or FOLDER=WEIGHT:TRIGGER -> folder, weight, trigger. Raises SettingError."""
    folder, equals, rest = text.rpartition("=")
    weight, _colon, trigger = rest.partition(":")
    try:
        found = (folder, float(weight), trigger) if equals else (text, 1.0, "")
    except ValueError:
        found = ("", 0.0, "")
    if not found[0]:
        raise SettingError("more_data = {text!r}: must be FOLDER, FOLDER=WEIGHT or FOLDER=WEIGHT:TRIGGER", text=text)
    check_number(f"the weight in more_data = {text!r},", found[1], 0)
    return found


def read_sets(config: DataConfig) -> tuple[list[Example], list[Example]]:
    """The examples to learn from and the held-out ones, captions rewritten, every picture opened once.

    A set's own trigger is put in front of its captions that lack it. Raises DataError as reading and checking do.
    """
    examples = _read(config.data, 1.0, config)
    for folder, weight, trigger in map(parse_set, config.more_data):
        words = replace(config, trigger_word=trigger, add_trigger=True) if trigger else config
        examples += _read(folder, weight, replace(words, class_word=""))  # the class is that of the first set's subject
    check_examples(examples)
    return split(examples, config.held_out)


def tell_doubts(examples: list[Example], config: DataConfig) -> None:
    """Warn of a single picture, and of a trigger word that calls nothing since no caption holds it."""
    texts = [example.text for example in examples]
    if len({example.image for example in examples}) == 1:
        _warn(
            KolorsLabWarning(
                "1 picture: it will be learned by heart, background and pose too; give about 20 that differ in these"
            )
        )
    if not config.trigger_word or any(_squeezed(config.called) in _squeezed(text) for text in texts):
        return
    if any(config.trigger_word in text for text in texts):
        _warn(
            KolorsLabWarning(
                "{called} is in none of {count} captions: {word} never stands before {kind} there, so write {called} "
                "where they say {word}, or leave class_word out",
                called=config.called,
                count=len(texts),
                word=config.trigger_word,
                kind=config.class_word,
            )
        )
        return
    word = shared(texts) if len(texts) > 1 else ""
    sure = (4 if word.isascii() else 2) <= len(word) <= 30  # the, of and whole sentences are none
    word = word if word.isalnum() else shlex.quote(word)
    other = _("; or name what all captions share: --trigger_word {word}").format(word=word) if sure else ""
    _warn(
        KolorsLabWarning(
            "trigger word {word} is in none of {count} captions, so nothing will call this LoRA; --add_trigger (in "
            "Python: add_trigger=True) puts it in front of them{other}",
            word=config.trigger_word,
            count=len(texts),
            other=other,
        )
    )


def _warn(warning: KolorsLabWarning) -> None:
    warnings.warn(warning, stacklevel=4)


def _squeezed(text: str) -> str:
    """Without spaces: `sks dog` is sks with its class."""
    return "".join(text.split())


def _read(folder: str, weight: float, config: DataConfig) -> list[Example]:
    return [replace(e, text=rewrite(e.text, config), weight=weight) for e in read_examples(folder)]


def split(examples: list[Example], share: float) -> tuple[list[Example], list[Example]]:
    """The examples without and with a share held out, at least one; the same pictures in every run, by their names."""
    if not share:
        return examples, []
    count = max(round(len(examples) * share), 1)
    if count >= len(examples):
        raise DataError(
            "held_out = {share:g} of {count} pictures leaves none to learn from; add pictures",
            share=share,
            count=len(examples),
        )
    ranked = sorted(examples, key=lambda e: hashlib.sha256(e.image.name.encode()).digest())
    held = {id(example) for example in ranked[:count]}
    return [e for e in examples if id(e) not in held], [e for e in examples if id(e) in held]
