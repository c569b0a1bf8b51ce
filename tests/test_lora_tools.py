"""Mixing LoRAs, changing their rank, and the commands that show, convert and mix their files."""

from __future__ import annotations

import copy

import pytest
import torch
from helpers import failure, make_lora
from test_lora import alike, draw

from kolors_lab.cli import main
from kolors_lab.core.errors import ModelError
from kolors_lab.lora.adapter import load_lora, set_loras
from kolors_lab.lora.arithmetic import mix, resize, singular_values
from kolors_lab.lora.layers import Lora
from kolors_lab.lora.reading import read_lora
from kolors_lab.lora.writing import write_lora


@pytest.fixture
def two(loaded):
    """LoRAs of unlike layers, rank and alpha."""
    unet = copy.deepcopy(loaded.unet)
    return make_lora(unet, ("attention",), 4.0, seed=1), make_lora(unet, ("to_q", "conv1"), 2.0, rank=4, seed=2)


def test_a_mix_is_exactly_the_weighted_sum(two):
    mixed = mix([(two[0], 0.7), (two[1], -0.3)])
    assert set(mixed.layers) == set(two[0].layers) | set(two[1].layers)
    for name, layer in mixed.layers.items():
        parts = [w * lora.layers[name].delta() for lora, w in ((two[0], 0.7), (two[1], -0.3)) if name in lora.layers]
        torch.testing.assert_close(layer.delta(), sum(parts), rtol=1e-5, atol=1e-6)
    assert mixed.header["trigger_word"] == "二次元"


def test_a_mix_draws_what_the_chain_draws(pipe, two):
    set_loras(pipe, [(two[0], 0.7), (two[1], 0.3)])
    chain = draw(pipe)
    load_lora(pipe, mix([(two[0], 0.7), (two[1], 0.3)]))
    assert alike(draw(pipe), chain)


def test_a_lora_less_itself_is_nothing(two):
    nothing = mix([(two[0], 1.0), (two[0], -1.0)])
    assert all(layer.delta().abs().max() < 1e-5 for layer in nothing.layers.values())


def test_a_higher_rank_changes_nothing_and_a_lower_one_is_the_nearest_there_is(two):
    same, less = resize(two[0], 32), resize(two[0], 3)
    for name, layer in two[0].layers.items():
        delta = layer.delta()
        torch.testing.assert_close(same.layers[name].delta(), delta, rtol=1e-4, atol=1e-5)
        assert (same.layers[name].rank, less.layers[name].rank) == (8, 3)
        u, s, v = torch.linalg.svd(delta, full_matrices=False)
        torch.testing.assert_close(less.layers[name].delta(), u[:, :3] * s[:3] @ v[:3], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(singular_values(layer), s[:8], rtol=1e-4, atol=1e-5)


def test_convolutions_change_their_rank_too(two):
    name = next(name for name in two[1].layers if name.endswith("conv1"))
    less = resize(two[1], 2).layers[name]
    u, s, v = torch.linalg.svd(two[1].layers[name].delta().flatten(1), full_matrices=False)
    torch.testing.assert_close(less.delta().flatten(1), u[:, :2] * s[:2] @ v[:2], rtol=1e-4, atol=1e-5)
    assert less.down.shape[0] == 2 and less.up.shape[1:] == (2, 1, 1)


def test_loras_of_two_models_and_doras_are_not_mixed(two, loaded):
    other = Lora({name: layer._replace(up=layer.up[:8]) for name, layer in two[0].layers.items()}, {})
    with pytest.raises(ModelError, match="two models"):
        mix([(two[0], 1.0), (other, 1.0)])
    dora = make_lora(copy.deepcopy(loaded.unet), ("to_q",), 4.0, use_dora=True)
    with pytest.raises(ModelError, match="DoRA"):
        mix([(two[0], 1.0), (dora, 1.0)])


def test_by_command(two, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_lora(two[0], "a=1.safetensors")  # DiffSynth's own names hold = signs
    write_lora(two[1], "b.safetensors")
    assert main(["lora", "mix", "a=1.safetensors=0.7", "b.safetensors=-0.3", "--out", "m.safetensors"]) == 0
    mixed, expected = read_lora("m.safetensors"), mix([(two[0], 0.7), (two[1], -0.3)])
    assert all(torch.equal(layer.up, expected.layers[name].up) for name, layer in mixed.layers.items())
    assert main(["lora", "convert", "m.safetensors", "c.safetensors", "--to", "comfyui", "--rank", "4"]) == 0
    capsys.readouterr()
    assert main(["lora", "show", "c.safetensors"]) == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("kohya/ComfyUI", "plain LoRA", "rank          4\n", "二次元", "convolutions"))


def test_a_diffsynth_file_by_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    key = "blocks.21.transformer_blocks.0.attn1.to_out.lora_"
    torch.save({f"{key}A.default.weight": torch.ones(2, 4), f"{key}B.default.weight": torch.ones(4, 2)}, "d.ckpt")
    assert main(["lora", "convert", "d.ckpt", "out.safetensors"]) == 2
    assert "--alpha" in failure(capsys)
    assert main(["lora", "show", "d.ckpt"]) == 0
    assert "not in the file" in capsys.readouterr().out
    assert main(["lora", "convert", "d.ckpt", "out.safetensors", "--alpha", "4"]) == 0
    [(name, layer)] = read_lora("out.safetensors").layers.items()
    assert name == "mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0"
    assert torch.equal(layer.delta(), torch.full((4, 4), 4.0))


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["mix", "a.safetensors"], "FILE=WEIGHT"),
        (["mix", "a.safetensors=nan"], "weight of a.safetensors"),
        (["mix", "gone.safetensors=1"], "gone.safetensors does not exist"),
        (["mix"], "parts"),
        (["show"], "file"),
        (["show", "gone.safetensors"], "does not exist"),
        (["convert", "gone.ckpt", "a.safetensors"], "does not exist; give a .safetensors or .ckpt file"),
        (["convert", "a.safetensors", "b.safetensors", "--to", "webui"], "to = 'webui'"),
        (["convert", "a.safetensors", "b.safetensors", "--rank", "0"], "rank = 0"),
        (["convert", "a.safetensors", "b.safetensors", "--alpha", "0"], "alpha"),
        (["shrink"], "did you mean lora show"),
    ],
)
def test_bad_input_is_one_line(argv, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["lora", *argv]) == 2
    assert said in failure(capsys)
    assert not list(tmp_path.iterdir())
