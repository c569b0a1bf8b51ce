"""A script: a story's scenes as a table, read from what people write and what chat models answer.

CSV, Markdown table, numbered list, JSON, YAML or DataFrame. Parts that stay the same are said once, in lines such as
`衣服：绿色长裙` above the scenes, and stand in the prompts as {衣服}; a column of that name changes one for a scene.

    kolors-lab story check answer.txt
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from kolors_lab.comic.answers import read_answer, shapes
from kolors_lab.comic.listing import LONG
from kolors_lab.comic.rows import Answer, place, settle, take_records
from kolors_lab.comic.words import NAMES, key_of, label_of
from kolors_lab.core.errors import DataError, KolorsLabError, KolorsLabWarning
from kolors_lab.core.fields import Range, check_fields
from kolors_lab.core.files import read_text, write_table
from kolors_lab.core.language import _
from kolors_lab.sampling.ksampler import KSampler

if TYPE_CHECKING:
    from pandas import DataFrame

COLUMNS = ("scene", "prompt", "negative_prompt", "seed")
NUMBERS = {"seed": int, "steps": int, "width": int, "height": int, "cfg": float}
SETTINGS = ("steps", "cfg", "width", "height", "sampler_name", "scheduler")  # a scene may have its own
INNER = re.compile(  # what looks like a label within a prompt
    r"[\s，,。；;（(|【「\[]([^\W\d][\w ]{0,24})\s?[：:=】」]|((?:反向|负向|负面)提示词|negative[ _]prompt)",
    re.IGNORECASE,
)
# Midjourney's --ar 1:1, with the dash that a word processor makes of it
OPTION = re.compile(r"(?<![\w-])(?:--|[—–]{1,2}(?=(?:ar|no|niji|v|s|q) ))[a-z]{1,12}(?=[\s=:\d]|$)", re.ASCII)
PART = re.compile(r"\{([^{}|]+)\}")  # {衣服}; {a|b} is a choice of the prompt's own
LIKE_PART = re.compile(r"\{{1,2}([^{}|]+)\}{1,2}|[【\[<《]([^【】\[\]<>《》|:：]+)[】\]>》]")  # {{衣服}}, 【衣服】


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
    """Scenes whose prompts may hold {parts}, and what each part says; `own` has a scene's own parts.

    `unused` names what was read and means nothing here (columns, labels, parts that no prompt holds), `prose` the lines
    around the scenes, `told` what was told apart by a rule that its writer may not know.
    """

    scenes: tuple[StoryScene, ...]
    fixed: Mapping[str, str]
    own: tuple[Mapping[str, str], ...] = ()
    unused: tuple[str, ...] = field(default=(), compare=False)
    prose: tuple[str, ...] = field(default=(), compare=False)
    told: tuple[str, ...] = field(default=(), compare=False)

    def filled(self) -> list[StoryScene]:
        """The scenes with every {part} said in full. DataError names a part that nobody has said."""
        own = self.own or ({},) * len(self.scenes)
        return [_fill(scene, n, {**self.fixed, **own[n - 1]}) for n, scene in enumerate(self.scenes, 1)]


def _fill(scene: StoryScene, n: int, parts: Mapping[str, str]) -> StoryScene:
    def said(match: re.Match) -> str:
        if match[1] not in parts:
            raise DataError(
                "scene {n}: nobody says what {part} is; write a line {name}：… above the scenes",
                n=n,
                part=match[0],
                name=match[1],
            )
        return parts[match[1]]

    prompt, negative = (PART.sub(said, text) for text in (scene.prompt, scene.negative_prompt))
    return replace(scene, prompt=prompt, negative_prompt=negative)


def read_story(
    source: str | Path | DataFrame | Sequence[dict], fixed: Mapping[str, str] | None = None, count: int | None = None
) -> list[StoryScene]:
    """The scenes of a story in their order, fixed parts filled in: `read_script(...).filled()`.

    Warns, in one KolorsLabWarning each, of what was read and not used, and of how a table was told apart.
    """
    script = read_script(source, fixed, count)
    if script.told:
        warning = KolorsLabWarning("story: {what}; `kolors-lab story check` shows all", what=", ".join(script.told[:3]))
        warnings.warn(warning, stacklevel=2)
    if script.unused:
        count = len(script.unused) - 5
        what = ", ".join(script.unused[:5]) + (_(" and {count} more").format(count=count) if count > 0 else "")
        warning = KolorsLabWarning("story: not used: {what}; `kolors-lab story check` shows all", what=what)
        warnings.warn(warning, stacklevel=2)
    return script.filled()


def read_script(
    source: str | Path | DataFrame | Sequence[dict], fixed: Mapping[str, str] | None = None, count: int | None = None
) -> Script:
    """The script in a file, in a text (of more than one line), or in a DataFrame or a list of dicts.

    `fixed` says parts anew: {"衣服": "红色长裙"} changes the dress in every scene. Without a seed, scene n gets n - 1.
    DataError names file, line or scene and what is missing there; `count` tells how many scenes there should be.
    """
    name, answer = _answer(source)
    if not answer.rows:
        raise DataError("{name}: it has no scenes; give {shapes}", name=name, shapes=shapes())
    answer.rows = [(where, _braced(row, {*answer.said, *(fixed or {})})) for where, row in settle(answer.rows, name)]
    used = [set(PART.findall(f"{row.get('prompt')}{row.get('negative_prompt')}")) for _, row in answer.rows]
    needed = set().union(*used)
    for part in fixed or {}:
        if part not in needed:
            raise DataError(
                "{name}: no prompt holds {{{part}}}; write it where the words of {part} belong", name=name, part=part
            )
    said = {part: text for part, text in answer.said.items() if part in needed} | dict(fixed or {})
    scenes = tuple(_scene(row, n, place(name, where)) for n, (where, row) in enumerate(answer.rows))
    if count and len(scenes) != count:
        numbers = _(", ").join(map(str, range(len(scenes) + 1, count + 1)))
        raise DataError(
            "{name}: {count} scenes, {wanted} are wanted{short}; mend that (or, if a chat model wrote this, ask it to)",
            name=name,
            count=len(scenes),
            wanted=count,
            short=_("; missing: {numbers}").format(numbers=numbers) if numbers else "",
        )
    own = tuple({p: row[p] for p in parts if row.get(p)} for parts, (_, row) in zip(used, answer.rows, strict=True))
    return Script(scenes, said, own, tuple(_unused(answer, needed)), tuple(answer.prose), tuple(answer.told))


def _braced(row: dict[str, str], parts: set[str]) -> dict[str, str]:
    """A row whose prompts hold known parts as {衣服}, where they stood as {{衣服}}, 【衣服】, [衣服] or <衣服>."""

    def written(match: re.Match) -> str:
        name = (match[1] or match[2]).strip()
        return f"{{{name}}}" if name in known else match[0]

    known = parts | {column for column in row if column not in NAMES}
    return row | {name: LIKE_PART.sub(written, row[name]) for name in LONG if name in row}


def _unused(answer: Answer, needed: set[str]) -> list[str]:
    """What was said and no prompt holds, columns that mean nothing here, and what the reader passed over."""
    parts = [f"“{part}：{text[:20]}”" for part, text in answer.said.items() if part not in needed and not key_of(part)]
    columns = dict.fromkeys(column for _, row in answer.rows for column in row if column not in {*NAMES, *needed})
    return [*parts, *(f"“{column}”" for column in columns), *answer.unused]


def write_script(script: Script, file: str | Path) -> Path:
    """Write a script as a CSV that read_script and a spreadsheet can read; columns that nobody uses are left out."""
    parts = sorted(set().union(*script.own)) if script.own else []
    columns = [*COLUMNS, *(name for name in SETTINGS if any(name in s.settings() for s in script.scenes)), *parts]
    own = script.own or ({},) * len(script.scenes)
    rows = [asdict(scene) | dict(words) for scene, words in zip(script.scenes, own, strict=True)]
    above = [f"# {name}：{text}" for name, text in script.fixed.items()]
    return write_table(file, columns, ([row.get(column) for column in columns] for row in rows), above)


def _answer(source: Any) -> tuple[str, Answer]:
    """Name of the source and what stands in it."""
    if hasattr(source, "to_dict") or isinstance(source, list):
        answer = Answer([])
        take_records(answer, source.to_dict("records") if hasattr(source, "to_dict") else source)
        return "story", answer
    text = str(source)
    if not text.strip():
        raise DataError("story: it is empty; give {shapes}", shapes=shapes())
    if "\n" in text or text.lstrip()[:1] in ("[", "{"):
        return "story", read_answer(text, "story")
    return text, read_answer(read_text(text, _("no such story; give {shapes}").format(shapes=shapes())), text)


def _figure(text: str, kind: type) -> float:
    """12 for "12" and for 12.0, which pandas makes of it; a seed may have more digits than a float. Or ValueError."""
    try:
        return kind(text)
    except ValueError:
        return int(float(text)) if float(text) % 1 == 0 else float(text)


def _scene(row: Mapping[str, str], n: int, where: str) -> StoryScene:
    texts = {name: row.get(name, "").strip() for name in NAMES}
    if not texts["prompt"]:
        raise DataError("{where}: the prompt is missing; say what the panel shows", where=where)
    if "scene" not in row:
        raise DataError("{where}: the scene is missing; say what stands under the panel", where=where)
    _check_foreign(texts["prompt"], where)
    values: dict[str, Any] = {name: text or None for name, text in texts.items() if name in SETTINGS}
    for name, kind in NUMBERS.items():
        try:
            values[name] = _figure(texts[name], kind) if texts[name] else None
        except (ValueError, OverflowError):
            raise DataError(
                "{where}: {name} {value!r} is no number", where=where, name=name, value=texts[name][:40]
            ) from None
    values["seed"] = n if values["seed"] is None else values["seed"]
    try:
        KSampler(**{name: value for name, value in values.items() if value is not None})
    except KolorsLabError as error:
        raise DataError("{where}: {error}", where=where, error=error) from error
    return StoryScene(texts["scene"], texts["prompt"], texts["negative_prompt"], **values)


def _check_foreign(prompt: str, where: str) -> None:
    """DataError for what is no part of a prompt: a label before it or within, and options of another program."""
    label = label_of(prompt)
    if label and key_of(label[0]):
        raise DataError(
            "{where}: the prompt begins with the label “{label}”; leave the label out of it",
            where=where,
            label=label[0],
        )
    if inner := next((name for found in INNER.finditer(prompt) if key_of(name := found[1] or found[2]) in LONG), None):
        raise DataError(
            "{where}: the prompt holds the label “{label}”; what follows it goes into a line or column of its own",
            where=where,
            label=inner,
        )
    if option := OPTION.search(prompt):
        raise DataError(
            "{where}: “{option}” is an option of another program; "
            "say what it says in a column: negative_prompt, width, …",
            where=where,
            option=option[0],
        )


@dataclass(frozen=True)
class StoryCheckConfig:
    """Print a story as it is understood, scene by scene, and what in it is not used; nothing is drawn.

    Args:
        file: the story: CSV, Markdown, JSON, YAML, a numbered list, or a chat model's answer pasted into a text file
        count: how many scenes there must be; without it any number will do
    """

    file: str
    count: Annotated[int | None, Range(1, 64)] = None

    def __post_init__(self):
        check_fields(self)


def story_check(config: StoryCheckConfig) -> list[str]:
    """The lines of that table. Raises DataError for a story that cannot be understood."""
    script = read_script(Path(config.file), count=config.count)
    lines = []
    for n, scene in enumerate(script.filled(), 1):
        settings = {"seed": scene.seed} | scene.settings()
        lines.append(f"{n}  {scene.scene or _('(no caption)')}  · {', '.join(f'{k} {v}' for k, v in settings.items())}")
        lines += [f"   + {scene.prompt}", *([f"   − {scene.negative_prompt}"] if scene.negative_prompt else [])]
    lines += script.told
    lines += [_("not used: {what}").format(what=what) for what in script.unused]
    lines += [_("around the scenes: {line}").format(line=line) for line in script.prose]
    return [*lines, _("{count} scenes").format(count=len(script.scenes))]
