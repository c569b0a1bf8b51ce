"""One-call checks of the notebooks' exercises: what is still missing, in a learner's words, Chinese and English."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kolors_lab.challenge.check import PANELS, missing
from kolors_lab.comfy.graph import Graph, faults
from kolors_lab.comic.script import StoryScene, read_script, read_story
from kolors_lab.core.errors import DataError, ModelError
from kolors_lab.core.images import open_image
from kolors_lab.dataset.captions import parts
from kolors_lab.dataset.folder import read_examples
from kolors_lab.dataset.measures import distance, perceptual_hash, sharpness
from kolors_lab.lora.arithmetic import mix
from kolors_lab.lora.reading import open_lora, read_lora
from kolors_lab.sampling.control import edge_f1
from kolors_lab.scoring.clip import classify

if TYPE_CHECKING:
    from PIL import Image

    from kolors_lab.models.presets import Preset
    from kolors_lab.scoring.likeness import Series
    from kolors_lab.scoring.tagging import Tagged
    from kolors_lab.training.config import TrainConfig

FRAMINGS = ("全身", "半身", "特写", "侧面", "近景", "远景")
STYLES = ("插画", "水墨画", "油画", "彩铅画", "水彩画", "剪纸", "二次元")
NO_HERO = ("", "全身", "上半身", "半身", "特写", "古风", "水墨画", "动漫", "日系动漫", "高清")


class Verdict(str):
    """Text that a notebook shows as it is, without quotes; empty faults make it say well done."""

    __slots__ = ()

    def __new__(cls, faults: Sequence[str]):
        lines = [f"{n}. {fault}" for n, fault in enumerate(faults, 1)]
        return super().__new__(cls, "\n".join(["还差一点 Not yet:", *lines]) if lines else "做对了！ Well done.")

    def __repr__(self) -> str:
        return str(self)


def check_seen(file: str | Path, preset: Preset, who: str, place: str) -> Verdict:
    """Notebook 00: a picture that shows `who` at `place`, as the classifier names them; where there is none, by eye."""
    if not preset.classifier:
        return Verdict([f"这里没有分类器，用眼睛看 no classifier here, look yourself: {who}, {place}?"])
    try:
        [seen] = classify([open_image(file)], preset)
    except DataError as error:
        return Verdict([f"图打不开 the picture cannot be opened: {error}"])
    return Verdict(
        [
            f"画里看到的是 {seen[what]}，要 {wanted} the picture shows {seen[what]}, not {wanted}: 换个说法或种子 "
            "say it another way, or take another seed"
            for what, wanted in (("who", who), ("place", place))
            if seen[what] != wanted
        ]
    )


def check_story(file: str | Path, trigger: str = "二次元") -> Verdict:
    """Notebook 01: a story to hand in: eight scenes, each with caption, trigger word and negative prompt, one hero."""
    try:
        scenes = read_story(file)
    except DataError as error:
        return Verdict([f"故事读不出来 the story cannot be read: {error}"])
    faults = []
    if len(scenes) < PANELS:
        faults.append(f"只有 {len(scenes)} 格，至少要 {PANELS} 格 {len(scenes)} scenes, at least {PANELS} are needed")
    for n, scene in enumerate(scenes, 1):
        faults += _scene_faults(n, scene, trigger)
    if len({scene.prompt for scene in scenes}) < len(scenes):
        faults.append("有两格的提示词一样 two scenes have the same prompt")
    if not _hero(scenes, trigger):
        faults.append(
            "没有哪个说主角的词组在多数格里重复：画出来会像不同的人 no words for the hero recur in most of the scenes: "
            "they would show different people"
        )
    return Verdict(faults)


def _scene_faults(n: int, scene: StoryScene, trigger: str) -> list[str]:
    faults = {
        f"第 {n} 格没有标题 scene {n} has no caption": not scene.scene,
        f"第 {n} 格缺少触发词“{trigger}” scene {n} lacks the trigger word {trigger}": trigger not in scene.prompt,
        f"第 {n} 格没有反向提示词 scene {n} has no negative prompt": not scene.negative_prompt,
    }
    return [fault for fault, here in faults.items() if here]


def _hero(scenes: Sequence[StoryScene], trigger: str) -> str:
    """The phrase between commas that most prompts share and that is no word for style or framing; "" if none."""
    phrases: Counter[str] = Counter()
    for scene in scenes:
        phrases.update({part.strip() for part in re.split("[，,、。；]", scene.prompt)} - {trigger, *NO_HERO})
    [(phrase, count)] = phrases.most_common(1) or [("", 0)]
    return phrase if count > len(scenes) / 2 else ""


def check_script(text: str, parts: int = 3) -> Verdict:
    """Notebook 03: eight scenes with caption and framing; `parts` fixed parts, said once and used by half of them."""
    try:
        script = read_script(text)
        scenes = script.filled()
    except DataError as error:
        return Verdict([f"故事读不出来 the story cannot be read: {error}"])
    faults = []
    if len(scenes) < PANELS:
        faults.append(f"只有 {len(scenes)} 格，至少要 {PANELS} 格 {len(scenes)} scenes, at least {PANELS} are needed")
    if len(script.fixed) < parts:
        faults.append(
            f"只有 {len(script.fixed)} 个固定部分，要 {parts} 个 {len(script.fixed)} fixed parts, not {parts}"
        )
    for name, words in script.fixed.items():
        if sum(f"{{{name}}}" in scene.prompt for scene in script.scenes) < len(scenes) / 2:
            faults.append(f"用到 {{{name}}} 的不到一半 {{{name}}} is in fewer than half of the prompts")
        if any(words in scene.prompt for scene in script.scenes):
            faults.append(f"“{words}”又写了一遍，应写 {{{name}}} {words} is said again; write {{{name}}}")
    for n, scene in enumerate(scenes, 1):
        if not scene.scene:
            faults.append(f"第 {n} 格没有标题 scene {n} has no caption")
        if not any(word in scene.prompt for word in FRAMINGS):
            faults.append(f"第 {n} 格没写景别 scene {n} does not say 全身 or 上半身")
    return Verdict(faults)


def check_set(
    folder: str | Path, min_size: int, min_ratio: float, max_ratio: float, trigger: str = "二次元", at_least: int = 20
) -> Verdict:
    """Notebook 02: `at_least` pictures within the limits, sharp, no two alike, each caption with the trigger word."""
    try:
        examples = read_examples(folder)
        images = [open_image(example.image) for example in examples]
    except DataError as error:
        return Verdict([f"这一套读不出来 the set cannot be read: {error}"])
    hashes = [perceptual_hash(image) for image in images]
    broken = {
        f"有一边不到 {min_size} 像素 have a side under {min_size} px": [min(i.size) < min_size for i in images],
        f"宽高比不在 {min_ratio} 到 {max_ratio} 之间 have an aspect ratio outside {min_ratio} to {max_ratio}": [
            not min_ratio <= i.width / i.height <= max_ratio for i in images
        ],
        "是糊的 are blurred": [sharpness(image, min_size) < 100 for image in images],
        "和前面的某一张几乎一样 are nearly the same as an earlier one": [
            any(distance(code, other) <= 12 for other in hashes[:n]) for n, code in enumerate(hashes)
        ],
        f"的描述里没有“{trigger}” have a caption without {trigger}": [trigger not in e.text for e in examples],
    }
    faults = [
        f"{sum(marks)} 张{words}: {examples[marks.index(True)].image.name}"
        for words, marks in broken.items()
        if any(marks)
    ]
    if len(examples) < at_least:
        faults.append(
            f"只有 {len(examples)} 张，至少要 {at_least} 张 {len(examples)} pictures, at least {at_least} are needed"
        )
    return Verdict(faults)


def check_tags(mine: Tagged, drafted: Tagged, trigger: str) -> Verdict:
    """Notebook 02: no word for a style is left but the trigger word, in front of each caption; all else is left."""
    faults = []
    if trigger != "二次元":
        faults.append("触发词应该是“二次元” the trigger word should be 二次元")
    words = [parts(text) for _, text in mine.rows]
    late = [name for (name, _), tags in zip(mine.rows, words, strict=True) if tags[:1] != [trigger]]
    if trigger and late:
        faults.append(f"触发词不在最前面 the trigger word is not in front: {late[0]}")
    left = sorted({tag for tags in words for tag in tags[bool(trigger) :] if tag in STYLES})
    if left:
        faults.append(
            f"还留着画风的词，它们会从触发词那里分走画风 words for styles are left, "
            f"and would share the style with the trigger word: {'、'.join(left)}"
        )
    gone = sorted(
        {tag for _, text in drafted.rows for tag in parts(text)} - {tag for tags in words for tag in tags} - {*STYLES}
    )
    if gone:
        faults.append(
            f"不写出来的内容会被记到触发词头上 what is left unsaid is put down to the trigger word: {'、'.join(gone)}"
        )
    return Verdict(faults)


def check_wired(graph: Graph) -> Verdict:
    """Notebook 05: kijai's nodes with a LoRA that the sampler really draws with."""
    if found := faults(graph):
        return Verdict([f"这个工作流跑不起来 this workflow cannot run: {found[0]}"])
    kinds = {node["class_type"]: key for key, node in graph.items()}
    if not {"LoadKolorsLoRA", "KolorsSampler"} <= kinds.keys():
        return Verdict(["要有 LoadKolorsLoRA 和 KolorsSampler it needs LoadKolorsLoRA and KolorsSampler"])
    lora, sampler = kinds["LoadKolorsLoRA"], graph[kinds["KolorsSampler"]]["inputs"]
    source = sampler["kolors_model"][0]
    if source == lora:
        return Verdict([])
    return Verdict(
        [
            f"采样器的 kolors_model 来自节点 {source}，绕过了 LoRA（节点 {lora}）：能跑，但 LoRA 不起作用 "
            f"the sampler takes kolors_model from node {source}, past the LoRA (node {lora}): "
            "it runs, and the LoRA does nothing"
        ]
    )


def check_lora(
    file: str | Path, parts: Sequence[tuple[str | Path, float]], rank: int, form: str = "kohya/ComfyUI"
) -> Verdict:
    """Notebook 06: a LoRA file of `form` and at most `rank`, with the effect of the weighted `parts` at that rank."""
    try:
        found, lora, *_ = open_lora(file)
    except ModelError as error:
        return Verdict([f"LoRA 读不出来 the LoRA cannot be read: {error}"])
    wanted = mix([(read_lora(part), weight) for part, weight in parts], rank)
    faults = []
    if found != form:
        faults.append(f"文件是 {found} 的格式，要 {form} 的 the file is in the format of {found}, not of {form}")
    if (highest := max(layer.rank for layer in lora.layers.values())) > rank:
        faults.append(f"秩是 {highest}，最多 {rank} the rank is {highest}, it should be at most {rank}")
    if set(lora.layers) != set(wanted.layers):
        return Verdict([*faults, "层不一样：不是由那几个 LoRA 合成的 other layers: it was not mixed of those LoRAs"])
    apart = sum((lora.layers[name].delta() - layer.delta()).norm() for name, layer in wanted.layers.items())
    if apart > 0.05 * sum(layer.delta().norm() for layer in wanted.layers.values()):
        faults.append("作用和要求的不一样，看看权重和正负号 its effect is not the one wanted: mind weights and signs")
    return Verdict(faults)


def check_placed(image: Image.Image, lines: Image.Image, preset: Preset, place: str, least: float) -> Verdict:
    """Notebook 12: a picture whose edges are the lines to an F1 of `least`, at the place that the classifier names."""
    faults, f1 = [], edge_f1(image, lines)
    if not f1 >= least:
        faults.append(
            f"边缘 F1 是 {f1:.2f}，至少要 {least:.2f}：加强度，或者晚点结束 edge F1 is {f1:.2f}, at least {least:.2f} "
            "is wanted: more strength, or a later end"
        )
    if not preset.classifier:
        return Verdict([*faults, f"这里没有分类器，用眼睛看 no classifier here, look yourself: {place}?"])
    [seen] = classify([image], preset)
    if seen["place"] != place:
        faults.append(
            f"地方看起来是 {seen['place']}，要 {place}：改提示词；还不行就减强度，或者早点结束 the place seems to be "
            f"{seen['place']}, not {place}: change the prompt; or less strength, or an earlier end"
        )
    return Verdict(faults)


def check_subject(captions: Sequence[str], config: TrainConfig, its_own: Sequence[str]) -> Verdict:
    """Notebook 08: captions that call a subject by identifier and class word alone, and prior preservation on."""
    name = config.trigger_word + config.class_word
    faults = {
        "先验保持没有打开：给出 class_word，prior_weight 大于 0 "
        "prior preservation is off: give class_word and a prior_weight above 0": not (
            config.class_word and config.prior_weight
        ),
        "没有标识词：给出 trigger_word there is no identifier: give trigger_word": not config.trigger_word,
        "至少要三句描述 at least three captions": len(captions) < 3,
    }
    for caption in captions:
        said = [word for word in its_own if word in caption]
        faults[f"“{caption}”：没有“{name}” without {name}"] = name not in caption
        faults[f"“{caption}”：写了角色自己的 says what is the subject's own: {', '.join(said)}"] = bool(said)
        faults[f"“{caption}”：只有名字，没说在哪里 only names it, and not where it is"] = caption.strip() == name
    return Verdict([fault for fault, here in faults.items() if here])


def check_handed_in(folder: str | Path) -> Verdict:
    """Notebook 11: a submission in which nothing is missing but the challenge's own score."""
    return Verdict([line for line in missing(folder) if not line.startswith("score: 练习分")])


def check_post(post: str, team: str, trigger: str) -> Verdict:
    """Notebook 14: a post with team, link to the model, trigger word, the AI label and the source of the pictures."""
    link, source = r"https://(www\.)?modelscope\.cn/models/\S+/\S+", "训练(图|集|数据)"
    faults = {
        f"没有队名 {team} the team's name is missing: nobody knows whose it is": team not in post,
        "没有模型链接 https://modelscope.cn/models/… no link to the model": not re.search(link, post),
        f"没有触发词 {trigger} the trigger word is missing: nobody can call the style": trigger not in post,
        "没有说图片由 AI 生成 it does not say that the pictures are AI-generated": not re.search("AI|人工智能", post),
        "没有说训练图从哪里来 it does not say where training pictures come from": not re.search(source, post),
    }
    return Verdict([fault for fault, here in faults.items() if here])


def check_consistency(told: Mapping[float, Series], fits: Mapping[float, float], chosen: float) -> Verdict:
    """Notebook 13: of the consistencies tried the one of the highest heroine's likeness that costs neither prompt fit
    (2 % at most) nor raises the alarm; 0 where none is better than that."""
    if chosen not in told:
        return Verdict([f"先选一个 choose one of: {', '.join(f'{one:g}' for one in told)}"])
    fit = [one for one in told if fits[one] >= 0.98 * fits[0] and not told[one].alarm]
    best = max((one for one in fit if told[one].heroine > told[0].heroine), key=lambda c: told[c].heroine, default=0)
    if chosen == best:
        return Verdict([])
    if told[chosen].alarm:
        return Verdict(
            [f"{chosen:g} 拉响了复制警报：八张几乎是一张 {chosen:g} raises the copy alarm: nearly one picture"]
        )
    if chosen not in fit:
        lost = 1 - fits[chosen] / fits[0]
        return Verdict(
            [f"{chosen:g} 让图文相符掉了 {lost:.1%}，超过 2 % {chosen:g} costs {lost:.1%} of the prompt fit, over 2 %"]
        )
    return Verdict([f"{chosen:g} 合规矩，但不是最像的 {chosen:g} keeps the rule, but another is more alike"])
