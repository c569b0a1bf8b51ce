"""Presets, and loading a pipeline where it fits."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from kolors_lab.core.errors import FetchError, ModelError, SettingError
from kolors_lab.models import device, loading, presets
from kolors_lab.models.device import pick_device
from kolors_lab.models.identity import model_fingerprint
from kolors_lab.models.loading import load_pipeline
from kolors_lab.models.memory import memory_plan, parameter_count, tensor_shapes, weight_files
from kolors_lab.models.presets import get_preset, local_path


@pytest.fixture
def copy(pipe_folder, tmp_path):
    """A copy of the pipeline folder that a test may damage."""
    return shutil.copytree(pipe_folder, tmp_path / "my pipeline")


@pytest.mark.parametrize(("name", "size"), [("tiny", 128), ("kolors", 1024)])
def test_embedded_presets(name, size):
    preset = get_preset(name)
    assert (preset.name, preset.size, preset.cfg) == (name, size, 4.0)


def test_a_folder_gets_a_preset_from_its_own_configuration(pipe_folder):
    preset = get_preset(str(pipe_folder))
    assert (preset.name, preset.model, preset.size, preset.min_size) == ("random-kolors", str(pipe_folder), 128, 128)
    assert preset.practice


def test_a_folder_of_a_large_model_is_treated_as_kolors(copy):
    config = json.loads((copy / "unet/config.json").read_text())
    (copy / "unet/config.json").write_text(json.dumps(config | {"sample_size": 128}))
    preset = get_preset(str(copy))
    assert (preset.size, preset.practice) == (1024, False)


@pytest.mark.parametrize("name", ["tinny", "", "tests", "no/such/folder"])
def test_anything_else_is_a_setting_error_that_says_what_is_allowed(name):
    with pytest.raises(SettingError, match="tiny, kolors or a folder"):
        get_preset(name)


def test_a_folder_of_another_pipeline_is_named(copy):
    (copy / "model_index.json").write_text(json.dumps({"_class_name": "FluxPipeline"}))
    with pytest.raises(SettingError, match="FluxPipeline"):
        get_preset(str(copy))


def test_kwais_own_layout_is_told_how_to_become_diffusers(copy):
    (copy / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionXLPipeline"}))
    with pytest.raises(SettingError, match="unet folder in the place of the one in a copy of Kolors-diffusers"):
        get_preset(str(copy))


def test_a_unet_under_its_plain_name_is_loaded_beside_parts_in_half_precision(copy):
    """Kolors-Inpainting's UNet in a copy of Kolors-diffusers: the files counted and hashed are the files loaded."""
    pipe = load_pipeline(get_preset(str(copy)))
    wider = torch.nn.functional.pad(pipe.unet.conv_in.weight, [0] * 5 + [5])
    nine = pipe.unet.state_dict() | {"conv_in.weight": wider}
    config = json.loads((copy / "unet/config.json").read_text())
    (copy / "unet/config.json").write_text(json.dumps(config | {"in_channels": 9}))
    save_file(nine, copy / "unet/diffusion_pytorch_model.safetensors")
    for part in ("text_encoder", "vae"):
        for file in (copy / part).glob("*.safetensors"):
            file.rename(file.with_name(file.name.replace(".safetensors", ".fp16.safetensors")))
    preset = get_preset(str(copy))
    loaded = load_pipeline(preset)
    assert loaded.unet.config.in_channels == 9 and torch.equal(loaded.unet.conv_in.weight, wider)
    assert tensor_shapes(copy)["unet/conv_in.weight"] == tuple(wider.shape)
    plain, extra = model_fingerprint(preset), copy / "vae/diffusion_pytorch_model.safetensors"
    save_file({"x": torch.ones(1)}, extra)
    assert {file.name.count(".fp16") for file in weight_files(copy, "vae")} == {1}
    assert model_fingerprint(preset) == plain, "what is not loaded is not part of the model"


@pytest.mark.parametrize(
    ("field", "value"),
    [("steps", 0), ("size", 100), ("cfg", -1), ("cfg", float("nan")), ("batch_size", 1.5), ("min_ratio", 3.0)],
)
def test_a_preset_checks_its_fields(field, value):
    with pytest.raises(SettingError) as error:
        replace(get_preset("tiny"), **{field: value})
    assert "must be" in str(error.value) and "\n" not in str(error.value)


def test_what_is_not_on_this_machine_is_said_with_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path))
    with pytest.raises(FetchError, match="kolors-lab fetch"):
        local_path("nobody/nothing")
    with pytest.raises(FetchError, match="does not exist"):
        local_path(str(tmp_path / "nothing"))


def test_a_fallback_serves_where_the_first_id_is_missing(pipe_folder, tmp_path):
    preset = replace(get_preset("tiny"), model=str(tmp_path / "missing"), model_fallbacks=(str(pipe_folder),))
    assert presets.pipeline_path(preset) == pipe_folder


def test_load_pipeline_gives_the_type_asked_for(pipe_folder):
    for dtype in (torch.float32, torch.bfloat16):
        pipe = load_pipeline(get_preset(str(pipe_folder)), "cpu", dtype)
        assert {pipe.unet.dtype, pipe.vae.dtype, pipe.text_encoder.dtype} == {dtype}


def test_load_pipeline_swaps_the_vae(pipe_folder, copy):
    vae = copy / "vae"
    config = json.loads((vae / "config.json").read_text())
    (vae / "config.json").write_text(json.dumps(config | {"scaling_factor": 0.5}))
    pipe = load_pipeline(replace(get_preset(str(pipe_folder)), vae=str(vae)), "cpu")
    assert pipe.vae.config.scaling_factor == 0.5


def test_load_pipeline_takes_weights_that_are_there_as_fp16_only(copy):
    for file in list(copy.glob("*/*.safetensors")):
        file.rename(file.with_suffix(".fp16.safetensors"))
    assert load_pipeline(get_preset(str(copy)), "cpu").unet.dtype == torch.float32


@pytest.mark.parametrize("file", ["unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"])
def test_damaged_weights_are_a_model_error(copy, file):
    weights = copy / file
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_pipeline(get_preset(str(copy)), "cpu")


def test_a_pickle_among_the_weights_is_never_opened(copy, tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "opened"), "w"))

    weights = copy / "unet/diffusion_pytorch_model.safetensors"
    weights.unlink()
    torch.save(Evil(), weights.with_suffix(".bin"))
    with pytest.raises(ModelError):
        load_pipeline(get_preset(str(copy)), "cpu")
    assert not (tmp_path / "opened").exists()


def test_a_card_that_only_says_it_is_there_is_not_picked(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    ones = torch.ones

    def broken(*shape, device=None, **options):
        if device == "cuda":
            raise RuntimeError("no kernel image is available for execution on the device")
        return ones(*shape, device=device, **options)

    monkeypatch.setattr(torch, "ones", broken)
    assert pick_device().type == "cpu"


@pytest.mark.parametrize(("sizes", "rank", "taken"), [((8, 24), None, 1), ((8, 24), "0", 0), ((15, 15), None, 0)])
def test_of_two_cards_the_larger_is_taken_and_named(monkeypatch, sizes, rank, taken):
    """What is made on them lies in main memory here. `accelerate launch` has set each process's own."""
    current, ones = [0], torch.ones
    for name, answer in {
        "is_available": lambda: True,
        "device_count": lambda: len(sizes),
        "get_device_properties": lambda n: SimpleNamespace(total_memory=sizes[n]),
        "set_device": lambda n: current.append(n),
        "current_device": lambda: current[-1],
    }.items():
        monkeypatch.setattr(torch.cuda, name, answer)
    monkeypatch.setattr(torch, "ones", lambda *shape, device: ones(*shape))
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if rank:
        monkeypatch.setenv("LOCAL_RANK", rank)
    assert pick_device() == torch.device("cuda", taken)


def test_no_card_means_the_cpu_in_float32(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device.pick_dtype(pick_device()) == torch.float32


@pytest.mark.parametrize(("capability", "dtype"), [((7, 5), torch.float16), ((8, 0), torch.bfloat16)])
def test_bfloat16_only_on_cards_that_compute_in_it(monkeypatch, capability, dtype):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert device.pick_dtype("cuda") == dtype


@pytest.mark.parametrize(("free", "words"), [(2**40, "all of it stays"), (1000, "too small")])
def test_memory_plan_follows_the_free_memory(monkeypatch, pipe_folder, free, words):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 2**40))
    monkeypatch.setattr("kolors_lab.models.memory.pick_dtype", lambda device: torch.float16)
    assert words in memory_plan(get_preset(str(pipe_folder)), "cuda")
    assert "main memory" in memory_plan(get_preset(str(pipe_folder)), "cpu")


def test_parameter_count_is_that_of_the_loaded_parts(pipe_folder, pipe):
    parts = (pipe.unet, pipe.vae, pipe.text_encoder)
    assert parameter_count(pipe_folder) >= sum(part.num_parameters() for part in parts)
    assert parameter_count(pipe_folder) < 1.01 * sum(part.num_parameters() for part in parts)


def test_a_text_encoder_in_few_bits_says_what_it_needs(pipe_folder, monkeypatch):
    preset = get_preset(str(pipe_folder))
    with pytest.raises(ModelError, match="text_encoder_bits = 4: needs a CUDA GPU"):
        load_pipeline(preset, text_encoder_bits=4)
    monkeypatch.setattr(loading, "pick_device", lambda: torch.device("cuda"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match="needs the package bitsandbytes"):
        load_pipeline(preset, text_encoder_bits=8)


def test_a_text_encoder_in_few_bits_is_loaded_so_and_the_rest_is_not(pipe, pipe_folder, monkeypatch):
    from diffusers.pipelines.kolors import ChatGLMModel

    asked = {}
    monkeypatch.setattr(loading, "need_quantization", lambda *_: None)
    monkeypatch.setattr(loading, "pick_device", lambda: torch.device("cuda"))
    monkeypatch.setattr(
        ChatGLMModel, "from_pretrained", lambda *_, **options: asked.update(options) or pipe.text_encoder
    )
    loaded = load_pipeline(get_preset(str(pipe_folder)), "cpu", text_encoder_bits=8)
    assert asked["quantization_config"].load_in_8bit and asked["use_safetensors"] is True
    assert (asked["subfolder"], asked["torch_dtype"]) == ("text_encoder", torch.float32)
    assert loaded.text_encoder is pipe.text_encoder and loaded.unet.dtype == torch.float32
