"""Mending a place of a finished picture: only there, with its own prompt, the original kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import make_lora
from PIL import Image, ImageDraw

from kolors_lab.comic.panels import StoryScene, tell_story
from kolors_lab.core.errors import DataError, ModelError, SettingError
from kolors_lab.lora.writing import write_lora
from kolors_lab.models.presets import get_preset
from kolors_lab.pictures.files import generate_file, save_picture
from kolors_lab.sampling.config import GenerateConfig
from kolors_lab.sampling.finding import Found, find
from kolors_lab.sampling.metadata import read_settings
from kolors_lab.sampling.repair import RepairConfig, mend, repair


@pytest.fixture
def preset(pipe_folder):
    return get_preset(str(pipe_folder))


@pytest.fixture
def panel(pipe, pipe_folder, tmp_path):
    out = str(tmp_path / "1.png")
    return generate_file(GenerateConfig(preset=str(pipe_folder), prompt="少女", seed=3, steps=2, out=out), pipe)


def numbers(image):
    return np.asarray(Image.open(image) if not isinstance(image, Image.Image) else image, dtype=int)


def mended(pipe, pipe_folder, panel, **settings):
    settings = {"box": "40,16,32,24", "preset": str(pipe_folder)} | settings
    return repair(RepairConfig(pictures=(str(panel),), **settings), pipe)


def test_only_the_box_changes_and_the_original_is_kept(pipe, pipe_folder, panel):
    before, told = numbers(panel), read_settings(panel)
    assert mended(pipe, pipe_folder, panel) == [panel]
    changed = (numbers(panel) != before).any(-1)
    assert changed[16:40, 40:72].any()
    changed[16:40, 40:72] = False
    assert not changed.any()
    assert np.array_equal(numbers(panel.with_name("1.before.png")), before)
    found = read_settings(panel)
    assert {name: found[name] for name in told} == told
    assert found["repaired"] == [{"boxes": [[40, 16, 32, 24]], "denoise": 0.5}]
    with Image.open(panel) as image:
        assert "workflow" not in image.text  # the workflow would draw the picture as it was before


def test_the_first_original_stays_through_further_repairs(pipe, pipe_folder, panel):
    before = panel.read_bytes()
    mended(pipe, pipe_folder, panel)
    mended(pipe, pipe_folder, panel, seed=9)
    assert panel.with_name("1.before.png").read_bytes() == before
    assert [one.get("seed") for one in read_settings(panel)["repaired"]] == [None, 9]


def test_the_panels_own_prompt_draws_the_place(pipe, pipe_folder, panel, tmp_path):
    own, other = mended_pixels(pipe, pipe_folder, panel), mended_pixels(pipe, pipe_folder, panel, prompt="白马")
    said = mended_pixels(pipe, pipe_folder, panel, prompt="少女")
    assert np.array_equal(own, said) and not np.array_equal(own, other)


@pytest.mark.parametrize("full, upper", [("少女，全身", "少女，上半身"), ("girl, full-body shot", "girl, upper body")])
def test_a_place_is_no_full_figure(pipe, pipe_folder, panel, full, upper):
    """Or a little figure is drawn into the face."""
    as_said = [mended_pixels(pipe, pipe_folder, panel, prompt=prompt) for prompt in (full, upper)]
    assert np.array_equal(*as_said)


def mended_pixels(pipe, pipe_folder, panel, **settings):
    copy = panel.with_name("copy.png")
    copy.write_bytes(panel.read_bytes())
    (file,) = mended(pipe, pipe_folder, copy, **settings)
    return numbers(file)


def test_a_place_is_drawn_at_the_models_size(pipe, preset, monkeypatch):
    seen = []

    def draw(pipe, prompts, negatives, settings, *, image, **options):
        seen.append((image.size, settings[0].width, options["mask"].getbbox()))
        return [image]

    monkeypatch.setattr("kolors_lab.sampling.repair.generate_batch", draw)
    mend(pipe, Image.new("RGB", (300, 200)), (280, 100, 16, 16), preset, {"prompt": "脸"})
    ((size, width, white),) = seen  # a square of 32 px around the box, at the picture's right edge
    assert (size, width) == ((128, 128), 128) and white == (48, 32, 112, 96)


def test_a_repaired_panel_stays_when_the_story_is_told_again(pipe, preset, pipe_folder, tmp_path):
    scenes = [StoryScene("一", "少女", steps=2)]
    (panel,) = tell_story(pipe, scenes, tmp_path, preset)
    mended(pipe, pipe_folder, panel)
    after = panel.read_bytes()
    tell_story(lambda: pytest.fail("nothing to draw"), scenes, tmp_path, preset)
    assert panel.read_bytes() == after


def test_the_probe_judges_what_was_drawn_and_names_the_original(pipe, pipe_folder, panel, monkeypatch):
    """Or a repair that broke a whole face goes unnoticed."""
    module, lines, lies = "kolors_lab.sampling.repair", [], (40, 16, 32, 24)
    faces = iter([[Found(lies, 0.9)], [Found(lies, 0.2), Found((100, 90, 20, 20), 0.9)]])
    monkeypatch.setattr(f"{module}.find", lambda *args: next(faces))
    repair(RepairConfig((str(panel),), box="40,16,32,24", preset=str(pipe_folder)), pipe, say=lines.append)
    assert lines == [f"{panel}: after: the probe calls it broken; the original is 1.before.png"]
    faces = iter([[Found(lies, 0.2)], [Found(lies, 0.2)], [Found(lies, 0.8)]])
    repair(RepairConfig((str(panel),), preset=str(pipe_folder)), pipe, say=lines.append)
    assert "the probe calls it intact" in lines[1]


def test_a_repair_with_another_lora_is_noted(pipe, pipe_folder, panel, tmp_path):
    lora = write_lora(make_lora(pipe.unet, ["to_q", "to_v"], 8.0), tmp_path / "a.safetensors")
    mended(pipe, pipe_folder, panel, lora=str(lora), lora_strength=0.5)
    (noted,) = read_settings(panel)["repaired"]
    assert noted["lora"].startswith("a.safetensors:") and noted["lora_strength"] == 0.5


def test_a_photograph_is_never_replaced(pipe, pipe_folder, tmp_path):
    photo = tmp_path / "photo.jpg"
    Image.linear_gradient("L").convert("RGB").save(photo)
    before = photo.read_bytes()
    (file,) = mended(pipe, pipe_folder, photo, prompt="少女")
    assert file.name == "photo.repaired.png" and photo.read_bytes() == before
    with pytest.raises(DataError, match="is there already"):
        mended(pipe, pipe_folder, photo, prompt="少女")


def test_a_lora_is_worn_for_the_repair(pipe, pipe_folder, panel, tmp_path):
    lora = write_lora(make_lora(pipe.unet, ["to_q", "to_v"], 8.0), tmp_path / "a.safetensors")
    plain, worn = (mended_pixels(pipe, pipe_folder, panel, lora=one) for one in (None, str(lora)))
    assert not np.array_equal(plain, worn)
    assert np.array_equal(mended_pixels(pipe, pipe_folder, panel), plain)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"box": "120,0,32,32"}, "outside of the picture, which has 128 x 128"),
        ({"box": "1,2,3"}, "must be x,y,w,h"),
        ({"find": "nose"}, "nearest is"),
        ({"denoise": 0.0}, "denoise = 0.0"),
        ({"finder": "nobody/nothing", "box": None}, "not on this machine"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(pipe, pipe_folder, panel, settings, said):
    before = panel.read_bytes()
    with pytest.raises(Exception, match=said) as error:
        mended(pipe, pipe_folder, panel, **settings)
    assert "\n" not in str(error.value) and panel.read_bytes() == before
    assert [file.name for file in panel.parent.glob("*.png")] == ["1.png"]


def test_pictures_without_a_face_are_named_and_stay(pipe, pipe_folder, panel, monkeypatch):
    lines, second = [], panel.with_name("2.png")
    second.write_bytes(panel.read_bytes())
    config = RepairConfig((str(panel), str(second)), preset=str(pipe_folder))
    with pytest.raises(DataError, match=r"1\.png.*no face found, nothing is changed"):
        repair(replace(config, finder=None), pipe)
    faces = iter([[], [Found((40, 16, 32, 24))], [], []])
    monkeypatch.setattr("kolors_lab.sampling.repair.find", lambda *args: next(faces))
    assert repair(config, pipe, say=lines.append) == [second]
    assert len(lines) == 1 and "1.png: no face found" in lines[0]


def test_intact_faces_are_left_alone_unless_asked_for(pipe, pipe_folder, panel, monkeypatch):
    whole, broken, lines = Found((40, 16, 32, 24), 0.9), Found((8, 80, 24, 24), 0.1), []
    monkeypatch.setattr("kolors_lab.sampling.repair.find", lambda *args: [whole])
    before, config = panel.read_bytes(), RepairConfig((str(panel),), preset=str(pipe_folder))
    assert repair(config, pipe, say=lines.append) == [] and panel.read_bytes() == before
    assert len(lines) == 1 and "1.png: 1 x face found, all intact" in lines[0]
    monkeypatch.setattr("kolors_lab.sampling.repair.find", lambda *args: [whole, broken])
    assert repair(config, pipe, say=lines.append) == [panel] and len(lines) == 2
    assert read_settings(panel)["repaired"][-1]["boxes"] == [[8, 80, 24, 24]]
    repair(replace(config, which="all"), pipe)
    assert len(read_settings(panel)["repaired"][-1]["boxes"]) == 2


def test_a_picture_that_says_too_little_is_refused(pipe, pipe_folder, panel, tmp_path):
    photo = tmp_path / "photo.png"
    Image.new("RGB", (128, 128)).save(photo)
    with pytest.raises(SettingError, match="carries no prompt"):
        mended(pipe, pipe_folder, photo)
    with pytest.raises(SettingError, match="does not say which model"):
        mended(pipe, pipe_folder, photo, prompt="x", preset=None)
    settings = read_settings(panel) | {"lora": "mine.safetensors:0123456789ab"}
    save_picture(Image.open(panel), panel, settings)
    with pytest.raises(
        SettingError, match=r"LoRA mine\.safetensors; give that file with --lora FILE \(in Python: lora=…\)"
    ):
        mended(pipe, pipe_folder, panel)


def test_a_photographed_face_is_found(preset):
    from skimage.data import astronaut

    box = find(Image.fromarray(astronaut()), replace(preset, practice=False))[0].box
    x, y = box[0] + box[2] / 2, box[1] + box[3] / 2
    assert 180 < x < 270 and 60 < y < 180
    with pytest.raises(SettingError, match="nothing here finds one"):
        find(Image.new("RGB", (64, 64)), preset, "hand")


def test_an_object_detection_model_finds_what_its_labels_name(preset, tmp_path, monkeypatch):
    from transformers import YolosConfig, YolosForObjectDetection, YolosImageProcessor

    torch.manual_seed(0)
    config = YolosConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=[32, 32],
        patch_size=16, num_detection_tokens=4, id2label={0: "left hand", 1: "dog"}, use_mid_position_embeddings=False,
    )  # fmt: skip
    YolosForObjectDetection(config).save_pretrained(tmp_path)
    YolosImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    monkeypatch.setattr("kolors_lab.sampling.finding.SURE", 0.0)
    image = Image.new("RGB", (64, 64))
    ImageDraw.Draw(image).rectangle((8, 8, 40, 40), fill="white")
    boxes = [one.box for one in find(image, preset, "hand", tmp_path)]
    assert all(x >= 0 and y >= 0 and x + w <= 64 and y + h <= 64 for x, y, w, h in boxes)
    with pytest.raises(ModelError, match="none of its labels names a face"):
        find(image, preset, "face", tmp_path)


def test_a_file_that_is_no_cascade_is_refused(preset, tmp_path):
    (tmp_path / "a.xml").write_text("no")
    with pytest.raises(ModelError, match="no cascade"):
        find(Image.new("RGB", (64, 64)), preset, "face", tmp_path / "a.xml")
