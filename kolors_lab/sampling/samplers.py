"""Samplers: each one short function that takes latents from the first sigma down to the last.

All have one signature. `denoiser(x, sigma)` is what the picture seems to be, `sigmas` falls, to 0 or to what is left
for another pass, `callback(i, x, denoised)` hears of every step, `noise()` gives fresh unit noise like x. Which error
a step of length h leaves: order 1 ~ h², order 2 ~ h³. λ = -log sigma is the time in which the DPM-Solvers step.

References: Karras et al. 2022 https://arxiv.org/abs/2206.00364 (EDM) · DPM-Solver https://arxiv.org/abs/2206.00927 ·
DPM-Solver++ https://arxiv.org/abs/2211.01095 · https://github.com/crowsonkb/k-diffusion
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    Denoiser = Callable[[Tensor, float], Tensor]
    Callback = Callable[[int, Tensor, Tensor], None]
    Noise = Callable[[], Tensor]
    Sampler = Callable[[Denoiser, Tensor, Sequence[float], Callback, Noise], Tensor]


def _euler(x: Tensor, denoised: Tensor, s: float, t: float) -> Tensor:
    """From sigma s to t on the straight line through x and the picture: e^-h · x + (1 - e^-h) · denoised."""
    return x + (x - denoised) / s * (t - s)


def _split(s: float, t: float) -> tuple[float, float]:
    """An ancestral step from s to t: the sigma to go down to, and that of the fresh noise which leads up to t again."""
    up = min(t, t * math.sqrt(max(s**2 - t**2, 0)) / s)
    return math.sqrt(t**2 - up**2), up


def euler(denoiser: Denoiser, x: Tensor, sigmas: Sequence[float], callback: Callback, noise: Noise) -> Tensor:
    """Euler's method: order 1. EDM, algorithm 2 without its correction; the same as DDIM."""
    for i, (s, t) in enumerate(pairwise(sigmas)):
        denoised = denoiser(x, s)
        callback(i, x, denoised)
        x = _euler(x, denoised, s, t)
    return x


def euler_ancestral(denoiser: Denoiser, x: Tensor, sigmas: Sequence[float], callback: Callback, noise: Noise) -> Tensor:
    """Euler steps that go too far down, and back up with fresh noise."""
    for i, (s, t) in enumerate(pairwise(sigmas)):
        denoised = denoiser(x, s)
        callback(i, x, denoised)
        down, up = _split(s, t)
        x = _euler(x, denoised, s, down)
        x = x + noise() * up if t else x
    return x


def heun(denoiser: Denoiser, x: Tensor, sigmas: Sequence[float], callback: Callback, noise: Noise) -> Tensor:
    """Heun's method, the mean of the slopes at both ends: order 2, two looks a step. EDM, algorithm 2."""
    for i, (s, t) in enumerate(pairwise(sigmas)):
        denoised = denoiser(x, s)
        callback(i, x, denoised)
        slope = (x - denoised) / s
        if t:
            ahead = x + slope * (t - s)
            slope = (slope + (ahead - denoiser(ahead, t)) / t) / 2
        x = x + slope * (t - s)
    return x


def _midpoint(denoiser: Denoiser, x: Tensor, denoised: Tensor, s: float, t: float) -> Tensor:
    """The slope half-way in λ, for the whole way: DPM-Solver-2 of a noise prediction."""
    middle = math.sqrt(s * t)
    half = _euler(x, denoised, s, middle)
    return x + (half - denoiser(half, middle)) / middle * (t - s)


def dpm_2(denoiser: Denoiser, x: Tensor, sigmas: Sequence[float], callback: Callback, noise: Noise) -> Tensor:
    """DPM-Solver-2, the slope in the middle of each step: order 2, two looks a step. DPM-Solver, algorithm 1."""
    for i, (s, t) in enumerate(pairwise(sigmas)):
        denoised = denoiser(x, s)
        callback(i, x, denoised)
        x = _midpoint(denoiser, x, denoised, s, t) if t else denoised
    return x


def dpm_2_ancestral(denoiser: Denoiser, x: Tensor, sigmas: Sequence[float], callback: Callback, noise: Noise) -> Tensor:
    """DPM-Solver-2 with ancestral noise."""
    for i, (s, t) in enumerate(pairwise(sigmas)):
        denoised = denoiser(x, s)
        callback(i, x, denoised)
        down, up = _split(s, t)
        x = _midpoint(denoiser, x, denoised, s, down) + noise() * up if t else denoised
    return x


def dpmpp_2s_ancestral(
    denoiser: Denoiser, x: Tensor, sigmas: Sequence[float], callback: Callback, noise: Noise
) -> Tensor:
    """DPM-Solver++(2S), the picture as seen half-way in λ, with ancestral noise. DPM-Solver++, algorithm 1."""
    for i, (s, t) in enumerate(pairwise(sigmas)):
        denoised = denoiser(x, s)
        callback(i, x, denoised)
        if not t:
            return denoised
        down, up = _split(s, t)
        middle = math.sqrt(s * down)
        x = _euler(x, denoiser(_euler(x, denoised, s, middle), middle), s, down) + noise() * up
    return x


def dpmpp_sde(denoiser: Denoiser, x: Tensor, sigmas: Sequence[float], callback: Callback, noise: Noise) -> Tensor:
    """DPM-Solver++ of the diffusion as a stochastic equation: two looks a step, fresh noise before each."""
    for i, (s, t) in enumerate(pairwise(sigmas)):
        denoised = denoiser(x, s)
        callback(i, x, denoised)
        if not t:
            return denoised
        middle = math.sqrt(s * t)
        first, second = noise(), noise()
        down, up = _split(s, middle)
        halfway = _euler(x, denoised, s, down) + first * up
        both = (first * math.sqrt(s - middle) + second * math.sqrt(middle - t)) / math.sqrt(s - t)  # one Brownian path
        down, up = _split(s, t)
        x = _euler(x, denoiser(halfway, middle), s, down) + both * up
    return x


def dpmpp_2m(denoiser: Denoiser, x: Tensor, sigmas: Sequence[float], callback: Callback, noise: Noise) -> Tensor:
    """DPM-Solver++(2M): the picture drawn on, straight in λ, from the last two looks: order 2, one look a step.
    DPM-Solver++, algorithm 2."""
    last = None
    for i, (s, t) in enumerate(pairwise(sigmas)):
        denoised = denoiser(x, s)
        callback(i, x, denoised)
        seen = denoised
        if last is not None and t:
            ratio = math.log(s / t) / math.log(sigmas[i - 1] / s)
            seen = denoised + (denoised - last) * (ratio / 2)
        x, last = _euler(x, seen, s, t), denoised
    return x


def res_multistep(denoiser: Denoiser, x: Tensor, sigmas: Sequence[float], callback: Callback, noise: Noise) -> Tensor:
    """RES, the exponential integrator of the last two looks: order 2, one look a step. https://arxiv.org/abs/2308.02157"""
    last = None
    for i, (s, t) in enumerate(pairwise(sigmas)):
        denoised = denoiser(x, s)
        callback(i, x, denoised)
        seen, start = denoised, x
        x = _euler(start, seen, s, t)
        if last is not None and t:
            h = math.log(s / t)
            x = x + (denoised - last) * ((h + math.expm1(-h)) / math.log(sigmas[i - 1] / s))
        last = denoised
    return x


def dpmpp_2m_sde(denoiser: Denoiser, x: Tensor, sigmas: Sequence[float], callback: Callback, noise: Noise) -> Tensor:
    """DPM-Solver++(2M) of the stochastic equation, its midpoint form: one look and fresh noise a step."""
    last = None
    for i, (s, t) in enumerate(pairwise(sigmas)):
        denoised = denoiser(x, s)
        callback(i, x, denoised)
        if not t:
            return denoised
        seen = denoised
        if last is not None:
            seen = denoised + (denoised - last) * (math.log(s / t) / math.log(sigmas[i - 1] / s) / 2)
        x, last = _sde_step(x, seen, s, t, noise), denoised
    return x


def dpmpp_3m_sde(denoiser: Denoiser, x: Tensor, sigmas: Sequence[float], callback: Callback, noise: Noise) -> Tensor:
    """DPM-Solver++(3M) of the stochastic equation: a parabola in λ through the last three looks. k-diffusion's."""
    looks: list[Tensor] = []
    for i, (s, t) in enumerate(pairwise(sigmas)):
        denoised = denoiser(x, s)
        callback(i, x, denoised)
        if not t:
            return denoised
        x = _sde_step(x, denoised, s, t, noise) + _curve([denoised, *looks], sigmas[max(i - 2, 0) : i + 2])
        looks = [denoised, *looks[:1]]
    return x


def _sde_step(x: Tensor, denoised: Tensor, s: float, t: float, noise: Noise) -> Tensor:
    """The exact step of the stochastic equation from s to t, were the picture as seen the whole way."""
    q = (t / s) ** 2  # e^-2h: half of the way back is made of noise that goes, half of noise that is replaced
    return q * x + (1 - q) * denoised + noise() * (t * math.sqrt(1 - q))


def _curve(looks: list[Tensor], sigmas: Sequence[float]) -> Tensor | float:
    """What slope and bend of the picture over the last looks, newest first, add to a stochastic step."""
    gaps = [math.log(s / t) for s, t in pairwise(sigmas)][::-1]  # h of this step, of the last one, of that before
    h = 2 * gaps[0]
    slope, flat = 1 - (1 - math.exp(-h)) / h, 0.5  # what grows like h, like h²
    if len(looks) < 2:
        return 0.0
    near = gaps[1] / gaps[0]
    first = (looks[0] - looks[1]) / near
    if len(looks) < 3:
        return first * slope
    far = gaps[2] / gaps[0]
    bend = (first - (looks[1] - looks[2]) / far) / (near + far)
    return (first + bend * near) * slope - bend * (slope / h - flat)


def ddpm(denoiser: Denoiser, x: Tensor, sigmas: Sequence[float], callback: Callback, noise: Noise) -> Tensor:
    """The sampler of the first diffusion models; with sigmas as here, euler_ancestral. https://arxiv.org/abs/2006.11239"""
    for i, (s, t) in enumerate(pairwise(sigmas)):
        denoised = denoiser(x, s)
        callback(i, x, denoised)
        x = _sde_step(x, denoised, s, t, noise)
    return x


def lcm(denoiser: Denoiser, x: Tensor, sigmas: Sequence[float], callback: Callback, noise: Noise) -> Tensor:
    """All the way to the picture, and up again with fresh noise: for models distilled to few steps.
    https://arxiv.org/abs/2310.04378"""
    for i, (s, t) in enumerate(pairwise(sigmas)):
        denoised = denoiser(x, s)
        callback(i, x, denoised)
        x = denoised + noise() * t if t else denoised
    return x


def lms(denoiser: Denoiser, x: Tensor, sigmas: Sequence[float], callback: Callback, noise: Noise) -> Tensor:
    """Linear multistep, Adams-Bashforth: a cubic in sigma through the last four slopes, one look a step."""
    return _multistep(denoiser, x, sigmas, callback, 4, lambda sigma: sigma)


def deis(denoiser: Denoiser, x: Tensor, sigmas: Sequence[float], callback: Callback, noise: Noise) -> Tensor:
    """tAB-DEIS: a parabola through the last three slopes in a diffusion's time, as in ComfyUI. diffusers' class is the
    same but for the time, which is log sigma there. https://arxiv.org/abs/2204.13902"""
    return _multistep(denoiser, x, sigmas, callback, 3, _vp_time)


def _vp_time(sigma: float) -> float:
    """When a variance-preserving diffusion whose beta rises from 0 has this sigma, in units of its own."""
    return math.sqrt(math.log1p(sigma**2))


def _multistep(
    denoiser: Denoiser, x: Tensor, sigmas: Sequence[float], callback: Callback, order: int, time: Callable
) -> Tensor:
    """Step with the polynomial in time(sigma) through the last `order` slopes, integrated over sigma."""
    slopes: list[Tensor] = []  # newest first
    for i, (s, t) in enumerate(pairwise(sigmas)):
        denoised = denoiser(x, s)
        callback(i, x, denoised)
        slopes = [(x - denoised) / s, *slopes[: order - 1]]
        weights = _adams_weights(sigmas[i - len(slopes) + 1 : i + 1][::-1], t, time)
        x = x + sum(w * slope for w, slope in zip(weights, slopes, strict=True)) if t else denoised
    return x


def _adams_weights(known: Sequence[float], t: float, time: Callable[[float], float]) -> list[float]:
    """For each known sigma, newest first: the integral from it to t of its Lagrange polynomial in time(sigma)."""
    import numpy as np

    nodes, weights = np.polynomial.legendre.leggauss(16)
    at = (nodes + 1) / 2 * (t - known[0]) + known[0]
    times, marks = np.array([time(sigma) for sigma in at]), [time(sigma) for sigma in known]
    lagrange = [np.prod([(times - b) / (a - b) for b in marks if b != a], axis=0) for a in marks]
    return [float((weights * values).sum() * (t - known[0]) / 2) for values in lagrange]


def uni_pc(denoiser: Denoiser, x: Tensor, sigmas: Sequence[float], callback: Callback, noise: Noise) -> Tensor:
    """UniPC with B(h) = h: each look also corrects the step that led to it; order 3. https://arxiv.org/abs/2302.04867"""
    return _uni_pc(denoiser, x, sigmas, callback, lambda h: h)


def uni_pc_bh2(denoiser: Denoiser, x: Tensor, sigmas: Sequence[float], callback: Callback, noise: Noise) -> Tensor:
    """UniPC with B(h) = e^h - 1."""
    return _uni_pc(denoiser, x, sigmas, callback, math.expm1)


def _uni_pc(denoiser: Denoiser, x: Tensor, sigmas: Sequence[float], callback: Callback, scale: Callable) -> Tensor:
    looks: list[Tensor] = []  # newest first
    before, order = x, 0
    for i, (s, t) in enumerate(pairwise(sigmas)):
        denoised = denoiser(x, s)
        callback(i, x, denoised)
        if not t:
            return denoised
        if i:  # UniC: the last step once more, now that its end is known
            x = _uni_step(before, looks[:order], sigmas[i - order : i + 1], scale, denoised)
        before, looks = x, [denoised, *looks[:2]]
        order = min(3, i + 1, len(sigmas) - 1 - i)
        x = _uni_step(x, looks[:order], sigmas[i - order + 1 : i + 2], scale)  # UniP
    return x


def _uni_step(
    x: Tensor, looks: list[Tensor], sigmas: Sequence[float], scale: Callable[[float], float], end: Tensor | None = None
) -> Tensor:
    """From the last sigma but one to the last, by the looks there and before (newest first) and, if given, at the end.
    UniPC, equation 9 for a picture prediction; its h counts down."""
    import numpy as np

    *known, s, t = sigmas
    h = math.log(t / s)
    others = [*looks[1:], *([] if end is None else [end])]
    ends = [*known[::-1], *([] if end is None else [t])]
    x = _euler(x, looks[0], s, t)
    if not others:
        return x
    gaps = np.array([math.log(sigma / s) / h for sigma in ends])
    phi, factorial, right = math.expm1(h) / h - 1, 1, []
    for k in range(1, len(gaps) + 1):
        right.append(phi * factorial / scale(h))
        factorial *= k + 1
        phi = phi / h - 1 / factorial
    weights = np.linalg.solve(np.vander(gaps, increasing=True).T, right) if len(gaps) > 1 else [0.5]
    for weight, gap, look in zip(weights, gaps, others, strict=True):
        x = x - scale(h) * float(weight) / float(gap) * (look - looks[0])
    return x


def ddim(denoiser: Denoiser, x: Tensor, sigmas: Sequence[float], callback: Callback, noise: Noise) -> Tensor:
    """DDIM without fresh noise is Euler's method in these sigmas. https://arxiv.org/abs/2010.02502"""
    return euler(denoiser, x, sigmas, callback, noise)


SAMPLERS: dict[str, Sampler] = {
    f.__name__: f
    for f in (
        euler, euler_ancestral, heun, dpm_2, dpm_2_ancestral, lms, dpmpp_2s_ancestral, dpmpp_sde, dpmpp_2m,
        dpmpp_2m_sde, dpmpp_3m_sde, ddpm, ddim, lcm, deis, uni_pc, uni_pc_bh2, res_multistep,
    )
}  # fmt: skip
