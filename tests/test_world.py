"""The picture world: every scene can be drawn, equal scenes alike, and what the words change the pixels show."""

import random
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("skia", reason="skia-python draws the picture world", exc_type=ImportError)
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data" / "make"))

from world import cast, damage, draw, faces, heads, look, scenes, toys

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
    first, second = (np.asarray(toys.figurine(seed), np.float32) for seed in (1, 2))
    assert np.array_equal(first, np.asarray(toys.figurine(1), np.float32))
    assert np.abs(first - second).mean() > 5
    assert draw.figurine is toys.figurine


def test_toys_differ_and_repeat():
    pictures = [np.asarray(toys.toy(seed), np.float32) for seed in range(30)]
    assert np.array_equal(pictures[3], np.asarray(toys.toy(3), np.float32))
    for i, one in enumerate(pictures):
        assert all(np.abs(one - other).mean() > 5 for other in pictures[i + 1 :])


def by_lot(seed: int, count: int, styles=STYLES) -> list[scenes.Scene]:
    rng = random.Random(seed)
    return [scenes.random_scene(rng, styles) for _ in range(count)]


def people(scene) -> int:
    return {"horse": 0, "couple": 2, "couple_rider": 2}.get(scene.who, 1)


def test_every_face_is_boxed_inside_the_picture():
    for scene in by_lot(1, 150):
        drawing = draw.drawn(scene)
        assert len(drawing.faces) == people(scene), scene
        for x, y, width, height in (*drawing.faces, *drawing.hands):
            assert 0 <= x < x + width <= 128 and 0 <= y < y + height <= 128, scene
    assert draw.face_boxes(scenes.Scene(), 256, 256)[0][3] == pytest.approx(
        2 * draw.face_boxes(scenes.Scene())[0][3], abs=2
    )


def test_couples_show_both_faces_apart():
    for scene in by_lot(2, 400):
        if scene.who.startswith("couple"):
            (x0, _, w0, _), (x1, _, w1, _) = draw.face_boxes(scene)
            assert x0 + w0 <= x1 + 1 or x1 + w1 <= x0 + 1, scene


HEAD_TO_FACE = (heads.CROWN - heads.CHIN) / (heads.FACE_BOX[3] - heads.FACE_BOX[1])


def test_heads_and_eyes_are_large_enough_to_be_read():
    """Heads with hair: at least 40 px in full pictures, 60 in half ones, 34 on horseback; eyes about 7 px wide."""
    eye = 2 * faces.EYE["plain"][0] / (heads.FACE_BOX[2] - heads.FACE_BOX[0])
    for scene in by_lot(3, 300):
        if scene.who == "horse" or scene.action == "sleep":
            continue
        least = 34 if "rider" in scene.who else {"full": 40, "half": 59.5}[scene.framing]
        for _, _, width, height in draw.face_boxes(scene):
            assert abs(HEAD_TO_FACE) * height >= least - 1 and width * eye >= 6.8, scene


@pytest.mark.parametrize("place", scenes.PLACE)
def test_four_seeds_of_a_scene_can_be_told_apart(place):
    """Far apart as thumbnails of 16 x 16 px; figures on the left, in the middle and on the right among them."""
    scene = scenes.Scene(place=place)
    small = [np.asarray(draw.render(replace(scene, seed=s)).resize((16, 16)), np.float32) / 255 for s in range(4)]
    assert min(np.abs(a - b).mean() for i, a in enumerate(small) for b in small[i + 1 :]) > 0.04
    assert len({look.look_of(s).side for s in range(4)}) == 3


def test_seeds_leave_the_place_what_it_is():
    """The nearest of one picture of each place, by their colours, is mostly the same place with another seed."""
    colours = {
        (place, seed): np.histogramdd(pixels(scenes.Scene(place=place, seed=seed)).reshape(-1, 3), 5, [(0, 1)] * 3)[0]
        for place in scenes.PLACE
        for seed in range(16)
    }
    nearest = {
        key: min((other for other in colours if other != key), key=lambda o: np.abs(colours[o] - colours[key]).sum())
        for key in colours
    }
    assert sum(key[0] == other[0] for key, other in nearest.items()) > 0.7 * len(nearest)


def test_no_hour_where_lamps_make_the_light():
    assert all(look.hour_of(place, look.look_of(2)) == "" for place in look.LAMPLIT)
    assert look.hour_of("peach", look.look_of(2)) in look.HOURS


@pytest.mark.parametrize("action", [a for a in scenes.ACTION if a not in ("talk", "ride", "stand")])
@pytest.mark.parametrize("framing", scenes.FRAMING)
def test_what_she_does_is_seen(action, framing):
    scene = scenes.Scene(action=action, place="academy", framing=framing)
    assert difference(scene, replace(scene, action="stand")) > 0.012
    assert scenes.asked(scene, "action") and not scenes.asked(replace(scene, who="couple"), "action")


def changed(scene, name, severity=0.6):
    """|damaged - whole| per pixel (128, 128) and the whole Drawing."""
    whole = draw.drawn(scene)
    wrong = np.asarray(damage.damaged(scene, name, severity, seed=1).image, np.float32) / 255
    return np.abs(wrong - np.asarray(whole.image, np.float32) / 255).mean(2), whole


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", damage.DAMAGES)
def test_every_damage_changes_the_picture_where_it_says(name, style):
    scene = scenes.Scene(action="read", place="living", framing="half", style=style, seed=5)
    change, whole = changed(scene, name)
    (x, y, width, height), *_ = whole.faces
    face = change[y : y + height, x : x + width].mean()
    assert change.mean() > 0.0015
    if name in damage.FACE_DAMAGES:
        outside = (change.sum() - face * width * height) / (128 * 128 - width * height)
        assert face > 0.02 and face > 5 * outside
    if name in ("fingers", "melted_hands", "mush"):
        assert face < 0.01
    with pytest.raises(ValueError, match="nothing"):
        damage.damaged(scene, "nothing", 0.5)


def test_damage_repeats_and_its_seed_varies_it():
    scene = scenes.Scene(framing="half", place="peach")
    for name in (*damage.DRAWN[1:], *damage.MELTED):
        one, same, other = (np.asarray(damage.damaged(scene, name, 0.8, seed).image) for seed in (1, 1, 2))
        assert np.array_equal(one, same) and not np.array_equal(one, other), name


def test_figures_stand_left_middle_and_right():
    where = {cast.stand_at(None, scenes.Scene(seed=s), look.look_of(s))[0] for s in range(8)}
    assert len(where) == 3
