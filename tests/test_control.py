"""ControlNet: what says where, Kwai's folders as they are, and a net of one's own."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from kolors_lab.core.errors import DataError, ModelError, SettingError
from kolors_lab.core.images import open_image
from kolors_lab.dataset.folder import read_examples, read_sources
from kolors_lab.pictures.controls import ControlsConfig, controls, controls_sheet, read_rows
from kolors_lab.pictures.files import generate_file
from kolors_lab.pictures.grids import GridConfig, grid
from kolors_lab.sampling.config import GenerateConfig
from kolors_lab.sampling.control import (
    Control,
    canny,
    control_picture,
    edge_f1,
    load_control_net,
    pixels,
    residuals,
)
from kolors_lab.sampling.ksampler import KSampler
from kolors_lab.sampling.metadata import read_settings
from kolors_lab.sampling.pipeline import generate, generate_batch
from kolors_lab.training.beside import beside
from kolors_lab.training.callbacks import MetricsFile
from kolors_lab.training.config import TrainConfig
from kolors_lab.training.control import WithControl, new_net
from kolors_lab.training.latent_cache import cut, encode
from kolors_lab.training.loop import train
from kolors_lab.training.loss import loss

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


def test_both_names_that_kwais_configs_give_their_nets_are_known(pipe, tmp_path):
    assert load_control_net(make_net(pipe.unet, tmp_path / "net", "Kolors_ControlNetModel"), pipe.unet).config


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
    assert edge_f1(square(17), control) < 0.5 and edge_f1(square(17), control, reach=1) == 1
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


# Training one -------------------------------------------------------------------------------------------------------


@pytest.fixture
def train_net(pipe_folder, pipe, pictures, tmp_path):
    def run(out="run", data=pictures, **settings):
        settings = {
            "steps": 2,
            "batch_size": 2,
            "lr_warmup_steps": 0,
            "data": str(data),
            "learning_rate": 0.01,
        } | settings
        config = TrainConfig(preset=str(pipe_folder), method="controlnet", out=str(tmp_path / out), **settings)
        return train(config, pipe)

    return run


def test_training_gives_a_folder_that_draws_here_and_loads_in_diffusers(pipe, train_net):
    from diffusers import ControlNetModel

    before = {name: weight.clone() for name, weight in pipe.unet.state_dict().items()}
    folder = train_net(steps=4)
    plain = ControlNetModel.from_pretrained(folder)
    assert plain.controlnet_down_blocks[0].weight.any()  # the zero convolutions have learned
    assert all(torch.equal(weight, before[name]) for name, weight in pipe.unet.state_dict().items())
    drawn = [
        np.asarray(generate(pipe, "白马", control=one, **FAST))
        for one in (None, Control(load_control_net(folder, pipe.unet), (square(),), strength=2.0))
    ]
    assert not np.array_equal(*drawn)


def test_a_new_net_begins_without_effect_and_with_the_unets_own_projection(pipe):
    net = new_net(pipe.unet, seed=0)
    assert torch.equal(net.encoder_hid_proj.weight, pipe.unet.encoder_hid_proj.weight)
    plain, drawn = (generate(pipe, "白马", control=c, **FAST) for c in (None, Control(net, (square(),))))
    assert np.array_equal(np.asarray(plain), np.asarray(drawn))


def test_what_a_new_net_reads_keeps_its_contrast(pipe):
    """The hint reaches the copy from the first step on; in diffusers' own start it meets zeros there as well."""
    read = new_net(pipe.unet, seed=0).controlnet_cond_embedding(pixels(canny(square()))[None])
    assert read.std(dim=(2, 3)).mean() > 0.01


def test_a_net_is_trained_on_from_where_it_stood(pipe, train_net):
    first = train_net(steps=4)
    again = train_net("more", init_net=str(first), steps=1, learning_rate=1e-9)
    one, other = (load_control_net(folder, pipe.unet).state_dict() for folder in (first, again))
    assert all(torch.allclose(weight, other[name], atol=1e-6) for name, weight in one.items())
    with pytest.raises(ModelError, match="holds no ControlNet"):
        train_net("none", init_net=str(first.parent))


def test_the_net_learns_what_only_the_control_tells(pipe):
    """Equal words, bright or dark latents: with the right control the loss falls below that with the other one's."""
    from diffusers import DDPMScheduler

    torch.manual_seed(0)
    pipe.unet.requires_grad_(False)
    model = WithControl(pipe.unet, new_net(pipe.unet, seed=0).requires_grad_(True))
    scheduler = DDPMScheduler.from_config(pipe.scheduler.config)
    bright = torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1)
    batch = {"latents": 2 * bright.expand(2, 4, 8, 8), "control": (bright > 0).float().expand(2, 3, 64, 64)}
    batch |= {"prompt_embeds": torch.randn(1, 256, 64).repeat(2, 1, 1), "pooled": torch.zeros(2, 64)}
    batch |= {"time_ids": torch.zeros(2, 6), "weight": torch.ones(2)}
    optimizer, times = torch.optim.AdamW(model.net.parameters(), lr=3e-3), torch.tensor([700, 700])

    def missed(control, noise):
        return loss(model, scheduler, batch | {"control": control}, noise, times, None)

    for _ in range(120):
        optimizer.zero_grad()
        missed(batch["control"], torch.randn(2, 4, 8, 8)).backward()
        optimizer.step()
    noise = torch.randn(2, 4, 8, 8)
    with torch.no_grad():
        assert missed(batch["control"], noise) < 0.97 * missed(batch["control"].flip(0), noise)


def test_a_list_of_pairs_brings_its_controls(tmp_path):
    for n in range(2):
        square().save(tmp_path / f"t{n}.png")
        square(4 + n).save(tmp_path / f"s{n}.png")
    lines = [json.dumps({"source": f"s{n}.png", "target": f"t{n}.png", "prompt": "方块"}) for n in range(2)]
    (tmp_path / "prompt.json").write_text("\n".join(lines), encoding="utf-8")
    assert [(e.image.name, e.text) for e in read_examples(tmp_path)] == [("t0.png", "方块"), ("t1.png", "方块")]
    assert read_sources(tmp_path) == {tmp_path / f"t{n}.png": tmp_path / f"s{n}.png" for n in range(2)}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"source": "a.png"}', "line 1: not like .*no 'target'"),
        ("{", "line 1: not like"),
        ('{"source": "../a.png", "target": "t.png", "prompt": "x"}', "line 1: .* lies outside"),
    ],
)
def test_a_bad_list_of_pairs_is_named_by_its_line(tmp_path, line, said):
    (tmp_path / "prompt.json").write_text(line, encoding="utf-8")
    with pytest.raises(DataError, match=said):
        read_sources(tmp_path)


def test_controls_are_cut_turned_and_mirrored_with_their_picture(pipe, tmp_path):
    """A control that is a copy of its picture stays one in every version but for the colours."""
    folder, controls = tmp_path / "set", tmp_path / "controls"
    for place in (folder, controls):
        place.mkdir()
        square(10, 150).save(place / "a.png")
    (folder / "a.txt").write_text("方块", encoding="utf-8")
    config = TrainConfig(method="controlnet", data=str(folder), controls=str(controls), control_kind="none", variants=6)
    examples = read_examples(folder)
    data = beside(encode(pipe, examples, 128, config=config), examples, 128, config)
    parts = [cut(open_image(folder / "a.png"), 128, config, n, file.stem)[0] for n, file in enumerate(data.pictures)]
    for n, part in enumerate(parts):
        control = data.batch(torch.tensor([n]), "cpu")["control"][0]
        assert ((control[0] > 0.5) == (pixels(part)[0] > 0.5)).float().mean() > 0.99
    assert len({part.tobytes() for part in parts}) == 6


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"rank": 8}, "rank = 8: method controlnet has no use"),
        ({"use_dora": True}, "use_dora = True"),
        ({"sample_every": 5}, "sample_every = 5"),
        ({"method": "lora", "controls": "x"}, "controls = x: method lora"),
        ({"method": "lora", "init_net": "x"}, "init_net = x: method lora"),
        ({"method": "lore"}, "nearest is lora"),
    ],
)
def test_settings_that_a_method_has_no_use_for_are_refused(settings, said):
    with pytest.raises(SettingError, match=said):
        TrainConfig(**{"method": "controlnet"} | settings)


def test_controls_that_are_missing_or_unlike_are_named(train_net, tmp_path):
    controls = tmp_path / "controls"
    controls.mkdir()
    with pytest.raises(DataError, match=r"holds nothing of the name of 0\.png"):
        train_net(controls=str(controls))
    for n in range(3):
        square(side=128).save(controls / f"{n}.png")
    with pytest.raises(DataError, match=r"1\.png has 128 x 128 px, .*200 x 150"):
        train_net(controls=str(controls))
    with pytest.raises(SettingError, match=r"control_kind = none: .* has no control"):
        train_net(control_kind="none")


def test_held_out_pictures_are_looked_at_with_their_controls(train_net):
    folder = train_net(held_out=0.4, validate_every=1)
    rows = [json.loads(line) for line in (folder.parent / "metrics.jsonl").read_text().splitlines()]
    assert all(row["validation_loss"] > 0 for row in rows)


def test_a_training_cut_short_goes_on_to_the_same_net(train_net, pipe, monkeypatch):
    from safetensors.torch import load_file

    write = MetricsFile.on_step

    def fail_at_three(log, training, row):
        if row["step"] == 3:
            raise RuntimeError("cut short")
        write(log, training, row)

    whole = load_file(train_net("whole", steps=4, checkpoint_every=2) / "diffusion_pytorch_model.safetensors")
    config = {"steps": 4, "checkpoint_every": 2, "out": "cut"}
    monkeypatch.setattr(MetricsFile, "on_step", fail_at_three)
    with pytest.raises(RuntimeError):
        train_net(**config)
    monkeypatch.undo()
    again = load_file(train_net(**config) / "diffusion_pytorch_model.safetensors")
    assert all(torch.equal(whole[name], again[name]) for name in whole)


# A batch -------------------------------------------------------------------------------------------------------------


def test_a_folder_of_controls_gives_pictures_and_a_sheet(pipe, pipe_folder, net, tmp_path):
    folder = tmp_path / "controls"
    folder.mkdir()
    for n in range(2):
        square(8 * n + 4).save(folder / f"{n}.png")
    given = {"preset": str(pipe_folder), "control_net": str(net), "folder": str(folder)} | FAST
    sheet = controls(ControlsConfig(**given, prompt="白马", out=str(tmp_path / "out/sheet.png")), pipe)
    files = [tmp_path / "out" / name for name in ("001-0.png", "002-1.png")]
    assert [read_settings(file)["control"].split(":")[0] for file in files] == ["0.png", "1.png"]
    image = Image.open(sheet)
    assert image.width > 2 * 64 and image.height > 2 * 64
    with Image.open(files[0]) as picture:
        assert "workflow" not in picture.text  # ComfyUI would draw it without its control


def test_a_list_of_pairs_fills_the_sheets_targets(tmp_path):
    for name in ("s", "t"):
        square().save(tmp_path / f"{name}.png")
    (tmp_path / "prompt.json").write_text('{"source": "s.png", "target": "t.png", "prompt": "方块"}', encoding="utf-8")
    (row,) = read_rows(tmp_path)
    assert (row.control.name, row.target.name, row.prompt) == ("s.png", "t.png", "方块")
    assert controls_sheet([row], [tmp_path / "t.png"], "canny").width > 3 * 64


def test_a_batch_wants_a_net_and_controls(tmp_path):
    with pytest.raises(SettingError, match="a net is wanted"):
        ControlsConfig(folder=str(tmp_path))
    with pytest.raises(DataError, match="holds 0 control pictures"):
        read_rows(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        read_rows(tmp_path / "none")
