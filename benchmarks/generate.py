"""How much faster eight panels are drawn at once, each text encoded once, than by one KolorsPipeline call per panel.

    python benchmarks/generate.py              # tiny, the preset's steps, three rounds
    python benchmarks/generate.py --steps 5 --rounds 1

Both draw the same pictures from the same seeds, take turns, and the median of the rounds counts: other work on the
machine comes and goes.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch

from kolors_lab.generate import generate_batch
from kolors_lab.models import get_preset, load_pipeline
from kolors_lab.sampling import KSampler
from kolors_lab.story import read_story, story_file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    preset = get_preset(options.preset)
    pipe, scenes, steps = load_pipeline(preset), read_story(story_file(None))[:8], options.steps or preset.steps

    def stock() -> list:
        settings = {"num_inference_steps": steps, "guidance_scale": preset.cfg}
        return [
            pipe(
                prompt=scene.prompt, negative_prompt=scene.negative_prompt, **settings,
                generator=torch.Generator("cpu").manual_seed(scene.seed),
            ).images[0]
            for scene in scenes
        ]  # fmt: skip

    def ours() -> list:
        samplers = [KSampler(seed=scene.seed, steps=steps, cfg=preset.cfg) for scene in scenes]
        texts = [scene.prompt for scene in scenes], [scene.negative_prompt for scene in scenes]
        return generate_batch(pipe, *texts, samplers, prompt_syntax="plain")

    seconds: dict = {stock: [], ours: []}
    for _ in range(options.rounds):
        made = {}
        for way in (stock, ours):
            begin = time.perf_counter()
            made[way] = [np.asarray(image, int) for image in way()]
            seconds[way].append(time.perf_counter() - begin)
    far = max(abs(a - b).max() for a, b in zip(made[stock], made[ours], strict=True))
    one, all_at_once = (statistics.median(seconds[way]) for way in (stock, ours))
    print(f"{len(scenes)} panels, {steps} steps, {torch.get_num_threads()} threads")
    print(f"one call per panel {one:6.2f} s\nall at once        {all_at_once:6.2f} s: {one / all_at_once:.2f} x")
    print(f"largest difference {far} of 255")


if __name__ == "__main__":
    main()
