"""Padding read once gives the numbers that padding read again and again gives."""

from __future__ import annotations

import pytest
import torch
from diffusers import KolorsPipeline

from kolors_lab.lora.adapter import add_lora, unload_lora
from kolors_lab.models.loading import load_parts
from kolors_lab.models.memory import set_checkpointing
from kolors_lab.models.padding import folded
from kolors_lab.models.presets import get_preset
from kolors_lab.sampling.consistency import sharing
from kolors_lab.sampling.text import run_text_encoder

TEXTS = ["二次元，一个紫色长发少女，站在舞台上，全身", "白马", ""]  # of unlike lengths


@pytest.fixture
def call(pipe):
    """What a UNet is called with for TEXTS."""
    embeds, pooled = (part.detach() for part in run_text_encoder(pipe, TEXTS))
    sample = torch.randn(len(TEXTS), 4, 16, 16, generator=torch.Generator().manual_seed(0))
    added = {"text_embeds": pooled, "time_ids": torch.tensor([[128.0, 128, 0, 0, 128, 128]]).repeat(len(TEXTS), 1)}
    return (sample, 500, embeds), {"added_cond_kwargs": added}


@pytest.fixture
def seen(pipe, monkeypatch):
    """How many places of a text the UNet read."""
    places, forward = [], pipe.unet.forward

    def count(sample, timestep, encoder_hidden_states, **options):
        places.append(encoder_hidden_states.shape[1])
        return forward(sample, timestep, encoder_hidden_states, **options)

    monkeypatch.setattr(pipe.unet, "forward", count)
    return places


def test_the_unet_reads_less_and_says_the_same(pipe, pipe_folder, call, seen):
    plain = KolorsPipeline.from_pretrained(pipe_folder).unet
    args, options = call
    named = dict(zip(("sample", "timestep", "encoder_hidden_states"), args, strict=True))
    with torch.no_grad():
        wanted = plain(*args, **options).sample
        assert torch.allclose(pipe.unet(*args, **options).sample, wanted, atol=1e-5)
        assert torch.allclose(pipe.unet(**named, **options).sample, wanted, atol=1e-5)
    assert len(seen) == 2 and all(places < 40 for places in seen)


@pytest.mark.parametrize("mode", ["none", "full"])
def test_a_lora_learns_the_same(pipe, call, mode):
    args, options = call
    add_lora(pipe.unet, 4, 4.0, ("attention",), 0)
    set_checkpointing(pipe.unet, mode)
    gradients = []
    for run in (pipe.unet, pipe.unet.forward):  # without the hook all places are read
        run(*args, **options).sample.square().mean().backward()
        gradients.append([p.grad.clone() for p in pipe.unet.parameters() if p.grad is not None])
        pipe.unet.zero_grad()
    set_checkpointing(pipe.unet, "none")
    unload_lora(pipe)
    assert len(gradients[0]) > 10
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-7) for a, b in zip(*gradients, strict=True))


def test_all_is_read_where_somebody_elses_attention_is_at_work(pipe, call, seen):
    args, options = call
    with torch.no_grad(), sharing(pipe.unet, len(TEXTS), 0.5):
        pipe.unet(*args, **options)
    with torch.no_grad():
        pipe.unet(*args, **options, encoder_attention_mask=torch.ones(len(TEXTS), 256))
        pipe.unet(*args, **options)
    assert seen[0] == seen[1] == 256 > seen[2]


def test_in_sixteen_bit_all_is_read(pipe_folder, call):
    unet = load_parts(get_preset(str(pipe_folder)), ("unet",), torch.bfloat16).unet
    short = [part.to(torch.bfloat16) if isinstance(part, torch.Tensor) else part for part in call[0]]
    added = {name: part.to(torch.bfloat16) for name, part in call[1]["added_cond_kwargs"].items()}
    with torch.no_grad():
        assert unet(*short, added_cond_kwargs=added).sample.equal(unet.forward(*short, added_cond_kwargs=added).sample)


@pytest.mark.parametrize(
    ("rows", "repeats"), [([[1, 1, 2], [3, 3, 3]], 2), ([[1, 2, 2], [3, 3, 4]], 1), ([[1, 1], [1, 1]], 2)]
)
def test_as_many_places_are_folded_as_are_alike_in_every_row(rows, repeats):
    text = torch.tensor(rows, dtype=torch.float32)[..., None]
    short, count = folded(text)
    assert count == repeats and short.equal(text[:, repeats - 1 :])
    assert folded(torch.full((1, 3, 2), torch.nan))[1] == 1
