"""Checks of the functions that a learner completes: by what they answer, and what a wrong answer comes from."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from kolors_course.exercises import Verdict
from kolors_lab.sampling.samplers import SAMPLERS


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
        "每张都高一点点 a little higher in every pair": (
            [x + d for x, d in zip(base, (0.03, 0.02, 0.04, 0.01, 0.03, 0.02, 0.02, 0.03), strict=True)],
            "second",
        ),
        "平均高 0.2，但各对散得开 0.2 higher on average, but far apart": (
            [x + d for x, d in zip(base, (1.9, -1.2, 1.4, -0.9, 1.6, -1.1, 0.9, -1.0), strict=True)],
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
    euler = SAMPLERS["euler"](exact_denoiser, start, sigmas, lambda *step: None, lambda: torch.zeros_like(start))
    if name != "euler" and torch.allclose(ours, euler):
        return Verdict(["还是欧拉法的答案：第二个斜率没有用上 still Euler's answer: the second slope is not used"])
    far = (ours - theirs).abs().max().item()
    if far < 1e-6:
        return Verdict([])
    for wrong, meaning in WRONG_HEUN.items() if name == "heun" else ():
        if torch.allclose(ours, _heun_with(start, sigmas, wrong)):
            return Verdict([meaning])
    return Verdict([f"离 {name} 还差 {far:.3f} still {far:.3f} away from {name}"])


WRONG_HEUN = {
    "second alone": "只用了第二个斜率，没有和第一个取平均 the second slope alone, not the mean of the two",
    "from ahead": "从前面那一点接着走了，要退回原地 it went on from the point ahead, not from where the step began",
    "by sigma": "第二个斜率要除以下一个 σ the second slope is divided by the next σ",
}


def _heun_with(x, sigmas: list[float], wrong: str):
    """Heun's method with one of WRONG_HEUN in it."""
    for sigma, next_sigma in pairwise(sigmas):
        first = slope = (x - exact_denoiser(x, sigma)) / sigma
        begin = x
        if next_sigma > 0:
            ahead = x + first * (next_sigma - sigma)
            second = (ahead - exact_denoiser(ahead, next_sigma)) / (sigma if wrong == "by sigma" else next_sigma)
            slope = second if wrong == "second alone" else (first + second) / 2
            begin = ahead if wrong == "from ahead" else x
        x = begin + slope * (next_sigma - sigma)
    return x


def check_step(step_loss: Callable) -> Verdict:
    """Notebook 06: `step_loss(unet, z, c, t, noise, abar)` is the mean squared error of the guessed noise."""
    import torch

    generator = torch.Generator().manual_seed(0)
    z, noise = (torch.randn(1, 4, 4, 4, generator=generator) for _ in range(2))
    abar, t, c, seen = torch.linspace(0.99, 0.01, 10), torch.tensor([6]), torch.ones(3), []

    def unet(x, when, words):
        seen.append(x)
        return 0.5 * x + 0.1 * when + words.mean()

    answer = _answer(step_loss, unet, z, c, t, noise, abar)
    if not seen:
        return Verdict([f"没有问 UNet the UNet is never asked: {answer}"])
    x = abar[t].sqrt() * z + (1 - abar[t]).sqrt() * noise
    if not torch.allclose(seen[0], x):
        rootless = torch.allclose(seen[0], abar[t] * z + (1 - abar[t]) * noise)
        roots = "少了两个根号 the two roots are missing"
        return Verdict([roots if rootless else "UNet 看到的不是 x_t：加噪的式子不对 what the UNet sees is not x_t"])
    if not isinstance(answer, torch.Tensor) or answer.numel() != 1:
        return Verdict([f"损失是一个数：取平均 the loss is one number: take the mean, not {answer}"])
    guess = unet(x, t, c)
    for wrong, meaning in (
        ((guess - z).square().mean(), "比的是画：UNet 猜的是噪声 compared with the picture, but it guesses the noise"),
        ((guess - x).square().mean(), "比的是加了噪的画，要比噪声 compared with the noisy picture, not the noise"),
        ((guess - noise).square().sum(), "取了和：图一大，损失就大 the sum: a larger picture has a larger loss"),
        ((guess - noise).abs().mean(), "没有平方 not squared"),
    ):
        if torch.allclose(answer, wrong):
            return Verdict([meaning])
    right = torch.allclose(answer, (guess - noise).square().mean())
    return Verdict([] if right else ["不是平方差的平均 it is not the mean of the squared differences"])


def check_merged(merged: Callable) -> Verdict:
    """Notebook 06: `merged(W, A, B, alpha)` is W + alpha / rank B A, and W stays as it was."""
    import torch

    generator = torch.Generator().manual_seed(0)
    weight, down, up = (torch.randn(*shape, generator=generator) for shape in ((6, 5), (2, 5), (6, 2)))
    kept = weight.clone()
    answer = _answer(merged, weight, down, up, 3.0)
    if not torch.equal(weight, kept):
        return Verdict(["W 被改掉了：取出来时就回不去了 W itself was changed, and nothing brings it back"])
    if not isinstance(answer, torch.Tensor) or answer.shape != weight.shape:
        order = "（次序反了？是 B @ A the wrong order? it is B @ A）" if "mat" in str(answer) else ""
        return Verdict([f"要返回和 W 同样形状的张量 it must return a tensor of the shape of W, not {answer}{order}"])
    if torch.allclose(answer, 1.5 * up @ down, atol=1e-5):
        return Verdict(["少了 W：只剩下改动 W is missing: this is the change alone"])
    for scale, meaning in (
        (1.0, "少了 alpha / rank：alpha 和秩都不起作用 alpha / rank is missing, so neither would matter"),
        (3.0, "少了除以秩：秩越大作用越大 not divided by the rank: the larger the rank, the larger the effect"),
    ):
        if torch.allclose(answer, kept + scale * up @ down, atol=1e-5):
            return Verdict([meaning])
    right = torch.allclose(answer, kept + 1.5 * up @ down, atol=1e-5)
    return Verdict([] if right else ["不等于 W + alpha / rank · B A it is not W + alpha / rank · B A"])


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
            faults.append(f"{case}: stop({losses}, {patience}): {answer}，应该是 should be {right}")
    return Verdict(faults)


def check_guided(guided: Callable) -> Verdict:
    """Notebook 09: `guided(negative, positive, cfg)` is negative + cfg (positive - negative)."""
    import torch

    negative, positive = torch.tensor([1.0, -2.0]), torch.tensor([3.0, 5.0])
    answer = _answer(guided, negative, positive, 4.0)
    if not isinstance(answer, torch.Tensor) or answer.shape != negative.shape:
        return Verdict([f"要返回和两个猜测同样形状的张量 it must return a tensor of the guesses' shape, not {answer}"])
    away = negative - positive
    for wrong, meaning in (
        (negative + 4 * away, "方向反了：画面会走向反向提示词 the wrong way: towards the negative prompt"),
        (
            -4 * away,
            "少了出发点：cfg = 1 时应当正好等于正向的猜测 the point of departure is missing: at cfg 1 the "
            "positive guess itself should come out",
        ),
        (
            positive - 4 * away,
            "从“正”出发，多走了一倍：cfg = 1 时就已经走过头 it sets out from the positive guess: at cfg 1 "
            "it has gone too far already",
        ),
        (
            4 * positive,
            "没有用到反向的猜测：反向提示词不起作用 the negative guess is not used, so no negative prompt acts",
        ),
    ):
        if torch.allclose(answer, wrong):
            return Verdict([meaning])
    right = torch.allclose(answer, negative - 4 * away)
    return Verdict([] if right else [f"得到 {answer.tolist()}，应该是 should be {(negative - 4 * away).tolist()}"])


def check_units(units: Callable[[dict[str, list[float]]], list[float]]) -> Verdict:
    """Notebook 09: `units(differences)`, given twelve differences of each training, has one number for a training."""
    differences = {"0": [0.1, 0.3], "1": [-0.2, 0.0], "2": [0.4, 0.6]}
    answer = _answer(units, {name: list(values) for name, values in differences.items()})
    if not isinstance(answer, list) or not all(isinstance(value, (int, float)) for value in answer):
        return Verdict([f"要返回一列数 it must return a list of numbers, not {answer}"])
    if len(answer) == 6:
        return Verdict(
            [
                "每张图算了一个单位：同一个 LoRA 的图好坏一起来去，区间会太窄 every picture counts as a unit: "
                "those of one LoRA are good or bad together, and the interval comes out too narrow"
            ]
        )
    if len(answer) != 3:
        return Verdict(
            [f"有 {len(answer)} 个数，应当每次训练一个，共 3 个 {len(answer)} numbers; one a training makes 3"]
        )
    right = all(
        math.isclose(value, wanted, abs_tol=1e-9) for value, wanted in zip(answer, (0.2, -0.1, 0.5), strict=True)
    )
    return Verdict([] if right else [f"得到 {answer}，每次训练要取平均 got {answer}; take the mean of each training"])


def check_f1(f1: Callable) -> Verdict:
    """Notebook 12: `f1(drawn, wanted)` of two arrays of bool: harmonic mean of precision and recall, 0 for nothing."""
    import numpy as np

    wanted = np.zeros((8, 8), bool)
    wanted[0] = True
    dot, flood, elsewhere = (np.zeros((8, 8), bool) for _ in range(3))
    dot[0, 0], elsewhere[4] = True, True
    flood[:] = True
    cases = {
        "和线稿完全一样 exactly the lines": (wanted, 1.0),
        "只画对一个像素，别的没画 one right pixel and nothing else": (dot, 2 / 9),
        "整张图都是线 lines all over": (flood, 2 / 9),
        "线全画在别处 all lines somewhere else": (elsewhere, 0.0),
        "什么也没画 nothing drawn": (np.zeros((8, 8), bool), 0.0),
    }
    faults = []
    for case, (drawn, right) in cases.items():
        with np.errstate(all="ignore"):
            answer = _answer(f1, drawn, wanted)
        if not isinstance(answer, (int, float, np.number)):
            faults.append(f"{case}: 要返回一个数 must return a number, not {answer!r}")
        elif not abs(answer - right) < 1e-6:  # NaN too
            faults.append(f"{case}: {answer:.2f}，应该是 should be {right:.2f}")
    return Verdict(faults)


def check_shares(shares: Callable[[list[float], list[float]], tuple[float, float]]) -> Verdict:
    """Notebook 13: `shares(before, after)`: of the broken faces the share made whole, of the whole ones that broken."""
    before, after = [0.1, 0.2, 0.9, 0.8, 0.7, 0.6], [0.9, 0.1, 0.9, 0.2, 0.8, 0.9]
    answer = _answer(shares, list(before), list(after))
    try:
        healed, harmed = (float(value) for value in answer)
    except (TypeError, ValueError):
        return Verdict([f"要返回两个数：修好的比例、修坏的比例 it must return two shares, not {answer!r}"])
    faults = []
    for name, found, right, all_of_them in (
        ("修好的比例 the share healed", healed, 1 / 2, 1 / 6),
        ("修坏的比例 the share harmed", harmed, 1 / 4, 1 / 6),
    ):
        if math.isclose(found, all_of_them):
            faults.append(
                f"{name}: 除以了全部 6 张；修好的只能从坏的里面来，修坏的只能从好的里面来 divided by all 6: "
                "only a broken face can be healed, and only a whole one harmed"
            )
        elif not math.isclose(found, right):
            faults.append(f"{name}: {found:.2f}，应该是 should be {right:.2f}")
    return Verdict(faults)
