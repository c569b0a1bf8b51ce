"""LoRA files as they are in the wild, and their hostile kin: read as their makers mean them, or refused in one line."""

from __future__ import annotations

import json
import shutil
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from kolors_lab.core.errors import KolorsLabError, KolorsLabWarning, ModelError, SettingError
from kolors_lab.lora.alpha import Patterns
from kolors_lab.lora.arithmetic import LoraConvertConfig, LoraShowConfig, lora_convert, lora_show
from kolors_lab.lora.layer_names import layer_name
from kolors_lab.lora.reading import open_lora, read_lora
from kolors_lab.lora.writing import write_lora

CASES = Path(__file__).parent / "cases" / "lora"
LAYER = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
CONV = "mid_block.resnets.0.conv1"


def alphas(file, **options):
    return {layer.alpha for layer in read_lora(file, **options).layers.values()}


def pair(rank=2, out=6, into=5):
    return torch.ones(rank, into), torch.ones(out, rank)


def conv(rank=2):
    return {"lora_A.weight": torch.ones(rank, 5, 3, 3), "lora_B.weight": torch.ones(6, rank, 1, 1)}


def simple(file, header=None, prefix="", ends=("lora_A.weight", "lora_B.weight"), **more):
    """A file of one layer."""
    tensors = {f"{prefix}{LAYER}.{end}": tensor for end, tensor in zip(ends, pair(), strict=True)}
    save_file(tensors | more, file, header)
    return file


@pytest.fixture
def file(tmp_path):
    return tmp_path / "wild.safetensors"


# alpha ---------------------------------------------------------------------------------------------------------------


def test_peft_s_folder_is_a_lora_and_its_settings_count(tmp_path):
    assert alphas(CASES / "peft") == {16.0} == alphas(CASES / "peft" / "adapter_model.safetensors")
    folder = shutil.copytree(CASES / "peft", tmp_path / "peft")
    said = {"peft_type": "LORA", "r": 4, "lora_alpha": 6, "use_rslora": True, "alpha_pattern": {"attn1.to_k": 3}}
    (folder / "adapter_config.json").write_text(json.dumps(said), encoding="utf-8")
    layers = read_lora(folder).layers
    assert (layers[LAYER].alpha, layers[LAYER.replace("to_q", "to_k")].alpha) == (12.0, 6.0)  # rsLoRA: times sqrt(4)


def test_where_alpha_is_guessed_it_is_said(tmp_path):
    alone = shutil.copy(CASES / "peft" / "adapter_model.safetensors", tmp_path / "adapter_model.safetensors")
    for file in (alone, CASES / "transformer_prefix.safetensors"):
        with pytest.warns(KolorsLabWarning, match=r"guessed to be the rank \(4\)"):
            read_lora(file)
        assert any("guessed" in line for line in lora_show(LoraShowConfig(str(file))))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert alphas(alone, alpha=7.0) == {7.0}
        assert alphas(CASES / "kohya_alpha2_rank4.safetensors") == {2.0}


def test_kohya_s_header_says_alpha_where_no_tensor_does(file):
    assert alphas(simple(file, {"ss_network_alpha": "3", "ss_network_dim": "2"})) == {3.0}
    target = lora_convert(LoraConvertConfig(str(file), str(file.with_name("t.safetensors")), alpha=5.0))
    assert alphas(target) == {5.0}  # the older figure does not travel along


@pytest.mark.parametrize("name", ["lora_alpha", "alpha"])
def test_a_plain_header_says_alpha_too(file, name):
    assert alphas(simple(file, {name: "3"})) == {3.0}
    target = lora_convert(LoraConvertConfig(str(file), str(file.with_name("t.safetensors")), alpha=5.0))
    assert alphas(target) == {5.0}
    with pytest.raises(ModelError, match=f"damaged header: {name}"):
        read_lora(simple(file, {name: "much"}))


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ({"ss_network_dim": "16"}, "the header says rank 16, the tensors have 2, 3: the tensors count"),
        ({"ss_network_dim": "3"}, None),  # kohya's convolutions have a rank of their own
        ({"ss_network_dim": "Dynamic"}, None),
        ({"lora_adapter_metadata": '{"unet.r": 16}'}, "the header says rank 16, the tensors have 2, 3: "),
        ({"lora_adapter_metadata": '{"unet.r": 2}'}, "the header says rank 2, the tensors have 3: "),
        ({"lora_adapter_metadata": '{"unet.r": 2, "unet.rank_pattern": {"conv1": 3}}'}, None),
    ],
)
def test_a_rank_that_the_tensors_do_not_have_is_told(file, header, told):
    more = {f"{CONV}.{end}": part for end, part in conv(3).items()}
    lora = open_lora(simple(file, header, **more))
    assert [layer.rank for layer in lora.lora.layers.values()] in ([2, 3], [3, 2])
    notes = [note for note in lora.notes if "the tensors count" in note]
    assert [note.startswith(told or "") for note in notes] == [True] * bool(told)
    assert bool(told) == any("the tensors count" in line for line in lora_show(LoraShowConfig(str(file))))


def test_a_rank_beside_peft_s_file_that_the_tensors_do_not_have_is_told(tmp_path):
    folder = shutil.copytree(CASES / "peft", tmp_path / "peft")
    (folder / "adapter_config.json").write_text(json.dumps({"r": 16, "lora_alpha": 4}), encoding="utf-8")
    with pytest.warns(
        KolorsLabWarning, match=r"adapter_config\.json says rank 16, the tensors have 4: the tensors count"
    ):
        read_lora(folder)


@pytest.mark.parametrize("name", ["modelspec.architecture", "ss_base_model_version"])
def test_a_lora_that_says_it_was_made_for_another_model_is_named(file, name):
    """Kolors' UNet has SDXL's layers, so their LoRAs fit, and draw otherwise."""
    with pytest.warns(KolorsLabWarning, match=r"made for sdxl_base_v1-0, not for Kolors"):
        read_lora(simple(file, {name: "sdxl_base_v1-0", "alpha": "2"}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_lora(simple(file, {name: "Kwai-Kolors/Kolors", "alpha": "2"}))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e300, "4", True, [1]])
def test_an_alpha_that_is_no_number_is_refused_wherever_it_stands(file, tmp_path, value):
    said = {"unet.lora_alpha": value, "unet.r": 2}
    refused = [simple(file, {"lora_adapter_metadata": json.dumps(said)})]
    said = {"unet.lora_alpha": 1, "unet.alpha_pattern": {"to_q": value}}
    refused += [simple(tmp_path / "pattern.safetensors", {"lora_adapter_metadata": json.dumps(said)})]
    if isinstance(value, float):
        more = {f"{LAYER}.alpha": torch.tensor(value, dtype=torch.float64)}
        refused += [simple(tmp_path / "layer.safetensors", **more)]
        refused += [simple(tmp_path / "kohya.safetensors", {"ss_network_alpha": str(value)})]
    folder = shutil.copytree(CASES / "peft", tmp_path / "peft")
    (folder / "adapter_config.json").write_text(json.dumps({"r": 4, "lora_alpha": value}), encoding="utf-8")
    for path in (*refused, folder):
        with pytest.raises(ModelError):
            read_lora(path)
    with pytest.raises(SettingError, match="alpha"):
        read_lora(folder, value)


def test_patterns_are_names_with_wildcards_and_never_run_as_expressions(file):
    table = Patterns({"attn1.to_q": 1, "^down.to_k": 2, r"up_blocks\..*\.to_v$": 3, "to_q": 4})
    names = ("a.attn1.to_q", "a.attn2.to_q", "down.to_k", "x.down.to_k", "up_blocks.0.attn.to_v", "xto_q")
    assert [table.get(name) for name in names] == [1, 4, 2, None, 3, None]
    for pattern in ("(a+)+$", "(x|xx)*", "a{99}", "[a-z]*"):
        said = {"unet.lora_alpha": 1, "unet.alpha_pattern": {pattern: 1}}
        with pytest.raises(ModelError, match=r"pattern .* is more than a layer's name"):
            read_lora(simple(file, {"lora_adapter_metadata": json.dumps(said)}))


@pytest.mark.parametrize("prefix", ["", "unet.", "^", "^base_model.model.unet."])
def test_a_pattern_may_name_what_held_the_unet_and_one_that_fits_no_layer_is_told(file, prefix):
    said = {"unet.lora_alpha": 1, "unet.alpha_pattern": {prefix + LAYER: 3}, "unet.rank_pattern": {"to_v": 9}}
    with pytest.warns(
        KolorsLabWarning, match=r"1 patterns for layers that are not in the file are not used \(to_v, …\)"
    ):
        assert alphas(simple(file, {"lora_adapter_metadata": json.dumps(said)})) == {3.0}


def test_settings_count_whatever_held_the_unet_and_however_they_were_saved(file, tmp_path):
    said = {"transformer.r": 2, "transformer.lora_alpha": 6}
    assert alphas(simple(file, {"lora_adapter_metadata": json.dumps(said)}, "transformer.")) == {6.0}
    simple(tmp_path / "adapter_model.safetensors", prefix="unet.")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 2, "lora_alpha": 6}), encoding="utf-8-sig")
    assert alphas(tmp_path) == {6.0}


def test_a_dora_without_its_lengths_is_told(file):
    said = {"unet.lora_alpha": 2, "unet.use_dora": True}
    with pytest.warns(KolorsLabWarning, match="the header says DoRA, the tensors have none of its lengths"):
        read_lora(simple(file, {"lora_adapter_metadata": json.dumps(said)}))


def test_a_lora_that_moved_its_base_is_refused(tmp_path):
    folder = shutil.copytree(CASES / "peft", tmp_path / "peft")
    said = {"r": 4, "lora_alpha": 4, "init_lora_weights": "pissa_niter_4"}
    (folder / "adapter_config.json").write_text(json.dumps(said), encoding="utf-8")
    with pytest.raises(ModelError, match=r"pissa.*another base"):
        read_lora(folder)


def test_layers_of_alpha_0_are_told(file):
    more = {f"{LAYER}.alpha": torch.tensor(0.0)} | {f"{CONV}.{end}": part for end, part in conv().items()}
    simple(file, {"alpha": "2"}, **more)
    with pytest.warns(KolorsLabWarning, match="1 layers have alpha 0: they change nothing"):
        assert alphas(file) == {0.0, 2.0}


@pytest.mark.parametrize("alpha", [9999220736.0, 1e10])
def test_two_whole_factors_are_not_scaled_by_alpha(file, alpha):
    """The alpha is as huge as the rank that means `whole`; LyCORIS and ComfyUI take the factors as they are."""
    w1, w2 = torch.randn(2, 2), torch.randn(3, 4)
    tensors = {"lokr_w1": w1, "lokr_w2": w2, "alpha": torch.tensor(alpha)}
    save_file({f"lycoris_{LAYER.replace('.', '_')}.{end}": part for end, part in tensors.items()}, file)
    torch.testing.assert_close(read_lora(file).layers[LAYER].delta(), torch.kron(w1, w2))


# names ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "unet.",
        "transformer.",
        "diffusion_model.",
        "model.diffusion_model.",
        "base_model.model.",
        "module.unet.",
        "base_model.model.unet.",
        "pipe.unet.",
        "lycoris.",
        "_orig_mod.",
        "unet._orig_mod.",
    ],
)
def test_what_held_the_unet_is_taken_off_its_layers_names(prefix, file):
    assert set(read_lora(simple(file, prefix=prefix), alpha=1.0).layers) == {LAYER}


@pytest.mark.parametrize("start", ["lora_unet_", "lycoris_", "lycoris_unet_", "lora_transformer_"])
def test_flat_names_too(start):
    assert layer_name(start + LAYER.replace(".", "_")) == LAYER


@pytest.mark.parametrize(
    "name",
    [
        "transformer.single_blocks.0.linear1",
        "double_blocks.0.img_attn.qkv",
        "lora_unet_nothing",
        "to_q",
        "unet",
        "x" * 600,
        "down_blocks.1.attentions.0.transformer_blocks.0.norm1",
        "../../etc/passwd",
        "lora_unet_single_blocks_3_linear1",
    ],
)
def test_a_name_of_no_layer_is_refused_and_named_and_nothing_written(name, file, tmp_path):
    down, up = pair()
    save_file({f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}, file)
    with pytest.raises(ModelError, match=r"and 1 more: in no format") as error:
        lora_convert(LoraConvertConfig(str(file), str(tmp_path / "out.safetensors"), alpha=1.0))
    assert name[:40] in str(error.value) and not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize(
    "name", ["lora_te1_text_model_encoder_layers_0_mlp_fc1", "text_encoder.encoder.layers.0.mlp", "lora_te_layers_0"]
)
def test_a_text_encoder_s_part_is_left_out_and_reported(name, file, tmp_path):
    down, up = pair()
    more = {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}
    simple(file, **more)
    with pytest.warns(KolorsLabWarning, match="2 weights of a text encoder are left out"):
        lora = read_lora(file, alpha=1.0)
    assert set(lora.layers) == {LAYER}
    assert name[:30] in "".join(lora_show(LoraShowConfig(str(file))))
    save_file(more, file)
    with pytest.raises(ModelError, match="text encoder only"):
        read_lora(file)


def test_what_a_file_says_of_itself_is_shown_short_and_in_lines_of_their_own(file):
    tags = {f"ss_note_{n}": "x" for n in range(40)}
    header = {"ss_tag_frequency": json.dumps({"tag": 1}) * 5000, "title": "two\nlines", "a_name_of_many_letters": "v"}
    lines = lora_show(LoraShowConfig(str(simple(file, header | tags))))
    assert len(lines) < 35 and max(map(len, lines)) < 300 and not any("\n" in line for line in lines)
    shown = "\n".join(lines)
    assert "two lines" in shown and "a_name_of_many_letters v" in shown and "and 23 more: ss_note_" in shown


@pytest.mark.parametrize(
    ("name", "down", "up"),
    [
        (LAYER, (2, 5, 1, 1), (6, 2, 1, 1)),
        (CONV, (2, 45), (6, 2)),
        (CONV, (2, 5, 3, 3), (6, 2)),
        (CONV, (2, 45), (6, 2, 1, 1)),
    ],
)
def test_parts_that_are_flat_or_of_a_convolution_are_brought_to_the_layers_shape(file, name, down, up):
    parts = torch.randn(down), torch.randn(up)
    save_file({f"unet.{name}.{end}.weight": part for end, part in zip(("lora_A", "lora_B"), parts, strict=True)}, file)
    layer = read_lora(file, alpha=2.0).layers[name]
    assert layer.down.shape == ((2, 5) if name == LAYER else (2, 5, 3, 3)) and layer.up.ndim == layer.down.ndim
    torch.testing.assert_close(layer.delta().flatten(1), parts[1].flatten(1) @ parts[0].flatten(1))


@pytest.mark.parametrize("start", ["lora_linear_layer.", "lora."])
def test_older_names_of_diffusers_parts(file, start):
    assert set(read_lora(simple(file, ends=(f"{start}down.weight", f"{start}up.weight")), alpha=1.0).layers) == {LAYER}


# LoHa, LoKr, DoRA ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["loha", "lokr"])
def test_lycoris_own_changes_come_out(kind):
    """Linear, convolution, Tucker's form and whole matrices, against the numbers of LyCORIS' own code."""
    form, lora, notes, found = open_lora(CASES / f"lycoris_{kind}.safetensors")
    wanted = load_file(CASES / f"lycoris_{kind}_change.safetensors")
    assert (form, found.lower(), notes, len(lora.layers)) == ("kohya/ComfyUI", kind, [], 3)
    for name, change in wanted.items():
        delta = lora.layers[layer_name(name)].delta()
        assert delta.shape == change.shape
        torch.testing.assert_close(delta, change, rtol=1e-4, atol=1e-5)


class Net(torch.nn.Module):
    """Two layers by names of the UNet."""

    def __init__(self):
        super().__init__()
        block = torch.nn.Module()
        block.resnets = torch.nn.ModuleList([torch.nn.Module()])
        block.resnets[0].conv1 = torch.nn.Conv2d(6, 8, 3)
        block.resnets[0].time_emb_proj = torch.nn.Linear(12, 10)
        self.mid_block = block


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("LoHa", {"r": 3, "alpha": 2, "use_effective_conv2d": True}),
        ("LoHa", {"r": 2, "alpha": 5}),
        ("LoKr", {"r": 2, "alpha": 3, "decompose_factor": 2}),
        ("LoKr", {"r": 99, "alpha": 3, "use_effective_conv2d": True}),
        ("LoKr", {"r": 1, "alpha": 3, "decompose_both": True, "use_effective_conv2d": True}),
    ],
)
def test_peft_s_own_changes_come_out(kind, options, tmp_path):
    """The folder that peft writes, and the change its own layer computes."""
    import peft

    torch.manual_seed(0)
    config = getattr(peft, f"{kind}Config")(target_modules=["conv1", "time_emb_proj"], init_weights=False, **options)
    model = peft.get_peft_model(Net(), config)
    model.save_pretrained(tmp_path)
    lora = read_lora(tmp_path)
    for name in ("mid_block.resnets.0.conv1", "mid_block.resnets.0.time_emb_proj"):
        change = model.base_model.model.get_submodule(name).get_delta_weight("default").detach()
        torch.testing.assert_close(lora.layers[name].delta(), change, rtol=1e-4, atol=1e-5)


def test_what_a_rank_cannot_hold_is_said_with_its_error(file):
    torch.manual_seed(0)
    tensors = {"lokr_w1": torch.randn(4, 4), "lokr_w2": torch.randn(10, 10)}
    save_file(
        {f"lora_unet_{CONV.replace('conv1', 'time_emb_proj').replace('.', '_')}.{k}": v for k, v in tensors.items()},
        file,
    )
    change = torch.kron(tensors["lokr_w1"], tensors["lokr_w2"])
    with pytest.warns(KolorsLabWarning, match=r"LoKr at rank 5 is an approximation: it loses up to \d+\.\d%") as told:
        [layer] = read_lora(file, rank=5).layers.values()
    u, s, v = torch.linalg.svd(change)
    torch.testing.assert_close(layer.delta(), u[:, :5] * s[:5] @ v[:5], rtol=1e-3, atol=1e-4)
    lost = ((change - layer.delta()).norm() / change.norm()).item()
    assert f"{lost:.1%}" in str(told[0].message)
    [layer] = read_lora(
        lora_convert(LoraConvertConfig(str(file), str(file.with_name("t.safetensors"))))
    ).layers.values()
    torch.testing.assert_close(layer.delta(), change, rtol=1e-3, atol=1e-4)


LINEAR = "mid_block.resnets.0.time_emb_proj"


@pytest.mark.parametrize(
    ("name", "shape", "rank"),
    [
        (LAYER, (6, 5), 5),
        (LAYER, (5, 6, 1, 1), 5),  # a linear layer written as a convolution
        (CONV, (4, 5, 3, 3), 4),
        (CONV, (4, 45), 4),  # its kernels written flat
    ],
)
@pytest.mark.parametrize("start", ["lora_unet_", "unet.", ""])
def test_a_change_that_is_written_whole_is_the_lora_that_holds_it(file, name, shape, rank, start):
    torch.manual_seed(0)
    change, key = torch.randn(shape), name.replace(".", "_") if start == "lora_unet_" else name
    save_file({f"{start}{key}.diff": change, f"{start}{key}.diff_b": torch.ones(shape[0])}, file)
    with pytest.warns(KolorsLabWarning) as told:
        [layer] = read_lora(file).layers.values()
    wanted = change.reshape(4, 5, 3, 3) if name == CONV else change.reshape(shape[:2])
    torch.testing.assert_close(layer.delta(), wanted, rtol=1e-6, atol=1e-6)
    assert layer.rank == rank
    said = " ".join(str(one.message) for one in told)
    assert f"1 layers have their whole change in the file ({start}{key}.diff, …)" in said
    assert f"1 biases are left out ({start}{key}.diff_b, …)" in said
    shown = "\n".join(lora_show(LoraShowConfig(str(file))))
    assert "full weights, read as the plain LoRA" in shown and "1 biases are left out" in shown


def test_a_whole_change_that_a_rank_holds_is_read_and_one_that_none_holds_refused(file, tmp_path):
    torch.manual_seed(0)
    down, up = torch.randn(7, 40), torch.randn(50, 7)
    save_file({f"{LINEAR}.diff": up @ down}, file)
    with pytest.warns(KolorsLabWarning, match="whole change"):
        [layer] = read_lora(file, rank=8).layers.values()
    torch.testing.assert_close(layer.delta(), up @ down, rtol=1e-4, atol=1e-4)
    assert layer.rank == 7
    with pytest.raises(ModelError, match=f"{LINEAR} has its whole change in the file .* no LoRA up to rank 6 holds"):
        read_lora(file, rank=6)
    save_file({f"{LINEAR}.diff": torch.randn(300, 400)}, file)
    with pytest.raises(ModelError, match="no LoRA up to rank 256 holds"):
        lora_convert(LoraConvertConfig(str(file), str(tmp_path / "out.safetensors")))
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize("seed", range(8))
def test_a_whole_change_of_just_the_rank_is_read_and_not_by_luck(file, seed):
    torch.manual_seed(seed)
    change = torch.randn(640, 16) @ torch.randn(16, 640)
    save_file({f"{LINEAR}.diff": change}, file)
    with pytest.warns(KolorsLabWarning, match="whole change"):
        [layer] = read_lora(file, rank=16).layers.values()
    assert layer.rank == 16 and (layer.delta() - change).norm() < 1e-5 * change.norm()


def test_biases_beside_a_lora_are_left_out_and_told_and_alone_refused(file):
    bias = {f"{LAYER}.diff_b": torch.ones(6), f"{LAYER.replace('to_q', 'to_out.0')}.diff_b": torch.ones(6)}
    simple(file, **bias)
    with pytest.warns(KolorsLabWarning, match="2 biases are left out"):
        assert set(read_lora(file, alpha=1.0).layers) == {LAYER}
    save_file(bias, file)
    with pytest.raises(ModelError, match="holds 2 biases"):
        read_lora(file)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"lora_A.weight": torch.ones(2, 5)}, "diff, down together"),
        ({"dora_scale": torch.ones(6, 1)}, "diff, dora_scale together"),
        ({"diff": torch.ones(6)}, "is not whole"),
        ({"diff": torch.full((6, 5), float("nan"))}, "NaN"),
    ],
)
def test_a_whole_change_that_cannot_be_meant_is_refused(file, more, words):
    save_file({f"{LAYER}.{end}": tensor for end, tensor in ({"diff": torch.ones(6, 5)} | more).items()}, file)
    with pytest.raises(ModelError, match=words):
        read_lora(file)


def test_whole_changes_of_norms_are_refused_with_their_number(file):
    norm = LAYER.replace("attn1.to_q", "norm1")
    simple(file, **{f"{norm}.diff": torch.ones(6), f"{norm}.diff_b": torch.ones(6)})
    with pytest.raises(ModelError, match=r"norm1\.diff: whole weights"):
        read_lora(file, alpha=1.0)


def test_a_dora_of_lycoris_is_kept_and_one_over_inputs_refused(file):
    down, up = pair()
    ends = {"lora_down.weight": down, "lora_up.weight": up, "alpha": torch.tensor(1.0)}
    for scale, good in ((torch.full((6, 1), 2.0), True), (torch.ones(1, 5), False)):
        tensors = {f"lora_unet_{LAYER.replace('.', '_')}.{end}": t for end, t in (ends | {"dora_scale": scale}).items()}
        save_file(tensors, file)
        if not good:
            with pytest.raises(ModelError, match="over inputs"):
                read_lora(file)
            continue
        lora = read_lora(file)
        assert lora.dora and torch.equal(lora.layers[LAYER].magnitude, torch.full((6,), 2.0))
        again = read_lora(write_lora(lora, file.with_name("t.safetensors")))
        assert torch.equal(again.layers[LAYER].magnitude, lora.layers[LAYER].magnitude)


def test_a_core_between_down_and_up_goes_into_down(file):
    torch.manual_seed(0)
    down, mid, up = torch.randn(2, 3, 1, 1), torch.randn(2, 2, 3, 3), torch.randn(4, 2, 1, 1)
    parts = {"lora_down.weight": down, "lora_mid.weight": mid, "lora_up.weight": up, "alpha": torch.tensor(2.0)}
    save_file({f"lora_unet_{CONV.replace('.', '_')}.{end}": tensor for end, tensor in parts.items()}, file)
    wanted = torch.einsum("or,rskl,si->oikl", up[:, :, 0, 0], mid, down[:, :, 0, 0])
    torch.testing.assert_close(read_lora(file).layers[CONV].delta(), wanted)


@pytest.mark.parametrize(
    ("end", "word"), [("oft_blocks", "OFT"), ("oft_R.weight", "OFT"), ("w_norm", "whole weights"), ("on_input", "IA3")]
)
def test_what_no_lora_can_stand_for_says_why(file, end, word):
    save_file({f"base_model.model.{LAYER}.{end}": torch.ones(2, 2)}, file)
    with pytest.raises(ModelError, match=word):
        read_lora(file)


# hostile -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("old", [False, True])
def test_a_small_pickle_that_claims_gigabytes_is_refused_before_they_are_made(tmp_path, old):
    file = tmp_path / "big.ckpt"
    wide = torch.ones(1).expand(50_000, 100_000)
    torch.save({f"unet.{LAYER}.lora_A.weight": wide}, file, _use_new_zipfile_serialization=not old)
    assert file.stat().st_size < 10_000
    with pytest.raises(ModelError, match="claims 20,000,000,000 bytes"):
        lora_show(LoraShowConfig(str(file)))


def test_a_zip_bomb_is_refused_unopened(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.ckpt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(5_000_000))
    with pytest.raises(ModelError, match="would unpack to 5,000,000 bytes"):
        read_lora(tmp_path / "bomb.ckpt")


def test_a_zip_of_another_version_cannot_be_measured_and_is_refused(tmp_path):
    """torch's own reader would take it."""
    torch.save({"weight": torch.ones(2)}, tmp_path / "new.ckpt")
    content = bytearray((tmp_path / "new.ckpt").read_bytes())
    content[content.index(b"PK\x01\x02") + 6] = 64  # the version that it asks of its reader: 6.4
    (tmp_path / "new.ckpt").write_bytes(content)
    with pytest.raises(ModelError, match=r"no torch wrote \(zip file version 6\.4\)"):
        read_lora(tmp_path / "new.ckpt")


@pytest.mark.parametrize("place", ["header", "folder"])
@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, "[1]", "{", '{"r": 1, "lora_alpha": ' + "9" * 5000 + "}"]
)
def test_json_too_deep_or_of_another_kind_is_one_line(file, tmp_path, place, text):
    if place == "header":
        path = simple(file, {"lora_adapter_metadata": text})
    else:
        path = shutil.copytree(CASES / "peft", tmp_path / "peft")
        (path / "adapter_config.json").write_text(text, encoding="utf-8")
    with pytest.raises(ModelError, match="damaged header") as error:
        read_lora(path)
    assert len(str(error.value)) < 800


def test_a_layer_larger_than_any_is_refused_before_it_is_made(file):
    save_file({f"{LAYER}.lokr_w1": torch.ones(2000, 2000), f"{LAYER}.lokr_w2": torch.ones(200, 200)}, file)
    with pytest.raises(ModelError, match="larger than any"):
        read_lora(file)


def test_many_small_factors_do_not_fill_the_memory(file, monkeypatch):
    """90 x 90 twice, 65 kB, are a layer of 8100 x 8100: a thousand such would be gigabytes, whatever the names."""
    monkeypatch.setattr("kolors_lab.lora.reading.ROOM", 2**10)
    names = (f"down_blocks.{n}.resnets.0.time_emb_proj" for n in range(3))
    save_file({f"{name}.lokr_w{k}": torch.randn(20, 20) for name in names for k in (1, 2)}, file)
    with pytest.raises(ModelError, match="larger than any of Kolors"):
        read_lora(file, alpha=1.0)


@pytest.mark.parametrize("name", ["gone", "a\0b", "x" * 5000])
def test_a_name_that_no_file_has_is_one_line(name):
    with pytest.raises(ModelError, match="does not exist"):
        read_lora(name)


@pytest.mark.parametrize(
    ("start", "words"),
    [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "pointer of Git LFS"),
        ("<!DOCTYPE html><html>", "a web page"),
        ("\n<html><head>", "a web page"),
    ],
)
@pytest.mark.parametrize("suffix", ["safetensors", "ckpt"])
def test_what_was_downloaded_in_place_of_a_file_is_named(tmp_path, start, words, suffix):
    (tmp_path / f"a.{suffix}").write_text(start, encoding="utf-8")
    with pytest.raises(ModelError, match=words):
        read_lora(tmp_path / f"a.{suffix}")


def test_a_folder_of_older_diffusers_is_a_lora(tmp_path):
    torch.save(dict(zip((f"unet.{LAYER}.lora.down.weight", f"unet.{LAYER}.lora.up.weight"), pair(), strict=True)),
               tmp_path / "pytorch_lora_weights.bin")  # fmt: skip
    assert set(read_lora(tmp_path, alpha=1.0).layers) == {LAYER}


def test_a_folder_without_a_lora_says_so_and_inputs_stay_as_they_are(tmp_path):
    with pytest.raises(ModelError, match="a folder without"):
        read_lora(tmp_path)
    folder = shutil.copytree(CASES / "peft", tmp_path / "peft")
    before = {f.name: (f.read_bytes(), f.stat().st_mtime_ns) for f in folder.iterdir()}
    read_lora(folder)
    lora_show(LoraShowConfig(str(folder)))
    assert {f.name: (f.read_bytes(), f.stat().st_mtime_ns) for f in folder.iterdir()} == before


def test_by_command_what_is_guessed_is_told_and_nothing_orders_the_terminal_about(file, tmp_path, capsys):
    from kolors_lab.cli import main

    header = {"title": "\x1b]0;owned\x07 \x1b[2Jnice \u202etxt", "\x1b[31mname": "v"}
    assert main(["lora", "show", str(simple(file, header))]) == 0
    told = capsys.readouterr()
    assert "nice" in told.out and not set("\x1b\x07\u202e") & set(told.out + told.err)
    assert main(["lora", "convert", str(file), str(tmp_path / "out.safetensors"), "--to", "comfyui"]) == 0
    assert "guessed to be the rank" in capsys.readouterr().err


SEEDS = [(CASES / "kohya_alpha2_rank4.safetensors").read_bytes(), (CASES / "lycoris_lokr.safetensors").read_bytes()]
QUIET = {"deadline": None, "suppress_health_check": list(HealthCheck)}


@settings(max_examples=150, **QUIET)
@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=6),
    st.integers(0, 60),
)
def test_bytes_changed_or_cut_at_random_end_in_a_lora_or_in_one_line(tmp_path_factory, data, changes, cut):
    data = bytearray(data)
    for place, byte in changes:
        data[place % len(data)] = byte
    survives(tmp_path_factory, bytes(data[: len(data) - cut]))


NUMBERS = st.one_of(
    st.floats(), st.integers(), st.text(max_size=4), st.none(), st.booleans(), st.lists(st.integers(), max_size=2)
)
TABLES = st.dictionaries(st.sampled_from(["to_q", ".*", "(a+)+$", "^x", "", "*"]), NUMBERS, max_size=3)
FIELDS = ["unet.lora_alpha", "unet.r", "unet.alpha_pattern", "unet.rank_pattern", "unet.use_rslora"]
SAID = st.dictionaries(st.sampled_from(FIELDS), st.one_of(NUMBERS, TABLES), max_size=5)


@settings(max_examples=150, **QUIET)
@given(st.one_of(SAID.map(json.dumps), st.text(max_size=30)), st.text(max_size=8))
def test_whatever_a_header_says_ends_in_a_lora_or_in_one_line(tmp_path_factory, said, alpha):
    from safetensors.torch import save

    tensors = dict(zip((f"unet.{LAYER}.lora_A.weight", f"unet.{LAYER}.lora_B.weight"), pair(), strict=True))
    survives(tmp_path_factory, save(tensors, {"lora_adapter_metadata": said}))
    survives(tmp_path_factory, save(tensors, {"ss_network_alpha": alpha}))


def survives(tmp_path_factory, data):
    file = tmp_path_factory.getbasetemp() / "fuzz.safetensors"
    file.write_bytes(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            lora = read_lora(file)
            lora_show(LoraShowConfig(str(file)))
    except KolorsLabError as error:
        assert "\n" not in str(error)
        return
    assert all(layer.delta().isfinite().all() for layer in lora.layers.values())
