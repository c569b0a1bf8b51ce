"""One-call checks of the notebooks' exercises: what is still missing, in a learner's words, Chinese and English."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kolors_lab.challenge.check import PANELS, missing
from kolors_lab.comfy.graph import Graph, faults
from kolors_lab.comic.script import StoryScene, read_script, read_story
from kolors_lab.core.errors import DataError, ModelError
from kolors_lab.core.images import open_image
from kolors_lab.dataset.folder import read_examples
from kolors_lab.dataset.measures import distance, perceptual_hash, sharpness
from kolors_lab.lora.arithmetic import mix
from kolors_lab.lora.formats import open_lora, read_lora
from kolors_lab.sampling.metadata import read_settings
from kolors_lab.sampling.samplers import SAMPLERS

if TYPE_CHECKING:
    from kolors_lab.training.config import TrainConfig

FRAMINGS = ("全身", "半身", "特写", "侧面", "近景", "远景")
NO_HERO = ("", "全身", "上半身", "半身", "特写", "古风", "水墨画", "动漫", "日系动漫", "高清")


class Verdict(str):
    """Text that a notebook shows as it is, without quotes; empty faults make it say well done."""

    __slots__ = ()

    def __new__(cls, faults: Sequence[str]):
        lines = [f"{n}. {fault}" for n, fault in enumerate(faults, 1)]
        return super().__new__(cls, "\n".join(["还差一点 Not yet:", *lines]) if lines else "做对了！ Well done.")

    def __repr__(self) -> str:
        return str(self)


def check_picture(file: str | Path, words: Sequence[str], seed: int) -> Verdict:
    """Notebook 00: a PNG whose prompt holds each of `words` and that was drawn from `seed`."""
    try:
        settings = read_settings(file)
    except DataError as error:
        return Verdict([f"读不到图片的设置 the settings cannot be read: {error}"])
    faults = [f"提示词里没有“{word}” the prompt lacks {word}" for word in words if word not in settings["prompt"]]
    if settings["seed"] != seed:
        faults.append(f"种子是 {settings['seed']}，要用 {seed} the seed is {settings['seed']}, it should be {seed}")
    return Verdict(faults)


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
        faults.append("没有哪个说主角的词组在多数格里重复 no words for the hero recur in most of the scenes")
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


def check_workflow(graph: Graph, pictures: int, steps: int, seed: int) -> Verdict:
    """Notebook 05: kijai's nodes that draw so many prompts at once, with so many steps, from the seed."""
    if found := faults(graph):
        return Verdict([f"这个工作流跑不起来 this workflow cannot run: {found[0]}"])
    nodes = {node["class_type"]: node["inputs"] for node in graph.values()}
    if not {"KolorsTextEncode", "KolorsSampler"} <= nodes.keys():
        return Verdict(["要有 KolorsTextEncode 和 KolorsSampler it needs KolorsTextEncode and KolorsSampler"])
    texts = [text.strip() for text in nodes["KolorsTextEncode"]["prompt"].split("|")]
    broken = []
    if len(texts) != pictures or "" in texts or len(set(texts)) < len(texts):
        broken.append(f"要有 {pictures} 条不同的提示词，用 | 隔开 it needs {pictures} different prompts, parted by |")
    for name, wanted in (("steps", steps), ("seed", seed)):
        if (value := nodes["KolorsSampler"][name]) != wanted:
            broken.append(f"{name} 是 {value}，要用 {wanted} {name} is {value}, it should be {wanted}")
    return Verdict(broken)


def check_better(better: Callable[[list[float], list[float]], str]) -> Verdict:
    """Notebook 10: says which of two sets scores higher only where their paired differences show it."""
    base = [6.1, 5.4, 6.8, 6.0, 5.7, 6.3, 5.9, 6.5]
    wave = [0.3, -0.3, 0.25, -0.2, 0.3, -0.25, 0.2, -0.14]
    cases = {
        "第二套每张都高 0.1 the second is 0.1 higher in every pair": ([x + 0.1 for x in base], "second"),
        "第二套每张都低 0.1 the second is 0.1 lower in every pair": ([x - 0.1 for x in base], "first"),
        "平均高 0.02，但有高有低 0.02 higher on average, but up and down": (
            [x + w for x, w in zip(base, wave, strict=True)],
            "cannot tell",
        ),
        "有一个分数是 NaN one score is NaN": ([math.nan, *(x + 1 for x in base[1:])], "cannot tell"),
    }
    faults = []
    for case, (second, right) in cases.items():
        answer = _answer(better, list(base), second)
        if answer != right:
            faults.append(f"{case}: {answer!r}，应该是 should be {right!r}")
    return Verdict(faults)


def _answer(function: Callable, *given: Any) -> Any:
    """What a learner's function answers, or in words what it raises, whatever that is."""
    try:
        return function(*given)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def exact_denoiser(x, sigma: float):
    """Notebook 04: a denoiser whose answers are exact, for pictures of one number around -1 and 1 by 0.5."""
    import torch

    spread = 0.25 + sigma**2
    return (0.25 * x + sigma**2 * torch.tanh(x / spread)) / spread


def walk(sampler_name: str, steps: int, down_to: float = 0.1):
    """Notebook 04: nine numbers taken from sigma 10 to `down_to` by a sampler and the exact denoiser."""
    import numpy as np
    import torch

    start = torch.linspace(-12, 12, 9, dtype=torch.float64)
    sigmas = np.geomspace(10, down_to, steps + 1).tolist()
    return SAMPLERS[sampler_name](exact_denoiser, start, sigmas, lambda *step: None, lambda: torch.zeros_like(start))


def check_sampler(mine: Callable, name: str) -> Verdict:
    """Notebook 04: `mine(denoiser, x, sigmas)` goes the way of the sampler of that name, down to sigma 0."""
    import torch

    start, sigmas = torch.linspace(-12, 12, 9, dtype=torch.float64), [10.0, 4.0, 1.5, 0.6, 0.2, 0.0]
    theirs = SAMPLERS[name](exact_denoiser, start, sigmas, lambda *step: None, lambda: torch.zeros_like(start))
    try:
        ours = mine(exact_denoiser, start, sigmas)
    except Exception as error:  # whatever a learner's function may raise
        return Verdict([f"函数出错了 the function raises {type(error).__name__}: {error}"])
    if not isinstance(ours, torch.Tensor) or ours.shape != start.shape:
        return Verdict(["要返回和 x 同样形状的张量 it must return a tensor of the shape of x"])
    if not ours.isfinite().all():
        return Verdict(["结果里有 NaN：最后一步除以 0 了？ NaN in the result: divided by 0 in the last step?"])
    far = (ours - theirs).abs().max().item()
    return Verdict([f"离 {name} 还差 {far:.3f} still {far:.3f} away from {name}"] if far > 1e-6 else [])


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
        return Verdict([*faults, "层不一样 other layers"])
    apart = sum((lora.layers[name].delta() - layer.delta()).norm() for name, layer in wanted.layers.items())
    if apart > 0.05 * sum(layer.delta().norm() for layer in wanted.layers.values()):
        faults.append("作用和要求的不一样，看看权重和正负号 its effect is not the one wanted: mind weights and signs")
    return Verdict(faults)


def check_stopping(stop: Callable[[list[float], int], tuple[int, int]]) -> Verdict:
    """Notebook 07: `stop(losses, patience)` tells, both counted from 1, the look that ends a training and the best."""
    cases = {
        "先降后升 falls, then rises": ([0.30, 0.25, 0.24, 0.26, 0.27, 0.28, 0.29], 3, (6, 3)),
        "第二个谷更深 the second valley is deeper": ([0.30, 0.25, 0.27, 0.24, 0.26, 0.28, 0.29], 2, (6, 4)),
        "一直在降 falls to the end": ([0.30, 0.28, 0.27, 0.26], 2, (4, 4)),
        "一样不算变好 equal is not better": ([0.30, 0.25, 0.25, 0.25, 0.25], 2, (4, 2)),
        "有一次是 NaN one look is NaN": ([0.30, math.nan, 0.25, 0.26, 0.27], 2, (5, 3)),
    }
    faults = []
    for case, (losses, patience, right) in cases.items():
        answer = _answer(stop, list(losses), patience)
        if answer != right:
            faults.append(f"{case}, patience {patience}: {answer}，应该是 should be {right}")
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
        faults[f"“{caption}”里没有“{name}” {name} is missing"] = name not in caption
        faults[f"“{caption}”里写了角色自己的 says what is the subject's own: {', '.join(said)}"] = bool(said)
        faults[f"“{caption}”只有名字，没说在哪里 only names it, and not where it is"] = caption.strip() == name
    return Verdict([fault for fault, here in faults.items() if here])


def check_negative(file: str | Path, word: str, others: Sequence[str], seed: int) -> Verdict:
    """Notebook 09: a PNG of a LoRA whose `word` stands in the negative prompt alone, with `others`, from `seed`."""
    try:
        settings = read_settings(file)
    except DataError as error:
        return Verdict([f"读不到图片的设置 the settings cannot be read: {error}"])
    avoided, faults = settings.get("negative_prompt", ""), []
    if not settings.get("lora"):
        faults.append(f"没有挂 LoRA，“{word}”就只是个生词 no LoRA is on: without it {word} is an unknown word")
    if word in settings["prompt"]:
        faults.append(f"提示词里有“{word}”，等于要一张坏图 {word} stands in the prompt, which asks for a bad picture")
    for wanted in (word, *others):
        if wanted not in avoided:
            faults.append(f"反向提示词里没有“{wanted}” the negative prompt lacks {wanted}")
    if settings["seed"] != seed:
        faults.append(f"种子是 {settings['seed']}，要用 {seed} the seed is {settings['seed']}, it should be {seed}")
    return Verdict(faults)


def check_handed_in(folder: str | Path) -> Verdict:
    """Notebook 11: a submission in which nothing is missing but the challenge's own score."""
    return Verdict([line for line in missing(folder) if not line.startswith("score: 练习分")])
