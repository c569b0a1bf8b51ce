"""LoRA files: what is written, what is refused, and that other programs read them alike."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from kolors_lab.errors import DataError, ModelError
from kolors_lab.generate import generate
from kolors_lab.lora import add_lora, load_lora, read_lora, save_lora, set_loras, unload_lora

TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
LAYER = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"


def draw(pipe):
    return np.asarray(generate(pipe, "白马", steps=2, width=64, height=64))


@pytest.fixture
def make(loaded, tmp_path):
    """Write a LoRA of random weights for the test pipeline; `change(tensors)` may spoil it."""

    def make(change=None, targets=TARGETS, alpha=4.0, name="my.safetensors"):
        import copy

        unet = copy.deepcopy(loaded.unet)
        add_lora(unet, 8, alpha, targets, seed=0)
        generator = torch.Generator().manual_seed(0)
        for parameter in unet.parameters():
            if parameter.requires_grad:
                parameter.data.normal_(0, 0.3, generator=generator)
        file = save_lora(unet, tmp_path / name, {"trigger_word": "二次元"})
        if change:
            tensors = load_file(file)
            change(tensors)
            save_file(tensors, file)
        return file

    return make


def test_add_lora_trains_nothing_but_itself_and_starts_without_effect(pipe):
    before = draw(pipe)
    add_lora(pipe.unet, 4, 4.0, TARGETS, seed=0)
    trained = [name for name, parameter in pipe.unet.named_parameters() if parameter.requires_grad]
    assert trained and all(".lora_" in name for name in trained)
    assert np.array_equal(draw(pipe), before)


def test_equal_seeds_give_equal_weights_and_leave_other_random_numbers_alone(loaded):
    import copy

    state, weights = torch.get_rng_state(), []
    for seed in (1, 1, 2):
        unet = copy.deepcopy(loaded.unet)
        add_lora(unet, 4, 4.0, TARGETS, seed)
        weights.append(torch.cat([p.flatten() for p in unet.parameters() if p.requires_grad]))
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert torch.equal(torch.get_rng_state(), state)


def test_targets_that_match_nothing_are_named(pipe):
    with pytest.raises(ModelError, match="no_such_layer"):
        add_lora(pipe.unet, 4, 4.0, ("no_such_layer",), seed=0)


def test_the_file_says_rank_alpha_and_what_it_was_given(make):
    tensors, header = read_lora(make(alpha=4.0))
    assert (header["rank"], header["alpha"], header["trigger_word"]) == ("8", "4.0", "二次元")
    assert tensors[f"{LAYER}.lora_A.weight"].shape == (8, 64) and tensors[f"{LAYER}.lora_B.weight"].shape == (64, 8)


def test_equal_weights_give_equal_bytes(make):
    assert make(name="a.safetensors").read_bytes() == make(name="b.safetensors").read_bytes()


@pytest.mark.parametrize("targets", [TARGETS, ("to_q", "conv1", "ff.net.2")])
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
    set_loras(pipe, [(file, 0.25), (make(name="again.safetensors"), 0.75)])
    assert np.abs(draw(pipe).astype(int) - whole).max() <= 1  # two sums of floats, rounded to a byte
    set_loras(pipe, [(file, 1.0), (file, -1.0)])
    assert np.abs(draw(pipe).astype(int) - before).max() <= 1
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
        tensors[f"{LAYER}.lora_{part}.weight"] = torch.zeros(8, 99) if part == "A" else torch.zeros(99, 8)


def renamed(tensors):
    for part in ("A", "B"):
        key = f"{LAYER}.lora_{part}.weight"
        tensors[key.replace("mid_block", "no_block")] = tensors.pop(key)


@pytest.mark.parametrize(("change", "words"), [(longer, r"\(8, 99\) there, \(8, 64\) here"), (renamed, "no_block")])
def test_a_lora_of_another_model_names_the_first_mismatch(pipe, make, change, words):
    before = draw(pipe)
    with pytest.raises(ModelError, match=f"made for another model.*{words}"):
        load_lora(pipe, make(change))
    assert np.array_equal(draw(pipe), before)


def nan(tensors):
    tensors[f"{LAYER}.lora_A.weight"][0, 0] = float("nan")


def half(tensors):
    del tensors[f"{LAYER}.lora_B.weight"]


def unequal(tensors):
    tensors[f"{LAYER}.lora_B.weight"] = torch.zeros(64, 4)


def foreign(tensors):
    tensors["lora_unet_mid_block.lora_down.weight"] = torch.zeros(4, 4)


@pytest.mark.parametrize(
    ("change", "words"),
    [(nan, "NaN"), (half, "not whole"), (unequal, "unequal rank"), (foreign, "format"), (dict.clear, "no weights")],
)
def test_damaged_weights_are_refused(make, change, words):
    with pytest.raises(ModelError, match=words) as error:
        read_lora(make(change))
    assert "my.safetensors" in str(error.value) and "\n" not in str(error.value)


def oversized(data):
    return (2**40).to_bytes(8, "little") + data[8:]


def overlapping(data):
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    keys = [key for key in header if key != "__metadata__"]
    header[keys[1]]["data_offsets"] = header[keys[0]]["data_offsets"]
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[end:]


@pytest.mark.parametrize(
    "spoil", [oversized, overlapping, lambda data: data[:-10], lambda data: b"", lambda data: b"PK\x03\x04 no"]
)
def test_files_that_are_not_whole_safetensors_are_refused(make, spoil):
    file = make()
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(ModelError, match="damaged or no safetensors"):
        read_lora(file)


@pytest.mark.parametrize("name", ["epoch=0-step=500.ckpt", "lora.pt", "lora.bin", "disguised.safetensors"])
def test_a_pickle_is_refused_and_never_run(tmp_path, name):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "opened"), "w"))

    torch.save(Evil(), tmp_path / name)
    with pytest.raises(ModelError, match="safetensors"):
        read_lora(tmp_path / name)
    assert not (tmp_path / "opened").exists()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ModelError, match="does not exist"):
        read_lora(tmp_path / "gone.safetensors")


def test_a_file_that_cannot_be_written_leaves_nothing_behind(loaded, tmp_path, monkeypatch):
    import copy
    from pathlib import Path

    unet = copy.deepcopy(loaded.unet)
    add_lora(unet, 2, 2.0, TARGETS, seed=0)

    def full(self, data):
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DataError, match="No space left"):
        save_lora(unet, tmp_path / "out" / "lora.safetensors")
    assert list((tmp_path / "out").iterdir()) == []
