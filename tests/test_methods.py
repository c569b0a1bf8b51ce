"""Full fine-tuning and the LoRA nearest to it; masks that say what of a picture counts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from kolors_lab.core.errors import DataError, SettingError
from kolors_lab.dataset.folder import read_examples
from kolors_lab.lora.adapter import load_lora, unload_lora
from kolors_lab.sampling.pipeline import generate
from kolors_lab.training.beside import beside
from kolors_lab.training.config import TrainConfig
from kolors_lab.training.full import difference, strongest
from kolors_lab.training.latent_cache import encode
from kolors_lab.training.loop import train
from kolors_lab.training.loss import loss
from kolors_lab.training.methods import METHODS

FAST = {"steps": 2, "width": 64, "height": 64}


@pytest.fixture
def tune(pipe_folder, pipe, pictures, tmp_path):
    def run(**settings):
        settings = {
            "steps": 3,
            "batch_size": 2,
            "lr_warmup_steps": 0,
            "data": str(pictures),
            "method": "full",
        } | settings
        return train(TrainConfig(preset=str(pipe_folder), out=str(tmp_path / "run"), **settings), pipe)

    return run


def test_a_method_of_ones_own_needs_no_known_size(tune, monkeypatch):
    monkeypatch.setitem(METHODS, "own", METHODS["full"]._replace(result="own"))
    assert tune(method="own").is_dir()


def test_full_gives_a_unet_folder_and_the_lora_nearest_to_it(tune, pipe):
    from diffusers import UNet2DConditionModel

    before = {name: weight.clone() for name, weight in pipe.unet.state_dict().items()}
    plain = np.asarray(generate(pipe, "白马", **FAST), int)
    folder = tune(rank=64, learning_rate=1e-3)
    assert all(torch.equal(weight, before[name]) for name, weight in pipe.unet.state_dict().items())
    assert np.array_equal(np.asarray(generate(pipe, "白马", **FAST)), plain)
    load_lora(pipe, folder.with_name("lora.safetensors"))
    near = np.asarray(generate(pipe, "白马", **FAST), int)
    unload_lora(pipe)
    pipe.unet = UNet2DConditionModel.from_pretrained(folder)
    tuned = np.asarray(generate(pipe, "白马", **FAST), int)
    assert np.abs(tuned - plain).mean() > 1
    assert np.abs(near - tuned).mean() < 0.5 * np.abs(plain - tuned).mean()


def test_every_kind_of_weight_learns(tune, pipe):
    from diffusers import UNet2DConditionModel

    tuned = UNet2DConditionModel.from_pretrained(tune()).state_dict()
    same = [name for name, weight in pipe.unet.state_dict().items() if torch.equal(weight, tuned[name])]
    assert not same


@pytest.mark.parametrize("shape", [(40, 24), (32, 16, 3, 3)])
def test_the_strongest_directions_are_those_of_the_whole_decomposition(shape):
    torch.manual_seed(5)
    change = torch.randn(shape)
    u, s, v = torch.linalg.svd(change.flatten(1), full_matrices=False)
    best = (u[:, :4] * s[:4] @ v[:4]).reshape(shape)
    assert (change - strongest(change, 4).delta()).norm() < 1.001 * (change - best).norm()
    assert torch.allclose(strongest(change, 999).delta(), change, atol=1e-3)


def test_what_did_not_change_is_left_out():
    before = {"a.weight": torch.zeros(4, 4), "b.weight": torch.zeros(4, 4), "b.bias": torch.zeros(4)}
    after = {**before, "a.weight": torch.eye(4), "b.bias": torch.ones(4)}
    assert list(difference(before, after, 2).layers) == ["a"]


@pytest.fixture
def masked(pictures, tmp_path):
    """A mask beside each picture: its left half counts."""
    masks = tmp_path / "masks"
    masks.mkdir()
    for file in (pictures / "train").glob("*.png"):
        size = Image.open(file).size
        mask = Image.new("L", size)
        mask.paste(255, (0, 0, size[0] // 2, size[1]))
        mask.save(masks / file.name)
    return masks


def test_what_a_mask_leaves_out_does_not_count_in_the_loss(pipe, pictures, masked):
    from diffusers import DDPMScheduler

    config, examples = TrainConfig(masks=str(masked)), read_examples(pictures)
    batch = beside(encode(pipe, examples, 128), examples, 128, config).batch(torch.tensor([0]), "cpu")
    assert batch["mask"].shape == (1, 1, 16, 16) and batch["mask"][..., :8].all() and not batch["mask"][..., 8:].any()
    noise, wrong = torch.zeros(1, 4, 16, 16), torch.zeros(1, 4, 16, 16)
    wrong[..., 8:] = 9.0  # an error where nothing counts

    def guess(value):
        class Unet:
            conv_in = pipe.unet.conv_in

            def __call__(self, *args, **options):
                return type("Out", (), {"sample": value})

        return loss(Unet(), DDPMScheduler.from_config(pipe.scheduler.config), batch, noise, torch.tensor([500]), None)

    assert guess(wrong) == 0
    wrong[..., 0] = 4.0  # an eighth of what counts
    assert guess(wrong) == pytest.approx(2.0)


def test_a_lora_is_trained_under_masks(pipe_folder, pipe, pictures, masked, tmp_path):
    settings = {"steps": 2, "batch_size": 2, "rank": 4, "data": str(pictures), "variants": 2, "held_out": 0.3}
    files = [
        train(TrainConfig(preset=str(pipe_folder), out=str(tmp_path / str(n)), masks=masks, **settings), pipe)
        for n, masks in enumerate((None, str(masked)))
    ]
    assert files[0].read_bytes() != files[1].read_bytes()


def test_masks_that_leave_nothing_are_named(pipe, pictures, masked):
    for file in masked.iterdir():
        Image.new("L", Image.open(file).size).save(file)
    config, examples = TrainConfig(masks=str(masked)), read_examples(pictures)
    with pytest.raises(DataError, match=r"mask .*0\.png is all black"):
        beside(encode(pipe, examples, 128), examples, 128, config).batch(torch.tensor([0]), "cpu")


def test_full_has_no_use_for_a_loras_settings():
    with pytest.raises(SettingError, match="alpha = 8"):
        TrainConfig(method="full", alpha=8)
