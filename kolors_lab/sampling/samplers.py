"""Samplers: each one short function that takes latents from the first sigma down to the last.

All have one signature. One that remembers nothing is written as its single step, which `stepwise` takes again and
again; of one that goes on from earlier looks at the picture `remembering` keeps these.
`denoiser(x, sigma)` is what the picture seems to be, `sigmas` falls, to 0 or to what is left for another pass,
`callback(i, x, denoised)` hears of every step, `noise()` gives fresh unit noise like x. Which error a step of length h
leaves: order 1 ~ h², order 2 ~ h³. λ = -log sigma is the time in which the DPM-Solvers step.

References: Karras et al. 2022 https://arxiv.org/abs/2206.00364 (EDM) · DPM-Solver https://arxiv.org/abs/2206.00927 ·
DPM-Solver++ https://arxiv.org/abs/2211.01095 · https://github.com/crowsonkb/k-diffusion
"""

from __future__ import annotations

import math
from functools import wraps
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    Denoiser = Callable[[Tensor, float], Tensor]
    Callback = Callable[[int, Tensor, Tensor], None]
    Noise = Callable[[], Tensor]
    Sampler = Callable[[Denoiser, Tensor, Sequence[float], Callback, Noise], Tensor]
    Step = Callable[[Denoiser, Tensor, Tensor, float, float, Noise], Tensor]
    LaterStep = Callable[[Tensor, list[Tensor], Sequence[float], Noise], Tensor]


def stepwise(step: Step) -> Sampler:
    """The sampler that takes this step again and again: from x at sigma, `denoised` seen there, to x at sigma_next."""

    @wraps(step)
    def sampler(denoiser: Denoiser, x: Tensor, sigmas: Sequence[float], callback: Callback, noise: Noise) -> Tensor:
        for i, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
            denoised = denoiser(x, sigma)
            callback(i, x, denoised)
            x = step(denoiser, x, denoised, sigma, sigma_next, noise)
        return x

    return sampler


def remembering(count: int) -> Callable[[LaterStep], Sampler]:
    """The sampler that takes this step again and again: from x by the last `count` looks at the picture, newest first,
    and the sigmas at which they were taken, newest last, with the one that is stepped to behind them."""

    def of(step: LaterStep) -> Sampler:
        @wraps(step)
        def sampler(denoiser: Denoiser, x: Tensor, sigmas: Sequence[float], callback: Callback, noise: Noise) -> Tensor:
            looks: list[Tensor] = []
            for i, sigma in enumerate(sigmas[:-1]):
                looks = [denoiser(x, sigma), *looks[: count - 1]]
                callback(i, x, looks[0])
                x = step(x, looks, sigmas[i + 1 - len(looks) : i + 2], noise)
            return x

        return sampler

    return of


def _euler(x: Tensor, denoised: Tensor, sigma: float, sigma_next: float) -> Tensor:
    """From sigma to sigma_next on the straight line through x and the picture: e^-h · x + (1 - e^-h) · denoised."""
    return x + (x - denoised) / sigma * (sigma_next - sigma)


def _ancestral_step(sigma: float, sigma_next: float) -> tuple[float, float]:
    """(sigma_down, sigma_up) of an ancestral step: go down to the one, then up to sigma_next by noise of the other."""
    sigma_up = min(sigma_next, sigma_next * math.sqrt(max(sigma**2 - sigma_next**2, 0)) / sigma)
    return math.sqrt(sigma_next**2 - sigma_up**2), sigma_up


@stepwise
def euler(denoiser: Denoiser, x: Tensor, denoised: Tensor, sigma: float, sigma_next: float, noise: Noise) -> Tensor:
    """Euler's method: order 1. EDM, algorithm 2 without its correction; the same as DDIM."""
    return _euler(x, denoised, sigma, sigma_next)


@stepwise
def euler_ancestral(
    denoiser: Denoiser, x: Tensor, denoised: Tensor, sigma: float, sigma_next: float, noise: Noise
) -> Tensor:
    """Euler steps that go too far down, and back up with fresh noise."""
    sigma_down, sigma_up = _ancestral_step(sigma, sigma_next)
    x = _euler(x, denoised, sigma, sigma_down)
    return x + noise() * sigma_up if sigma_next else x


@stepwise
def heun(denoiser: Denoiser, x: Tensor, denoised: Tensor, sigma: float, sigma_next: float, noise: Noise) -> Tensor:
    """Heun's method, the mean of the slopes at both ends: order 2, two looks a step. EDM, algorithm 2."""
    slope = (x - denoised) / sigma
    if sigma_next:
        ahead = x + slope * (sigma_next - sigma)
        slope = (slope + (ahead - denoiser(ahead, sigma_next)) / sigma_next) / 2
    return x + slope * (sigma_next - sigma)


def _midpoint(denoiser: Denoiser, x: Tensor, denoised: Tensor, sigma: float, sigma_next: float) -> Tensor:
    """The slope half-way in λ, for the whole way: DPM-Solver-2 of a noise prediction."""
    middle = math.sqrt(sigma * sigma_next)
    half = _euler(x, denoised, sigma, middle)
    return x + (half - denoiser(half, middle)) / middle * (sigma_next - sigma)


@stepwise
def dpm_2(denoiser: Denoiser, x: Tensor, denoised: Tensor, sigma: float, sigma_next: float, noise: Noise) -> Tensor:
    """DPM-Solver-2, the slope in the middle of each step: order 2, two looks a step. DPM-Solver, algorithm 1."""
    return _midpoint(denoiser, x, denoised, sigma, sigma_next) if sigma_next else denoised


@stepwise
def dpm_2_ancestral(
    denoiser: Denoiser, x: Tensor, denoised: Tensor, sigma: float, sigma_next: float, noise: Noise
) -> Tensor:
    """DPM-Solver-2 with ancestral noise."""
    sigma_down, sigma_up = _ancestral_step(sigma, sigma_next)
    return _midpoint(denoiser, x, denoised, sigma, sigma_down) + noise() * sigma_up if sigma_next else denoised


@stepwise
def dpmpp_2s_ancestral(
    denoiser: Denoiser, x: Tensor, denoised: Tensor, sigma: float, sigma_next: float, noise: Noise
) -> Tensor:
    """DPM-Solver++(2S), the picture as seen half-way in λ, with ancestral noise. DPM-Solver++, algorithm 1."""
    if not sigma_next:
        return denoised
    sigma_down, sigma_up = _ancestral_step(sigma, sigma_next)
    middle = math.sqrt(sigma * sigma_down)
    return _euler(x, denoiser(_euler(x, denoised, sigma, middle), middle), sigma, sigma_down) + noise() * sigma_up


@stepwise
def dpmpp_sde(denoiser: Denoiser, x: Tensor, denoised: Tensor, sigma: float, sigma_next: float, noise: Noise) -> Tensor:
    """DPM-Solver++ of the diffusion as a stochastic equation: two looks a step, fresh noise before each."""
    if not sigma_next:
        return denoised
    middle = math.sqrt(sigma * sigma_next)
    first, second = noise(), noise()
    sigma_down, sigma_up = _ancestral_step(sigma, middle)
    halfway = _euler(x, denoised, sigma, sigma_down) + first * sigma_up
    both = first * math.sqrt(sigma - middle) + second * math.sqrt(middle - sigma_next)
    both = both / math.sqrt(sigma - sigma_next)  # one Brownian path
    sigma_down, sigma_up = _ancestral_step(sigma, sigma_next)
    return _euler(x, denoiser(halfway, middle), sigma, sigma_down) + both * sigma_up


def _drawn_on(looks: list[Tensor], sigmas: Sequence[float]) -> Tensor:
    """The picture half-way in λ from the last sigma but one to the last, straight on from the last two looks."""
    if len(looks) < 2:
        return looks[0]
    ratio = math.log(sigmas[-2] / sigmas[-1]) / math.log(sigmas[-3] / sigmas[-2])
    return looks[0] + (looks[0] - looks[1]) * (ratio / 2)


@remembering(2)
def dpmpp_2m(x: Tensor, looks: list[Tensor], sigmas: Sequence[float], noise: Noise) -> Tensor:
    """DPM-Solver++(2M): the picture drawn on, straight in λ, from the last two looks: order 2, one look a step.
    DPM-Solver++, algorithm 2."""
    return _euler(x, _drawn_on(looks, sigmas) if sigmas[-1] else looks[0], *sigmas[-2:])


@remembering(2)
def res_multistep(x: Tensor, looks: list[Tensor], sigmas: Sequence[float], noise: Noise) -> Tensor:
    """RES, the exponential integrator of the last two looks: order 2, one look a step. https://arxiv.org/abs/2308.02157"""
    *before, sigma, sigma_next = sigmas
    x = _euler(x, looks[0], sigma, sigma_next)
    if not before or not sigma_next:
        return x
    h = math.log(sigma / sigma_next)
    return x + (looks[0] - looks[1]) * ((h + math.expm1(-h)) / math.log(before[0] / sigma))


@remembering(2)
def dpmpp_2m_sde(x: Tensor, looks: list[Tensor], sigmas: Sequence[float], noise: Noise) -> Tensor:
    """DPM-Solver++(2M) of the stochastic equation, its midpoint form: one look and fresh noise a step."""
    return _sde_step(x, _drawn_on(looks, sigmas), *sigmas[-2:], noise) if sigmas[-1] else looks[0]


@remembering(3)
def dpmpp_3m_sde(x: Tensor, looks: list[Tensor], sigmas: Sequence[float], noise: Noise) -> Tensor:
    """DPM-Solver++(3M) of the stochastic equation: a parabola in λ through the last three looks. k-diffusion's."""
    return _sde_step(x, looks[0], *sigmas[-2:], noise) + _curve(looks, sigmas) if sigmas[-1] else looks[0]


def _sde_step(x: Tensor, denoised: Tensor, sigma: float, sigma_next: float, noise: Noise) -> Tensor:
    """The exact step of the stochastic equation from sigma to sigma_next, were the picture as seen the whole way."""
    # e^-2h: half of the way back is made of noise that goes, half of noise that is replaced
    q = (sigma_next / sigma) ** 2
    return q * x + (1 - q) * denoised + noise() * (sigma_next * math.sqrt(1 - q))


def _curve(looks: list[Tensor], sigmas: Sequence[float]) -> Tensor | float:
    """What slope and bend of the picture over the last looks, newest first, add to a stochastic step."""
    # h of this step, of the last one, of that before
    gaps = [math.log(sigma / sigma_next) for sigma, sigma_next in pairwise(sigmas)][::-1]
    h_eta = 2 * gaps[0]
    phi_2 = math.expm1(-h_eta) / h_eta + 1  # grows like h
    phi_3 = phi_2 / h_eta - 0.5  # grows like h²
    if len(looks) < 2:
        return 0.0
    r0 = gaps[1] / gaps[0]
    d1_0 = (looks[0] - looks[1]) / r0
    if len(looks) < 3:
        return d1_0 * phi_2
    r1 = gaps[2] / gaps[0]
    d1_1 = (looks[1] - looks[2]) / r1
    d2 = (d1_0 - d1_1) / (r0 + r1)
    return (d1_0 + d2 * r0) * phi_2 - d2 * phi_3


@stepwise
def ddpm(denoiser: Denoiser, x: Tensor, denoised: Tensor, sigma: float, sigma_next: float, noise: Noise) -> Tensor:
    """The sampler of the first diffusion models; with sigmas as here, euler_ancestral. https://arxiv.org/abs/2006.11239"""
    return _sde_step(x, denoised, sigma, sigma_next, noise)


@stepwise
def lcm(denoiser: Denoiser, x: Tensor, denoised: Tensor, sigma: float, sigma_next: float, noise: Noise) -> Tensor:
    """All the way to the picture, and up again with fresh noise: for models distilled to few steps.
    https://arxiv.org/abs/2310.04378"""
    return denoised + noise() * sigma_next if sigma_next else denoised


def lms(denoiser: Denoiser, x: Tensor, sigmas: Sequence[float], callback: Callback, noise: Noise) -> Tensor:
    """Linear multistep, Adams-Bashforth: a cubic in sigma through the last four slopes, one look a step."""
    return _multistep(denoiser, x, sigmas, callback, 4, lambda sigma: sigma)


def deis(denoiser: Denoiser, x: Tensor, sigmas: Sequence[float], callback: Callback, noise: Noise) -> Tensor:
    """tAB-DEIS: a parabola through the last three slopes in a diffusion's time, as in ComfyUI. diffusers' class is the
    same but for the time, which is log sigma there. https://arxiv.org/abs/2204.13902"""
    # when a variance-preserving diffusion whose beta rises from 0 has this sigma, in units of its own
    return _multistep(denoiser, x, sigmas, callback, 3, lambda sigma: math.sqrt(math.log1p(sigma**2)))


def _multistep(
    denoiser: Denoiser, x: Tensor, sigmas: Sequence[float], callback: Callback, order: int, time: Callable
) -> Tensor:
    """Step with the polynomial in time(sigma) through the last `order` slopes, integrated over sigma."""
    slopes: list[Tensor] = []  # newest first
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        denoised = denoiser(x, sigma)
        callback(i, x, denoised)
        slopes = [(x - denoised) / sigma, *slopes[: order - 1]]
        weights = _adams_weights(sigmas[i - len(slopes) + 1 : i + 1][::-1], sigma_next, time)
        x = x + sum(w * slope for w, slope in zip(weights, slopes, strict=True)) if sigma_next else denoised
    return x


def _adams_weights(known: Sequence[float], sigma_next: float, time: Callable[[float], float]) -> list[float]:
    """For each known sigma, newest first: the integral to sigma_next of its Lagrange polynomial in time(sigma)."""
    import numpy as np

    nodes, weights = np.polynomial.legendre.leggauss(16)
    at = (nodes + 1) / 2 * (sigma_next - known[0]) + known[0]
    times, marks = np.array([time(sigma) for sigma in at]), [time(sigma) for sigma in known]
    lagrange = [np.prod([(times - b) / (a - b) for b in marks if b != a], axis=0) for a in marks]
    return [float((weights * values).sum() * (sigma_next - known[0]) / 2) for values in lagrange]


def uni_pc(denoiser: Denoiser, x: Tensor, sigmas: Sequence[float], callback: Callback, noise: Noise) -> Tensor:
    """UniPC with B(h) = h: each look also corrects the step that led to it; order 3. https://arxiv.org/abs/2302.04867"""
    return _uni_pc(denoiser, x, sigmas, callback, lambda h: h)


def uni_pc_bh2(denoiser: Denoiser, x: Tensor, sigmas: Sequence[float], callback: Callback, noise: Noise) -> Tensor:
    """UniPC with B(h) = e^h - 1."""
    return _uni_pc(denoiser, x, sigmas, callback, math.expm1)


def _uni_pc(denoiser: Denoiser, x: Tensor, sigmas: Sequence[float], callback: Callback, scale: Callable) -> Tensor:
    looks: list[Tensor] = []  # newest first
    before, order = x, 0
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        denoised = denoiser(x, sigma)
        callback(i, x, denoised)
        if not sigma_next:
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

    *known, sigma, sigma_next = sigmas
    h = math.log(sigma_next / sigma)
    others = [*looks[1:], *([] if end is None else [end])]
    ends = [*known[::-1], *([] if end is None else [sigma_next])]
    x = _euler(x, looks[0], sigma, sigma_next)
    if not others:
        return x
    gaps = np.array([math.log(level / sigma) / h for level in ends])
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
