"""How fast pictures are drawn, against a plain KolorsPipeline.

    python benchmarks/generate.py                        # tiny: eight panels at once and one call per panel
    python benchmarks/generate.py --compile              # the same, our UNet compiled
    python benchmarks/generate.py --full-size --batch 1  # Kolors' shapes with random weights, 1024 px, one card

On tiny each text is encoded once and the panels are drawn at once; the other way is one call per panel. At full size
both draw the same batch. The two ways take turns, and the median of the rounds counts: other work on the machine comes
and goes.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from diffusers import KolorsPipeline
from full_size import PROMPT, ceiling, find_card, peak_of, random_kolors, work_of

from kolors_lab.comic.panels import read_story, story_file
from kolors_lab.models.loading import load_pipeline
from kolors_lab.models.presets import get_preset, pipeline_path
from kolors_lab.sampling.ksampler import KSampler
from kolors_lab.sampling.pipeline import generate_batch

FLOOR_AIM, STOCK_AIM = 2.2, 1.25  # at full size: times the arithmetic's floor at most; times the stock's speed at least


def drawers(
    plain, pipe, texts: Sequence[tuple[str, str, int]], cfg: float, together: bool
) -> tuple[Callable[[int], list], Callable[[int], list]]:
    """The stock pipeline's way, by `plain`, and ours to draw (prompt, negative prompt, seed) in so many steps;
    `together`: the stock draws them in one call too."""

    def stock(steps: int) -> list:
        prompts, negatives, seeds = (list(column) for column in zip(*texts, strict=True))
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        settings = {"num_inference_steps": steps, "guidance_scale": cfg}
        if together:
            return plain(prompt=prompts, negative_prompt=negatives, generator=generators, **settings).images
        return [
            plain(prompt=prompt, negative_prompt=negative, generator=generator, **settings).images[0]
            for prompt, negative, generator in zip(prompts, negatives, generators, strict=True)
        ]

    def ours(steps: int) -> list:
        prompts, negatives, seeds = zip(*texts, strict=True)
        samplers = [KSampler(seed=seed, steps=steps, cfg=cfg) for seed in seeds]
        return generate_batch(pipe, prompts, negatives, samplers, prompt_syntax="plain")

    return stock, ours


def panels(options: argparse.Namespace) -> None:
    """The story's eight panels on the CPU, or on a card that is there."""
    preset = get_preset(options.preset)
    pipe, steps = load_pipeline(preset), options.steps or preset.steps
    plain = KolorsPipeline.from_pretrained(pipeline_path(preset), torch_dtype=pipe.dtype).to(pipe.device)
    plain.set_progress_bar_config(disable=True)
    texts = [(scene.prompt, scene.negative_prompt, scene.seed) for scene in read_story(story_file(None))[:8]]
    stock, ours = drawers(plain, pipe, texts, preset.cfg, together=False)
    pipe.unet = torch.compile(pipe.unet) if options.compile else pipe.unet
    seconds: dict = {stock: [], ours: []}
    for number in range(options.rounds + options.compile):
        made = {}
        for way in (stock, ours):
            begin = time.perf_counter()
            made[way] = [np.asarray(image, int) for image in way(steps)]
            seconds[way].append(time.perf_counter() - begin)
        if options.compile and not number:
            print(f"first call, compilation included {seconds[ours].pop():6.2f} s")
            seconds[stock].clear()
    far = max(abs(a - b).max() for a, b in zip(made[stock], made[ours], strict=True))
    one, all_at_once = (statistics.median(seconds[way]) for way in (stock, ours))
    print(f"{len(texts)} panels, {steps} steps, {torch.get_num_threads()} threads")
    print(f"one call per panel {one:6.2f} s\nall at once        {all_at_once:6.2f} s: {one / all_at_once:.2f} x")
    print(f"largest difference {far} of 255")


def full_size(options: argparse.Namespace, device: torch.device) -> None:
    """Seconds per picture, peak memory, and the share of the card's ceiling, of both ways at one batch."""
    dtype, steps = getattr(torch, options.dtype), options.steps or 50
    pipe = random_kolors(device, dtype).to(device)
    pipe.set_progress_bar_config(disable=True)
    texts = [(PROMPT, "", seed) for seed in range(options.batch)]
    ways = dict(zip(("stock", "ours"), drawers(pipe, pipe, texts, 4.0, together=True), strict=True))
    plain, compiled = pipe.unet, torch.compile(pipe.unet) if options.compile else pipe.unet
    found: dict[str, list] = {name: [] for name in ways}
    for number in range(options.rounds + 1):
        for name, way in ways.items():
            pipe.unet = compiled if name == "ours" else plain
            row = peak_of(lambda: way(steps if number else 2), device)  # noqa: B023 (called at once); first warms up
            if number:
                found[name].append(row)
    pipe.unet = plain
    once, twice = (work_of(lambda: ways["ours"](count)) for count in (1, 2))  # noqa: B023
    floor = (once + (steps - 1) * (twice - once)) / ceiling(device, dtype) / options.batch
    print(f"{torch.cuda.get_device_name(device)}, {options.dtype}, batch {options.batch}, {steps} steps, 1024 px")
    each = {name: statistics.median(s for s, _ in rows) / options.batch for name, rows in found.items()}
    for name, rows in found.items():
        print(
            f"{name:5} {each[name]:7.2f} s a picture {max(m for _, m in rows):6.2f} GiB, "
            f"{floor / each[name]:.0%} of the measured matmul ceiling, {each[name] / floor:.2f} x its floor"
        )
    print(f"ours is {each['stock'] / each['ours']:.2f} times as fast (aim: {STOCK_AIM}; floor aim: {FLOOR_AIM})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--steps", type=int, help="the preset's, or 50 at full size")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--compile", action="store_true", help="compile the UNet for our way")
    parser.add_argument("--full-size", action="store_true", help="Kolors' own shapes; needs a card")
    parser.add_argument("--batch", type=int, default=1, help="pictures at once, at full size")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float16"), help="at full size")
    options = parser.parse_args()
    if options.full_size:
        full_size(options, find_card(parser))
    else:
        panels(options)


if __name__ == "__main__":
    main()
