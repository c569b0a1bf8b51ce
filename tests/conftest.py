"""A KolorsPipeline with random weights, small enough to build in seconds, and a few pictures with captions."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path

import pytest

os.environ["KOLORS_LAB_LANG"] = "both"  # whatever this machine's language: messages are compared as they stand

WORDS = "二次元少女王子白马站在桃花小路书院客厅舞台夜空唱歌全身上半身紫色短发长裙的，。"


def make_pipeline(folder: Path) -> Path:
    """Write a KolorsPipeline folder of Kolors' own classes and block layout, at 128 px, with random weights."""
    import torch
    from diffusers import AutoencoderKL, EulerDiscreteScheduler, KolorsPipeline, UNet2DConditionModel
    from diffusers.pipelines.kolors import ChatGLMModel, ChatGLMTokenizer
    from diffusers.pipelines.kolors.text_encoder import ChatGLMConfig

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = ChatGLMTokenizer(str(make_vocabulary(folder)))
    torch.manual_seed(0)
    hidden = 64
    text_encoder = ChatGLMModel(
        ChatGLMConfig(
            num_layers=2,
            padded_vocab_size=tokenizer.vocab_size,
            hidden_size=hidden,
            ffn_hidden_size=hidden,
            kv_channels=32,
            num_attention_heads=2,
            multi_query_attention=True,
            multi_query_group_num=1,
            add_qkv_bias=True,
            original_rope=True,  # the constructor asks for it without a default
        )
    )
    for parameter in text_encoder.parameters():  # the constructor leaves memory as it finds it, NaN included
        torch.nn.init.normal_(parameter, 1.0 if parameter.ndim == 1 else 0.0, 0.1)
    unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(32, 64, 64),
        norm_num_groups=16,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 4, 4),
        cross_attention_dim=64,
        use_linear_projection=True,
        encoder_hid_dim=hidden,
        encoder_hid_dim_type="text_proj",
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=hidden + 6 * 8,
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 16, 16),
        norm_num_groups=8,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        scaling_factor=0.13025,
    )
    scheduler = EulerDiscreteScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.014,
        num_train_timesteps=1100,
        timestep_spacing="leading",
        steps_offset=1,
    )
    KolorsPipeline(vae, text_encoder, tokenizer, unet, scheduler).save_pretrained(folder)
    return folder


def make_vocabulary(folder: Path) -> Path:
    """A throw-away SentencePiece model of single characters."""
    import sentencepiece

    text = folder / "words.txt"
    text.write_text("\n".join([WORDS, WORDS[::-1], "abcdefghijklmnopqrstuvwxyz"]), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(folder / "words"), vocab_size=400, byte_fallback=True,
        hard_vocab_limit=False, character_coverage=1.0, minloglevel=2,
    )  # fmt: skip
    return folder / "words.model"


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory) -> Path:
    """The cache of encoded examples, away from the user's."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["KOLORS_LAB_CACHE"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def pipe_folder(tmp_path_factory) -> Path:
    """The folder of a KolorsPipeline with random weights; `--preset FOLDER` takes it."""
    return make_pipeline(tmp_path_factory.mktemp("pipeline") / "random-kolors")


@pytest.fixture(scope="session")
def loaded(pipe_folder):
    """That pipeline, loaded once on the CPU; tests take `pipe`."""
    from kolors_lab.models.loading import load_pipeline
    from kolors_lab.models.presets import get_preset

    return load_pipeline(get_preset(str(pipe_folder)), "cpu")


@pytest.fixture
def pipe(loaded):
    """A pipeline with random weights on the CPU, each test its own."""
    from kolors_lab.lora.adapter import unload_lora

    unload_lora(loaded)  # a server that drew with it left its last one there
    parts = {name: copy.deepcopy(part) for name, part in loaded.components.items()}
    pipe = type(loaded)(**parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture
def pictures(tmp_path) -> Path:
    """A folder in the baseline's raw layout: three pictures, two captions."""
    from PIL import Image

    folder = tmp_path / "pictures"
    (folder / "train").mkdir(parents=True)
    gradient, rows = Image.linear_gradient("L").convert("RGB"), []
    for number, (color, size) in enumerate((("red", (128, 128)), ("green", (200, 150)), ("blue", (128, 256)))):
        picture = Image.blend(gradient.resize(size), Image.new("RGB", size, color), 0.5)
        picture.save(folder / "train" / f"{number}.png")
        rows.append({"text": "二次元，少女" if number else "白马", "image": [f"train/{number}.png"]})
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    (folder / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder
