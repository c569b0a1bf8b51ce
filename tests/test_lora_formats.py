"""LoRA files: each program's names lead to the same layers, and nothing bad in a file goes further than one line."""

from __future__ import annotations

import json
import math
import re
from itertools import pairwise

import pytest
import torch
from helpers import make_lora
from safetensors.torch import load_file, save_file

from kolors_lab.core.errors import ModelError, SettingError
from kolors_lab.lora.adapter import load_lora, unload_lora
from kolors_lab.lora.layer_names import layer_name, unet_parts
from kolors_lab.lora.layers import Layer, Lora
from kolors_lab.lora.reading import open_lora, read_lora
from kolors_lab.lora.writing import write_lora

LAYER = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
SIDES = {"A": "down", "B": "up"}
KEY = f"unet.{LAYER}.lora_"
FULL = {  # Kolors' UNet
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "encoder_hid_dim": 4096,
    "encoder_hid_dim_type": "text_proj",
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 5632,
}


@pytest.fixture
def lora(loaded):
    import copy

    return make_lora(copy.deepcopy(loaded.unet), ("attention", "conv"), alpha=0.1)


@pytest.fixture
def file(lora, tmp_path):
    return write_lora(lora, tmp_path / "my.safetensors")


@pytest.fixture(scope="module")
def full():
    """Kolors' UNet at full size, without memory for its weights."""
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        return UNet2DConditionModel(**FULL)


@pytest.fixture(scope="module")
def names(full):
    return [name for name, m in full.named_modules() if isinstance(m, torch.nn.Linear | torch.nn.Conv2d)]


def same(one, other):
    assert list(one.layers) == list(other.layers) or set(one.layers) == set(other.layers)
    for name, layer in one.layers.items():
        there = other.layers[name]
        assert torch.equal(layer.down, there.down) and torch.equal(layer.up, there.up), name
        assert layer.alpha == there.alpha
    return True


def test_the_file_says_rank_alpha_and_what_it_was_given(file):
    layers, header = read_lora(file)
    assert (header["rank"], header["alpha"], header["trigger_word"]) == ("8", "0.1", "二次元")
    assert layers[LAYER].down.shape == (8, 64) and layers[LAYER].up.shape == (64, 8)


def test_to_comfyui_and_back_gives_the_very_same_bytes(file, lora, tmp_path):
    there = write_lora(read_lora(file), tmp_path / "comfyui.safetensors", "comfyui")
    assert open_lora(there)[0] == "kohya/ComfyUI" and same(read_lora(there), lora)
    back = write_lora(read_lora(there), tmp_path / "back.safetensors")
    assert back.read_bytes() == file.read_bytes()


def test_half_precision_and_layers_of_their_own_rank_and_alpha_survive(lora, tmp_path):
    layers = {name: layer._replace(down=layer.down.half(), up=layer.up.half()) for name, layer in lora.layers.items()}
    layers[LAYER] = Layer(layers[LAYER].down[:3], layers[LAYER].up[:, :3], 7.5)
    mixed = Lora(layers, {})
    for to in ("comfyui", "diffusers"):
        assert same(read_lora(write_lora(mixed, tmp_path / "mixed.safetensors", to)), mixed)


def test_ranks_and_alphas_of_single_layers_reach_peft(pipe, lora):
    lora.layers[LAYER] = Layer(lora.layers[LAYER].down[:3], lora.layers[LAYER].up[:, :3], 7.5)
    load_lora(pipe, lora)
    scales = {name: m.scaling["kolors_lab"] for name, m in pipe.unet.named_modules() if hasattr(m, "lora_A")}
    assert scales.pop(LAYER) == 2.5 and set(scales.values()) == {0.1 / 8}


def test_comfyui_s_keys_are_those_of_diffusers_own_converter(lora, tmp_path):
    from diffusers.utils import convert_state_dict_to_kohya

    lora = Lora({name: layer._replace(alpha=8.0) for name, layer in lora.layers.items()}, {})  # all that it knows
    theirs = convert_state_dict_to_kohya(load_file(write_lora(lora, tmp_path / "a.safetensors")))
    ours = load_file(write_lora(lora, tmp_path / "b.safetensors", "comfyui"))
    assert set(ours) == set(theirs) and all(torch.equal(ours[key], theirs[key].to(ours[key].dtype)) for key in ours)


def test_kohya_s_names_of_every_layer_of_kolors_are_understood(names):
    assert len(names) == 795
    assert [layer_name(f"lora_unet_{name.replace('.', '_')}") for name in names] == names


def test_sdxl_s_own_names_lead_where_diffusers_leads_them(full, names):
    from diffusers.loaders import lora_conversion_utils as theirs
    from diffusers.utils import convert_unet_state_dict_to_peft

    ends = {"conv1": "in_layers.2", "conv2": "out_layers.3", "time_emb_proj": "emb_layers.1"}
    sdxl = {}
    for part, _, block in unet_parts():
        for name in (name for name in names if name.startswith(f"{part}.")):
            end = name.removeprefix(f"{part}.")
            end = ends.get(end, end.replace("conv_shortcut", "skip_connection")) if "resnets" in part else end
            sdxl[name] = f"lora_unet_{block}.{'op' if 'downsamplers' in part else end}".replace(".", "_")
    assert len(sdxl) == 788  # all but the seven layers outside the blocks
    assert [layer_name(key) for key in sdxl.values()] == list(sdxl)
    marked = {name: n for n, name in enumerate(sdxl) if "transformer_blocks" in name}  # what every release can convert
    tensors = {
        f"{sdxl[name]}.lora_{side}.weight": torch.tensor([n]) for name, n in marked.items() for side in ("down", "up")
    }
    tensors, _ = theirs._convert_non_diffusers_lora_to_diffusers(
        theirs._maybe_map_sgm_blocks_to_diffusers(tensors, full.config)
    )
    tensors = convert_unet_state_dict_to_peft({key.removeprefix("unet."): tensor for key, tensor in tensors.items()})
    assert {key.split(".lora_A")[0]: int(tensor) for key, tensor in tensors.items() if "lora_A" in key} == marked
    assert layer_name("lora_unet_input_blocks_0_0") == "conv_in" and layer_name("lora_unet_out_2") == "conv_out"
    assert layer_name("lora_unet_label_emb_0_2") == "add_embedding.linear_2"


def flat_list(unet):
    """DiffSynth's blocks from the UNet's own modules: resnet, attention, Push, Pop and samplers take a number each."""
    parts = []
    for n, block in enumerate(unet.down_blocks):
        for m in range(len(block.resnets)):
            parts += [f"down_blocks.{n}.resnets.{m}"]
            parts += [f"down_blocks.{n}.attentions.{m}"] * hasattr(block, "attentions") + ["Push"]
        parts += [f"down_blocks.{n}.downsamplers.0", "Push"] * bool(block.downsamplers)
    parts += ["mid_block.resnets.0", "mid_block.attentions.0", "mid_block.resnets.1"]
    for n, block in enumerate(unet.up_blocks):
        for m in range(len(block.resnets)):
            parts += ["Pop", f"up_blocks.{n}.resnets.{m}"]
            parts += [f"up_blocks.{n}.attentions.{m}"] * hasattr(block, "attentions")
        parts += [f"up_blocks.{n}.upsamplers.0"] * bool(block.upsamplers)
    return parts


@pytest.fixture
def diffsynth(full, names, tmp_path):
    """A file as DiffSynth's trainer writes it for the full size: 1120 tensors, here of rank 1."""
    tensors, weights = {}, dict(full.named_parameters())
    for number, part in enumerate(flat_list(full)):
        for name in (name for name in names if name.startswith(f"{part}.") and ".attn" in name):
            key = f"blocks.{number}.{name.removeprefix(f'{part}.').removesuffix('.0')}"
            out, into = weights[f"{name}.weight"].shape
            tensors[f"{key}.lora_A.default.weight"] = torch.full((1, into), number + 0.5)
            tensors[f"{key}.lora_B.default.weight"] = torch.full((out, 1), number + 0.5)
    torch.save(tensors, file := tmp_path / "epoch=0-step=500.ckpt")
    return file


def test_diffsynth_s_file_fills_a_full_size_unet_with_no_key_missing_or_left_over(full, diffsynth):
    from diffusers import EulerDiscreteScheduler, KolorsPipeline
    from peft import get_peft_model_state_dict

    lora = read_lora(diffsynth, alpha=4.0)
    pipe = KolorsPipeline(None, None, None, full, EulerDiscreteScheduler())
    load_lora(pipe, lora)
    state = get_peft_model_state_dict(full, adapter_name="kolors_lab")
    unload_lora(pipe)  # other tests take the UNet as it is
    assert len(state) == 1120 == 2 * len(lora.layers)
    assert set(state) == {f"{name}.lora_{side}.weight" for name in lora.layers for side in "AB"}
    attends = {layer: int(lora.layers[layer].down[0, 0]) for layer in lora.layers}
    assert sorted(set(attends.values())) == [7, 10, 15, 18, 21, 25, 28, 31, 35, 38, 41]
    assert attends["down_blocks.1.attentions.1.transformer_blocks.1.attn2.to_out.0"] == 10
    assert attends[LAYER] == 21 and attends["up_blocks.0.attentions.2.transformer_blocks.9.attn1.to_q"] == 31


def test_its_alpha_is_asked_for(diffsynth):
    with pytest.raises(ModelError, match=r"does not say its alpha.*--alpha"):
        read_lora(diffsynth)
    assert open_lora(diffsynth)[0] == "DiffSynth"
    assert {layer.alpha for layer in read_lora(diffsynth, alpha=4.0).layers.values()} == {4.0}


def test_older_names_of_diffusers_and_those_of_peft_are_read(lora, tmp_path):
    for spell in (
        lambda key: re.sub(r"\.to_(q|k|v)\.lora_(A|B)", lambda m: f".processor.to_{m[1]}_lora.{SIDES[m[2]]}", key),
        lambda key: key.replace("lora_A", "lora.down").replace("lora_B", "lora.up").replace("to_out.0", "to_out"),
        lambda key: key.replace("unet.", "base_model.model."),
    ):
        plain = load_file(write_lora(lora, tmp_path / "plain.safetensors"))
        save_file({spell(key): tensor for key, tensor in plain.items()}, tmp_path / "old.safetensors")
        assert set(read_lora(tmp_path / "old.safetensors").layers) == set(lora.layers)


def test_without_a_header_alpha_is_the_rank_and_rslora_s_scale_is_taken_in(file, tmp_path):
    tensors = load_file(file)
    save_file(tensors, tmp_path / "bare.safetensors")
    assert {layer.alpha for layer in read_lora(tmp_path / "bare.safetensors").layers.values()} == {8.0}
    said = {"unet.r": 8, "unet.lora_alpha": 4, "unet.use_rslora": True, "unet.alpha_pattern": {"to_k": 2.0}}
    save_file(tensors, tmp_path / "rs.safetensors", {"lora_adapter_metadata": json.dumps(said)})
    layers = read_lora(tmp_path / "rs.safetensors").layers
    assert layers[LAYER].alpha == 4 * math.sqrt(8) and layers[LAYER.replace("to_q", "to_k")].alpha == 2 * math.sqrt(8)


def test_a_dora_keeps_to_diffusers_files(loaded, tmp_path):
    import copy

    dora = make_lora(copy.deepcopy(loaded.unet), ("to_q",), 4.0, use_dora=True)
    assert read_lora(write_lora(dora, tmp_path / "dora.safetensors")).dora
    with pytest.raises(SettingError, match="DoRA"):
        write_lora(dora, tmp_path / "no.safetensors", "comfyui")
    assert not (tmp_path / "no.safetensors").exists()


def nan(tensors):
    tensors[f"{KEY}A.weight"][0, 0] = float("nan")


def half(tensors):
    del tensors[f"{KEY}B.weight"]


def unequal(tensors):
    tensors[f"{KEY}B.weight"] = torch.zeros(64, 4)


def foreign(tensors):
    tensors["lora_unet_single_blocks_0_linear1.lora_down.weight"] = torch.zeros(4, 4)


def loha(tensors):
    tensors["lora_unet_mid_block_attentions_0_proj_in.hada_w1_a"] = torch.zeros(4, 4)


def twice(tensors):
    tensors[f"{LAYER}.lora_A.weight"] = torch.zeros(8, 64)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (nan, "NaN"),
        (half, "not whole"),
        (unequal, "unequal rank"),
        (foreign, "single_blocks.*format"),
        (loha, r"mid_block.attentions.0.proj_in is not whole.*hada_w1_b"),
        (twice, "second of two"),
        (dict.clear, "no weights"),
    ],
)
def test_damaged_weights_are_refused(file, change, words):
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)
    with pytest.raises(ModelError, match=words) as error:
        read_lora(file)
    assert "my.safetensors" in str(error.value) and "\n" not in str(error.value)


def test_a_damaged_header_is_refused(file):
    for said in ("{", "[1]", '{"unet.lora_alpha": "much"}', '{"unet.alpha_pattern": {"(": 1}}'):
        save_file(load_file(file), file, {"lora_adapter_metadata": said})
        with pytest.raises(ModelError, match="damaged header"):
            read_lora(file)


def oversized(data):
    return (2**40).to_bytes(8, "little") + data[8:]


def overlapping(data):
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    for one, other in pairwise(key for key in header if key != "__metadata__"):
        header[other]["data_offsets"] = header[one]["data_offsets"]
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[end:]


@pytest.mark.parametrize(
    "spoil", [oversized, overlapping, lambda data: data[:-10], lambda data: b"", lambda data: b"PK\x03\x04 no"]
)
@pytest.mark.parametrize("name", ["my.safetensors", "my.ckpt"])
def test_files_that_are_not_whole_are_refused(file, spoil, name):
    data = spoil(file.read_bytes())
    (spoiled := file.with_name(name)).write_bytes(data)
    with pytest.raises(ModelError, match="damaged") as error:
        read_lora(spoiled)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["epoch=0-step=500.ckpt", "lora.pt", "lora.bin", "disguised.safetensors"])
@pytest.mark.parametrize("old", [True, False])
def test_a_pickle_is_never_run(tmp_path, name, old):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "opened"), "w"))

    torch.save({"weight": Evil()}, tmp_path / name, _use_new_zipfile_serialization=not old)
    with pytest.raises(ModelError, match="safetensors") as error:
        read_lora(tmp_path / name)
    assert not (tmp_path / "opened").exists() and "\n" not in str(error.value)


@pytest.mark.parametrize("inside", [[torch.zeros(2)], {"a": 1}, torch.zeros(2)])
def test_a_pickle_of_other_things_is_refused(tmp_path, inside):
    torch.save(inside, tmp_path / "lora.ckpt")
    with pytest.raises(ModelError, match="no table of weights"):
        read_lora(tmp_path / "lora.ckpt")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ModelError, match="does not exist"):
        read_lora(tmp_path / "gone.safetensors")


@pytest.mark.parametrize(
    ("name", "to", "words"), [("a.ckpt", "diffusers", "safetensors"), ("a.safetensors", "x", "'x'")]
)
def test_what_cannot_be_written_is_said_before(lora, tmp_path, name, to, words):
    with pytest.raises(SettingError, match=words):
        write_lora(lora, tmp_path / name, to)
    assert not list(tmp_path.iterdir())
