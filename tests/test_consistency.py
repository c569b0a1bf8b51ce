"""One heroine: panels that look at the first while they are drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from kolors_lab.comic.casting import CastConfig
from kolors_lab.comic.look import Look, LookConfig
from kolors_lab.comic.panels import StoryConfig, StoryScene, redraw, tell_story
from kolors_lab.core.errors import DataError, SettingError
from kolors_lab.models.presets import get_preset
from kolors_lab.sampling.consistency import Shared, sharing
from kolors_lab.sampling.ksampler import KSampler
from kolors_lab.sampling.metadata import read_settings
from kolors_lab.sampling.pipeline import generate, generate_batch

FAST = {"steps": 2, "width": 64, "height": 64}


def draw(pipe, consistency, prompts=("少女", "白马"), seeds=(0, 1)):
    settings = [KSampler(seed=seed, **FAST) for seed in seeds]
    images = generate_batch(pipe, prompts, [""] * len(prompts), settings, consistency=consistency)
    return [np.asarray(image, dtype=int) for image in images]


@pytest.fixture
def scenes():
    return [StoryScene(f"第{n}格", "二次元，少女" if n else "白马", seed=n, **FAST) for n in range(3)]


@pytest.fixture
def preset(pipe_folder):
    return get_preset(str(pipe_folder))


def test_none_is_exactly_the_plain_result(pipe):
    assert all(np.array_equal(*pair) for pair in zip(draw(pipe, 0.0), draw(pipe, 0), strict=True))
    alone = np.asarray(generate(pipe, "白马", seed=1, **FAST), dtype=int)
    assert np.abs(draw(pipe, 0.0)[1] - alone).max() <= 1


def test_a_panel_takes_after_the_first_and_the_first_stays(pipe):
    (first, second), (anchor, drawn) = draw(pipe, 0.0), draw(pipe, 1.0)
    assert np.abs(anchor - first).max() <= 2
    assert np.abs(drawn - second).mean() > 1
    half = draw(pipe, 0.5)[1]
    assert not np.array_equal(half, drawn) and not np.array_equal(half, second)


def test_equal_noise_and_words_give_the_anchor_itself(pipe):
    one, other = draw(pipe, 1.0, ("少女", "少女"), (3, 3))
    assert np.abs(one - other).max() <= 2


def test_nothing_stays_on_the_unet(pipe):
    before = {name: type(one) for name, one in pipe.unet.attn_processors.items()}
    with pytest.raises(ZeroDivisionError), sharing(pipe.unet, 2, 1.0):
        assert any(isinstance(one, Shared) for one in pipe.unet.attn_processors.values())
        raise ZeroDivisionError
    assert {name: type(one) for name, one in pipe.unet.attn_processors.items()} == before


def test_it_is_diffusers_own_attention_where_all_panels_are_equal(pipe):
    """Keys that stand twice change no softmax: against the processor that diffusers brings."""
    attn = pipe.unet.down_blocks[1].attentions[0].transformer_blocks[0].attn1
    states = torch.randn(1, 16, attn.to_q.in_features).repeat(2, 1, 1)
    plain = attn(states)
    attn.set_processor(Shared(2, 1.0))
    assert torch.allclose(attn(states), plain, atol=1e-4)


def test_a_panel_is_the_same_whichever_others_are_drawn(pipe, preset, scenes, tmp_path):
    look = Look.of(LookConfig(consistency=0.8), scenes)
    together = tell_story(pipe, scenes, tmp_path / "a", preset, look=look)
    alone = tell_story(pipe, scenes, tmp_path / "b", preset, look=look, together=1)
    for one, other in zip(together, alone, strict=True):
        assert np.abs(np.asarray(Image.open(one), int) - np.asarray(Image.open(other), int)).max() <= 2


def test_panels_carry_their_anchor_and_are_drawn_again_from_it(pipe, preset, scenes, tmp_path):
    panels = tell_story(pipe, scenes, tmp_path, preset, look=Look.of(LookConfig(consistency=0.8), scenes))
    settings = [read_settings(panel) for panel in panels]
    assert settings[2]["consistency"] == 0.8 and settings[2]["anchor"]["prompt"] == "白马"
    for panel, image in zip(panels, redraw(pipe, settings), strict=True):
        assert np.array_equal(np.asarray(Image.open(panel)), np.asarray(image))


def test_another_first_scene_draws_all_panels_anew(pipe, preset, scenes, tmp_path):
    config, before = LookConfig(consistency=0.8), {}
    for prompt in ("白马", "王子"):
        scenes[0] = StoryScene("第0格", prompt, **FAST)
        panels = tell_story(pipe, scenes, tmp_path, preset, look=Look.of(config, scenes))
        before[prompt] = [np.asarray(Image.open(panel)) for panel in panels]
    assert not np.array_equal(before["白马"][2], before["王子"][2])


@pytest.mark.parametrize("config", [StoryConfig, CastConfig, LookConfig])
def test_it_lies_between_0_and_1(config):
    with pytest.raises(SettingError, match=r"consistency = 1.5: must be a number from 0 to 1"):
        config(consistency=1.5)


def test_each_panel_has_its_own_control(pipe, preset, scenes, tmp_path):
    from test_control import make_net, square

    (tmp_path / "controls").mkdir()
    for n in (1, 2, 3):
        square(4 * n).save(tmp_path / "controls" / f"{n}.png")
    net = str(make_net(pipe.unet, tmp_path / "net"))
    config = LookConfig(control=str(tmp_path / "controls"), control_net=net)
    panels = tell_story(pipe, scenes, tmp_path / "a", preset, look=Look.of(config, scenes))
    settings = [read_settings(panel) for panel in panels]
    assert [one["control"].split(":")[0] for one in settings] == ["1.png", "2.png", "3.png"]
    one = LookConfig(control=str(tmp_path / "controls" / "2.png"), control_net=net)
    same = tell_story(pipe, scenes, tmp_path / "b", preset, look=Look.of(one, scenes))
    pictures = [[np.asarray(Image.open(file), int) for file in files] for files in (panels, same)]
    assert np.abs(pictures[0][1] - pictures[1][1]).max() <= 2
    assert not np.array_equal(pictures[0][0], pictures[1][0])
    with pytest.raises(DataError, match="cannot be without"):
        redraw(pipe, settings)


def test_a_panel_without_a_control_is_named(scenes, tmp_path):
    config = LookConfig(control=str(tmp_path), control_net="net")
    with pytest.raises(DataError, match=r"holds no 1\.png for panel 1"):
        Look.of(config, scenes)
