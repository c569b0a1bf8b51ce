"""KSampler: its settings, noise levels, samplers against exact solutions and against diffusers, and the way to them."""

from __future__ import annotations

import math

import diffusers
import numpy as np
import pytest
import torch
from diffusers.pipelines.mochi.pipeline_mochi import linear_quadratic_schedule

from kolors_lab.core.errors import SettingError
from kolors_lab.models.presets import get_preset
from kolors_lab.sampling.denoiser import Noise
from kolors_lab.sampling.ksampler import KSampler, get_sigmas, run_ksampler, sample
from kolors_lab.sampling.latents import empty_latents
from kolors_lab.sampling.pipeline import _denoiser, generate
from kolors_lab.sampling.samplers import SAMPLERS, _multistep
from kolors_lab.sampling.schedules import SCHEDULERS

BETAS = torch.linspace(0.00085**0.5, 0.014**0.5, 1100) ** 2
KEPT = (1 - BETAS).cumprod(0)
MODEL = ((1 - KEPT) / KEPT) ** 0.5  # Kolors' sigmas
EULER = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.014, "num_train_timesteps": 1100}
ORDERS = {
    "euler": 1, "ddim": 1, "heun": 2, "dpm_2": 2, "dpmpp_2m": 2, "res_multistep": 2, "lms": 2, "deis": 2,
    "uni_pc": 2, "uni_pc_bh2": 2,
}  # fmt: skip
NOISY = sorted(SAMPLERS.keys() - ORDERS.keys())


def sigmas(scheduler: str, steps: int, **settings) -> list[float]:
    return get_sigmas(MODEL, KSampler(scheduler=scheduler, steps=steps, **settings))


def seen(x, sigma):
    """The mean picture behind x where pictures lie around -1 and 1 by 0.5: a denoiser whose every answer is exact."""
    spread = 0.25 + sigma**2
    return (0.25 * x + sigma**2 * torch.tanh(x / spread)) / spread


def walk(name: str, levels: list[float], noise=None) -> torch.Tensor:
    start = torch.linspace(-12, 12, 9, dtype=torch.float64)
    return SAMPLERS[name](seen, start, levels, lambda *step: None, noise or (lambda: torch.zeros_like(start)))


def levels(count: int) -> list[float]:
    return np.geomspace(10, 0.1, count + 1).tolist()


# Settings -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("sampler_name", "dpm++2m", "nearest is dpmpp_2m;"), ("scheduler", "Karras", "nearest is karras;"),
        ("control_after_generate", "random", "nearest is randomize;"), ("denoise", 1.5, "from 0 to 1"),
        ("batch", 0, "from 1 to 64"), ("width", 1001, "multiple of 8"), ("seed", 2**64, "whole number"),
    ],
)  # fmt: skip
def test_a_setting_that_is_not_allowed_is_named_with_what_is(field, value, said):
    with pytest.raises(SettingError, match=rf"{field} = .*{said}"):
        KSampler(**{field: value})


def test_the_next_seed_is_as_comfyuis_control_says():
    def after(seed, control):
        return KSampler(seed=seed, control_after_generate=control).next_seed()

    assert [after(7, word) for word in ("fixed", "increment", "decrement")] == [7, 8, 6]
    assert after(2**64 - 1, "increment") == 0 and after(0, "decrement") == 2**64 - 1
    assert len({after(7, "randomize") for _ in range(4)}) == 4


def test_what_is_left_open_is_the_presets():
    settings = KSampler(seed=5, cfg=0.0).resolve(get_preset("tiny"))
    assert (settings.seed, settings.steps, settings.cfg, settings.width, settings.height) == (5, 20, 0.0, 128, 128)


# Noise levels ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 7, 20, 28, 50])
def test_leading_is_what_diffusers_does_for_kolors(steps):
    scheduler = diffusers.EulerDiscreteScheduler(**EULER, timestep_spacing="leading", steps_offset=1)
    scheduler.set_timesteps(steps)
    assert sigmas("leading", steps) == scheduler.sigmas.tolist()


@pytest.mark.parametrize(
    ("scheduler", "spacing", "extra", "steps"),
    [
        ("ddim_uniform", "leading", {"steps_offset": 1}, (20, 22, 25, 50)),
        ("simple", "trailing", {}, (20, 25, 50)),
        ("normal", "linspace", {}, (20, 25, 30)),
        ("karras", "linspace", {"use_karras_sigmas": True}, (20, 30)),
        ("exponential", "linspace", {"use_exponential_sigmas": True}, (20, 30)),
    ],
)
def test_schedulers_that_diffusers_has_too(scheduler, spacing, extra, steps):
    for count in steps:
        theirs = diffusers.EulerDiscreteScheduler(**EULER, timestep_spacing=spacing, **extra)
        theirs.set_timesteps(count)
        tolerance = 2e-3 if scheduler == "normal" else 1e-4  # diffusers goes straight in sigma between training steps
        assert sigmas(scheduler, count) == pytest.approx(theirs.sigmas.tolist(), rel=tolerance)


@pytest.mark.parametrize("steps", [5, 20, 28])
def test_sgm_uniform_is_diffusers_linspace_without_its_lowest(steps):
    theirs = diffusers.EulerDiscreteScheduler(**EULER, timestep_spacing="linspace")
    theirs.set_timesteps(steps + 1)
    assert sigmas("sgm_uniform", steps)[:-1] == pytest.approx(theirs.sigmas[:-2].tolist(), rel=2e-3)


@pytest.mark.parametrize("steps", [5, 20, 28])
def test_beta_takes_the_quantiles_of_diffusers(steps):
    """Theirs lie between the sigmas, ComfyUI's between the training steps, so of a model whose sigmas rise evenly they
    are the same, but for the half step to the next whole one."""
    even = torch.arange(1, 1101, dtype=torch.float64) / 100
    kept = 1 / (1 + even**2)
    betas = 1 - kept / torch.cat([torch.ones(1, dtype=torch.float64), kept[:-1]])
    theirs = diffusers.EulerDiscreteScheduler(1100, trained_betas=betas.tolist(), use_beta_sigmas=True)
    theirs.set_timesteps(steps + 1)  # they end at the lowest, which is left out here
    assert SCHEDULERS["beta"](steps, even) == pytest.approx(theirs.sigmas[:-2].tolist(), abs=0.0055)


@pytest.mark.parametrize("steps", [2, 5, 20])
def test_linear_quadratic_is_that_of_mochis_pipeline(steps):
    theirs = [MODEL[-1].item() * part for part in linear_quadratic_schedule(steps, 0.025)]
    assert sigmas("linear_quadratic", steps)[:-1] == pytest.approx(theirs, rel=1e-6)


def test_the_others_are_worked_out_from_their_formulas():
    low, high = MODEL[0].item(), MODEL[-1].item()
    angles = [math.atan(value) for value in sigmas("kl_optimal", 11)[:-1]]
    assert np.diff(angles, 2) == pytest.approx(0, abs=1e-6) and angles[0] == pytest.approx(math.atan(high))
    times = [MODEL.sub(value).abs().argmin().item() for value in sigmas("beta", 20)[:-1]]
    halves = [times[0] - times[10], times[10]]  # the quantiles of beta(0.6, 0.6) lie alike around its middle
    assert times[0] == 1099 and halves == pytest.approx([549.5, 549.5], abs=1)
    assert np.diff(times).max() > -20 and np.diff(times).min() < -60  # dense at both ends
    assert sigmas("karras", 2)[:2] == pytest.approx([high, low])


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_every_scheduler_falls_to_zero_at_any_number_of_steps(scheduler):
    for steps in (1, 2, 3, 30, 200):
        assert (np.diff(sigmas(scheduler, steps)) < 0).all() and sigmas(scheduler, steps)[-1] == 0


def test_ddim_uniform_runs_comfyuis_own_number_of_steps():
    assert [len(sigmas("ddim_uniform", steps)) - 1 for steps in (20, 28, 30, 40, 50)] == [20, 29, 31, 41, 50]


def test_denoise_runs_all_steps_of_a_longer_schedule():
    assert sigmas("karras", 20, denoise=0.6) == sigmas("karras", 33)[-21:]
    assert sigmas("karras", 20, denoise=0.0) == []


def test_samplers_of_half_steps_leave_the_last_sigma_out_as_in_comfyui():
    plain = sigmas("karras", 11)
    assert sigmas("karras", 10, sampler_name="dpm_2") == [*plain[:-2], 0.0]


def test_start_and_end_steps_cut_the_schedule():
    settings, whole = KSampler(steps=10), sigmas("leading", 10)
    assert get_sigmas(MODEL, settings, 0, 6, leftover=True) == whole[:7]
    assert get_sigmas(MODEL, settings, 0, 6) == [*whole[:6], 0.0]
    assert get_sigmas(MODEL, settings, 6, 10000) == whole[6:]
    assert get_sigmas(MODEL, settings, 10) == []


# Samplers -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ORDERS)
def test_deterministic_samplers_converge_to_one_picture_with_their_order(name):
    exact = walk("heun", levels(1600))
    errors = [(walk(name, levels(count)) - exact).abs().max().item() for count in (40, 80, 160)]
    assert math.log2(errors[1] / errors[2]) > ORDERS[name] - 0.2
    assert errors[-1] < (0.05 if ORDERS[name] == 1 else 2e-3)


@pytest.mark.parametrize("name", NOISY)
def test_samplers_with_fresh_noise_end_at_pictures(name):
    """Ends lie where pictures do, around -1 and 1 by 0.5, in the right proportions."""
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(4000, generator=generator, dtype=torch.float64) * 10
    fresh = lambda: torch.randn(4000, generator=generator, dtype=torch.float64)  # noqa: E731
    ends = SAMPLERS[name](seen, start, [*np.geomspace(10, 0.02, 60).tolist(), 0.0], lambda *step: None, fresh)
    assert ends.mean().item() == pytest.approx(0, abs=0.12)
    assert ends.abs().mean().item() == pytest.approx(1.02, abs=0.15)
    assert ends.std().item() == pytest.approx(math.sqrt(1.25), abs=0.15)


def test_ddpm_is_euler_ancestral_in_sigmas():
    draws = torch.randn(20, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ends = [walk(name, [*levels(12), 0.0], iter([*draws]).__next__) for name in ("ddpm", "euler_ancestral")]
    assert torch.allclose(*ends)


def steps_of_diffusers(scheduler, x: torch.Tensor) -> list[torch.Tensor]:
    """What a denoiser is shown on the way that a scheduler of diffusers takes, x = picture + sigma · noise."""
    looks, unscaled = [], scheduler.init_noise_sigma > 1.5  # the Euler family's x is like ours, the others' is scaled
    random = "sde" in scheduler.config.get("algorithm_type", "")
    options = {"generator": torch.Generator().manual_seed(0)} if random else {}
    for n, time in enumerate(scheduler.timesteps):
        if unscaled:
            scheduler.scale_model_input(x, time)  # finds the step
        half = hasattr(scheduler, "sigmas_interpol") and not scheduler.state_in_first_order
        known = scheduler.sigmas_interpol if half else scheduler.sigmas
        sigma = known[scheduler.step_index if unscaled else n].item()
        full = x if unscaled else x * math.sqrt(1 + sigma**2)
        looks.append(full)
        x = scheduler.step((full - seen(full, sigma)) / sigma, time, x, **options).prev_sample
    return looks


KARRAS = EULER | {"use_karras_sigmas": True, "timestep_spacing": "linspace"}


@pytest.mark.parametrize(
    ("name", "theirs", "options"),
    [
        ("euler", "EulerDiscreteScheduler", {}),
        ("heun", "HeunDiscreteScheduler", {}),
        ("dpm_2", "KDPM2DiscreteScheduler", {}),
        ("lms", "LMSDiscreteScheduler", {}),
        ("dpmpp_2m", "DPMSolverMultistepScheduler", {"solver_order": 2}),
        ("dpmpp_2m_sde", "DPMSolverMultistepScheduler", {"solver_order": 2, "algorithm_type": "sde-dpmsolver++"}),
        ("uni_pc", "UniPCMultistepScheduler", {"solver_order": 3, "solver_type": "bh1", "final_sigmas_type": "zero"}),
        ("uni_pc_bh2", "UniPCMultistepScheduler", {"solver_order": 3, "final_sigmas_type": "zero"}),
        ("deis in log sigma", "DEISMultistepScheduler", {"solver_order": 3, "lower_order_final": False}),
    ],
)
def test_one_way_with_diffusers(name, theirs, options):
    scheduler = getattr(diffusers, theirs)(**KARRAS, **options)
    scheduler.set_timesteps(12)
    down = [*dict.fromkeys(value for value in scheduler.sigmas.tolist() if value), 0.0]
    start, ours = torch.linspace(-30, 30, 9, dtype=torch.float64)[None, :, None], []
    keep = lambda i, x, denoised: ours.append(x)  # noqa: E731
    if name.startswith("deis"):
        _multistep(seen, start, down, keep, 3, math.log)
    else:
        generator = torch.Generator().manual_seed(0)
        SAMPLERS[name](seen, start, down, keep, lambda: torch.randn(start.shape, generator=generator))
    unscaled = scheduler.init_noise_sigma > 1.5
    looks = steps_of_diffusers(scheduler, start if unscaled else start / math.sqrt(1 + down[0] ** 2))
    looks = looks[::2] if name in ("heun", "dpm_2") else looks  # every second look is at the same step
    for n, (x, other) in enumerate(zip(ours, looks, strict=True)):
        assert torch.allclose(x, other.double(), atol=1e-4), f"step {n}"


def test_lcm_is_that_of_diffusers():
    """Which mixes the picture with a ten-millionth of what it was shown at the steps taken here."""
    theirs, start = diffusers.LCMScheduler(**EULER), torch.linspace(-30, 30, 9, dtype=torch.float64)
    theirs.set_timesteps(4)
    down = [MODEL[time].item() for time in theirs.timesteps]
    one, other = torch.Generator().manual_seed(0), torch.Generator().manual_seed(0)
    fresh = lambda: torch.randn(start.shape, generator=one, dtype=torch.float64)  # noqa: E731
    ours = SAMPLERS["lcm"](seen, start, [*down, 0.0], lambda *step: None, fresh)
    x = start / math.sqrt(1 + down[0] ** 2)
    x = x[None, :]
    for sigma, time in zip(down, theirs.timesteps, strict=True):
        full = x * math.sqrt(1 + sigma**2)
        x = theirs.step((full - seen(full, sigma)) / sigma, time, x, generator=other).prev_sample
    assert torch.allclose(ours, x[0], atol=1e-4)


# With the model -------------------------------------------------------------------------------------------------------

SETTINGS = {"steps": 4, "cfg": 4.0, "width": 64, "height": 64}


def latents(pipe, noise=None, **settings) -> torch.Tensor:
    options = {key: settings.pop(key) for key in tuple(settings) if key not in KSampler.__dataclass_fields__}
    one = KSampler(**SETTINGS | settings)
    start = empty_latents(pipe, one).repeat(one.batch, 1, 1, 1)
    with torch.no_grad():
        denoiser = _denoiser(pipe, ["白马"], ["王子"], [one], "webui")
    noise = noise or Noise([one.seed], start.shape[1:], one.batch)
    return run_ksampler(denoiser, one, options.pop("start", start), noise, **options)


def by_pipeline(pipe, scheduler=None, **settings) -> torch.Tensor:
    if scheduler:
        pipe.scheduler = scheduler.from_config(pipe.scheduler.config)
    return pipe(
        prompt="白马", negative_prompt="王子", num_inference_steps=4, guidance_scale=4.0, width=64, height=64,
        generator=torch.Generator().manual_seed(3), output_type="latent", **settings,
    ).images  # fmt: skip


def test_euler_and_leading_equal_the_pipeline(pipe):
    assert torch.allclose(latents(pipe, seed=3), by_pipeline(pipe), atol=1e-5)


def test_a_size_that_halves_to_odd_latents_equals_the_pipeline_too(pipe):
    """104 px are 13 latents, as 1000 px are 125: the UNet's halves of them are rounded up and cut again."""
    theirs = pipe(
        prompt="白马", num_inference_steps=2, guidance_scale=4.0, width=104, height=72,
        generator=torch.Generator().manual_seed(3),
    ).images[0]  # fmt: skip
    ours = generate(pipe, "白马", seed=3, steps=2, cfg=4.0, width=104, height=72)
    assert ours.size == (104, 72) and np.abs(np.asarray(ours, int) - np.asarray(theirs, int)).max() <= 1


def test_euler_ancestral_equals_diffusers_with_the_same_noise(pipe):
    ours = latents(pipe, seed=3, sampler_name="euler_ancestral")
    assert torch.allclose(ours, by_pipeline(pipe, diffusers.EulerAncestralDiscreteScheduler), atol=1e-3)


def test_noise_is_comfyuis_one_draw_for_the_whole_batch():
    noise = Noise([3], (4, 8, 8), batch=2)()
    assert torch.equal(noise, torch.randn(2, 4, 8, 8, generator=torch.Generator("cpu").manual_seed(3)))
    rough = Noise([3], (4, 8, 8), dtype=torch.bfloat16)()
    theirs = torch.randn(1, 4, 8, 8, generator=torch.Generator("cpu").manual_seed(3), dtype=torch.bfloat16)
    assert torch.equal(rough, theirs.float())


@pytest.mark.parametrize("scheduler", ["leading", "ddim_uniform", "karras"])
def test_the_start_is_as_strong_as_in_comfyui_and_for_leading_as_in_diffusers(scheduler):
    first, seen_by = sigmas(scheduler, 20)[0], []

    class Model:
        sigmas, device = MODEL, torch.device("cpu")

        def __call__(self, x, sigma):
            seen_by.append(x)
            return x

    run_ksampler(Model(), KSampler(steps=20, scheduler=scheduler), torch.zeros(1, 4, 8, 8), Noise([0], (4, 8, 8)))
    strength = first if scheduler == "ddim_uniform" else math.sqrt(first**2 + 1)
    assert torch.allclose(seen_by[0], Noise([0], (4, 8, 8))() * strength)


def test_two_halves_with_leftover_noise_are_the_whole(pipe):
    whole, noise = latents(pipe, seed=1), Noise([1], (4, 8, 8))
    half = latents(pipe, noise, seed=1, end_at_step=2, leftover=True)
    assert torch.equal(latents(pipe, noise, seed=1, start=half, start_at_step=2, add_noise=False), whole)
    assert not torch.allclose(latents(pipe, seed=1, end_at_step=2), half)


def test_nothing_to_do_leaves_latents_as_they_are(pipe):
    start = torch.full((1, 4, 8, 8), 0.5)
    assert torch.equal(latents(pipe, start=start, denoise=0.0), start)
    assert torch.equal(latents(pipe, start=start, start_at_step=9), start)


def test_guidance_may_differ_from_picture_to_picture(pipe):
    one, other = (KSampler(seed=1, **SETTINGS | {"cfg": cfg, "steps": 1}) for cfg in (1.0, 6.0))
    both = _denoiser(pipe, ["白马"] * 2, ["王子"] * 2, [one, other], "webui")
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        together = both(x.repeat(2, 1, 1, 1), 3.0)
        apart = [_denoiser(pipe, ["白马"], ["王子"], [each], "webui")(x, 3.0) for each in (one, other)]
    assert torch.allclose(together, torch.cat(apart), atol=1e-4)


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_draws_the_same_again(pipe, name):
    settings = {"steps": 2, "width": 64, "height": 64, "sampler_name": name, "scheduler": "karras", "cfg": 1.0}
    first, second = (np.asarray(generate(pipe, "白马", **settings)) for _ in range(2))
    assert np.array_equal(first, second)


def test_the_callback_hears_every_step_and_may_end_the_run():
    heard = []

    def callback(i, x, denoised):
        heard.append(i)
        if i == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample(seen, torch.zeros(1, 4, 8, 8), Noise([0], (4, 8, 8)), levels(10), callback=callback)
    assert heard == [0, 1, 2, 3]
