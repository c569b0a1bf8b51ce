"""What people and chat models call the parts of a scene, and how they write labels, numbers and emphasis."""

from __future__ import annotations

import html
import re
import unicodedata
from functools import lru_cache

NAMES = {  # our columns, and what else they are called
    "scene": "scene 场景 场景描述 场景名称 场景标题 标题 名称 剧情 分镜 画面 caption title name 图注 配文 小标题 "
    "画面描述 画面内容 剧情描述 情节 内容 描述 description story plot "
    "scene_title scene_name scene_description 画面标题",
    "prompt": "prompt 提示词 正向提示词 正面提示词 正向词 正面词 生图提示词 文生图提示词 图片提示词 positive_prompt "
    "positive 正向 正面 咒语",
    "negative_prompt": "negative_prompt 反向提示词 负向提示词 负面提示词 反向词 负向词 负面词 反向 负面 负向 negative",
    "seed": "seed 种子 随机种子 种子值",
    "steps": "steps 步数 采样步数",
    "cfg": "cfg 提示词引导强度 引导强度 cfg_scale guidance_scale",
    "sampler_name": "sampler_name sampler 采样器 采样方法",
    "scheduler": "scheduler 调度器",
    "width": "width 宽 宽度",
    "height": "height 高 高度",
}
KNOWN = {alias: name for name, aliases in NAMES.items() for alias in aliases.split()}
# 英文提示词, AI绘画提示词, prompt_en: a prompt, or with 反 and 负 a negative one, whatever stands before it
PROMPT = re.compile(
    r"(?:\w{0,20}?)(?:提示词|描述词|prompts?|咒语|(?:生图|绘图|绘画)(?:指令|提示|描述))"
    r"(?:_?(?:zh|cn|en|中文|英文|中|英|chinese|english|text|\d))?"
)
NEGATIVE = re.compile(r"反向|反面|负|negative|neg_")
SHARED = re.compile(r"通用|统一|所有|全部|共用|全局|common|shared|global|every|\ball\b", re.IGNORECASE)
NUMBERING = re.compile(  # columns that only count the scenes
    "序号|编号|镜号|场次|场景号|场景编号|镜头号|镜头编号|分镜号|no|id|index|number|num|scene_(?:number|no|id|num)|panel|"
    "scene_index|shot|shot_(?:number|no|id)|panel_(?:number|no|id)|page|镜头|幕|场景序号|#"
)

ASIDE = r"[（(\[][^（()）\[\]：:]{0,60}[)）\]]"  # of a label, with all that stands in it: 说明（供参考，可不写）：…
LABEL = re.compile(
    rf"^((?:{ASIDE}|[^（(\[：:，,。；;!?！？|{{}}<>“”\"]){{1,40}})[：:](?:[* ]|__?(?=\s))*(.*)$", re.DOTALL
)
# What else stands behind a label: a sign behind any name of ours, a space or another bracket behind 提示词 and prompt
PARTED = re.compile(r"\s*(?:(=>?|->|→|—{1,3}|\s[-–]\s|[|｜]|[】」』])|[\])）》>]|\s)[：:\s]*")
UNMISTAKABLE = re.compile("提示[词詞]|prompt|咒语", re.IGNORECASE)
BRACKETS = re.compile(r"[（(【\[][^（()）【】\[\]]*[)）】\]]")
NUMBERS = ("seed", "steps", "cfg", "width", "height")
# Brackets that a seed stands in: full-width ones anywhere, others only in a caption, since (word:2) weighs words
SET = re.compile(r"\s{0,9}[（【]([^（）【】()\[\]\n]{1,60})[）】]")
SET_IN_CAPTION = re.compile(r"\s{0,9}[（【(\[]([^（）【】()\[\]\n]{1,60})[）】)\]]")
VALUE = re.compile(r"\s*([^\W\d][\w ]{0,20}?)\s?([:：=]?)\s?(-?\d{1,20}(?:\.\d{1,9})?)\s*")
MARKUP = "#>*+•·●○■◆▪-–— \t\u3000"  # what stands before an item or around an emphasised word
AROUND = '*_`"“”【】·「」『』 \t\u3000'
QUOTES = ("“”", "「」", "『』", "【】", '""', "``", "‘’", "''")
EDGES = set("".join(QUOTES))
CITED = re.compile(
    r"\[\^\d{1,2}\^?\]|【\d{1,2}†[^】]{0,40}】|(?:\[\d{1,2}\]){1,9}$"
)  # where a chat model searched the web
ENTITY = re.compile(r"&(?:amp|lt|gt|quot|nbsp|#\d{1,5});")
SIMPLE = str.maketrans(
    "詞負種場鏡畫頭圖張頁話標題內數調採樣寬編號", "词负种场镜画头图张页话标题内数调采样宽编号"
)  # as Taiwan writes the labels
DIGITS = "零一二三四五六七八九"
CHINESE = re.compile(r"(?:([一二三四五六七八九])?(十))?([一二三四五六七八九])?")
ENGLISH = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]


@lru_cache(maxsize=4096)
def key_of(column: str) -> str:
    """Our name for a column or label, "" for one that means nothing here; brackets and a second language are passed.

    `提示词（Prompt）`, `**Positive Prompt / 正向提示词**` and `英文提示词` are all "prompt".
    """
    column = unicodedata.normalize("NFKC", column[:60]).translate(SIMPLE)
    plain = re.sub(r"[\W_]+", "_", BRACKETS.sub("", column)).strip("_").lower()
    plain = re.sub(r"^[\d_]+(?=\D)", "", plain)  # 1.2 提示词
    halves = (plain, re.sub(r"[a-z_]+", "", plain), re.sub(r"[^a-z_]+", "", plain).strip("_"))
    for name in halves:
        if name in KNOWN:
            return KNOWN[name]
    if PROMPT.fullmatch(plain):
        return "negative_prompt" if NEGATIVE.search(plain) else "prompt"
    return ""


def is_numbering(column: str) -> bool:
    """Whether a column only counts the scenes."""
    return bool(NUMBERING.fullmatch(re.sub(r"[\W_]+", "_", clean(column)).strip("_").lower() or "#"))


def label_of(line: str) -> tuple[str, str] | None:
    """(label, what stands behind its colon) of a line that looks like a label, `- **提示词（Prompt）**：…`; or None.

    A colon within brackets is a weight's: `(少女:1.2)，白马` is no label. Behind a name of ours another sign will do:
    `【提示词】…`, `提示词 = …`, `提示词 - …`, `提示词 | …`.
    """
    line = line.lstrip(MARKUP)
    for sign in PARTED.finditer(line[:60]):
        before, behind = line[: sign.start()], line[sign.end() :]
        if re.search("[：:，,]", before):
            break
        known = sign[1] or (UNMISTAKABLE.search(before) and not re.search(r"[：:](?!\s*[\d.])", line))
        if known and behind and key_of(before):
            return before.strip(f"{AROUND}[(（《<"), clean(behind)
    found = LABEL.match(line)
    if not found:
        return None
    name = found[1].strip(AROUND)
    return (name, clean(found[2])) if re.search(r"[^\W\d]", name) and len(BRACKETS.sub("", name)) <= 24 else None


def settings_in(text: str, caption: bool = False) -> tuple[str, dict[str, str]]:
    """A text without the settings in brackets that stand in it, and these: `上课（seed: 41）` is 上课 and a seed of 41.

    A bracket that says anything else stays whole. Only a seed needs no colon: 高3 is a year of school; width and height
    count together alone: 高：3000 is a mountain's.
    """
    found: dict[str, str] = {}

    def take(match: re.Match) -> str:
        said = [VALUE.fullmatch(part) for part in re.split("[，,、;；]", match[1])]
        pairs = [(key_of(value[1]), value) for value in said if value]
        known = [name in NUMBERS and (value[2] or name == "seed") and name not in found for name, value in pairs]
        sides = {"width", "height"} & {name for name, _ in pairs}
        if len(pairs) < len(said) or not all(known) or len(sides) == 1:
            return match[0]
        found.update({name: value[3] for name, value in pairs})
        return ""

    text = (SET_IN_CAPTION if caption else SET).sub(take, text)
    return (text.strip() if found else text), found


def clean(text: str) -> str:
    """Without Markdown's emphasis, quotes around the whole, line breaks of a table cell, and HTML's `&amp;`."""
    text = ENTITY.sub(lambda entity: html.unescape(entity[0]), text).replace("**", "")
    text = re.sub(r"(?<![\w*])\*(\w[^*\n]{0,200})\*(?![\w*])", r"\1", text)
    text = re.sub(r"\s{0,9}<br\s{0,9}/?>\s{0,9}", " ", text)
    return _unquoted(CITED.sub("", re.sub(r"^_([^_]+)_$", r"\1", text.strip())))


def _unquoted(text: str) -> str:
    """Without the quotes around the whole, and one whose other half stands in another line; those within stay."""
    for _nested in range(len(QUOTES)):
        before = text = text.strip("*· \t\u3000")
        if not EDGES & {text[:1], text[-1:]}:
            break
        for opening, closing in QUOTES:
            inner = text[1:-1]
            if len(text) > 1 and text[0] == opening and text[-1] == closing and not {opening, closing} & {*inner}:
                text = inner
            elif opening not in "‘'" and text.count(opening) + text.count(closing) * (opening != closing) == 1:
                text = text.removeprefix(opening).removesuffix(closing)
        if text == before:
            break
    return text


def number_of(text: str) -> int:
    """1 for "1", １, ①, 一 and one; up to 999. 0 for what is no number, such as the name 七七."""
    text = unicodedata.normalize("NFKC", text).lower()
    if text.isascii() and text.isdigit():
        return int(text)
    if text in ENGLISH:
        return ENGLISH.index(text) + 1
    found = CHINESE.fullmatch(text) if text else None
    if not found:
        return 0
    tens, ten, ones = found.groups()
    return (DIGITS.index(tens or "一") * 10 if ten else 0) + (DIGITS.index(ones) if ones else 0)


def only_counts(text: str, n: int) -> bool:
    """Whether a text is nothing but the number of scene `n` (from 1, or counted from 0): that is no caption."""
    return text.strip(AROUND + ".、") in (str(n), str(n - 1), f"{n:02d}")


def joined(before: str, after: str) -> str:
    """A wrapped line put behind the one before it: no space where Chinese or its punctuation meet."""
    space = " " if before[-1:].isascii() and after[:1].isascii() and before[-1:] else ""
    return f"{before}{space}{after}"
