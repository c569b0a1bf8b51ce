"""Kolors at its full size with random weights, and what is measured of it: time, memory, work, the card's ceiling.

    python benchmarks/full_size.py --cpu .cache/full-size/kolors      # 20 GB of disk, half an hour on two cores
    python benchmarks/full_size.py --cpu FOLDER --shapes small --sizes 128    (a rehearsal, half a minute)

With --cpu, what a training step and a picture are made of: a caption read, a picture encoded, a step with gradient
checkpointing as the memory of this machine asks for and with all of it, a step of drawing with guidance, a picture
decoded, each with its part of the model alone in memory. A step of the camp's loop reads, encodes and always
checkpoints. The median of the rounds counts.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import kolors_lab  # noqa: F401  before torch: how its threads wait is said here

# isort: split
import torch

from kolors_lab.lora.adapter import add_lora
from kolors_lab.models.device import pick_device
from kolors_lab.models.loading import load_parts
from kolors_lab.models.memory import memory_used, set_checkpointing
from kolors_lab.models.presets import GIB, get_preset
from kolors_lab.training.config import TrainConfig, resolve
from kolors_lab.training.stages import plan_training, with_checkpointing

PROMPT = "二次元，紫色短发小女孩，在家中沙发上坐着，双手托着腮，很无聊，全身，粉色连衣裙"
PARTS = ("read", "encode", "train", "checkpointed", "draw", "decode")
NO_CARD = "--full-size needs a CUDA card; there is none here that works\n"


def find_card(parser: argparse.ArgumentParser, memory: float | None = None) -> torch.device:
    """The card, capped at `memory` GiB; ends the script with one line and exit code 2 where there is none."""
    device = pick_device()
    if device.type != "cuda":
        parser.exit(2, NO_CARD)
    if memory:
        torch.cuda.set_per_process_memory_fraction(memory * GIB / torch.cuda.mem_get_info(device)[1])
    return device


def random_kolors(device: torch.device, dtype: torch.dtype):
    """Kolors' shapes, 2.58 B parameters in the UNet and 6.2 B in the text encoder, with random weights."""
    import sentencepiece
    from diffusers import AutoencoderKL, EulerDiscreteScheduler, KolorsPipeline, UNet2DConditionModel
    from diffusers.pipelines.kolors import ChatGLMModel, ChatGLMTokenizer
    from diffusers.pipelines.kolors.text_encoder import ChatGLMConfig

    torch.set_default_dtype(dtype)
    folder = tempfile.mkdtemp()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([PROMPT] * 9), model_prefix=f"{folder}/words", vocab_size=300, byte_fallback=True,
        hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    with device:
        config = ChatGLMConfig(
            num_layers=28, padded_vocab_size=65024, hidden_size=4096, ffn_hidden_size=13696, kv_channels=128,
            num_attention_heads=32, multi_query_attention=True, multi_query_group_num=2, add_qkv_bias=True,
            original_rope=True,
        )  # fmt: skip
        text_encoder = ChatGLMModel(config, device=device)  # not told, it makes its layers on the CPU all the same
        for parameter in text_encoder.parameters():  # the constructor leaves memory as it finds it
            torch.nn.init.normal_(parameter, 1.0 if parameter.ndim == 1 else 0.0, 0.02)
        text_encoder.cpu()
        unet = UNet2DConditionModel(
            sample_size=128, block_out_channels=(320, 640, 1280), layers_per_block=2,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=[1, 2, 10], attention_head_dim=[5, 10, 20], cross_attention_dim=2048,
            use_linear_projection=True, encoder_hid_dim=4096, encoder_hid_dim_type="text_proj",
            addition_embed_type="text_time", addition_time_embed_dim=256, projection_class_embeddings_input_dim=5632,
        )  # fmt: skip
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512), layers_per_block=2, down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4, scaling_factor=0.13025,
        )  # fmt: skip
    torch.set_default_dtype(torch.float32)
    scheduler = EulerDiscreteScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.014, num_train_timesteps=1100,
        timestep_spacing="leading", steps_offset=1,
    )  # fmt: skip
    return KolorsPipeline(vae, text_encoder, ChatGLMTokenizer(f"{folder}/words.model"), unet, scheduler)


def peak_of(step: Callable[[], object], device: torch.device) -> tuple[float, float]:
    """Seconds of one step, and GiB: the most that a card held meanwhile, or what the process holds after it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start, memory_used(device)


def ceiling(device: torch.device, dtype: torch.dtype, side: int = 8192) -> float:
    """TFLOP/s of one large matrix product, the most that the card gives."""
    a = torch.randn(side, side, device=device, dtype=dtype)
    seconds = min(peak_of(lambda: a @ a, device)[0] for _ in range(10))
    return 2 * side**3 / seconds / 1e12


def work_of(step: Callable[[], object]) -> float:
    """TFLOP that one step takes."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops() / 1e12


def on_cpu(model: Path, size: int, rounds: int) -> dict[str, float]:
    """Seconds of each part of a step and of a picture of `size` px on the CPU, and the most GiB that were held."""
    from train import MAX_STEPS, Pictures, ours

    cpu, preset, found = torch.device("cpu"), replace(get_preset(str(model)), size=size), {"GiB": 0.0}
    config = resolve(TrainConfig(steps=MAX_STEPS, batch_size=1, target_modules=("attention",)), preset)
    dtype = plan_training(preset, config, cpu).dtype
    config = with_checkpointing(preset, config, dtype, cpu)

    def measure(name: str, step: Callable[[], object]) -> None:
        taken = [peak_of(step, cpu) for _ in range(rounds + 1)][1:]  # the first warms up
        found[name] = statistics.median(seconds for seconds, _ in taken)
        found["GiB"] = max(found["GiB"], *(memory for _, memory in taken))

    with torch.no_grad():
        pipe = load_parts(preset, ("text_encoder",), dtype)
        measure("read", lambda: pipe.encode_prompt(PROMPT, cpu, do_classifier_free_guidance=False))
        pipe = None  # or both would be there while the next one comes
        pipe = load_parts(preset, ("vae",), dtype)
        pixels, latents = (torch.zeros(1, c, s, s, dtype=dtype) for c, s in ((3, size), (4, size // 8)))
        measure("encode", lambda: pipe.vae.encode(pixels))
        measure("decode", lambda: pipe.vae.decode(latents))
    pipe = None
    pipe = load_parts(preset, ("unet",), dtype)
    pictures = Pictures(pipe, size, cpu)
    both = pictures.batch(torch.zeros(2, dtype=torch.int64), cpu)
    added = {"text_embeds": both["pooled"], "time_ids": both["time_ids"]}
    with torch.no_grad():
        wanted = (both["latents"].to(dtype), 500, both["prompt_embeds"])
        measure("draw", lambda: pipe.unet(*wanted, added_cond_kwargs=added))
    add_lora(pipe.unet, config.rank, config.alpha, config.target_modules, config.seed)
    pipe.unet.train()
    for name, mode in (("train", config.gradient_checkpointing), ("checkpointed", "full")):
        set_checkpointing(pipe.unet, mode)
        measure(name, ours(pipe, pictures, config))
    return found


def told(size: int, found: dict[str, float], steps: int = 50) -> str:
    """Two lines of what was measured: the training against the camp's, and a picture of so many steps."""
    camp = found["read"] + found["encode"] + found["checkpointed"]
    picture = 2 * found["read"] + steps * found["draw"] + found["decode"]
    parts = ", ".join(f"{name} {found[name]:.2f}" for name in PARTS)
    return (
        f"{size} px, {torch.get_num_threads()} threads, seconds: {parts}; the most held {found['GiB']:.1f} GiB\n"
        f"a step: ours {found['train']:.2f} s, the camp's {camp:.2f} s, {camp / found['train']:.2f} x; "
        f"a picture of {steps} steps: {picture:.0f} s"
    )


def main(argv: list[str] | None = None) -> None:
    from kolors_folder import SHAPES, make_folder

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu", type=Path, required=True, metavar="FOLDER", help="where the weights lie, or are made")
    parser.add_argument("--shapes", choices=SHAPES, default="full", help="%(default)s")
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 1024], help="px of the pictures")
    parser.add_argument("--rounds", type=int, default=3, help="%(default)s")
    options = parser.parse_args(argv)
    model = make_folder(options.cpu, options.shapes)
    for size in options.sizes:
        print(told(size, on_cpu(model, size, options.rounds)), flush=True)


if __name__ == "__main__":
    main()
