"""Faces from the probe's maps: each has its own box, in the picture's own px, and the worst of them counts."""

import numpy as np
import pytest
from PIL import Image

from kolors_lab.core.errors import ModelError
from kolors_lab.models.presets import get_preset
from kolors_lab.sampling.face_probe import CORE, STRIDE, faces_of, find_faces
from kolors_lab.sampling.finding import Found, find
from kolors_lab.scoring.faces import intact_of, probe_folder


def maps(*boxes, intact=(), side=16):
    """Logits as a perfect probe gives them: of "face", crossing 0 at CORE of the way to a border, and of "intact"."""
    y, x = (np.mgrid[:side, :side] + 0.5) * STRIDE
    face, whole = np.full((side, side), -8.0), np.zeros((side, side))
    for (left, top, wide, tall), logit in zip(boxes, intact or [3] * len(boxes), strict=True):
        away = np.hypot((x - left - wide / 2) / (wide / 2), (y - top - tall / 2) / (tall / 2))
        face = np.maximum(face, 16 * (CORE - away))
        whole[away < 1] = logit
    return face, whole


@pytest.mark.parametrize("box", [(46, 20, 36, 36), (10, 60, 52, 54), (78, 8, 34, 34)])
def test_a_face_is_found_where_it_is(box):
    (face,) = faces_of(*maps(box))
    assert np.abs(np.subtract(face.box, box)).max() <= 6
    assert face.intact > 0.9


def test_two_faces_side_by_side_stay_two_and_the_worst_counts():
    left, right = (22, 30, 36, 36), (66, 28, 42, 42)
    large, small = faces_of(*maps(left, right, intact=(3, -3)))
    assert large.box[0] > small.box[0] and large.intact < 0.1 and small.intact > 0.9
    assert intact_of([large, small], 2) == large.intact
    assert intact_of([small], 2) == intact_of([]) == 0  # one is missing


def test_boxes_are_in_the_pictures_own_px_and_inside_of_it():
    (face,) = faces_of(*maps((100, 40, 40, 40)), (4.0, 4.0))
    x, y, wide, tall = face.box
    assert x + wide <= 512 and 140 < y < 180 and 130 < tall < 190


def test_a_map_without_faces_has_none():
    assert faces_of(*maps()) == []


def test_another_model_is_not_taken_for_the_probe():
    with pytest.raises(ModelError, match="no face probe"):
        find_faces([Image.new("RGB", (128, 128))], get_preset("tiny").classifier)


@pytest.mark.skipif(not probe_folder().is_dir(), reason="the face probe is not shipped yet")
def test_the_presets_own_finder_is_the_probe():
    panel = Image.open(min((probe_folder().parent / "anime_raw/train").glob("*.jpg")))
    faces = find_faces([panel], probe_folder())[0]
    assert [Found(face.box, face.intact) for face in faces] == find(panel, get_preset("tiny"))
