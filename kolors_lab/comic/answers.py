"""A story's text, as people write it and chat models answer it → rows of named texts, and what was passed over.

The shapes, in the order in which they are tried: JSON and YAML (`nested`), Markdown tables and CSV (`tabular`), a
numbered list (`listing`).
"""

from __future__ import annotations

import contextlib
import re

from kolors_lab.comic.listing import label_at, one, read_list
from kolors_lab.comic.nested import read_json, read_yaml
from kolors_lab.comic.rows import Answer, place, said, take_settings
from kolors_lab.comic.tabular import read_csv, read_markdown
from kolors_lab.comic.words import MARKUP, SHARED, clean, key_of
from kolors_lab.core.errors import DataError
from kolors_lab.core.language import _

LONGEST, LONGEST_LINE, MOST = 1 << 20, 50_000, 1000  # characters of a text and of a line, scenes
THOUGHT = re.compile(r"</think(?:ing)?>", re.IGNORECASE)  # its opening tag may be missing
FENCE = re.compile(r"^[ \t>]{0,9}(?:```|~~~).*$\n?", re.MULTILINE)
FULL_WIDTH = str.maketrans("｛｝｜", "{}|")


def shapes() -> str:
    """The shapes that a story may have."""
    return _(
        "a table (CSV or Markdown) with the columns scene,prompt,negative_prompt,seed, a numbered list, JSON or YAML"
    )


def read_answer(text: str, name: str) -> Answer:
    """The rows of a story's text. DataError, naming the line, for what is not understood or too much."""
    if len(text) > LONGEST:
        raise DataError(
            "{name}: {count} characters; a story has at most {most}", name=name, count=len(text), most=LONGEST
        )
    text = _without_thoughts(text, name).translate(FULL_WIDTH)
    for n, line in enumerate(text.splitlines(), 1):
        if len(line) > LONGEST_LINE:
            raise DataError(
                "{name}: line {n}: {count} characters; a line has at most {most}",
                name=name,
                n=n,
                count=len(line),
                most=LONGEST_LINE,
            )
    for reader in (read_json, read_yaml, read_markdown, read_csv, _list):
        if (answer := reader(text, name)) is not None:
            if len(answer.rows) > MOST:
                raise DataError(
                    "{name}: {count} scenes; a story has at most {most}", name=name, count=len(answer.rows), most=MOST
                )
            _check_alone(answer, name)
            _share(answer, text)
            return answer
    raise DataError("{name}: no story found in it; give {shapes}", name=name, shapes=shapes())


def _without_thoughts(text: str, name: str) -> str:
    """Without a <think> block and the fences of code; line numbers stay."""
    for last in list(THOUGHT.finditer(text))[-1:]:
        text = "\n" * text.count("\n", 0, last.end()) + text[last.end() :]
    if re.search("<think(?:ing)?>", text, re.IGNORECASE):
        raise DataError(
            "{name}: the chat model was still thinking when its answer ended; ask for the answer again", name=name
        )
    return FENCE.sub(lambda fence: "\n" * fence[0].count("\n"), text)


def _check_alone(answer: Answer, name: str) -> None:
    """DataError where the text around the rows tells a story, too: a table, a list with labels, a longer list."""
    other = None
    with contextlib.suppress(DataError):  # what cannot be read is prose
        if table := read_markdown(answer.rest, name):
            other = table.rows[0][0]
        elif found := read_list(answer.rest, name):
            scenes = found[0]
            more = scenes[0].labelled or len(scenes) > len(answer.rows)
            other = _("line {n}").format(n=scenes[0].line) if more else None
    if other:
        raise DataError(
            "{name}: the scenes from {other} on stand beside others; {hint}", name=name, other=other, hint=one()
        )


def _share(answer: Answer, text: str) -> None:
    """Give every row without one the negative prompt that is said once for all, above or below the scenes."""
    above = next((words for part, words in answer.said.items() if key_of(part) == "negative_prompt"), "")
    lines = text.splitlines()
    for n, line in enumerate(lines):
        label = label_at(line)
        if not above and label and SHARED.search(label[0]) and key_of(label[0]) == "negative_prompt":
            above = label[1] or next(
                (clean(words.strip(MARKUP)) for words in lines[n + 1 :] if words.strip(MARKUP)), ""
            )
    for _where, row in answer.rows:
        if above and not row.get("negative_prompt"):
            row["negative_prompt"] = above


def _list(text: str, name: str) -> Answer | None:
    found = read_list(text, name)
    if not found:
        return None
    scenes, above, behind = found
    answer = Answer([], *said(text.splitlines()[:above]))
    for scene in scenes:
        row = {"scene": ""} | scene.row if scene.labelled else scene.row
        where = _("scene {n}").format(n=scene.number)
        take_settings(row, place(name, where))
        answer.rows.append((where, row))
        answer.unused += scene.unused
    answer.prose += behind
    return answer
