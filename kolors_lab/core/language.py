"""The language of what is printed, drawn and asked: Chinese, English, or both where both stand.

    from kolors_lab.core.language import _
    print(_("pictures kept: {count}").format(count=12))

Texts are marked with `_` and translated by gettext when they are used, so a notebook may change KOLORS_LAB_LANG on its
way; errors and warnings (errors.py) translate theirs by themselves. The catalogues lie in kolors_lab/locale; `make
texts` brings them up to date with the code. A text that stands in both languages ("练习分 practice score") is a key as
it is: each catalogue keeps its own half.
"""

from __future__ import annotations

import gettext
import os
from functools import cache
from pathlib import Path

from kolors_lab.core.errors import Message, SettingError

LANGUAGES = ("zh", "en")
CHOICES = ("", *LANGUAGES, "both")
VARIABLE = "KOLORS_LAB_LANG"
SYSTEM = ("LC_ALL", "LC_MESSAGES", "LANG")  # the first that is set counts, as everywhere on Unix
NEUTRAL = ("", "C", "POSIX")  # a system that says nothing of its user


def language() -> str:
    """`zh`, `en` or `both`: by KOLORS_LAB_LANG, else by the system's. SettingError where KOLORS_LAB_LANG is another."""
    chosen = os.environ.get(VARIABLE, "")
    if chosen not in CHOICES:
        raise SettingError("{variable} = {chosen!r}: must be zh, en or both", variable=VARIABLE, chosen=chosen)
    if chosen:
        return chosen
    system = next((value for name in SYSTEM if (value := os.environ.get(name))), "").partition(".")[0]
    if system in NEUTRAL:
        return "both"
    return "zh" if system.startswith("zh") else "en"


def _(text: str) -> str:
    """The text in the learner's language, or as it is where that needs no translation."""
    return _catalogue(language()).gettext(text) if text else ""


@cache
def _catalogue(name: str) -> gettext.NullTranslations:
    folder = Path(__file__).parents[1] / "locale"
    return gettext.translation("kolors_lab", folder, [name], fallback=True)


def _told(text: str) -> str:
    """The text of an error; as it is where the language itself is what is wrong."""
    return _(text) if os.environ.get(VARIABLE, "") in CHOICES else text


Message.translate = staticmethod(_told)
