"""What a LoRA's file says of alpha and rank for all of its layers, by whichever of the places it is said in:

diffusers   `lora_adapter_metadata` in the header: unet.lora_alpha, unet.alpha_pattern, unet.use_rslora
peft        adapter_config.json beside adapter_model.safetensors, the same without `unet.`; LoHa and LoKr: `alpha`
kohya       `ss_network_alpha` in the header; its tensors beside each layer count more
others      `lora_alpha` or `alpha` in the header
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from kolors_lab.core.errors import ModelError
from kolors_lab.core.files import parse_json
from kolors_lab.core.language import _
from kolors_lab.lora.layer_names import unheld

ADAPTER_KEY = "lora_adapter_metadata"  # where diffusers looks for rank and alpha
ADAPTER_FILE = "adapter_config.json"
PLAIN = ("ss_network_alpha", "lora_alpha", "alpha")  # in a header, a number as text
LARGEST = 1e5  # an alpha beyond this, which nobody trains with, draws nothing but black
LONGEST = 2**22  # characters of JSON: settings with patterns for every layer of Kolors have a fortieth of it
WILD = 100  # patterns with `.*` in one file
OTHER_BASE = ("pissa", "olora", "corda", "loftq")  # ways to begin that move the base's own weights


class Said:
    """alpha and rank by layer."""

    def __init__(self, settings: dict[str, Any]):
        """`settings` are peft's. Raises ValueError, TypeError or AttributeError for what cannot be meant."""
        common = settings.get("lora_alpha", settings.get("alpha"))
        self.alpha = None if common is None else number(common)
        self.alphas = Patterns(settings.get("alpha_pattern") or {})
        self.ranks = Patterns(settings.get("rank_pattern") or {})
        self.r = None if settings.get("r") is None else number(settings["r"])
        self.rslora, self.dora = bool(settings.get("use_rslora")), bool(settings.get("use_dora"))
        if str(settings.get("init_lora_weights")).lower().startswith(OTHER_BASE):
            way = settings["init_lora_weights"]
            told = _("init_lora_weights = {way}: it belongs to another base; save it anew with peft's own way")
            raise ValueError(told.format(way=way))

    def alpha_of(self, name: str, rank: int) -> float | None:
        """peft's rule: a pattern for the layer, else the one for all. rsLoRA's scale is taken in."""
        alpha = self.alphas.get(name)
        alpha = self.alpha if alpha is None else alpha
        return alpha * math.sqrt(rank) if alpha is not None and self.rslora else alpha

    def rank_of(self, name: str) -> float | None:
        """The rank a layer was given, which a LoKr of two whole matrices shows nowhere else."""
        rank = self.ranks.get(name)
        return self.r if rank is None else rank

    def idle(self, names: Collection[str]) -> list[str]:
        """The patterns that fit none of the layers."""
        return [text for each in (self.alphas, self.ranks) for text in each.idle(names)]


class Patterns:
    """Numbers by layers' names, ends of names, and `.*` for anything in between; the first that fits counts.

    peft takes each for a regular expression, which a file from elsewhere could let run for ever: nothing else is read.
    """

    def __init__(self, table: dict[str, Any]):
        self.plain: dict[str, tuple[int, float]] = {}
        self.wild: list[tuple[int, str, float]] = []
        self.texts = list(table)
        for place, (pattern, value) in enumerate(table.items()):
            text = pattern.removesuffix("$").replace("\\.", ".")
            text = "^" * text.startswith("^") + unheld(text.removeprefix("^"))
            if not re.fullmatch(r"\^?[\w.*-]{1,1000}", text) or text.count("*") != text.count(".*"):
                raise ValueError(
                    _("the pattern {text!r} is more than a layer's name with .*").format(text=pattern[:80])
                )
            if ".*" in text:
                self.wild.append((place, text.replace(".*", "*"), number(value)))
            else:
                self.plain.setdefault(text, (place, number(value)))
        if len(self.wild) > WILD:
            raise ValueError(_("{count} patterns with .*, more than {most}").format(count=len(self.wild), most=WILD))

    def get(self, name: str) -> float | None:
        return min(found)[1] if (found := self._fits(name)) else None

    def idle(self, names: Collection[str]) -> list[str]:
        """Those that fit none of the names."""
        fits = {place for name in names for place, _value in self._fits(name)}
        return [text for place, text in enumerate(self.texts) if place not in fits]

    def _fits(self, name: str) -> list[tuple[int, float]]:
        parts = name.split(".")
        ends = [".".join(parts[n:]) for n in range(len(parts))]
        found = [self.plain[end] for end in (f"^{name}", *ends) if end in self.plain]
        for place, glob, value in self.wild:
            whole = glob.startswith("^")
            if fnmatchcase(name, glob.removeprefix("^")) or (not whole and fnmatchcase(name, f"*.{glob}")):
                found.append((place, value))
        return found


def number(value: Any) -> float:
    """A finite number of a size that alpha and rank can have; ValueError for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= LARGEST:  # NaN never is
        raise ValueError(
            _("{text!r} is no number from -{most:g} to {most:g}").format(text=str(value)[:40], most=LARGEST)
        )
    return float(value)


def is_beside(file: Path, form: str) -> bool:
    """Whether peft's settings lie beside a file of peft's."""
    return (form == "peft" or file.stem == "adapter_model") and file.with_name(ADAPTER_FILE).is_file()


def said_of(file: Path, header: dict[str, str], form: str) -> Said:
    """What is said for all layers: in diffusers' header, in peft's file beside a file of peft's, in kohya's header.

    Raises ModelError for what is there and cannot be meant.
    """
    beside = file.with_name(ADAPTER_FILE)
    where = ADAPTER_KEY
    try:
        if ADAPTER_KEY in header:
            settings = {unheld(key): value for key, value in table(header[ADAPTER_KEY]).items()}
            return Said(settings)
        where = ADAPTER_FILE
        if is_beside(file, form):
            if beside.stat().st_size > LONGEST:
                raise ValueError(_("more than {most:,} bytes").format(most=LONGEST))
            return Said(table(beside.read_text(encoding="utf-8-sig")))
        where = next((key for key in PLAIN if header.get(key, "None") != "None"), "")
        return Said({"alpha": float(header[where])} if where else {})
    except (ValueError, TypeError, AttributeError, OSError) as error:
        why = str(error)[:300]
        raise ModelError(
            "LoRA {file} has a damaged header: {where} ({why})", file=file, where=where, why=why
        ) from error


def table(text: str) -> dict[str, Any]:
    """A JSON object; ValueError for any other text, one that is too long or nested too deep."""
    if len(text) > LONGEST:
        raise ValueError(_("more than {most:,} characters").format(most=LONGEST))
    if not isinstance(found := parse_json(text), dict):
        raise ValueError(_("no JSON object"))
    return found
