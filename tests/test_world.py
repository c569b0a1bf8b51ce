"""The picture world: every scene can be drawn, equal scenes alike, and what the words change the pixels show."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("skia", reason="skia-python draws the picture world", exc_type=ImportError)
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data" / "make"))

from world import draw, scenes

STYLES = (*scenes.STYLE, scenes.UNSEEN_STYLE)


def pixels(scene, width=128, height=128):
    return np.asarray(draw.render(scene, width, height), np.float32) / 255


def difference(a, b):
    return float(np.abs(pixels(a) - pixels(b)).mean())


@pytest.mark.parametrize("style", STYLES)
def test_equal_scenes_give_equal_pictures(style):
    scene = scenes.Scene(style=style, place="night", spoil="noise", severity=0.5, seed=7)
    assert np.array_equal(pixels(scene), pixels(scene))
    assert difference(scene, replace(scene, seed=8)) > 0.005


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("size", [(64, 64), (128, 192), (200, 100)])
def test_any_size_and_ratio(size, style):
    image = draw.render(scenes.Scene(style=style, place="peach"), *size)
    assert image.size == size and image.mode == "RGB"
    assert np.asarray(image)[:, :3].std() > 0 or style in ("pencil", "watercolor")  # the background reaches the edge


@pytest.mark.parametrize("who", scenes.WHO)
@pytest.mark.parametrize("place", scenes.PLACE)
def test_everybody_can_do_everything_everywhere(who, place):
    for i, action in enumerate(scenes.ACTION):
        garment, length, framing = scenes.GARMENT[i % 4], scenes.HAIR_LENGTH[i % 3], scenes.FRAMING[i // 2 % 2]
        scene = scenes.Scene(who, "red", length, garment, "blue", action, place, framing)
        assert pixels(scene, 48, 48).std() > 0.05


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("who", ["girl", "couple", "couple_rider"])
def test_hair_and_dress_change_the_picture(who, style):
    scene = scenes.Scene(who, place="river", framing="half", style=style)
    for change in ({"hair_color": "gold"}, {"hair_length": "short"}, {"color": "red"}, {"garment": "gown"}):
        assert difference(scene, replace(scene, **change)) > 0.002, change


def test_every_two_styles_differ():
    pictures = [pixels(scenes.Scene(style=style)) for style in STYLES]
    for i, one in enumerate(pictures):
        for other in pictures[i + 1 :]:
            assert np.abs(one - other).mean() > 0.015


@pytest.mark.parametrize("way", scenes.SPOIL[1:])
def test_spoiling_grows_with_severity(way):
    scene = scenes.Scene(framing="half", place="living")
    mild, strong = (replace(scene, spoil=way, severity=s) for s in (0.3, 1.0))
    assert difference(scene, mild) > 0.005
    assert difference(scene, mild) < difference(scene, strong) or way == "deform"


def test_figurine_is_one_toy_in_many_places():
    first, second = (np.asarray(draw.figurine(seed), np.float32) for seed in (1, 2))
    assert np.array_equal(first, np.asarray(draw.figurine(1), np.float32))
    assert np.abs(first - second).mean() > 5
