"""A numbered list of scenes, as chat models answer it: heads, labels, wrapped lines; every line has one meaning.

A line is a head (`### 场景一：上课`, `1. …`, `【第1格】`), a label (`- **提示词**：…`), or goes on with what is open.
What is none of these is refused where scenes are, and reported where it stands before or behind them.
"""

from __future__ import annotations

import re
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from kolors_lab.comic.words import (
    MARKUP,
    NUMBERS,
    SHARED,
    SIMPLE,
    clean,
    joined,
    key_of,
    label_of,
    number_of,
    settings_in,
)
from kolors_lab.core.errors import DataError
from kolors_lab.core.language import _

N = r"(\d{1,3}|[一二三四五六七八九十]{1,3}|[①-⑳]|(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve)\b)"
N += r"(?:\s?(?:[/／]|of)\s?\d{1,3})?"  # 1/8, 1 of 8
UNIT = "场景|分镜头|分镜|画面|镜头|图片|部分|插图|场|格|张图|张|幕|幅|镜|页|集|段|话|章|节|回|图"
END = r"(?:\s{0,5}个)?(?=[\W_]|$)[^\w\s{(（<\"“\[]{0,6}\s{0,5}(.*)$"
WORD_HEAD = re.compile(
    rf"^[\W_]{{0,12}}(?:第\s?{N}\s?个?\s?(?:{UNIT})|"
    rf"(?:场景|分镜头|分镜|画面|镜头|图片|插图|图|幕|scene|panel|shot|image|picture|page|frame)\s?[#＃:：.（(【\[]?\s?(?:no\.?\s?)?{N}){END}",
    re.IGNORECASE,
)
BARE_HEAD = re.compile(
    rf"^[\W_]{{0,12}}?(?:[（(【\[]\s?{N}\s?[）)】\]]|{N}\s?(?:[.、：:．)）】*]|-\s)(?!\d)|([①-⑳])|(\d)\ufe0f?\u20e3)"
    r"[*_]{0,3}\s{0,5}(.*)$"
)
COMMA_HEAD = re.compile(r"^\s*(\d{1,2})\s?[，,](?!\d)")
HEADING = re.compile(rf"^\s{{0,3}}#{{1,6}}\s{{0,5}}\W{{0,4}}{N}(?=\s)\s{{0,5}}(.*)$")  # ### 1 上课
PAIR = re.compile(r"^\s*\|([^|]{1,40})\|([^|]*)\|?\s*$")  # a table of one scene: | 提示词 | … |
TITLED = re.compile(r"^([^：:，,()（）|]{1,30}?)\s{0,5}(?:[：:]|—{1,3}|\s-)\s{0,5}(\S.*)$")  # 女主正在上课：古风，…
NAMED = re.compile(
    r"^[（(【《「]([^（(）)】》」:：]{1,30})[）)】》」]\s{0,5}(?:[：:—-]{1,3}\s{0,5}(\S.*))?$"
)  # （上课）：古风，…
NAME = re.compile(r"[^，,：:（(【\[]*(?:[（(【\[][^（(【\[）)】\]]*[）)】\]])?")  # of a head, up to its first bracket
ITEM = re.compile(r"^\s{0,20}[-*+•·]\s")
RULE = re.compile(r"^[\s|:—_*=-]{3,}$")
ROW = re.compile(r"^\s*\|(?:[^|]*\|){2,}\s*$")  # of a table that is none of ours
REMARK = re.compile(  # what a chat model says when it is done: no prompt begins or ends so
    r"[（(]?(?:以上|希望|如需|如果[你您需要]|需要我|[你您]可以|这些提示词|以下场景|其余|其他场景|剩余|后续|祝[你您]|请告诉|是否需要|"
    r"要不要|注[：:]|I hope|Hope |Let me know|Feel free|Enjoy|These prompts|Would you|If you|Note[：:])|"
    r".*[！!？?～~]$|（[^（）]*）$",
    re.IGNORECASE,
)
LONG = ("prompt", "negative_prompt")  # what may go on in the next line
TONGUES = ("中文", "中文版", "chinese", "zh", "cn", "英文", "英文版", "english", "en")  # labels below 提示词：


@dataclass
class Listed:
    """One scene of a list: the line it begins in, its texts by our names, and what in it is not used."""

    number: int
    line: int
    row: dict[str, str] = field(default_factory=dict)
    labelled: bool = False  # whether its prompt stands behind a label: then all other labels are known to be none
    unused: list[str] = field(default_factory=list)
    late: dict[str, str] = field(default_factory=dict)  # lines behind an empty one: of this scene, or of all of them?
    odd: list[str] = field(default_factory=list)  # lines amid a prompt that are no part of it: an error
    after: list[str] = field(default_factory=list)  # lines behind an empty one: an error, unless they end the answer


def one() -> str:
    """What to do where several lists or tables tell a story."""
    return _("leave only the one whose scenes are to be drawn")


def read_list(text: str, name: str) -> tuple[list[Listed], int, list[str]] | None:
    """The scenes of a numbered list, the number of lines before it, and the prose behind it; None where there is none.

    DataError names a scene that is missing in the count, and a line between scenes that is none of theirs.
    """
    lines = text.splitlines()
    heads = _heads(lines)
    runs = _runs(heads)
    if not runs:
        return None
    ends = dict(zip(heads, [*list(heads)[1:], len(lines)], strict=True))
    found = [[_scene(lines, start, ends[start], *heads[start]) for start in run] for run in runs]
    whole = [run for run in found if all(s.row.get("prompt") and (s.labelled or s.row.get("scene")) for s in run)]
    if len(whole) > 1 or (not whole and len(found) > 1):
        places = ", ".join(str(run[0].line) for run in found[:9])
        raise DataError("{name}: lists begin in lines {places}; {hint}", name=name, places=places, hint=one())
    run = whole[0] if whole else found[0]
    _check_commas(lines, run, name)
    _check_run(run, name)
    _leave_advice(run)
    after = found[found.index(run) + 1 :]
    return run, run[0].line - 1, run[-1].after + [_quoted(lines, s.line - 1) for other in after for s in other]


def _heads(lines: Sequence[str]) -> dict[int, tuple[int, str]]:
    """Line → (number, what follows). Where scenes are called 场景1, plain numbers count something else."""
    words, bare = {}, {}
    for n, line in enumerate(lines):
        if found := WORD_HEAD.match(line.translate(SIMPLE)):
            words[n] = (number_of(found[1] or found[2]), line[found.start(3) :])
        elif found := (BARE_HEAD.match(line) or HEADING.match(line)):
            *numbers, rest = found.groups()
            bare[n] = (number_of(next(number for number in numbers if number)), rest)
    return words if any(number == 1 for number, _ in words.values()) else bare or _counted(lines)


def _counted(lines: Sequence[str]) -> dict[int, tuple[int, str]]:
    """Heads where nothing is numbered: labels of a caption, `标题：上课`, or headings, each with a prompt behind it."""
    labels = {n: label for n, line in enumerate(lines) if (label := label_at(line))}
    captions = [n for n, label in labels.items() if key_of(label[0]) == "scene" and label[1]]
    alike = [n for n in captions if labels[n][0] == labels[captions[0]][0]]
    prompts = [n for n, label in labels.items() if key_of(label[0]) == "prompt" and not SHARED.search(label[0])]
    for heads in (alike, [n for n, line in enumerate(lines) if line.lstrip().startswith("#") and n not in labels]):
        told = [n for n, end in pairwise([*heads, len(lines)]) if bisect(prompts, n) < bisect(prompts, end)]
        if len(told) > 1:
            return {n: (count, lines[n]) for count, n in enumerate(told, 1)}
    return {}


def _runs(heads: dict[int, tuple[int, str]]) -> list[list[int]]:
    """The heads' lines in runs that count up from 1; a number out of turn is no head and goes."""
    runs: list[list[int]] = []
    last = 0
    for n, (number, _rest) in list(heads.items()):
        if number == 1:
            runs.append([n])
        elif runs and last < number < last + 9:
            runs[-1].append(n)
        else:
            del heads[n]
            continue
        last = number
    return runs


def _scene(lines: Sequence[str], start: int, end: int, number: int, rest: str) -> Listed:
    """One scene: its head and the lines up to the next."""
    scene, foreign = Listed(number, start + 1), []
    rest = _take_settings(scene, rest)
    opened = _take_head(scene, rest.lstrip(f"{MARKUP}|｜→"))  # the field that a line without a label goes on with
    if scene.row.keys() & NUMBERS:  # 第1格（种子：7）：…, which is a panel whether it has a caption or not
        scene.row.setdefault("scene", "")
    closed = False  # an empty line ends that, unless nothing stands there yet
    for n in range(start + 1, end):
        quoted = _quoted(lines, n)
        line = _take_settings(scene, lines[n], quoted)
        bare, label = clean(line.lstrip(MARKUP)), label_at(line)
        field_name = key_of(label[0]) if label else ""
        if not bare or RULE.match(lines[n]):
            closed = True
        elif PAIR.match(lines[n]) and RULE.match("".join(lines[n + 1 : n + 2])):
            continue  # the header of a table of two columns
        elif field_name in LONG and SHARED.search(label[0]):  # of all scenes: the negative one is read by itself
            scene.unused += [quoted] if field_name == "prompt" else []
            opened = None
        elif field_name or (label and label[0].lower() in TONGUES):
            if closed and field_name not in ("scene", "prompt", *scene.row):
                scene.late[field_name] = quoted
            opened, closed = _take_label(scene, quoted, *label, opened), False
        elif label and not closed and opened in LONG and scene.row.get(opened, "").endswith(("，", ",", "、")):
            scene.odd.append(quoted)  # a part of the prompt, or a label? nobody knows
        elif label and not (closed and scene.row.get("prompt") and not scene.labelled):
            foreign.append(quoted)
            opened, closed = "", False
        elif label or opened is None or (closed and scene.row.get(opened)):
            (scene.after if closed or opened is None else scene.odd).append(quoted)
        elif ROW.match(lines[n]):
            scene.odd.append(quoted)
        elif opened in LONG and scene.row.get(opened) and REMARK.match(bare):
            scene.after.append(quoted)
            opened = None
        elif opened:
            before = scene.row.get(opened, "")
            listed = before and ITEM.match(lines[n]) and not before.endswith(("，", ",", "、"))  # - 少女, - 教室
            scene.row[opened] = joined(f"{before}，" if listed else before, bare)
            closed = False
        else:  # it goes on with a label that is not used
            foreign.append(quoted)
    (scene.unused if scene.labelled else scene.odd).extend(foreign)
    return scene


def _take_settings(scene: Listed, line: str, quoted: str = "") -> str:
    """A head, or (`quoted`) a line with a label, `提示词（seed: 41）：…`, without the settings in brackets, which the
    scene gets unless it has others or the label means nothing here. What else holds brackets is read with its text."""
    name = NAME.match(line)[0]  # where a half-width bracket weighs no words, unless a prompt begins so
    name = "" if quoted and not key_of(name) else name
    (start, found), (behind, more) = settings_in(name, caption=True), settings_in(line[len(name) :])
    plain, found = start + behind, more | found
    named = label_at(plain) if quoted and found and (start != name or not label_at(line)) else None
    if not found or (quoted and not named):
        return line
    if named and any(scene.row.get(name, value) != value for name, value in found.items()):
        scene.unused += [quoted] if key_of(named[0]) else []
    elif not named or key_of(named[0]):
        scene.row |= found
    return plain.lstrip("：: ")


def label_at(line: str) -> tuple[str, str] | None:
    """(label, value) of a line: before a colon, in a row of a table of two columns, or a known one by itself."""
    if pair := PAIR.match(line):
        line = f"{pair[1]}：{pair[2]}"
    bare = clean(line.lstrip(MARKUP))
    name = key_of(bare) if len(bare) < 40 else ""
    alone = name in LONG or (name and line.lstrip().startswith(("#", "*")))
    return label_of(line) or ((bare, "") if alone else None)


def _take_head(scene: Listed, rest: str) -> str | None:
    """What follows a number: `caption：prompt`, `提示词：prompt`, or one of them; the field that stays open."""
    inner = ""
    halves = re.split(r"\*\*|[|｜]", rest, maxsplit=1)
    if len(halves) == 2 and (label := label_of(halves[1])) and key_of(label[0]):  # **上课** 提示词：古风，少女
        inner, rest = clean(halves[0].rstrip("：: ")), halves[1].lstrip(MARKUP)
        scene.row["scene"] = inner
    rest = clean(rest)
    if again := WORD_HEAD.match(rest):  # 1. 场景1：上课; 1. 第1格：古风，少女
        inner, rest = rest[: again.start(3)].strip("：: "), clean(again[3])
    label = label_of(rest)
    if label and key_of(label[0]):
        return _take_label(scene, rest, *label, None)
    if parts := NAMED.match(rest) or TITLED.match(rest):
        scene.row |= {"scene": clean(parts[1]), "prompt": clean(parts[2] or "")}
    elif re.search("[，,]", rest):
        scene.row |= {"prompt": rest} | ({"scene": inner} if inner else {})
    elif rest:
        scene.row["scene"] = clean(rest.rstrip("：:"))
    return "prompt"


def _take_label(scene: Listed, quoted: str, label: str, value: str, opened: str | None) -> str | None:
    """Put a label's value where it belongs; the field that the next line goes on with, "" for one that is not used."""
    name = key_of(label) or (opened if opened in LONG and label.lower() in TONGUES else "")
    if not name or scene.row.get(name):  # of two captions or prompts, 中文 and English, the first counts
        scene.unused.append(quoted)
        return ""
    scene.row[name] = value
    scene.labelled = scene.labelled or name == "prompt"
    if name in LONG or not value:
        return name
    return None if scene.row.get("prompt") else "prompt"


def _check_commas(lines: Sequence[str], run: Sequence[Listed], name: str) -> None:
    """DataError names a line whose number would be the next or a missing scene's, had it no comma behind it."""
    numbers = {scene.number for scene in run}
    lost = {number for number in range(1, max(numbers) + 2) if number not in numbers}
    for n, line in enumerate(lines[run[0].line :], run[0].line + 1):
        if (found := COMMA_HEAD.match(line)) and int(found[1]) in lost:
            raise DataError(
                "{name}: line {line}: a comma follows its number, so it is no scene; begin it with {number}.",
                name=name,
                line=n,
                number=found[1],
            )


def _check_run(run: Sequence[Listed], name: str) -> None:
    numbers = {scene.number for scene in run}
    if gap := sorted(set(range(1, max(numbers))) - numbers):
        raise DataError(
            "{name}: scene {numbers} is missing; add it (or, if a chat model wrote this, ask it)",
            name=name,
            numbers=_(", ").join(map(str, gap)),
        )
    for scene in run:
        if wrong := scene.odd + scene.after * (scene is not run[-1]):
            raise DataError(
                "{name}: {line} is neither prompt nor a known label; mend or remove the line", name=name, line=wrong[0]
            )


def _leave_advice(run: Sequence[Listed]) -> None:
    """What the last scene alone has, behind an empty line, is said of the whole story: a negative prompt is that of
    all scenes, settings are advice and not used."""
    last = run[-1]
    for name, quoted in last.late.items():
        if len(run) == 1 or any(name in scene.row for scene in run[:-1]):
            continue
        value = last.row.pop(name)
        if name == "negative_prompt":
            for scene in run:
                scene.row[name] = value
        else:
            last.unused.append(quoted)


def _quoted(lines: Sequence[str], n: int) -> str:
    line = " ".join(lines[n].split())
    return _("line {n} “{text}”").format(n=n + 1, text=f"{line[:40]}…" if len(line) > 40 else line)
