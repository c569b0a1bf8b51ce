"""LoRA adapters on a pipeline: what they change, what is refused, and that plain diffusers does the same."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
import torch
from helpers import make_lora
from safetensors.torch import load_file, save_file

from kolors_lab.core.errors import DataError, ModelError
from kolors_lab.lora.adapter import (
    TARGETS,
    add_lora,
    expand_targets,
    get_lora,
    load_lora,
    merge_loras,
    save_lora,
    set_loras,
    unload_lora,
    unmerge,
    wearing,
)
from kolors_lab.lora.writing import write_lora

ATTENTION = TARGETS["attention"]
LAYER = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"


def draw(pipe):
    """What the UNet says to one fixed input: a picture's first step."""
    generator = torch.Generator().manual_seed(0)
    noise, words, pooled = (torch.randn(shape, generator=generator) for shape in ((1, 4, 8, 8), (1, 9, 64), (1, 64)))
    conditions = {"text_embeds": pooled, "time_ids": torch.tensor([[64.0, 64, 0, 0, 64, 64]])}
    with torch.no_grad():
        return pipe.unet(noise, 500, words, added_cond_kwargs=conditions).sample.numpy()


def alike(one, other):
    return np.allclose(one, other, rtol=1e-3, atol=1e-4)  # sums of floats in another order


@pytest.fixture
def make(loaded, tmp_path):
    """Write a LoRA of random weights for the test pipeline; `change(tensors)` may spoil it."""

    def make(change=None, targets=ATTENTION, alpha=4.0, name="my.safetensors", **settings):
        lora = make_lora(copy.deepcopy(loaded.unet), targets, alpha, **settings)
        file = write_lora(lora, tmp_path / name)
        if change:
            tensors = load_file(file)
            change(tensors)
            save_file(tensors, file)
        return file

    return make


def test_add_lora_trains_nothing_but_itself_and_starts_without_effect(pipe):
    before = draw(pipe)
    add_lora(pipe.unet, 4, 4.0, ATTENTION, seed=0)
    trained = [name for name, parameter in pipe.unet.named_parameters() if parameter.requires_grad]
    assert trained and all(".lora_" in name for name in trained)
    assert np.array_equal(draw(pipe), before)


def test_equal_seeds_give_equal_weights_and_leave_other_random_numbers_alone(loaded):
    state, weights = torch.get_rng_state(), []
    for seed in (1, 1, 2):
        unet = copy.deepcopy(loaded.unet)
        add_lora(unet, 4, 4.0, ATTENTION, seed)
        weights.append(torch.cat([p.flatten() for p in unet.parameters() if p.requires_grad]))
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert torch.equal(torch.get_rng_state(), state)


def test_targets_that_match_nothing_are_named(pipe):
    with pytest.raises(ModelError, match="no_such_layer"):
        add_lora(pipe.unet, 4, 4.0, ("no_such_layer",), seed=0)


@pytest.mark.parametrize("targets", [ATTENTION, ("to_q", "conv1", "ff.net.2")])
def test_plain_diffusers_loads_it_to_the_very_same_picture(pipe, make, targets):
    file, without = make(targets=targets), draw(pipe)
    load_lora(pipe, file)
    ours = draw(pipe)
    unload_lora(pipe)
    pipe.load_lora_weights(str(file.parent), weight_name=file.name)
    assert np.array_equal(draw(pipe), ours) and not np.array_equal(without, ours)


def test_alpha_scales_the_effect(pipe, make):
    load_lora(pipe, make(alpha=4.0))
    scales = {m.scaling["kolors_lab"] for m in pipe.unet.modules() if hasattr(m, "lora_A")}
    assert scales == {0.5}
    load_lora(pipe, make(alpha=4.0), strength=0.5)
    assert {m.scaling["kolors_lab"] for m in pipe.unet.modules() if hasattr(m, "lora_A")} == {0.25}


def test_strength_0_and_unloading_give_the_base_models_picture(pipe, make):
    before = draw(pipe)
    load_lora(pipe, make(), strength=0.0)
    assert np.array_equal(draw(pipe), before)
    load_lora(pipe, make(), strength=1.0)
    assert not np.array_equal(draw(pipe), before)
    unload_lora(pipe)
    unload_lora(pipe)
    assert np.array_equal(draw(pipe), before)


def test_a_chains_strengths_add_up_and_an_empty_one_takes_all_off(pipe, make):
    before = draw(pipe)
    load_lora(pipe, file := make(), strength=1.0)
    whole = draw(pipe)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # peft would warn of a second LoRA
        set_loras(pipe, [(file, 0.25), (make(name="again.safetensors"), 0.75)])
    assert alike(draw(pipe), whole)
    set_loras(pipe, [(file, 1.0), (file, -1.0)])
    assert alike(draw(pipe), before)
    set_loras(pipe, [])
    assert np.array_equal(draw(pipe), before)


def test_a_bad_file_in_a_chain_leaves_what_was_there(pipe, make, tmp_path):
    load_lora(pipe, file := make())
    there = draw(pipe)
    with pytest.raises(ModelError, match="gone"):
        set_loras(pipe, [(file, 0.5), (tmp_path / "gone.safetensors", 0.5)])
    assert np.array_equal(draw(pipe), there)


def test_a_lora_without_our_header_is_loaded_too(pipe, make):
    load_lora(pipe, make(change=lambda tensors: None, alpha=4.0))
    assert {m.scaling["kolors_lab"] for m in pipe.unet.modules() if hasattr(m, "lora_A")} == {1.0}


def longer(tensors):
    for part in ("A", "B"):
        tensors[f"unet.{LAYER}.lora_{part}.weight"] = torch.zeros(8, 99) if part == "A" else torch.zeros(99, 8)


def renamed(tensors):
    for part in ("A", "B"):
        key = f"unet.{LAYER}.lora_{part}.weight"
        tensors[key.replace("mid_block", "no_block")] = tensors.pop(key)


@pytest.mark.parametrize(
    ("change", "words"), [(longer, r"made for another model.*\(8, 99\) there, \(8, 64\) here"), (renamed, "no_block")]
)
def test_a_lora_of_another_model_names_the_first_mismatch(pipe, make, change, words):
    before = draw(pipe)
    with pytest.raises(ModelError, match=words):
        load_lora(pipe, make(change))
    assert np.array_equal(draw(pipe), before)


def test_groups_of_layers_by_name(pipe):
    assert expand_targets(("attention+ff", "to_q", "conv1")) == [*ATTENTION, "ff.net.0.proj", "ff.net.2", "conv1"]
    add_lora(pipe.unet, 2, 2.0, ("all-linear", "conv"), seed=0)
    blocks = {
        n for n, m in pipe.unet.named_modules() if "blocks." in n or "mid_block." in n if hasattr(m, "base_layer")
    }
    plain = (torch.nn.Linear, torch.nn.Conv2d)
    rest = [n for n, m in pipe.unet.named_modules() if isinstance(m, plain) and "block" in n and "lora_" not in n]
    assert {name.removesuffix(".base_layer") for name in rest} == blocks


@pytest.mark.parametrize("settings", [{"use_rslora": True}, {"use_dora": True}, {"use_rslora": True, "use_dora": True}])
def test_rslora_and_dora_come_back_from_the_file_as_they_were_trained(pipe, make, tmp_path, settings):
    lora = make_lora(pipe.unet, ("attention", "conv"), 4.0, keep=True, **settings)
    trained = draw(pipe)
    assert lora.dora == settings.get("use_dora", False)
    file = save_lora(pipe.unet, tmp_path / "trained.safetensors")
    unload_lora(pipe)
    assert not np.array_equal(draw(pipe), trained)
    load_lora(pipe, file)
    assert alike(draw(pipe), trained)
    unload_lora(pipe)
    pipe.load_lora_weights(str(tmp_path), weight_name=file.name)
    assert alike(draw(pipe), trained)


def test_dropout_is_peft_s(pipe):
    add_lora(pipe.unet, 2, 2.0, ("to_q",), seed=0, dropout=0.25)
    assert {m.lora_dropout["kolors_lab"].p for m in pipe.unet.modules() if hasattr(m, "lora_dropout")} == {0.25}


@pytest.mark.parametrize("rank", [8, 12])
def test_training_can_start_from_a_lora(pipe, make, rank):
    load_lora(pipe, file := make(alpha=4.0))
    before = draw(pipe)
    unload_lora(pipe)
    add_lora(pipe.unet, rank, 2.0, ("attention", "ff.net.2"), seed=0, start=file)
    assert alike(draw(pipe), before)
    layer = get_lora(pipe.unet).layers[LAYER]
    assert layer.rank == rank and layer.down[8:].count_nonzero() == layer.down[8:].numel()  # what is new can learn


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rank": 4}, "rank 8, more than 4"),
        ({"target_modules": ("to_k",)}, "which target_modules does not name"),
        ({"use_dora": True}, "no DoRA"),
    ],
)
def test_a_start_that_does_not_fit_is_refused(pipe, make, settings, words):
    settings = {"rank": 8, "target_modules": ATTENTION, "use_dora": False} | settings
    with pytest.raises(ModelError, match=words):
        add_lora(pipe.unet, alpha=4.0, seed=0, start=make(), **settings)


@pytest.mark.parametrize("use_dora", [False, True])
def test_merged_it_draws_the_same_and_unmerged_the_base_is_back_bit_for_bit(pipe, make, use_dora):
    base = {name: weight.clone() for name, weight in pipe.unet.state_dict().items()}
    chain = [(make(targets=("attention", "conv1"), use_dora=use_dora), 0.7), (make(name="other.safetensors"), -0.3)]
    set_loras(pipe, chain)
    adapted = draw(pipe)
    before = merge_loras(pipe, chain)
    assert set(pipe.unet.state_dict()) == set(base)  # no adapter is left
    assert alike(draw(pipe), adapted)
    unmerge(pipe, before)
    assert all(torch.equal(weight, base[name]) for name, weight in pipe.unet.state_dict().items())


def test_a_file_that_cannot_be_written_leaves_nothing_behind(pipe, tmp_path, monkeypatch):
    from pathlib import Path

    add_lora(pipe.unet, 2, 2.0, ATTENTION, seed=0)

    def full(self, data):
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DataError, match="No space left"):
        save_lora(pipe.unet, tmp_path / "out" / "lora.safetensors")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.filterwarnings("error:Adapter .* was active")
def test_wearing_gives_back_what_the_pipeline_wore_and_an_empty_chain_wears_nothing(pipe, make, tmp_path):
    """A file that says "no LoRA" must not have been drawn with the caller's."""
    base, mine, other = (
        draw(pipe),
        make(),
        write_lora(make_lora(pipe.unet, ATTENTION, 4.0, seed=5), tmp_path / "o.safetensors"),
    )
    load_lora(pipe, mine, 0.7)
    before = draw(pipe)
    with wearing(pipe, []):
        assert alike(draw(pipe), base)
    with wearing(pipe, [(other, 1.0)]):
        worn = draw(pipe)
    assert alike(draw(pipe), before) and not alike(before, base)
    unload_lora(pipe)
    load_lora(pipe, other)
    assert alike(draw(pipe), worn) and not alike(worn, before)
    with pytest.raises(RuntimeError), wearing(pipe, [(mine, 1.0)]):
        raise RuntimeError("the drawing failed")
    assert alike(draw(pipe), worn) and list(pipe.unet.peft_config) == ["kolors_lab"]


def test_filters_of_warnings_are_left_to_other_threads(pipe, make, monkeypatch):
    """catch_warnings changes the filters of the whole process, and another thread's end brings old ones back."""
    monkeypatch.setattr(warnings, "catch_warnings", None)
    load_lora(pipe, make())
