"""A reference picture by an IP-Adapter with random weights, through diffusers' own loader."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from kolors_lab.core.errors import FetchError, ModelError, SettingError
from kolors_lab.sampling.pipeline import generate
from kolors_lab.sampling.reference import reference

FAST = {"steps": 2, "width": 64, "height": 64}


def make_adapter(unet, folder, tokens=4, seen=16):
    """An IP-Adapter of the UNet's shapes, with its CLIP image encoder."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(0)
    width = unet.config.cross_attention_dim
    tensors = {"image_proj.proj.weight": torch.randn(tokens * width, seen),
               "image_proj.proj.bias": torch.zeros(tokens * width),
               "image_proj.norm.weight": torch.ones(width), "image_proj.norm.bias": torch.zeros(width)}  # fmt: skip
    names = [name for name in unet.attn_processors if ".attn2." in name]
    for n, name in enumerate(names):
        size = unet.get_submodule(name.removesuffix(".processor")).to_q.out_features
        for part in ("k", "v"):
            tensors[f"ip_adapter.{2 * n + 1}.to_{part}_ip.weight"] = torch.randn(size, width) * 0.3
    save_file(tensors, folder / "ip.safetensors")
    CLIPVisionModelWithProjection(CLIPVisionConfig(
        hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=16,
        projection_dim=seen,
    )).save_pretrained(folder / "image_encoder")  # fmt: skip
    return folder


def draw(pipe, **options):
    return np.asarray(generate(pipe, "白马", **FAST, **options), int)


def test_the_reference_acts_and_leaves_nothing_behind(pipe, tmp_path):
    make_adapter(pipe.unet, tmp_path)
    plain, drawn = draw(pipe), []
    for color in ("red", "blue"):
        with reference(pipe, tmp_path, Image.new("RGB", (48, 48), color), 1.0, "ip.safetensors") as like:
            drawn.append(draw(pipe, reference=like))
    assert not np.array_equal(drawn[0], plain) and not np.array_equal(*drawn)
    assert np.array_equal(draw(pipe), plain)


def test_it_is_the_picture_that_diffusers_own_pipeline_draws(pipe, tmp_path):
    make_adapter(pipe.unet, tmp_path)
    image = Image.new("RGB", (48, 48), "red")
    with reference(pipe, tmp_path, image, 0.8, "ip.safetensors") as like:
        ours = draw(pipe, reference=like, cfg=4.0)
        theirs = pipe(
            prompt="白马", negative_prompt="", ip_adapter_image=image, num_inference_steps=2, guidance_scale=4.0,
            width=64, height=64, generator=torch.Generator().manual_seed(0),
        ).images[0]  # fmt: skip
    assert np.abs(ours - np.asarray(theirs, int)).max() <= 3


@pytest.mark.parametrize("cfg", [1.0, 4.0])
def test_of_strength_0_it_draws_as_without(pipe, tmp_path, cfg):
    make_adapter(pipe.unet, tmp_path)
    plain = draw(pipe, cfg=cfg)
    with reference(pipe, tmp_path, Image.new("RGB", (48, 48), "red"), 0.0, "ip.safetensors") as like:
        assert np.abs(draw(pipe, reference=like, cfg=cfg) - plain).max() <= 2


def test_what_is_not_there_or_does_not_fit_is_refused(pipe, tmp_path):
    make_adapter(pipe.unet, tmp_path)
    image, plain = Image.new("RGB", (48, 48)), draw(pipe)
    with pytest.raises(SettingError, match="strength = 3"), reference(pipe, tmp_path, image, 3):
        pass
    with pytest.raises(FetchError, match="not on this machine"), reference(pipe, "nobody/nothing", image):
        pass
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with (
        pytest.raises(ModelError, match="cannot be put on"),
        reference(pipe, tmp_path, image, 0.5, "other.safetensors"),
    ):
        pass
    assert np.array_equal(draw(pipe), plain)
