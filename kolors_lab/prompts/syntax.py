"""Prompts: weights on words for Kolors' ChatGLM encoder, choices at random, and LoRA tags.

Weights follow ComfyUI's rule, z' = z_empty + (z - z_empty) * w, on the tokens of a weighted span. ChatGLM is causal:
a token's state also holds what stands before it, so the theory is weak; benchmarks/prompt_weights.py measures it.

    encode_prompt(pipe, "一个(紫色:1.3)短发少女，[夜空]")
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from kolors_lab.core.errors import SettingError
from kolors_lab.core.language import _

SYNTAXES = ("webui", "comfyui", "compel", "plain")
LIMIT = 10.0  # weights beyond ±10 leave nothing that the UNet has ever seen
LONGEST, DEEPEST = 10_000, 100  # characters of a prompt (256 tokens are read), brackets within each other
UP, DOWN = 1.1, 0.9  # a pair of brackets, or compel's + and -

NUMBER = re.compile(r"[:：]\s*([+-]?[\d.．,，。]+)\s*(?=\))")  # (word:1.3), and as a Chinese keyboard has it
MARKS = re.compile(r"(\++|-+)(?=[\s,，.。、；;)]|$)")  # word++
SUFFIX = re.compile(r"\++|-+|\d*\.?\d+")  # (words)++ or (words)1.3
WORD = re.compile(r"[^\s,，.。、；;()+]+$")
BRACE, BAR = re.compile(r"(?<!\\)[{}]"), re.compile(r"(?<!\\)\|")
WEIGHED = re.compile(r"(?:^|\|)\s*[\d.-]+\s*(?:::|\$\$)")  # {0.7::a|b}, {2$$a|b}
LORA = re.compile(r"[<＜]lora[:：]([^<>＜＞:：]*)((?:[:：][^<>＜＞:：]*)*)[>＞]", re.IGNORECASE)
CHANGES = re.compile(r"(?<!\\)[|｜]|[:：]\s*[\d.．]+\s*(?:[,，:：][\w\s.．-]*)?$")  # within [ ]: a|b, from:to:when
ESCAPED = "()[]{}|+-\\"


@dataclass(frozen=True)
class Span:
    """Neighbouring characters of a prompt, its brackets taken off, with one weight; 1: as they are."""

    text: str
    weight: float = 1.0


@dataclass
class _Piece:
    """A span in the making: `at` is its first character, `fixed` bars outer brackets from changing the weight."""

    text: str
    at: int
    weight: float = 1.0
    fixed: bool = False


# From text to spans ---------------------------------------------------------------------------------------------------


def parse(text: str, syntax: str = "webui") -> list[Span]:
    """Spans whose texts in a row are the prompt without its weights. SettingError points at the character at fault.

    webui: (x) ×1.1, [x] ÷1.1, (x:1.3), brackets multiply as they nest. comfyui: the same without [ ], and an explicit
    weight replaces those around it. compel: x+ ×1.1, x- ×0.9, (x y)++ and (x)1.3. `\\(` is a bracket of the text.
    plain: no weights at all.
    """
    if syntax not in SYNTAXES:
        raise SettingError(
            "{field} = {value!r}: must be one of {names}",
            field="prompt_syntax",
            value=syntax,
            names=", ".join(SYNTAXES),
        )
    _check_length(text)
    if syntax == "plain":
        return [Span(text)] if text else []
    for pattern, reason in _refused(syntax).items():
        if found := re.search(pattern, text):
            raise _error(text, found.start(), reason)
    spans: list[Span] = []
    for piece in (piece for piece in _pieces(text, syntax) if piece.text):
        if not -LIMIT <= piece.weight <= LIMIT:
            reason = _("its weight {weight:g} must be from {low:g} to {high:g}")
            raise _error(text, piece.at, reason.format(weight=piece.weight, low=-LIMIT, high=LIMIT))
        weight = round(piece.weight, 6)  # [(x)] is 1, not 1.0000000000000002
        joined = spans.pop().text if spans and spans[-1].weight == weight else ""
        spans.append(Span(joined + piece.text, weight))
    return spans


def _refused(syntax: str) -> dict[str, str]:
    """What a syntax has beside weights and Kolors cannot do, and the way out."""
    webui = {
        r"(?a:\bBREAK\b)": _("BREAK splits a prompt for CLIP's 77 tokens; Kolors reads 256 at once: leave it out"),
        r"(?a:\bAND(?:_[A-Z]+)?\b)": _(
            "AND joins two predictions of the model, which is not done here: write one prompt"
        ),
    }
    not_yet = {
        r"(?i)[<＜](?:lora|lyco|hypernet)[:：]": _(
            "a tag is no text: say as loras which folder its file is in, or give the file as lora, and lora_strength"
        ),
        r"(?i)[<＜][a-z]\w{1,30}[:：][^<>\s]": _("this tag of another program is not done here: take it out"),
        r"\)?\s*\.(?:blend|and|swap)\(": _(".blend(), .and() and .swap() are not done here: write one prompt"),
        r"(?a:(?<![\w+-])(?:--|[—–]{1,2}(?=(?:ar|no|niji|v|s|q) ))[a-z]{1,12}(?=[\s=\d]|$)|^/imagine\b)": _(
            "an option of Midjourney's is not read here: say it as negative_prompt, width, height, …"
        ),
        r"(?<=[^\s:])::\s?-?\d*\.?\d+(?=[\s,，]|$)|(?<![\w.:{|])-?\d*\.?\d+::(?=[^\s:])": _(
            "word::2 puts no weight on a word here: write (word:1.3)"
        ),
        r"(?m)^(?:Negative prompt:|Steps: \d+, )": _(
            "these are a picture's parameters: give prompt, negative_prompt and the other settings apart, "
            "or the picture to `kolors-lab comfy run`"
        ),
        r"(?a:(?<!\w))[_＿]{2}[\w/*-]{1,60}?[_＿]{2}(?a:(?!\w))": _(
            "wildcards from files are not read here: write their words, {red|blue}"
        ),
        r"(?i)(?a:\b)embedding\s?[:：]\s?\S": _(
            "embeddings are not found by name here: learn a word with `kolors-lab invert`, give it as word"
        ),
        r"(?<!\\)\{": _("choices like {a|b} are settled first: prompts.choose(text, seed)"),
        r"｛[^｛｝{}]*[｜|][^｛｝{}]*｝": _("full-width braces choose nothing: write {a|b}"),
        r"[（［][^（）［］]*(?:[:：]\s*[\d.．]+\s*|(?<=［)[^［］]*[|｜][^［］]*)[）］]": _(
            "full-width brackets put no weight on words: write (少女:1.3), or \\( \\)"
        ),
        r"(?a:\bADD(?:BASE|COMM|ROW|COL)\b|\b(?:COUPLE|AREA|MASK|FEATHER|STYLE|SHUFFLE)\s?\()": _(
            "orders to another program about parts of a picture are not done here: write one prompt"
        ),
    }
    loose = {
        r"(?<=[^\W\d])\s?[:：]\s*[+-]?\d[.．。]\d+(?![\d.．。,，]*\s*\\?[)\]:：])": _(
            "a weight stands in brackets, right before the one that closes: write (word:1.3); "
            "a figure that is no weight goes without the colon"
        ),
    }
    marked = {
        r"(?<!\\)\)(?:\+{1,9}|-{1,9}|\d?\.\d+)(?=[\s,，.。]|$)": _(
            "marks behind a bracket are read with prompt_syntax compel only"
        )
    }
    first, last = (webui, loose) if syntax == "webui" else ({}, {})
    return first | not_yet | ({} if syntax == "compel" else marked) | last


def _check_length(text: str) -> None:
    if len(text) > LONGEST:
        raise SettingError(
            "prompt: {count} characters, at most {most} are read; the model itself takes 256 tokens",
            count=len(text),
            most=LONGEST,
        )


def _error(text: str, at: int, reason: str) -> SettingError:
    before, here = text[max(0, at - 8) : at], text[at : at + 12]
    return SettingError(
        "prompt, character {at}: {reason} (here: “{before}▸{here}”)", at=at + 1, reason=reason, before=before, here=here
    )


def _pieces(text: str, syntax: str) -> list[_Piece]:
    """The text in pieces of one weight. `opened`: the brackets still open, each with the first piece inside."""
    pieces, opened, i = [_Piece("", 0)], [], 0
    weigh = _weigh_word if syntax == "compel" else partial(_weigh_brackets, square=syntax == "webui")
    while i < len(text):
        char = text[i]
        if char == "\\" and text[i + 1 : i + 2] and text[i + 1] in ESCAPED:
            pieces[-1].text += text[i + 1]
            i += 2
        elif char == "(" or (char == "[" and syntax == "webui"):
            _open(text, i, pieces, opened)
            i += 1
        elif end := weigh(text, i, pieces, opened):
            pieces.append(_Piece("", end))
            i = end
        else:
            pieces[-1].text += char
            i += 1
    if opened:
        char, at, _piece = opened[-1]
        reason = _("this {char} is never closed; close it, or write \\{char} for the character itself")
        raise _error(text, at, reason.format(char=char))
    return pieces


def _weigh_brackets(
    text: str, at: int, pieces: list[_Piece], opened: list[tuple[str, int, int]], square: bool
) -> int | None:
    """The web UI's and ComfyUI's: weigh what a closing bracket ends, by the number before it if there is one.

    The place behind it; None where none closes.
    """
    char, number = text[at], NUMBER.match(text, at)
    if number and opened and opened[-1][0] == "(":
        _scale(pieces[opened.pop()[2] :], _number(text, at, number[1]), fixed=not square)
        return number.end() + 1  # behind the bracket
    if char != ")" and not (char == "]" and square):
        return None
    if char == "]" and opened and opened[-1][0] == "[" and CHANGES.search(text[opened[-1][1] + 1 : at]):
        reason = _(
            "words that change on the way ([from:to:when], [a|b]) are not done here: "
            "write the prompt that you want from the first step on"
        )
        raise _error(text, opened[-1][1], reason)
    _scale(pieces[_opening(text, at, opened) :], UP if char == ")" else 1 / UP)
    return at + 1


def _weigh_word(text: str, at: int, pieces: list[_Piece], opened: list[tuple[str, int, int]]) -> int | None:
    """compel's: weigh by + and - behind a word or a bracket, or by a number behind a bracket.

    The place behind them; None where there are none.
    """
    if text[at] == ")":
        suffix, inner = SUFFIX.match(text, at + 1), pieces[_opening(text, at, opened) :]
        _scale(inner, _marked(suffix[0]) if suffix else 1.0)
        return suffix.end() if suffix else at + 1
    marks = MARKS.match(text, at)
    if not (word := marks and WORD.search(pieces[-1].text)):
        return None
    pieces[-1].text = pieces[-1].text[: word.start()]
    pieces.append(_Piece(word[0], at - len(word[0]), _marked(marks[0])))
    return marks.end()


def _open(text: str, at: int, pieces: list[_Piece], opened: list[tuple[str, int, int]]) -> None:
    """Note an opening bracket, and begin the first piece inside."""
    if len(opened) == DEEPEST:
        reason = _("more than {most} brackets within each other; write a weight, as (少女:1.3)")
        raise _error(text, at, reason.format(most=DEEPEST))
    opened.append((text[at], at, len(pieces)))
    pieces.append(_Piece("", at + 1))


def _scale(pieces: Sequence[_Piece], factor: float, fixed: bool = False) -> None:
    for piece in pieces:
        if not piece.fixed:
            piece.weight, piece.fixed = piece.weight * factor, fixed


def _marked(marks: str) -> float:
    return {"+": UP, "-": DOWN}[marks[0]] ** len(marks) if marks[0] in "+-" else float(marks)


def _number(text: str, at: int, number: str) -> float:
    try:
        return float(number.replace("．", "."))
    except ValueError:
        reason = _("{number} is no number; write it like (少女:1.3)")
        raise _error(text, at, reason.format(number=number[:20])) from None


def _opening(text: str, at: int, opened: list[tuple[str, int, int]]) -> int:
    """The first piece inside the bracket that the one at `at` closes."""
    if not opened or opened[-1][0] != {")": "(", "]": "["}[text[at]]:
        reason = _("this {char} closes nothing; take it out, or write \\{char} for the character")
        raise _error(text, at, reason.format(char=text[at]))
    return opened.pop()[2]


# Before a prompt is read ----------------------------------------------------------------------------------------------


def choose(text: str, seed: int) -> str:
    """Settle each `{a|b|c}` at random, inner ones first: equal seeds choose alike.

    This is the one door of choices: whatever draws a picture comes through it, and `parse` refuses those that did not.
    SettingError for a brace alone, one word in braces, braces nested too deep, and choices of another program.
    """
    _check_length(text)
    lot, levels, opened, done = random.Random(seed), [""], [], 0  # what is settled so far, of each open brace
    for brace in BRACE.finditer(text):
        levels[-1] += text[done : brace.start()]
        done = brace.end()
        if brace[0] == "{":
            if len(opened) == DEEPEST:
                raise _error(text, brace.start(), _("more than {most} braces within each other").format(most=DEEPEST))
            opened.append(brace.start())
            levels.append("")
        else:
            at = opened.pop() if opened else brace.start()
            if len(levels) == 1 or len(words := BAR.split(inside := levels.pop())) == 1:
                reason = _("a brace alone chooses nothing; write {a|b}, the words without it, or \\{ \\}")
                raise _error(text, at, reason)
            if WEIGHED.search(inside):
                raise _error(text, at + 1, _("only plain choices are made here: write {a|b}"))
            levels[-1] += lot.choice(words)
    if opened:
        reason = _("this {brace} is never closed; write {{a|b}} or \\{brace}")
        raise _error(text, opened[-1], reason.format(brace="{"))
    return levels[0] + text[done:]


def extract_loras(text: str) -> tuple[str, list[tuple[str, float]]]:
    """The prompt without its `<lora:name:0.8>` tags, and their (name, strength) in order; without a number 1.

    Of the web UI's two numbers the last counts: a Kolors LoRA sits on the UNet only. Raises SettingError.
    """
    _check_length(text)
    loras = []
    for tag in LORA.finditer(text):
        name, number = tag[1].strip(), re.split("[:：]", tag[2])[-1].strip().replace("．", ".")
        if not name or re.search(r"[/\\]|^\.", name):
            raise _error(text, tag.start(), _("a LoRA tag holds a file's name, without folders: <lora:name:0.8>"))
        try:
            loras.append((name, float(number) if tag[2] else 1.0))
        except ValueError:
            reason = _("{number!r} is no strength; write <lora:{name}:0.8>").format(number=number, name=name)
            raise _error(text, tag.start(), reason) from None
    if broken := re.search(r"(?i)[<＜]lora(?![a-z])", rest := LORA.sub("", text)):
        raise _error(rest, broken.start(), _("this LoRA tag is not whole; write <lora:name:0.8>"))
    return re.sub(r"[ \t]{2,}", " ", rest).strip(" ,，") if loras else text, loras
