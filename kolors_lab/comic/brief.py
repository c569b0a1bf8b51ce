"""The request that a chat model answers with a story: roles, scenes, fixed parts, what a prompt holds, an example."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from kolors_lab.core.errors import SettingError
from kolors_lab.core.fields import OneOf, check_fields
from kolors_lab.core.files import replacing

DREAM = (
    "女主正在上课；开始睡着了；进入梦乡，梦到自己站在路旁；王子骑马而来；"
    "两人相谈甚欢；一起坐在马背上；下课了，梦醒了；又回到了学习生活中"
)
FORMS = {
    "table": "一张 Markdown 表格，三列依次是：场景、提示词、反向提示词",
    "list": "一个编号列表，每一项写三行：场景：……、提示词：……、反向提示词：……",
    "json": '一个 JSON 数组，每一项有三个键："scene"（场景）、"prompt"（提示词）、"negative_prompt"（反向提示词）',
}


@dataclass(frozen=True)
class BriefConfig:
    """Write the request that you paste into a chat model, which answers with the scenes of a story."""

    scenes: str = DREAM
    """what happens, one scene after the other, with ；or ; between them"""
    style: str = "古风，水墨画"
    """fixed part {画风}: how all panels are painted; begin with your LoRA's trigger word"""
    heroine: str = "一个黑色长发少女"
    """fixed part {女主}: who the story is about, in words that never change"""
    clothes: str = "绿色长裙"
    """fixed part {衣服}: what she wears"""
    negative_prompt: str = "丑陋，变形，嘈杂，模糊，低对比度，扭曲的手指，多余的手指"
    """what no panel should show"""
    answer: Annotated[str, OneOf(FORMS)] = "table"
    """the shape the answer should have: table, list or json; all can be read"""
    out: str | None = None
    """text file to write; without it the request is printed"""

    def __post_init__(self):
        check_fields(self)
        if not self.plot:
            raise SettingError(
                "scenes = {scenes!r}: must say what happens, with ；between the scenes", scenes=self.scenes
            )
        for field in ("style", "heroine", "clothes", "negative_prompt"):
            if not getattr(self, field).strip():
                raise SettingError(
                    "{field} = {value!r}: must not be empty; the prompts repeat it",
                    field=field,
                    value=getattr(self, field),
                )

    @property
    def plot(self) -> list[str]:
        return [scene.strip() for scene in re.split("[；;\n]", self.scenes) if scene.strip()]

    @property
    def fixed(self) -> dict[str, str]:
        """The parts that stay the same, for `read_story(answer, config.fixed)`."""
        return {"画风": self.style, "女主": self.heroine, "衣服": self.clothes}


def story_brief(config: BriefConfig) -> str:
    """The request, in Chinese. The fixed parts stand in it as {画风}, {女主}, {衣服}, for the answer to repeat."""
    plot, n = config.plot, len(config.plot)
    scenes = "\n".join(f"{k}、{scene}" for k, scene in enumerate(plot, 1))
    fixed = "\n".join(f"{part}：{words}" for part, words in config.fixed.items())
    return f"""你是一个文生图专家。我们要用可图（Kolors）画一部连环画：{n} 张场景图片，连起来讲一个完整的故事。
请为每个场景写一条生图提示词。

具体的场景：
{scenes}

固定不变的部分，在提示词里原样写成花括号里的名字，不要换成别的说法：
{fixed}

每条提示词的要求：
1、以 {{画风}} 开头
2、写人物：女主出场就写 {{女主}} 和 {{衣服}}；别的人物也写清长相和衣着，每次用同样的词
3、写景别：根据场景，写全身还是上半身
4、写地点和背景：在哪里，周围有什么
5、写动作和神情：正在做什么，什么心情
6、用中文逗号分成短语，不写句号，不写故事里看不见的东西

反向提示词都以这些开头：{config.negative_prompt}

例子（场景：女主在教室里发呆）：
{{画风}}，{{女主}}，{{衣服}}，坐在教室里，盯着黑板，若有所思，上半身，背景有木质桌椅

请只回答{FORMS[config.answer]}。一共 {n} 个场景，一个不少，顺序不变；场景写成不超过八个字的标题。"""


def brief(config: BriefConfig) -> Path | str:
    """The request for the settings of the command line: the file it was written to, or the text itself."""
    if not config.out:
        return story_brief(config)
    with replacing(config.out) as part:
        part.write_text(story_brief(config) + "\n", encoding="utf-8")
    return Path(config.out)
