"""Captions for pictures that have none: tags from a word list by Chinese-CLIP, or sentences by an image-to-text model.

    kolors-lab captions FOLDER --tag
    kolors-lab captions FOLDER --tag --tagger Salesforce/blip-image-captioning-base --each 3

They are proposals: captions.csv in the folder is a table to look through, prune and correct; rename it to metadata.csv
(or run with --accept) and training reads it. Reference: zero-shot classification, https://arxiv.org/abs/2103.00020
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from kolors_lab.core.errors import DataError, KolorsLabWarning, ModelError, SettingError
from kolors_lab.core.fields import Range
from kolors_lab.core.files import read_text, write_table
from kolors_lab.core.images import SUFFIXES, open_image
from kolors_lab.core.language import _
from kolors_lab.dataset.captions import CaptionConfig, CaptionsConfig, captions, join, parts, rewrite
from kolors_lab.dataset.folder import CAPTIONS, DRAFT, repeats_of, walk
from kolors_lab.dataset.tables import REPEATS
from kolors_lab.models.loading import quietly
from kolors_lab.models.presets import get_preset, local_path
from kolors_lab.scoring.clip import load_eyes

if TYPE_CHECKING:
    from PIL import Image

    Words = Sequence[Sequence[str]]  # groups of alternatives

READ = "metadata.csv"  # what training reads; what is proposed is a draft
METADATA = (READ, "metadata.jsonl")
SHARPNESS = 100.0  # CLIP's own temperature: cosines times this are the logits of its softmax
GENERAL = (  # groups of alternatives, of which the likeliest is taken; one that begins with - becomes no tag
    "一个女孩、一个男孩、两个人、很多人、一匹马、一只猫、一只狗、-没有人和动物",
    "黑色头发、棕色头发、金色头发、紫色头发、粉色头发、蓝色头发、白色头发、红色头发、-看不见头发",
    "长发、短发、马尾辫、双马尾、-看不见头发",
    "红色衣服、粉色衣服、黄色衣服、绿色衣服、蓝色衣服、紫色衣服、白色衣服、黑色衣服、-看不见衣服",
    "全身、上半身、面部特写、远景",
    "站着、坐着、躺着、奔跑、跳舞、唱歌、看书、-看不出在做什么",
    "微笑、哭泣、生气、惊讶、-没有表情",
    "在房间里、在学校里、在舞台上、在街道上、在树林里、在花园里、在海边、在山上、纯色背景",
    "白天、黄昏、夜晚、-看不出时间",
    "动漫、水墨画、油画、水彩画、素描、照片",
)
WORLD = (  # likewise, in the words of the picture world, the only ones that the tiny preset's Chinese-CLIP knows
    "一个少女、一个王子、一匹白马、王子骑着白马、王子和少女、王子和少女共骑一匹白马",
    "黑色头发、紫色头发、金色头发、红色头发、蓝色头发、-没有少女",
    "短发、齐肩发、长发、-没有少女",
    "绿色裙子、白色裙子、粉色裙子、黑色裙子、红色裙子、蓝色裙子、黄色裙子、-没有少女",
    "书院、桃花林、山野、青山绿水、客厅、演唱会、夜空、练习室、试衣间、舞台",
    "全身、上半身",
    "插画、水墨画、油画、彩铅画、水彩画、剪纸、二次元",
)


@dataclass(frozen=True)
class TaggingConfig(CaptionsConfig):
    """Show what the caption settings would make of a folder's captions; with tag, propose captions for its pictures.

    Args:
        tag: propose captions for pictures, into captions.csv of the folder, with the caption settings applied
        preset: whose Chinese-CLIP looks: tiny, kolors, or a folder
        words: a word list (UTF-8), a group of alternatives on each line, between 、or commas; of each group the
            likeliest word becomes a tag, one that begins with - becomes none; unset: a general list, of the tiny preset
            the words of its picture world
        sure: a tag must be at least so probable among its group
        tagger: in place of a word list: folder or id of an image-to-text model that writes sentences
        each: captions for each picture, the likeliest first
        accept: write them as metadata.csv, which training reads, without looking through them first
    """

    tag: bool = False
    preset: str = "tiny"
    words: str | None = None
    sure: Annotated[float, Range(0, 1)] = 0.4
    tagger: str | None = None
    each: Annotated[int, Range(1, 10)] = 1
    accept: bool = False

    def __post_init__(self):
        super().__post_init__()
        if self.words and self.tagger:
            raise SettingError(
                "tagger = {tagger}: writes sentences of its own; leave words out, or the tagger", tagger=self.tagger
            )
        given = [name for name in ("words", "tagger") if getattr(self, name)] + ["accept"] * self.accept
        if given and not self.tag:
            name, value = given[0], getattr(self, given[0])
            raise SettingError("{name} = {value}: is for proposing captions; add tag", name=name, value=value)


@dataclass(frozen=True)
class Tagged:
    """Proposed captions: (file name from the table's folder, caption) in its order; a picture may have several."""

    rows: list[tuple[str, str]]
    file: Path | None = None
    practice: bool = field(default=False, compare=False)
    """whether the words are those of tiny's own picture world"""
    left_out: int = field(default=0, compare=False)
    """pictures that could not be read"""

    def counts(self) -> list[tuple[str, int]]:
        """Every tag and how many captions hold it, the commonest first: what to prune is seen here."""
        return Counter(tag for _, text in self.rows for tag in parts(text)).most_common()

    def pruned(self, words: Sequence[str]) -> Tagged:
        """The same without these tags."""
        dropped = set(words)
        rows = [(name, join([p for p in parts(text) if p not in dropped], text)) for name, text in self.rows]
        return replace(self, rows=rows)

    def triggered(self, word: str) -> Tagged:
        """The same with the trigger word in front of captions that lack it; as it is for an empty word."""
        if not word:
            return self
        config = CaptionConfig(trigger_word=word, add_trigger=True)
        return replace(self, rows=[(name, rewrite(text, config)) for name, text in self.rows])

    def write(self, file: str | Path) -> Tagged:
        """Write the table as CSV of `file_name,text`, with `repeats` where a folder is called 10_name, as kohya's are.

        DataError where captions lie already: they are yours.
        """
        _check_free(Path(file))
        top, columns, rows = Path(file).parent, ("file_name", "text"), self.rows
        repeats = [repeats_of((top / name).parent, top) for name, _ in rows]
        if set(repeats) - {1}:
            columns, rows = (*columns, REPEATS), [(*row, times) for row, times in zip(rows, repeats, strict=True)]
        return replace(self, file=write_table(file, columns, rows))

    def lines(self) -> list[str]:
        """What the command line prints."""
        lines = [f"{count:5}  {tag}" for tag, count in self.counts()[:40]]
        told = _("{count} captions for {pictures} pictures: {file}")
        lines.append(told.format(count=len(self.rows), pictures=len({name for name, _ in self.rows}), file=self.file))
        if self.left_out:
            lines.append(_("left out: {count} pictures that cannot be read, named above").format(count=self.left_out))
        if self.file.name != READ:
            lines.append(_("look through it, then rename it to {file}").format(file=READ))
        if self.practice:
            ways = "--words, --tagger, --preset kolors"
            told = _("these words are of the drawn world that the tiny preset knows; photographs need one of {ways}")
            lines.append(told.format(ways=ways))
        return lines


def tag_or_show(config: TaggingConfig, on_step: Callable[[int, int], None] | None = None) -> Any:
    """`tag_folder` where the config says tag, else `captions`."""
    return tag_folder(config, on_step) if config.tag else captions(config)


def tag_folder(config: TaggingConfig, on_step: Callable[[int, int], None] | None = None) -> Tagged:
    """Propose captions for the pictures of a folder, and of all within, and write them down; nothing that is there is
    replaced.

    `on_step(done, total)` counts pictures. Warns of each that cannot be read, once the others are written. Raises
    DataError for a folder without pictures or with captions, or where none can be read, FetchError and ModelError for
    the model.
    """
    place, pictures = _pictures(config.folder)
    file = place / (READ if config.accept else DRAFT)
    _check_free(file)
    propose = writer(config.tagger, config.each) if config.tagger else tagger(config, word_groups(config))
    rows, faults = [], []
    for done, picture in enumerate(pictures, 1):
        try:
            image = open_image(picture)
        except DataError as error:
            faults.append(error)
        else:
            name = picture.relative_to(place).as_posix()
            rows += [(name, rewrite(text, config)) for text in propose(image)]
        if on_step:
            on_step(done, len(pictures))
    if not rows:
        raise DataError(
            "{folder}: none of {count} pictures can be read; the first: {fault}",
            folder=config.folder, count=len(pictures), fault=faults[0],
        )  # fmt: skip
    practice = not (config.words or config.tagger) and get_preset(config.preset).practice
    tagged = Tagged(rows, practice=practice, left_out=len(faults)).write(file)
    for fault in faults:
        warnings.warn(KolorsLabWarning("left out: {fault}", fault=fault), stacklevel=2)
    return tagged


def _check_free(file: Path) -> None:
    """DataError where captions lie already: they are yours."""
    if file.exists():
        raise DataError("{file} is there already and may hold your own captions; move it away first", file=file)


def _pictures(folder: str | Path) -> tuple[Path, list[Path]]:
    """Where the table belongs, and the pictures there and in all folders within: the folder, or its `train/` where all
    pictures lie in that. DataError for none and for captions there."""
    top = Path(folder)
    files = [file for _, files in walk(top) for file in files] if top.is_dir() else []
    pictures = [file for file in files if file.suffix.lower() in SUFFIXES]
    if not pictures:
        raise DataError("{folder}: no pictures in it nor in the folders within", folder=folder)
    train = top / "train"
    place = train if all(train in file.parents for file in pictures) else top
    stems = {file.with_suffix("") for file in pictures} | {*pictures}
    told = [file for file in files if file.name in METADATA and place in file.parents]
    told += [file for file in files if file.suffix.lower() in CAPTIONS and file.with_suffix("") in stems]
    if told:
        raise DataError(
            "{file}: the pictures have captions already; move them away to have others proposed", file=told[0]
        )
    for picture in pictures:
        repeats_of(picture.parent, top)  # a name that says never is told before hours of looking
    return place, pictures


def word_groups(config: TaggingConfig) -> list[list[str]]:
    """The groups of the config's word list, or of the built-in one for its preset. Raises DataError."""
    if config.words is None:
        return split_words(WORLD if get_preset(config.preset).practice else GENERAL, "the built-in list")
    return split_words(read_text(config.words).splitlines(), config.words)


def split_words(lines: Sequence[str], name: str) -> list[list[str]]:
    """The groups of a list's lines. DataError names a line that has nothing to choose from."""
    groups = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        group = [word.strip() for word in line.replace("、", ",").replace("，", ",").split(",") if word.strip()]
        if len(group) < 2:
            raise DataError(
                "{name} line {number}: {line!r} has nothing to choose from; add what else it may be, such as {example}",
                name=name,
                number=number,
                line=line,
                example=f"{line.strip()}、-别的",
            )
        groups.append(group)
    if not groups:
        raise DataError("words {name}: is empty; write a group of alternatives on each line", name=name)
    return groups


def choose_tags(chances: Sequence[Sequence[float]], groups: Words, sure: float, each: int = 1) -> list[str]:
    """Captions of tags: the likeliest word of each group, in further ones the next likeliest of the least sure group.

    `chances` are the probabilities of each group's words. Words that begin with - and those less probable than `sure`
    are left out.
    """
    order = [sorted(range(len(group)), key=lambda n, c=c: -c[n]) for group, c in zip(groups, chances, strict=True)]
    doubt = sorted(range(len(groups)), key=lambda g: chances[g][order[g][0]] - chances[g][order[g][1]])
    captions = []
    for n in range(each):
        picked = [ranks[1] if n and g == doubt[(n - 1) % len(groups)] else ranks[0] for g, ranks in enumerate(order)]
        known = [g for g, pick in enumerate(picked) if chances[g][pick] >= sure or (n and g == doubt[n - 1])]
        words = [groups[g][picked[g]] for g in known]
        captions.append("，".join(word for word in words if not word.startswith("-")))
    return list(dict.fromkeys(text for text in captions if text)) or [""]


def tagger(config: TaggingConfig, groups: Words) -> Callable[[Image.Image], list[str]]:
    """A function from a picture to captions of tags. FetchError, ModelError for the preset's Chinese-CLIP."""
    eyes = load_eyes(get_preset(config.preset))
    read = [eyes.read([word.removeprefix("-") for word in group]) for group in groups]

    def propose(image: Image.Image) -> list[str]:
        seen = eyes.see([image])
        chances = [(SHARPNESS * seen @ texts.T).softmax(-1)[0].tolist() for texts in read]
        return choose_tags(chances, groups, config.sure, config.each)

    return propose


def writer(name: str, each: int = 1) -> Callable[[Image.Image], list[str]]:
    """A function from a picture to sentences by an image-to-text model of transformers, folder or id.

    The first is its likeliest, further ones come from the same beam search. FetchError, ModelError.
    """
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    folder = local_path(name)
    try:
        with quietly():
            model = AutoModelForImageTextToText.from_pretrained(folder).float().eval()
            processor = AutoProcessor.from_pretrained(folder)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise ModelError(
            "tagger {name}: no image-to-text model can be loaded from it ({error})", name=name, error=error
        ) from error

    def propose(image: Image.Image) -> list[str]:
        inputs = processor(images=image.convert("RGB"), return_tensors="pt")
        with torch.no_grad():
            found = model.generate(**inputs, num_beams=max(3, each), num_return_sequences=each, max_new_tokens=60)
        texts = processor.batch_decode(found, skip_special_tokens=True)
        return list(dict.fromkeys(text.strip() for text in texts))

    return propose
