"""Numbers that others' code made, k-diffusion's samplers on an analytic denoiser; noise levels by ComfyUI's formulas.

How they were made: golden/make_samplers.py ran k-diffusion's own code. golden/schedules.json was worked out from the
formulas by hand: it catches slips of ours, not an error in that transcription. For that test_sampling.py compares the
noise levels, and lcm, with diffusers, kl_optimal excepted, which diffusers has not.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from kolors_lab.sampling.samplers import SAMPLERS
from kolors_lab.sampling.schedules import SCHEDULERS, exponential, karras

GOLDEN = Path(__file__).parent / "golden"
SAMPLED = json.loads((GOLDEN / "samplers.json").read_text(encoding="utf-8"))
LAID_OUT = json.loads((GOLDEN / "schedules.json").read_text(encoding="utf-8"))["schedules"]


def denoise(x, sigma):
    """As in make_samplers.py."""
    sigma = torch.tensor(sigma, dtype=torch.float64)
    return torch.tanh(x / (1 + sigma**2) ** 0.5) + 0.3 * torch.cos(sigma + x)


def run(name):
    x, noise = (torch.tensor(SAMPLED[part], dtype=torch.float64) for part in ("x", "noise"))
    rows = iter(noise)
    levels = SAMPLED["sigmas"][:-1] if name == "lms" else SAMPLED["sigmas"]  # make_samplers.py says why
    return SAMPLERS[name](denoise, x, levels, lambda *_: None, lambda: next(rows))


@pytest.mark.parametrize("name", SAMPLED["results"])
def test_a_sampler_is_that_of_k_diffusion(name):
    expected = torch.tensor(SAMPLED["results"][name], dtype=torch.float64)
    torch.testing.assert_close(run(name), expected, rtol=1e-9, atol=1e-9)


def test_lcm_forgets_all_but_the_picture_and_adds_fresh_noise():
    """By hand: ComfyUI's for models whose noise is added, x = denoised + sigma_next · noise."""
    x = torch.tensor(SAMPLED["x"], dtype=torch.float64)
    for sigma, sigma_next, noise in zip(SAMPLED["sigmas"], SAMPLED["sigmas"][1:], SAMPLED["noise"], strict=False):
        x = denoise(x, sigma) + sigma_next * torch.tensor(noise, dtype=torch.float64)
    torch.testing.assert_close(run("lcm"), x, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", LAID_OUT)
@pytest.mark.parametrize("steps", [5, 20, 28])
def test_a_scheduler_gives_comfyuis_noise_levels(name, steps):
    """Kolors': 1100 training steps, scaled_linear from 0.00085 to 0.014."""
    betas = torch.linspace(0.00085**0.5, 0.014**0.5, 1100, dtype=torch.float64) ** 2
    kept = torch.cumprod(1 - betas, 0)
    levels = [*SCHEDULERS[name](steps, (((1 - kept) / kept) ** 0.5).float()), 0.0]
    assert levels == pytest.approx(LAID_OUT[name][str(steps)], rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("function", [karras, exponential])
def test_a_scheduler_is_that_of_k_diffusion(function):
    levels = torch.tensor(SAMPLED["sigma_range"], dtype=torch.float64)
    expected = SAMPLED["schedules"][function.__name__]
    assert [*function(len(expected) - 1, levels), 0.0] == pytest.approx(expected, rel=1e-9)
