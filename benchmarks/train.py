"""How fast a LoRA is trained, and in how much memory, by our loop and by the one that the camp's command runs.

    python benchmarks/train.py                                 # tiny, batch 4, on the CPU or the card that is there
    python benchmarks/train.py --full-size                     # Kolors' shapes with random weights, 1024 px, one card
    python benchmarks/train.py --full-size --checkpointing full --dtype float16 --memory 14.5     # as on a T4

The camp's loop runs text encoder and VAE encoder in every step, has one timestep for the whole batch and no schedule.
Both train the same LoRA with AdamW on the same pictures, on a CPU by turns; the median of the rounds counts, since
other work on the machine comes and goes.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
from collections.abc import Callable

import torch
from full_size import PROMPT, ceiling, find_card, peak_of, random_kolors, work_of
from torch.nn import functional

from kolors_lab.lora.adapter import add_lora, unload_lora
from kolors_lab.models.device import pick_device
from kolors_lab.models.loading import load_pipeline
from kolors_lab.models.memory import set_checkpointing
from kolors_lab.models.presets import get_preset
from kolors_lab.models.processes import start_processes
from kolors_lab.training.config import CHECKPOINTING, TrainConfig, resolve
from kolors_lab.training.loop import Training

ROUNDS, MAX_STEPS = 5, 100_000
TOKENS = 23  # of PROMPT; the other places of 256 are padding


class Pictures:
    """As many random pictures as a batch wants: pixels for the camp's loop, their encodings for ours."""

    def __init__(self, pipe, size: int, device: torch.device):
        dtype, width = pipe.unet.dtype, pipe.unet.config.encoder_hid_dim
        self.pixels = torch.rand(1, 3, size, size, device=device, dtype=dtype) * 2 - 1
        padding, words = torch.randn(1, 1, width), torch.randn(1, TOKENS, width)
        embeds = torch.cat([padding.expand(1, 256 - TOKENS, width), words], 1)
        self.batch_of_one = {
            "latents": torch.randn(1, 4, size // 8, size // 8, device=device),
            "time_ids": torch.tensor([[size, size, 0, 0, size, size]], dtype=torch.float32, device=device),
            "prompt_embeds": embeds.to(device, dtype),
            "pooled": torch.randn(1, width, device=device, dtype=dtype),
            "weight": torch.ones(1, device=device),
        }

    def batch(self, index: torch.Tensor, device: torch.device) -> dict[str, torch.Tensor]:
        return {k: v.expand(len(index), *v.shape[1:]).contiguous() for k, v in self.batch_of_one.items()}

    def batches(self, sizes: list[int], generator: torch.Generator) -> list[torch.Tensor]:
        return [torch.zeros(size, dtype=torch.int64) for size in sizes]


def ours(pipe, pictures: Pictures, config: TrainConfig) -> Callable[[], object]:
    """The library's step."""
    return Training(pipe.unet, pipe.scheduler, pictures, config, start_processes()).take_step


def camps(pipe, pictures: Pictures, config: TrainConfig) -> Callable[[], object]:
    """DiffSynth's train_kolors_lora.py, step by step, in diffusers' classes."""
    from diffusers import DDPMScheduler

    unet, device = pipe.unet.train(), pipe.unet.device
    weights = [parameter for parameter in unet.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=config.learning_rate)
    noise_scheduler = DDPMScheduler.from_config(pipe.scheduler.config)
    dtype = unet.conv_in.weight.dtype
    scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
    sides = pictures.batch_of_one["time_ids"]

    def step() -> float:
        size = config.batch_size
        with torch.no_grad():
            embeds, _, pooled, _ = pipe.encode_prompt([PROMPT] * size, device, do_classifier_free_guidance=False)
            pixels = pictures.pixels.expand(size, -1, -1, -1)
            latents = pipe.vae.encode(pixels).latent_dist.sample() * pipe.vae.config.scaling_factor
        noise = torch.randn_like(latents)
        timestep = torch.randint(len(noise_scheduler), (1,), device=device)
        noisy = noise_scheduler.add_noise(latents, noise, timestep)
        conditions = {"text_embeds": pooled, "time_ids": sides.expand(size, -1)}
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            predicted = unet.forward(
                noisy, timestep, embeds, added_cond_kwargs=conditions
            ).sample  # past our padding.py
        value = functional.mse_loss(predicted.float(), noise.float())
        scaler.scale(value).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        return value.item()

    return step


def compare(pipe, config: TrainConfig, size: int, steps: int) -> dict[str, tuple[float, float]]:
    """Pictures per second and GiB of both loops; one that does not fit is missing."""
    device = pipe.unet.device
    pictures = Pictures(pipe, size, device)
    loops = {"ours": ours(pipe, pictures, config), "camp": camps(pipe, pictures, config)}
    found = {name: [] for name in loops}
    rounds = list(itertools.product(range(ROUNDS + 1), loops))
    if device.type == "cuda":  # one loop after the other: the text encoder's 12 GB would move in every round
        rounds.sort(key=lambda one: one[1])
    for number, name in rounds:
        try:
            move_helpers(pipe, device if name == "camp" else "cpu")
            taken = [peak_of(loops[name], device) for _ in range(steps if number else 2)]  # the first warms up
        except torch.cuda.OutOfMemoryError:
            found.pop(name, None)
            continue
        if number and name in found:
            found[name].append((config.batch_size * steps / sum(s for s, _ in taken), max(m for _, m in taken)))
    return {name: (statistics.median(s for s, _ in rows), max(m for _, m in rows)) for name, rows in found.items()}


def move_helpers(pipe, device: torch.device | str) -> None:
    """Text encoder and VAE, which only the camp's loop keeps at hand."""
    pipe.text_encoder.to(device)
    pipe.vae.to(device)


def best_batch(pipe, config: TrainConfig, size: int) -> dict[str, tuple[int, float]]:
    """The batch, doubled while it fits, that trains most pictures per second, and how many, for each loop."""
    found = {}
    for name, make in (("ours", ours), ("camp", camps)):
        move_helpers(pipe, pipe.unet.device if name == "camp" else "cpu")
        for batch in (2**n for n in range(8)):
            try:
                wanted = TrainConfig(**vars(config) | {"batch_size": batch})
                step = make(pipe, Pictures(pipe, size, pipe.unet.device), wanted)
                seconds = min(peak_of(step, pipe.unet.device)[0] for _ in range(4))
            except torch.cuda.OutOfMemoryError:
                torch.cuda.empty_cache()
                break
            if batch / seconds > found.get(name, (0, 0.0))[1]:
                found[name] = (batch, batch / seconds)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full-size", action="store_true", help="Kolors' own shapes; needs a card")
    parser.add_argument("--batch", type=int, help="pictures per step; 4, or 1 at full size")
    parser.add_argument("--steps", type=int, default=8, help=f"steps in each of the {ROUNDS} rounds")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float16"), help="at full size")
    parser.add_argument("--checkpointing", default="none", choices=CHECKPOINTING)
    parser.add_argument("--memory", type=float, help="cap the card at so many GiB")
    options = parser.parse_args()
    device = find_card(parser, options.memory) if options.full_size else pick_device()
    preset = get_preset("kolors" if options.full_size else "tiny")
    pipe = random_kolors(device, getattr(torch, options.dtype)) if options.full_size else load_pipeline(preset, device)
    batch = options.batch or (1 if options.full_size else 4)
    config = resolve(TrainConfig(steps=MAX_STEPS, batch_size=batch), preset)
    add_lora(pipe.unet, config.rank, config.alpha, config.target_modules, config.seed)
    set_checkpointing(pipe.unet, options.checkpointing)
    pipe.unet.train()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"
    print(f"{preset.name}, {preset.size} px, batch {batch}, checkpointing {options.checkpointing}, {name}")
    figures = compare(pipe, config, preset.size, options.steps)
    for loop, (speed, memory) in figures.items():
        print(f"{loop:5} {speed:8.2f} pictures/s {memory:7.2f} GiB")
    if len(figures) == 2:
        print(f"ratio {figures['ours'][0] / figures['camp'][0]:8.2f} (ours / camp)")
    if options.full_size and not options.memory:
        most = best_batch(pipe, config, preset.size)
        print(
            "best batch: "
            + ", ".join(f"{loop} {size} ({speed:.2f} pictures/s)" for loop, (size, speed) in most.items())
        )
        wanted = TrainConfig(**vars(config) | {"batch_size": most["ours"][0]})
        step = ours(pipe, Pictures(pipe, preset.size, device), wanted)
        share = work_of(step) / most["ours"][0] * most["ours"][1] / ceiling(device, pipe.unet.conv_in.weight.dtype)
        print(f"{share:.0%} of the card's measured matmul ceiling")
    else:
        print(f"200 steps of {batch}: {200 * batch / figures['ours'][0]:.0f} s")
    unload_lora(pipe)


if __name__ == "__main__":
    main()
