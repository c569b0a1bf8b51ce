"""ControlNet: what says where, Kwai's folders as they are, and a net of one's own."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from kolors_lab.core.errors import ModelError, SettingError
from kolors_lab.pictures.files import generate_file
from kolors_lab.pictures.grids import GridConfig, grid
from kolors_lab.sampling.control import (
    Control,
    control_picture,
    edge_f1,
    load_control_net,
    residuals,
)
from kolors_lab.sampling.ksampler import KSampler
from kolors_lab.sampling.metadata import read_settings
from kolors_lab.sampling.pipeline import GenerateConfig, generate, generate_batch

FAST = {"steps": 2, "width": 64, "height": 64}


def square(at=16, side=64):
    image = Image.new("RGB", (side, side), "white")
    ImageDraw.Draw(image).rectangle((at, at, at + side // 2, at + side // 2), fill="navy")
    return image


def make_net(unet, folder, kind="ControlNetModel", random=True):
    """A ControlNet folder of the UNet's shapes; with random zero convolutions it acts at once."""
    from diffusers import ControlNetModel

    torch.manual_seed(1)
    net = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 8, 16, 16))
    for name, weight in net.named_parameters():
        if random and ("controlnet_" in name or "conv_out" in name):
            torch.nn.init.normal_(weight, 0, 0.2)
    net.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"_class_name": kind}))
    return folder


@pytest.fixture
def net(pipe, tmp_path):
    return make_net(pipe.unet, tmp_path / "net", "ControlNetModel_JQ")


def test_kwais_own_folder_acts_on_the_picture(pipe, net):
    control = Control(load_control_net(net, pipe.unet), (square(),))
    plain = np.asarray(generate(pipe, "白马", **FAST))
    drawn = np.asarray(generate(pipe, "白马", control=control, **FAST))
    other = np.asarray(generate(pipe, "白马", control=Control(control.net, (square(4),)), **FAST))
    assert not np.array_equal(drawn, plain) and not np.array_equal(drawn, other)
    assert np.array_equal(np.asarray(generate(pipe, "白马", **FAST)), plain)  # nothing stays on the pipeline


def test_the_text_is_projected_before_the_net_reads_it(pipe, net):
    """Kwai's forward does so; diffusers' would hand 64 numbers a token on to layers that expect the projection's."""
    loaded = load_control_net(net, pipe.unet)
    embeds, hint = torch.randn(1, 256, 64), torch.rand(1, 3, 64, 64)
    added = {"text_embeds": torch.randn(1, 64), "time_ids": torch.zeros(1, 6)}
    found = residuals(loaded, torch.randn(1, 4, 8, 8), torch.tensor(500.0), embeds, added, hint)
    seen = []
    loaded.down_blocks[1].attentions[0].register_forward_hook(
        lambda module, args, kwargs, out: seen.append(kwargs["encoder_hidden_states"]), with_kwargs=True
    )
    torch.manual_seed(0)
    residuals(loaded, torch.randn(1, 4, 8, 8), torch.tensor(500.0), embeds, added, hint)
    assert torch.equal(seen[0], loaded.encoder_hid_proj(embeds))
    assert len(found["down_block_additional_residuals"]) == len(loaded.controlnet_down_blocks)


@pytest.mark.parametrize("change", [{"strength": 0.0}, {"end": 0.1}])
def test_a_control_that_does_not_act_changes_nothing(pipe, net, change):
    """The scheduler leading begins its three steps after a third of the noise, past an end of 0.1."""
    control = Control(load_control_net(net, pipe.unet), (square(),), **change)
    plain, drawn = (generate(pipe, "白马", control=one, **FAST | {"steps": 3}) for one in (None, control))
    assert np.array_equal(np.asarray(drawn), np.asarray(plain))


def test_the_end_of_the_control_counts(pipe, net):
    loaded = load_control_net(net, pipe.unet)
    early, late = (Control(loaded, (square(),), end=end) for end in (0.5, 1.0))
    drawn = [np.asarray(generate(pipe, "白马", control=one, **FAST | {"steps": 3})) for one in (None, early, late)]
    assert not np.array_equal(drawn[0], drawn[1]) and not np.array_equal(drawn[1], drawn[2])


def test_each_prompt_may_have_its_own_control(pipe, net):
    loaded, settings = load_control_net(net, pipe.unet), [KSampler(**FAST), KSampler(**FAST, seed=1)]
    both = generate_batch(
        pipe, ["白马"] * 2, [""] * 2, settings, control=Control(loaded, (square(), square(4))), prompt_syntax="plain"
    )
    alone = generate(pipe, "白马", control=Control(loaded, (square(4),)), prompt_syntax="plain", **FAST, seed=1)
    assert np.abs(np.asarray(both[1], dtype=int) - np.asarray(alone, dtype=int)).max() <= 2


def test_a_control_is_a_setting_of_the_picture(pipe, pipe_folder, net, tmp_path):
    square().save(tmp_path / "edges.png")
    given = {"preset": str(pipe_folder), "control": str(tmp_path / "edges.png"), "control_net": str(net)}
    file = generate_file(GenerateConfig(**given, **FAST, out=str(tmp_path / "a.png")), pipe)
    found = read_settings(file)
    assert found["control"].startswith("edges.png:") and found["control_net"] == "net"
    assert (found["control_kind"], found["control_strength"], found["control_end"]) == ("canny", 0.7, 0.9)


def test_a_grid_varies_the_strength(pipe, pipe_folder, net, tmp_path):
    square().save(tmp_path / "edges.png")
    given = {"preset": str(pipe_folder), "control": str(tmp_path / "edges.png"), "control_net": str(net)}
    grid(GridConfig(**given, **FAST, x="control_strength=0,1", out=str(tmp_path / "grid.png")), pipe)
    cells = [np.asarray(Image.open(file)) for file in (tmp_path / "cells").iterdir()]
    assert len(cells) == 2 and not np.array_equal(*cells)


@pytest.mark.parametrize("kind", ["canny", "scribble"])
def test_edges_are_where_the_brightness_changes(kind):
    edges = np.asarray(control_picture(square(), kind, 64, 64).convert("L"))
    assert edges[32, 16] > 100 or edges[32, 15] > 100  # the left side of the square
    assert edges[32, 32] == 0 and edges[4, 4] == 0


def test_edge_f1_tells_the_same_place_from_another():
    control = control_picture(square(), "canny", 64, 64)
    assert edge_f1(square(), control) == 1
    assert edge_f1(square(4), control) < 0.5
    assert np.isnan(edge_f1(Image.new("RGB", (8, 8)), Image.new("RGB", (8, 8))))


def test_a_control_of_another_shape_is_refused(pipe, net):
    control = Control(load_control_net(net, pipe.unet), (square().resize((64, 32)),))
    with pytest.raises(SettingError, match="64 x 32 px, the picture 64 x 64"):
        generate(pipe, "白马", control=control, **FAST)


def test_a_control_is_scaled_to_the_picture(pipe, net):
    loaded = load_control_net(net, pipe.unet)
    assert generate(pipe, "白马", control=Control(loaded, (square(side=128),)), **FAST).size == (64, 64)


@pytest.mark.parametrize("given", [{"control": "a.png"}, {"control_net": "net"}])
def test_a_control_without_a_net_is_refused(given):
    with pytest.raises(SettingError, match="go together"):
        GenerateConfig(**given)


def test_a_net_of_another_model_is_refused(pipe, net):
    config = json.loads((net / "config.json").read_text()) | {"cross_attention_dim": 2048}
    (net / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="another model: cross_attention_dim is 2048 there, 64 here"):
        load_control_net(net, pipe.unet)


def test_a_folder_that_holds_no_net_is_refused(pipe, pipe_folder, tmp_path):
    with pytest.raises(ModelError, match="holds a UNet2DConditionModel"):
        load_control_net(pipe_folder / "unet", pipe.unet)
    with pytest.raises(ModelError, match="holds no ControlNet"):
        load_control_net(tmp_path, pipe.unet)
