"""A script: a story's scenes as a table, read from what people write and what chat models answer.

CSV, Markdown table, numbered list, JSON or DataFrame. Parts that stay the same are said once, in lines such as
`衣服：绿色长裙` above the scenes, and stand in the prompts as {衣服}; a column of that name changes one for a scene.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kolors_lab.core.errors import DataError, KolorsLabError
from kolors_lab.core.files import replacing
from kolors_lab.sampling.ksampler import KSampler

if TYPE_CHECKING:
    from pandas import DataFrame

    Row = tuple[str, dict[str, Any]]  # where it stands, and its texts by column

COLUMNS = ("scene", "prompt", "negative_prompt", "seed")
NUMBERS = {"seed": int, "steps": int, "width": int, "height": int, "cfg": float}
SETTINGS = ("steps", "cfg", "width", "height", "sampler_name", "scheduler")  # a scene may have its own
NAMES = {  # what chat models call the columns
    "scene": "scene 场景 场景描述 场景名称 场景标题 标题 名称 剧情 分镜 画面 caption title name",
    "prompt": "prompt 提示词 正向提示词 正面提示词 正向词 正面词 生图提示词 文生图提示词 图片提示词 positive_prompt",
    "negative_prompt": "negative_prompt 反向提示词 负向提示词 负面提示词 反向词 负向词 负面词 反向 负面 negative",
    "seed": "seed 种子 随机种子",
    "steps": "steps 步数",
    "cfg": "cfg 提示词引导强度",
    "sampler_name": "sampler_name sampler 采样器",
    "scheduler": "scheduler 调度器",
    "width": "width 宽 宽度",
    "height": "height 高 高度",
}
KNOWN = {alias: name for name, aliases in NAMES.items() for alias in aliases.split()}
SHAPES = "a table (CSV or Markdown) with the columns scene,prompt,negative_prompt,seed, a numbered list, or JSON"
PART = re.compile(r"\{([^{}|]+)\}")  # {衣服}; {a|b} is a choice of the prompt's own
SAID = re.compile(r"^[\s#>*+•-]*([^\s：:=，,。|{}*]{1,12})\**\s*[：:=]\s*(.+)$")  # 衣服：绿色长裙
RULE = re.compile(r"^\s*\|?(\s*:?-+:?\s*\|)+(\s*:?-+:?\s*)?$")  # |---|---|
HEAD = re.compile(  # 1. / ### 场景一： / **第 1 格** / 第1个场景： / 【Scene 1】
    r"^\W*(?:第|场景|分镜|画面|图|scene|panel)?\s*(\d+|[一二三四五六七八九十]+)\s*"
    r"(?:个?(?:场景|分镜|画面)|[格张幕幅])?[^\w\s]*[.、：:．)）】*\s-]\s*(.*)$",
    re.IGNORECASE,
)
LABEL = re.compile(r"^\W*([\w ]{1,20}?)\W*[：:]\s*(.*)$")  # - **正向提示词**：…
TITLED = re.compile(r"^([^：:，,()（）]{1,30}?)\s*(?:[：:]|—+|\s-)\s*(.+)$")  # 女主正在上课：古风，…
SHARED = re.compile(r"^[^\w\n]*(?=[^：:\n]*(?:通用|统一|所有|全部))[^：:\n]*[反负]\w+[^：:\n]*[：:](.+)$", re.MULTILINE)
AROUND = re.compile(r"(?s:<think>.*?</think>)|^\s*```.*$\n?", re.MULTILINE)  # what chat models put around an answer
FULL_WIDTH = str.maketrans("｛｝｜", "{}|")
DIGITS = "零一二三四五六七八九十"


@dataclass(frozen=True)
class StoryScene:
    """One line of a story; `scene` is the caption under its panel. None: as the whole story has it."""

    scene: str
    prompt: str
    negative_prompt: str = ""
    seed: int = 0
    steps: int | None = None
    cfg: float | None = None
    width: int | None = None
    height: int | None = None
    sampler_name: str | None = None
    scheduler: str | None = None

    def settings(self) -> dict[str, Any]:
        """The sampling settings that this scene has of its own."""
        return {name: value for name in SETTINGS if (value := getattr(self, name)) is not None}


@dataclass(frozen=True)
class Script:
    """Scenes whose prompts may hold {parts}, and what each part says; `own` has a scene's own parts."""

    scenes: tuple[StoryScene, ...]
    fixed: Mapping[str, str]
    own: tuple[Mapping[str, str], ...] = ()

    def filled(self) -> list[StoryScene]:
        """The scenes with every {part} said in full. DataError names a part that nobody has said."""
        own = self.own or ({},) * len(self.scenes)
        return [_fill(scene, n, {**self.fixed, **own[n - 1]}) for n, scene in enumerate(self.scenes, 1)]


def _fill(scene: StoryScene, n: int, parts: Mapping[str, str]) -> StoryScene:
    def said(match: re.Match) -> str:
        if match[1] not in parts:
            raise DataError(f"scene {n}: nobody says what {match[0]} is; write a line {match[1]}：… above the scenes")
        return parts[match[1]]

    prompt, negative = (PART.sub(said, text) for text in (scene.prompt, scene.negative_prompt))
    return replace(scene, prompt=prompt, negative_prompt=negative)


def read_story(
    source: str | Path | DataFrame | Sequence[dict], fixed: Mapping[str, str] | None = None, count: int | None = None
) -> list[StoryScene]:
    """The scenes of a story in their order, fixed parts filled in: `read_script(...).filled()`."""
    return read_script(source, fixed, count).filled()


def read_script(
    source: str | Path | DataFrame | Sequence[dict], fixed: Mapping[str, str] | None = None, count: int | None = None
) -> Script:
    """The script in a file, in a text (of more than one line), or in a DataFrame or a list of dicts.

    `fixed` says parts anew: {"衣服": "红色长裙"} changes the dress in every scene. Without a seed, scene n gets n - 1.
    DataError names file, line or scene and what is missing there; `count` tells how many scenes there should be.
    """
    name, rows, said = _rows(source)
    if not rows:
        raise DataError(f"{name}: it has no scenes; give {SHAPES}")
    used = [set(PART.findall(f"{row.get('prompt')}{row.get('negative_prompt')}")) for _, row in rows]
    needed = set().union(*used)
    for part in fixed or {}:
        if part not in needed:
            raise DataError(f"{name}: no prompt holds {{{part}}}; write it where the words of {part} belong")
    said = {part: text for part, text in said.items() if part in needed} | dict(fixed or {})
    scenes = tuple(_scene(row, n, f"{name}: {where}") for n, (where, row) in enumerate(rows))
    if count and len(scenes) != count:
        short = f"; missing: {', '.join(map(str, range(len(scenes) + 1, count + 1)))}" if len(scenes) < count else ""
        raise DataError(f"{name}: {len(scenes)} scenes, {count} are wanted{short}; ask the chat model to mend that")
    own = tuple({p: str(row[p]) for p in parts if row.get(p)} for parts, (_, row) in zip(used, rows, strict=True))
    return Script(scenes, said, own)


def write_script(script: Script, file: str | Path) -> Path:
    """Write a script as a CSV that read_script and a spreadsheet can read; columns that nobody uses are left out."""
    parts = sorted(set().union(*script.own)) if script.own else []
    columns = [*COLUMNS, *(name for name in SETTINGS if any(name in s.settings() for s in script.scenes)), *parts]
    own = script.own or ({},) * len(script.scenes)
    with replacing(file) as part, part.open("w", encoding="utf-8-sig", newline="") as stream:
        for name, text in script.fixed.items():
            stream.write(f"# {name}：{text}\n")
        table = csv.DictWriter(stream, columns, restval="", extrasaction="ignore")
        table.writeheader()
        table.writerows(asdict(scene) | dict(words) for scene, words in zip(script.scenes, own, strict=True))
    return Path(file)


def _rows(source: Any) -> tuple[str, list[Row], dict[str, str]]:
    """Name of the source, its rows, and the parts said above them."""
    if hasattr(source, "to_dict") or isinstance(source, list):
        records = source.to_dict("records") if hasattr(source, "to_dict") else source
        return "story", _records(records), {}
    if not str(source).strip():
        raise DataError(f"story: it is empty; give {SHAPES}")
    name, text = ("story", str(source)) if re.search(r"\n|^\s*[\[{]", str(source)) else (str(source), _text(source))
    text = AROUND.sub("", text).translate(FULL_WIDTH)
    for reader in (_json, _markdown, _csv, _list):
        if (found := reader(text, name)) is not None:
            rows, said = found
            shared = {"negative_prompt": _shared(text, said)}
            return name, [(where, row if row.get("negative_prompt") else row | shared) for where, row in rows], said
    raise DataError(f"{name}: no story found in it; give {SHAPES}")


def _shared(text: str, said: Mapping[str, str]) -> str:
    """The negative prompt of all scenes, where it is said once, above or below them."""
    above = next((words for part, words in said.items() if _key(part) == "negative_prompt"), "")
    line = SHARED.search(text)
    return above or (_clean(line[1]) if line else "")


def _text(file: str | Path) -> str:
    try:
        return Path(file).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{file}: no such story; give {SHAPES}") from None
    except UnicodeDecodeError:
        raise DataError(f"{file}: not UTF-8 text; save the table as “CSV UTF-8”") from None
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}; give {SHAPES}") from error


def _json(text: str, name: str) -> tuple[list[Row], dict[str, str]] | None:
    start = re.search(r'[\[{]\s*(\{\s*)?["“]', text)
    if not start:
        return None
    try:
        found, _ = json.JSONDecoder().raw_decode(text, start.start())
    except ValueError as error:
        raise DataError(f"{name}: not whole JSON ({error}); ask the chat model for it again") from error
    said: dict[str, str] = {}
    while isinstance(found, dict):  # {"衣服": "…", "scenes": […]}, {"story": {"scenes": […]}}, {"1": {…}, "2": {…}}
        said |= {key: value for key, value in found.items() if isinstance(value, str)}
        lists = [value for value in found.values() if isinstance(value, list)]
        groups = [value for value in found.values() if isinstance(value, dict)]
        said |= groups[0] if lists and groups else {}
        wraps = len(groups) == 1 and any(isinstance(value, list | dict) for value in groups[0].values())
        found = max(lists, key=len) if lists else groups[0] if wraps else groups
    return _records(found), said


def _records(records: Sequence[Any]) -> list[Row]:
    rows = [row if isinstance(row, Mapping) else {"prompt": row} for row in records]
    return [(f"scene {n}", _named(row, f"scene {n}")) for n, row in enumerate(rows, 1)]


def _markdown(text: str, name: str) -> tuple[list[Row], dict[str, str]] | None:
    lines = text.splitlines()
    rules = [n for n, line in enumerate(lines) if n and RULE.match(line)]
    if not rules:
        return None
    rule = next((n for n in rules if "prompt" in map(_key, _cells(lines[n - 1]))), rules[0])
    header, rows = _cells(lines[rule - 1]), []
    for n, line in enumerate(lines[rule + 1 :], rule + 2):
        if "|" not in line:
            break
        rows.append((f"line {n}", dict(zip(header, _cells(line), strict=False))))
    _check_columns(header, name, rule)
    return [(where, _named(row, f"{name}: {where}")) for where, row in rows], _said(lines[: rule - 1])


def _cells(line: str) -> list[str]:
    inner = re.sub(r"^\s*\||(?<!\\)\|\s*$", "", line)
    return [_clean(cell.replace("\\|", "|")) for cell in re.split(r"(?<!\\)\|", inner)]


def _csv(text: str, name: str) -> tuple[list[Row], dict[str, str]] | None:
    lines = text.splitlines(keepends=True)
    marks = [max(",\t;", key=line.count) for line in lines]
    headers = [[_clean(cell) for cell in line.split(mark)] for line, mark in zip(lines, marks, strict=True)]
    above = next((n for n, header in enumerate(headers) if sum(_key(cell) in NAMES for cell in header) > 1), None)
    if above is None:
        return None
    header, mark = headers[above], marks[above]
    _check_columns(header, name, above + 1)
    rows, reader = [], csv.reader(lines[above + 1 :], delimiter=mark)
    for cells in reader:
        where = f"line {above + 1 + reader.line_num}"
        if any(cell.strip() for cell in cells):
            if len(cells) != len(header):
                raise DataError(
                    f"{name}: {where}: {len(cells)} columns instead of {len(header)}; put text with a comma in quotes"
                )
            rows.append((where, _named(dict(zip(header, cells, strict=True)), f"{name}: {where}")))
    return rows, _said(lines[:above])


def _list(text: str, name: str) -> tuple[list[Row], dict[str, str]] | None:
    lines, rows, numbers, first, open_field = text.splitlines(), [], [0], 0, "prompt"
    for n, line in enumerate(lines):
        head, label = HEAD.match(line), LABEL.match(line)
        number, field = _number(head[1]) if head else 0, _key(label[1]) if label else ""
        if (number == 1 and not rows) or (rows and numbers[-1] < number < numbers[-1] + 9):
            first = n if not rows else first
            numbers.append(number)
            row, open_field = _titled(_clean(head[2])), "prompt"
            rows.append((f"scene {number}", row))
        elif rows and field in NAMES and not (field == "scene" and row.get("scene")):
            row[field] = _clean(label[2])
            open_field = "prompt" if row[field] else field
        elif rows and line.strip() and not row.get(open_field):
            row[open_field] = _clean(line.lstrip(" -*•"))
    if not rows:
        return None
    if gap := sorted(set(range(1, numbers[-1])) - set(numbers)):
        raise DataError(f"{name}: scene {', '.join(map(str, gap))} is missing; ask the chat model for it")
    return rows, _said(lines[:first])


def _titled(text: str) -> dict[str, Any]:
    """What follows a number: `caption：prompt`, `提示词：prompt`, a caption alone, or a prompt alone."""
    parts = TITLED.match(text)
    if parts and _key(parts[1]) in NAMES:
        return {_key(parts[1]): _clean(parts[2])}
    if parts:
        return {"scene": _clean(parts[1]), "prompt": _clean(parts[2])}
    return {"prompt": text} if re.search("[，,]", text) else {"scene": text}


def _said(lines: Sequence[str]) -> dict[str, str]:
    """Parts said once, from the lines above the scenes: `# 衣服：绿色长裙`, `- **衣服** = 绿色长裙`."""
    found = (SAID.match(line.strip().strip('"').rstrip(",;\t")) for line in lines)  # spreadsheets fill up with commas
    return {_clean(match[1]): _clean(match[2]) for match in found if match}


def _check_columns(header: Sequence[str], name: str, line: int) -> None:
    absent = [column for column in COLUMNS[:2] if column not in map(_key, header)]
    if absent:
        raise DataError(f"{name}: line {line}: no column {', '.join(absent)}; the columns are {','.join(COLUMNS)}")


def _named(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The row with our names for its columns; those we do not know stay as they are, but for a slip of the pen."""
    named = {_key(column): value for column, value in reversed(row.items())}  # of two captions the first stays
    for column in named.keys() - NAMES.keys():
        if near := get_close_matches(column, NAMES, 1, 0.8):
            raise DataError(f"{where}: a column is called {column}; is {near[0]} meant?")
    return named


def _key(column: object) -> str:
    plain = re.sub(r"\W+", "_", re.sub("[（(].*", "", str(column)).strip()).strip("_").lower()
    return KNOWN.get(plain, str(column).strip())


def _clean(text: str) -> str:
    """Without Markdown's emphasis, quotes around the whole, and line breaks of a table cell."""
    return re.sub(r"\s*<br\s*/?>\s*", " ", text).strip().strip('*`"“”【】· ').strip()


def _number(text: str) -> int:
    """1 for "1" and for 一; up to 99."""
    if text.isdigit():
        return int(text)
    tens, ten, ones = text.rpartition("十")
    return (DIGITS.index(tens or "一") * 10 if ten else 0) + (DIGITS.index(ones) if ones else 0)


def _figure(text: str, kind: type) -> float:
    """12 for "12" and for 12.0, which pandas makes of it; a seed may have more digits than a float. Or ValueError."""
    try:
        return kind(text)
    except ValueError:
        return int(float(text)) if float(text) % 1 == 0 else float(text)


def _scene(row: Mapping[str, Any], n: int, where: str) -> StoryScene:
    texts = {name: "" if (value := row.get(name)) is None or value != value else str(value).strip() for name in NAMES}
    for name, what in (("prompt", "say what the panel shows"), ("scene", "say what stands under the panel")):
        if name not in row or (name == "prompt" and not texts[name]):
            raise DataError(f"{where}: the {name} is missing; {what}")
    values: dict[str, Any] = {name: text or None for name, text in texts.items() if name in SETTINGS}
    for name, kind in NUMBERS.items():
        try:
            values[name] = _figure(texts[name], kind) if texts[name] else None
        except ValueError:
            raise DataError(f"{where}: {name} {texts[name]!r} is no number") from None
    values["seed"] = n if values["seed"] is None else values["seed"]
    try:
        KSampler(**{name: value for name, value in values.items() if value is not None})
    except KolorsLabError as error:
        raise DataError(f"{where}: {error}") from error
    return StoryScene(texts["scene"], texts["prompt"], texts["negative_prompt"], **values)
