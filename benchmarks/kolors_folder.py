"""A KolorsPipeline folder of random weights in Kolors' full shapes (17 GB, fp16 files named as Kolors-diffusers names
them), written tensor by tensor in a few minutes: what Kolors asks of a machine can be tried without its weights.

    python benchmarks/kolors_folder.py FOLDER                   (on a disk with 20 GB)
    python benchmarks/kolors_folder.py FOLDER --shapes small    (tiny-kolors' shapes, as a rehearsal)
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import torch

from kolors_lab.core.files import data_dir

TINY = data_dir() / "tiny-kolors"  # the same classes and files, smaller; what differs stands in LARGE
LARGE = {
    "text_encoder": {
        "num_layers": 28, "hidden_size": 4096, "ffn_hidden_size": 13696, "kv_channels": 128, "num_attention_heads": 32,
        "padded_vocab_size": 65024, "vocab_size": 65024,
    },
    "unet": {
        "sample_size": 128, "block_out_channels": [320, 640, 1280], "transformer_layers_per_block": [1, 2, 10],
        "attention_head_dim": [5, 10, 20], "cross_attention_dim": 2048, "encoder_hid_dim": 4096,
        "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 5632, "norm_num_groups": 32,
    },
    "vae": {
        "block_out_channels": [128, 256, 512, 512], "layers_per_block": 2, "norm_num_groups": 32, "sample_size": 1024,
        "mid_block_add_attention": True, "scaling_factor": 0.13025,
    },
}  # fmt: skip
TILE = 1 << 20  # random numbers; every tensor repeats them
SHAPES = {"full": LARGE, "small": {part: {} for part in LARGE}}


def make_folder(folder: Path, shapes: str = "full") -> Path:
    """Write the folder, where it is not there yet; `model_index.json` comes last and says that it is whole."""
    if (folder / "model_index.json").exists():
        return folder
    for part, changes in SHAPES[shapes].items():
        config = json.loads((TINY / part / "config.json").read_text(encoding="utf-8")) | changes
        (folder / part).mkdir(parents=True, exist_ok=True)
        (folder / part / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
        name = "model" if part == "text_encoder" else "diffusion_pytorch_model"
        write_random(shapes_of(part, config), folder / part / f"{name}.fp16.safetensors")
    for part in ("tokenizer", "scheduler"):
        shutil.copytree(TINY / part, folder / part, dirs_exist_ok=True)
    shutil.copy(TINY / "model_index.json", folder)
    return folder


def shapes_of(part: str, config: dict) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of a part, without making any."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from diffusers.pipelines.kolors.text_encoder import ChatGLMConfig, ChatGLMModel

    with torch.device("meta"):
        if part == "text_encoder":
            model = ChatGLMModel(ChatGLMConfig(**config), empty_init=False)
        else:
            model = {"unet": UNet2DConditionModel, "vae": AutoencoderKL}[part].from_config(config)
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def write_random(shapes: dict[str, tuple[int, ...]], file: Path) -> None:
    """A safetensors file of fp16: norms at 1, biases at 0, all else small random numbers, never all in memory."""
    header, offset = {}, 0
    for name, shape in shapes.items():
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    tile = (np.random.default_rng(0).standard_normal(TILE) * 0.02).astype(np.float16)
    with file.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shapes.items():
            count = int(np.prod(shape))
            if len(shape) < 2:
                np.full(count, 0 if name.endswith("bias") else 1, np.float16).tofile(stream)
                continue
            for first in range(0, count, TILE):
                tile[: min(TILE, count - first)].tofile(stream)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shapes", choices=SHAPES, default="full", help="%(default)s")
    options = parser.parse_args()
    print(make_folder(options.folder, options.shapes))
