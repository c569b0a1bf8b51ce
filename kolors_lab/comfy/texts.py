"""What ComfyUI does with texts outside of the model: comments in prompts, tokens in the names of files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime

from kolors_lab.comfy.nodes import kind_of
from kolors_lab.core.language import _

PROMPTS = ("text", "prompt", "negative_prompt")
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
TOKEN = re.compile(r"%([^%\n]{1,100})%")
DATE = re.compile(r"yyyy|yy|d{1,2}|M{1,2}|h{1,2}|m{1,2}|s{1,2}")


def encoded(graph: Mapping[str, dict]) -> Iterator[tuple[str, str, str]]:
    """Every text that a known node encodes: node, input, and the syntax it is read in."""
    for key, node in graph.items():
        weighed = "prompt_syntax" in kind_of(node).ours
        syntax = node["inputs"].get("prompt_syntax", "comfyui") if weighed else "plain"
        for name in PROMPTS if weighed or node["class_type"] == "KolorsTextEncode" else ():
            if name in node["inputs"]:
                yield key, name, syntax


def without_comments(text: str) -> str:
    """A prompt as the editor sends it: without // to the end of the line and /* … */."""
    return COMMENT.sub("", text)


def refused() -> dict[str, str]:
    """What is not done in any prompt, by its pattern, and what to do instead."""
    return {
        r"embedding:\s*[^\s,)(]+": _("a word learned for another text encoder cannot be used with Kolors; take it out"),
        r"(?<!\\)\{\s*[\d.-]*\$\$": _(
            "{2$$a|b} is not done here; write the words that you want, or {a|b} for one of them"
        ),
        r"(?<![\w:])[\d.]+::(?=[^{}]*\})": _("{0.7::a|b} is not done here; write {a|b}, where each is as likely"),
        r"__[\w*/-]+__": _("a wildcard's file is not read here; write the words themselves"),
    }


def text_fault(name: str, text: str) -> str | None:
    """What of a prompt is not done here, with its place; None for other texts."""
    for pattern, why in refused().items() if name in PROMPTS else ():
        if found := re.search(pattern, text):
            told = _("character {place}, {found}: {why}")
            return told.format(place=found.start() + 1, found=found[0], why=why)
    return None


# Names of files -------------------------------------------------------------------------------------------------------


def file_prefix(graph: Mapping[str, dict], prefix: str, size: tuple[int, int], index: int, now: datetime) -> str:
    """A filename_prefix with its tokens replaced: %date:yyyy-MM-dd%, %Node.widget%, %year%, %width%, %batch_num%, …

    `size`: (width, height) px of the picture, `index`: its place in the batch. What is no token stays as it is.
    """
    server = {"width": str(size[0]), "height": str(size[1]), "batch_num": str(index), "year": f"{now.year}"}
    server |= {name: f"{getattr(now, name):02}" for name in ("month", "day", "hour", "minute", "second")}

    def put(found: re.Match) -> str:
        token = found[1]
        if token.startswith("date:"):
            return _date(token[5:], now)
        value = server.get(token) or _widget(graph, token)
        return found[0] if value is None else re.sub(r'[/?<>\\:*|"\x00-\x1f\x7f]', "_", value)

    return TOKEN.sub(put, prefix)


def unknown_tokens(graph: Mapping[str, dict], prefix: str) -> list[str]:
    """Tokens that stay as they are, %like this%."""
    left = file_prefix(graph, prefix, (8, 8), 0, datetime(2000, 1, 1))
    return [found[0] for found in TOKEN.finditer(left)]


def _date(form: str, now: datetime) -> str:
    parts = {"d": now.day, "M": now.month, "h": now.hour, "m": now.minute, "s": now.second}

    def put(found: re.Match) -> str:
        word = found[0]
        if word[0] == "y":
            return f"{now.year:04}"[-len(word) :]
        return f"{parts[word[0]]:0{len(word)}}"

    return DATE.sub(put, form)


def _widget(graph: Mapping[str, dict], token: str) -> str | None:
    """The value of `Node.widget`: of the node of that title, else of that type."""
    name, dot, widget = token.rpartition(".")
    if not dot:
        return None
    titled = [node for node in graph.values() if (node.get("_meta") or {}).get("title") == name]
    for node in titled or [node for node in graph.values() if node["class_type"] == name]:
        value = node["inputs"].get(widget)
        if value is not None and not isinstance(value, (list, dict)):
            return str(value)
    return None
