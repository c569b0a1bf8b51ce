"""Make samplers.json: what k-diffusion's own functions make of an analytic denoiser and recorded noise, in float64.

    pip install --no-deps k-diffusion==0.1.1.post1
    python tests/golden/make_samplers.py

Of what k-diffusion imports, the samplers use torch and scipy only; the rest is stubbed here.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import math
import sys
from pathlib import Path
from unittest.mock import MagicMock

import torch

SAMPLERS = (
    "euler", "euler_ancestral", "heun", "dpm_2", "dpm_2_ancestral", "lms", "dpmpp_2s_ancestral", "dpmpp_sde",
    "dpmpp_2m", "dpmpp_2m_sde", "dpmpp_3m_sde",
)  # fmt: skip
STUBS = ("torchdiffeq", "torchsde", "torchvision", "torchvision.transforms")
SIGMA_MIN, SIGMA_MAX = 0.0292, 14.6146


def load_sampling():
    """k_diffusion.sampling without the rest of the package, which imports much more."""
    for name in STUBS:
        sys.modules.setdefault(name, MagicMock())
    root = Path(importlib.util.find_spec("k_diffusion").origin).parent
    sys.modules["k_diffusion"] = MagicMock(__path__=[str(root)])
    for name in ("utils", "sampling"):
        spec = importlib.util.spec_from_file_location(f"k_diffusion.{name}", root / f"{name}.py")
        module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
        setattr(sys.modules["k_diffusion"], name, module)
        spec.loader.exec_module(module)
    return module


def denoise(x, sigma):
    """A picture that depends on both, and on neither linearly."""
    return torch.tanh(x / (1 + sigma**2) ** 0.5) + 0.3 * torch.cos(sigma + x)


class Recorded:
    """Recorded unit noise, one row for each call."""

    def __init__(self, noise):
        self.noise, self.first = iter(noise), None

    def __call__(self, sigma, sigma_next):
        return next(self.noise)

    def halves(self, sigma, sigma_next):
        """Of one Brownian path, a row for each half of a step: dpmpp_sde asks for the first half, to the middle in log
        sigma, and then for the whole step."""
        if self.first is None:
            self.first = next(self.noise)
            return self.first
        middle, first, self.first = (sigma * sigma_next) ** 0.5, self.first, None
        second = next(self.noise)
        both = first * (sigma - middle) ** 0.5 + second * (middle - sigma_next) ** 0.5
        return both / (sigma - sigma_next) ** 0.5


def main():
    sampling = load_sampling()
    torch.set_default_dtype(torch.float64)
    generator = torch.Generator().manual_seed(0)
    sigmas = sampling.get_sigmas_karras(7, SIGMA_MIN, SIGMA_MAX)
    x = torch.randn(6, generator=generator) * sigmas[0]
    noise = torch.randn(16, 6, generator=generator)
    results = {}
    for name in SAMPLERS:
        function = getattr(sampling, f"sample_{name}")
        options = {"disable": True}
        if "noise_sampler" in inspect.signature(function).parameters:
            recorded = Recorded(noise)
            options["noise_sampler"] = recorded.halves if name == "dpmpp_sde" else recorded
        # k-diffusion's lms draws its polynomial on to sigma 0, where ComfyUI, as everywhere, takes the picture
        levels = sigmas[:-1] if name == "lms" else sigmas
        drawn = function(lambda x, sigma: denoise(x, sigma[:, None]), x[None], levels, **options)
        results[name] = drawn[0].tolist()
    schedules = {
        "karras": sampling.get_sigmas_karras(7, SIGMA_MIN, SIGMA_MAX).tolist(),
        "exponential": sampling.get_sigmas_exponential(7, SIGMA_MIN, SIGMA_MAX).tolist(),
    }
    content = {
        "made_by": "k-diffusion 0.1.1.post1",
        "x": x.tolist(),
        "sigmas": sigmas.tolist(),
        "noise": noise.tolist(),
    }
    content |= {"results": results, "sigma_range": [SIGMA_MIN, SIGMA_MAX], "schedules": schedules}
    assert all(math.isfinite(value) for row in results.values() for value in row)
    Path(__file__).with_name("samplers.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
