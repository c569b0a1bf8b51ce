"""Schedulers: at which noise levels (sigmas) the model is asked. Every function takes (steps, the model's sigmas)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch


def leading(steps: int, sigmas: torch.Tensor) -> list[float]:
    """Every (training steps // steps)-th sigma from the second on: what diffusers does for Kolors."""
    stride = len(sigmas) // steps
    return [sigmas[min(i * stride + 1, len(sigmas) - 1)].item() for i in reversed(range(steps))]


def simple(steps: int, sigmas: torch.Tensor) -> list[float]:
    """Evenly many training steps apart, from the last one down."""
    return [sigmas[-1 - int(i * (len(sigmas) / steps))].item() for i in range(steps)]


def sgm_uniform(steps: int, sigmas: torch.Tensor) -> list[float]:
    """Evenly spaced in training steps, without the lowest: `normal` of one step more, cut."""
    return normal(steps + 1, sigmas)[:-1]


def karras(steps: int, sigmas: torch.Tensor, rho: float = 7.0) -> list[float]:
    """Evenly spaced in sigma^(1/rho): ever smaller steps near the picture. Equation 5 of Karras et al. 2022."""
    low, high = sigmas[0].item() ** (1 / rho), sigmas[-1].item() ** (1 / rho)
    return [(high + _part(i, steps) * (low - high)) ** rho for i in range(steps)]


def exponential(steps: int, sigmas: torch.Tensor) -> list[float]:
    """Evenly spaced in log sigma."""
    low, high = sigmas[0].log().item(), sigmas[-1].log().item()
    return [math.exp(high + _part(i, steps) * (low - high)) for i in range(steps)]


def ddim_uniform(steps: int, sigmas: torch.Tensor) -> list[float]:
    """Every (training steps // steps)-th sigma from the second up to the end: more steps than asked where that leaves
    a rest, as ComfyUI does (29 for 28)."""
    return sigmas[1 :: max(len(sigmas) // steps, 1)].flip(0).tolist()


def beta(steps: int, sigmas: torch.Tensor, a: float = 0.6, b: float = 0.6) -> list[float]:
    """Dense at both ends: training steps at the quantiles of a beta distribution. https://arxiv.org/abs/2407.12173"""
    import numpy as np
    from scipy.stats import beta as distribution

    times = np.rint(distribution.ppf(1 - np.linspace(0, 1, steps, endpoint=False), a, b) * (len(sigmas) - 1))
    return [sigmas[int(time)].item() for time in dict.fromkeys(times.tolist())]  # one that falls twice counts once


def normal(steps: int, sigmas: torch.Tensor) -> list[float]:
    """Evenly spaced in training steps, from the last to the first; between two of them log sigma goes straight."""
    import numpy as np

    times = [(len(sigmas) - 1) * (1 - _part(i, steps)) for i in range(steps)]
    return np.exp(np.interp(times, range(len(sigmas)), np.log(sigmas.numpy()))).tolist()


def linear_quadratic(steps: int, sigmas: torch.Tensor, threshold: float = 0.025) -> list[float]:
    """Half of the steps for the first 2.5 % of the noise, ever longer ones for the rest. Mochi's (Genmo 2024)."""
    if steps == 1:
        return [sigmas[-1].item()]
    straight = steps // 2
    rest = steps - straight
    slope = threshold / straight
    bend = (straight - threshold * steps) / (straight * rest**2)
    gone = [slope * i + bend * max(i - straight, 0) ** 2 for i in range(steps)]
    return [(1 - part) * sigmas[-1].item() for part in gone]


def kl_optimal(steps: int, sigmas: torch.Tensor) -> list[float]:
    """Evenly spaced in arctan sigma. Align Your Steps, https://arxiv.org/abs/2404.14507"""
    low, high = sigmas[0].atan().item(), sigmas[-1].atan().item()
    return [math.tan(high + _part(i, steps) * (low - high)) for i in range(steps)]


def _part(i: int, steps: int) -> float:
    """0 for the first step, 1 for the last."""
    return i / max(steps - 1, 1)


SCHEDULERS: dict[str, Callable[[int, torch.Tensor], list[float]]] = {
    f.__name__: f
    for f in (
        leading, simple, sgm_uniform, karras, exponential, ddim_uniform, beta, normal, linear_quadratic, kl_optimal
    )
}  # fmt: skip
