"""A model goes by its weights: what lies around them, or how they are cut into files, makes no other model."""

import shutil

import pytest
from safetensors.torch import load_file, save_file

from kolors_lab.core.errors import ModelError
from kolors_lab.models.identity import model_fingerprint
from kolors_lab.models.presets import get_preset


@pytest.fixture
def copy(pipe_folder, tmp_path):
    return shutil.copytree(pipe_folder, tmp_path / "under another name")


def mark(folder) -> str:
    return model_fingerprint(get_preset(str(folder)))


def test_what_lies_around_the_weights_is_no_other_model(pipe_folder, copy):
    (copy / "README.md").write_text("fetched another way")
    [file] = (copy / "vae").glob("*.safetensors")
    weights = load_file(file)
    half = dict(list(weights.items())[::2])
    save_file({name: weights[name] for name in weights.keys() - half.keys()}, file.with_name("b.safetensors"))
    save_file(half, file)
    assert mark(copy) == mark(pipe_folder)


@pytest.mark.parametrize("part", ["text_encoder", "unet", "vae"])
def test_other_weights_of_any_part_are_another_model(pipe_folder, copy, part):
    file = next((copy / part).glob("*.safetensors"))
    weights = load_file(file)
    name = max(weights, key=lambda key: weights[key].numel())
    save_file(weights | {name: weights[name] + 1}, file)
    assert mark(copy) != mark(pipe_folder)


def test_the_vae_that_takes_the_models_place_counts(pipe_folder, copy):
    from dataclasses import replace

    file = next((copy / "vae").glob("*.safetensors"))
    weights = load_file(file)
    save_file({name: tensor + 1 for name, tensor in weights.items()}, file)
    preset = get_preset(str(pipe_folder))
    assert model_fingerprint(replace(preset, vae=str(copy / "vae"))) != model_fingerprint(preset)


def test_damaged_weights_are_named(copy):
    file = next((copy / "unet").glob("*.safetensors"))
    file.write_bytes(b"\xff" * 100)
    with pytest.raises(ModelError, match="unet"):
        mark(copy)
