"""Pictures: what decides them, and the settings they carry."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import numpy as np
import pytest
from helpers import make_lora
from PIL import Image, PngImagePlugin

from kolors_lab.core.errors import DataError, ModelError, SettingError
from kolors_lab.lora.adapter import add_lora, save_lora, unload_lora
from kolors_lab.lora.writing import write_lora
from kolors_lab.models.memory import gpu_plan
from kolors_lab.pictures.files import generate_file, save_picture
from kolors_lab.sampling.config import GenerateConfig
from kolors_lab.sampling.ksampler import KSampler
from kolors_lab.sampling.metadata import infotext, read_settings
from kolors_lab.sampling.pipeline import Stop, Stopped, generate, generate_batch, hand_over
from kolors_lab.sampling.text import encode_then_free

RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
SETTINGS = {
    "prompt": "白马\n夜空",
    "negative_prompt": "模糊",
    "seed": 3,
    "steps": 2,
    "cfg": 4.0,
    "width": 64,
    "height": 64,
}


def draw(pipe, prompt="白马", negative_prompt="", **settings):
    settings = {"steps": 2, "width": 64, "height": 64} | settings
    return np.asarray(generate(pipe, prompt, negative_prompt, **settings))


def test_equal_calls_give_identical_pictures(pipe):
    assert np.array_equal(draw(pipe, seed=7), draw(pipe, seed=7))


@pytest.mark.parametrize(
    "change", [{"prompt": "王子"}, {"negative_prompt": "王子"}, {"seed": 1}, {"cfg": 9.0}, {"steps": 3}]
)
def test_every_setting_counts(pipe, change):
    assert not np.array_equal(draw(pipe), draw(pipe, **change))


def test_without_guidance_the_negative_prompt_does_not_count(pipe):
    assert np.array_equal(draw(pipe, cfg=1.0), draw(pipe, negative_prompt="王子", cfg=1.0))


def test_size_is_the_models_own_unless_asked_for(pipe):
    assert generate(pipe, "白马", steps=1).size == (128, 128)
    assert generate(pipe, "白马", steps=1, width=64, height=96).size == (64, 96)


def test_on_step_counts_the_steps(pipe):
    seen = []
    draw(pipe, steps=3, on_step=lambda *step: seen.append(step))
    assert seen == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0), ("steps", 1.5), ("cfg", -1.0), ("cfg", float("nan")), ("width", 100), ("height", 8),
        ("seed", -1), ("lora_strength", float("nan")), ("lora_strength", float("inf")),
    ],
)  # fmt: skip
def test_settings_check_themselves(field, value):
    with pytest.raises(SettingError, match=rf"{field} = .*must be") as error:
        GenerateConfig(**{field: value})
    assert "\n" not in str(error.value)


def test_a_picture_carries_its_settings(tmp_path):
    file = save_picture(Image.new("RGB", (64, 64)), tmp_path / "new" / "一.png", SETTINGS)
    assert read_settings(file) == SETTINGS
    assert [f.name for f in file.parent.iterdir()] == ["一.png"]


def test_a_picture_says_that_a_model_made_it(tmp_path):
    file = save_picture(Image.new("RGB", (8, 8)), tmp_path / "a.png", SETTINGS)
    with Image.open(file) as image:
        (marks,) = ElementTree.fromstring(image.text["XML:com.adobe.xmp"]).iter(f"{RDF}Description")
    values = {key.rpartition("}")[2]: value for key, value in marks.attrib.items()}
    assert values["DigitalSourceType"].endswith("digitalsourcetype/trainedAlgorithmicMedia")
    assert json.loads(values["AIGC"]) == {"Label": "1"}


def test_infotext_is_the_web_uis_form():
    settings = SETTINGS | {"model": "tiny", "lora": "my.safetensors:0123456789ab", "lora_strength": 0.8}
    settings |= {"sampler_name": "dpmpp_2m", "scheduler": "karras"}
    assert infotext(settings).split("\n") == [
        "白马", "夜空 <lora:my:0.8>", "Negative prompt: 模糊",
        "Steps: 2, Sampler: DPM++ 2M, Schedule type: karras, CFG scale: 4.0, Seed: 3, Model: tiny, Size: 64x64",
    ]  # fmt: skip


def test_infotext_names_every_lora_and_quotes_what_would_part_it():
    settings = SETTINGS | {"model": "C:\\models, new", "loras": [("sub\\ink.safetensors", 0.5), ("b.safetensors", 1)]}
    text = infotext(settings)
    assert "夜空 <lora:ink:0.5> <lora:b:1>" in text and r'Model: "C:\\models, new"' in text


@pytest.mark.parametrize("name", ["a.jpg", "a", "a.webp"])
def test_other_formats_are_refused(tmp_path, name):
    with pytest.raises(SettingError, match=r"\.png"):
        save_picture(Image.new("RGB", (8, 8)), tmp_path / name, SETTINGS)
    with pytest.raises(SettingError, match=r"\.png"):
        GenerateConfig(out=name)


def test_a_full_disk_leaves_the_older_picture_whole(tmp_path, monkeypatch):
    file = save_picture(Image.new("RGB", (8, 8), "red"), tmp_path / "a.png", SETTINGS)
    before = file.read_bytes()

    def full(self, file, *args, **options):
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(DataError, match=r"a\.png: No space left"):
        save_picture(Image.new("RGB", (8, 8), "blue"), file, SETTINGS)
    assert file.read_bytes() == before and [f.name for f in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize("make", ["nothing", "plain", "text", "list"])
def test_read_settings_refuses_what_carries_none(tmp_path, make):
    file = tmp_path / "a.png"
    if make == "plain":
        Image.new("RGB", (8, 8)).save(file)
    elif make == "text":
        file.write_text("no picture")
    elif make == "list":
        info = PngImagePlugin.PngInfo()
        info.add_itxt("kolors_lab", "[1]")
        Image.new("RGB", (8, 8)).save(file, pnginfo=info)
    with pytest.raises(DataError, match=r"a\.png"):
        read_settings(file)


def test_generate_file_writes_what_its_own_settings_make_again(pipe, pipe_folder, tmp_path):
    settings = {"preset": str(pipe_folder), "seed": 5, "steps": 2, "prompt": "王子"}
    file = generate_file(GenerateConfig(**settings, out=str(tmp_path / "a.png")), pipe)
    found = read_settings(file)
    assert (found["model"], found["cfg"], found["width"], found["seed"]) == ("random-kolors", 4.0, 128, 5)
    again = generate(pipe, **{key: value for key, value in found.items() if key != "model"})
    assert np.array_equal(np.asarray(again), np.asarray(Image.open(file)))


def test_generate_file_takes_a_lora_on_and_off_again(pipe, pipe_folder, tmp_path):
    before = draw(pipe)
    add_lora(pipe.unet, 4, 4.0, ("to_q", "to_v"), seed=0)
    for parameter in pipe.unet.parameters():
        if parameter.requires_grad:
            parameter.data.fill_(0.1)
    lora = save_lora(pipe.unet, tmp_path / "my.safetensors")
    unload_lora(pipe)
    settings = {"preset": str(pipe_folder), "steps": 1, "lora": str(lora)}
    files = [
        generate_file(GenerateConfig(**settings, lora_strength=strength, out=str(tmp_path / f"{strength}.png")), pipe)
        for strength in (0.0, 1.0)
    ]
    assert not np.array_equal(*(np.asarray(Image.open(file)) for file in files))
    assert read_settings(files[1])["lora"].startswith("my.safetensors:")
    assert str(tmp_path) not in json.dumps(read_settings(files[1]))
    assert np.array_equal(draw(pipe), before)


def test_a_lora_tag_in_the_prompt_is_the_lora_of_that_name(pipe, pipe_folder, tmp_path):
    file = write_lora(make_lora(pipe.unet, ("to_q", "to_v"), 4.0), tmp_path / "loras/ink.safetensors")
    settings = {"preset": str(pipe_folder), "steps": 1}
    given = GenerateConfig(**settings, prompt="白马", lora=str(file), lora_strength=0.7, out=str(tmp_path / "a.png"))
    tagged = {"prompt": "白马，<lora:ink:0.7>", "loras": str(file.parent)}
    files = [generate_file(given, pipe)]
    files += [generate_file(GenerateConfig(**settings | tagged, out=str(tmp_path / "b.png")), pipe)]
    assert files[0].read_bytes() == files[1].read_bytes()
    drawn = generate(pipe, tagged["prompt"], steps=1, loras=file.parent)
    assert np.array_equal(np.asarray(drawn), np.asarray(Image.open(files[0])))
    assert not np.array_equal(np.asarray(generate(pipe, "白马", steps=1)), np.asarray(drawn))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prompt": "<lora:gone>"}, "no such file in .*loras, which has twin, ink"),
        ({"prompt": "<lora:twin>"}, "which of .*twin.safetensors, .*twin.safetensors"),
        ({"prompt": "<lora:out>"}, "no such file"),
        ({"prompt": "<lora:ink:1><lora:ink:1>"}, "one LoRA to a picture"),
        ({"prompt": "<lora:ink:1>", "lora": "a.safetensors"}, "one LoRA to a picture"),
        ({"prompt": "<lora:ink:1>", "loras": None}, "say as loras which folder"),
        ({"prompt": "(白马"}, "character 1: this . is never closed"),
    ],
)
def test_a_prompt_that_cannot_be_read_is_refused_before_anything_is_loaded(tmp_path, monkeypatch, changes, words):
    monkeypatch.setattr("kolors_lab.sampling.loading.load_pipeline", lambda *_, **__: pytest.fail("loaded"))
    folder = tmp_path / "loras"
    for name in ("ink", "a/twin", "b/twin", "../out"):
        (folder / f"{name}.safetensors").parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.safetensors").touch()
    (folder / "out.safetensors").symlink_to(tmp_path / "out.safetensors")
    with pytest.raises(SettingError, match=words):
        generate_file(GenerateConfig(**{"loras": str(folder), **changes}))


def test_a_missing_lora_is_said_before_the_model_is_loaded(pipe_folder, tmp_path):
    with pytest.raises(ModelError, match="gone"):
        generate_file(GenerateConfig(preset=str(pipe_folder), lora=str(tmp_path / "gone.safetensors")))


def test_without_its_text_encoder_the_model_draws_what_was_encoded_before(pipe):
    before = draw(pipe, negative_prompt="王子")
    encode_then_free(pipe, [("白马", "webui"), ("王子", "webui")])
    assert pipe.text_encoder is None and np.array_equal(draw(pipe, negative_prompt="王子"), before)
    with pytest.raises(ModelError, match="舞台"):
        draw(pipe, "舞台")


@pytest.mark.parametrize(
    ("card", "plan"),
    [(24, "whole"), (15, "parts"), (10, "encode"), (8, "turns"), (5, "none")],
)
def test_the_plan_for_kolors_goes_by_the_card(card, plan):
    assert gpu_plan(int(11.7 * 2**30), int(5.2 * 2**30), 1024, card * 2**30) == plan


@pytest.mark.parametrize("plan", ["parts", "encode", "turns"])
def test_on_a_small_card_prompts_are_encoded_first_and_the_picture_is_the_same(
    pipe_folder, tmp_path, monkeypatch, plan
):
    from kolors_lab.sampling import loading as module

    settings = {"preset": str(pipe_folder), "prompt": "{王子|白马}，(夜空:1.2)", "steps": 1, "width": 64, "height": 64}
    file = generate_file(GenerateConfig(**settings, out=str(tmp_path / "a.png")))
    drawn, pipes = file.read_bytes(), []
    monkeypatch.setattr(module, "gpu_plan_here", lambda *_: plan)
    monkeypatch.setattr(module, "place", lambda pipe, device: pipes.append(pipe))
    assert generate_file(GenerateConfig(**settings, out=str(tmp_path / "a.png"))).read_bytes() == drawn
    assert pipes[0].text_encoder is None


def test_stop_ends_a_drawing_and_leaves_the_pipeline_whole(pipe):
    before, stop, seen = draw(pipe), Stop(), []
    with pytest.raises(Stopped, match="after step 1 of 5"):
        draw(pipe, steps=5, stop=stop, on_preview=seen.append, on_step=lambda done, total: stop.set())
    assert [picture.size for picture in seen] == [(64, 64)] and np.array_equal(draw(pipe), before)


def test_a_batch_draws_what_each_picture_alone_would(pipe):
    settings = [KSampler(seed=seed, steps=2, cfg=cfg, width=64, height=64) for seed, cfg in ((1, 4.0), (2, 6.0))]
    both = [np.asarray(one, int) for one in generate_batch(pipe, ["白马", "王子"], ["", "模糊"], settings)]
    alone = [draw(pipe, seed=1, cfg=4.0), draw(pipe, "王子", "模糊", seed=2, cfg=6.0)]
    assert all(abs(one - other.astype(int)).max() <= 1 for one, other in zip(both, alone, strict=True))
    with pytest.raises(SettingError, match="steps = "):
        generate_batch(pipe, ["白马"] * 2, [""] * 2, [KSampler(steps=2), KSampler(steps=3)])


def test_a_handover_to_the_same_model_changes_nothing(pipe):
    settings = {"steps": 4, "width": 64, "height": 64, "seed": 1}
    handed = hand_over(pipe, pipe, "白马", at=0.5, **settings)
    assert np.array_equal(np.asarray(handed), draw(pipe, **settings))


def test_a_lora_of_the_second_part_alone(pipe):
    settings = {"steps": 4, "width": 64, "height": 64, "seed": 1}
    worn = [(make_lora(pipe.unet, ("to_q", "to_v"), 8), 1.0)]
    pictures = [np.asarray(hand_over(pipe, pipe, "白马", at=at, chain=worn, **settings)) for at in (0, 0.5, 1)]
    assert not np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[1], pictures[2])
    assert np.array_equal(pictures[2], draw(pipe, **settings))  # handed over when nothing is left to draw


def test_hires_and_picture_to_picture(pipe):
    start = Image.new("RGB", (100, 80), "red")
    assert generate(pipe, "白马", steps=1, width=64, height=64, hires=1.5).size == (96, 96)
    assert not np.array_equal(draw(pipe, image=start, denoise=0.5), draw(pipe))
    assert np.array_equal(draw(pipe, image=start, denoise=0.0, seed=1), draw(pipe, image=start, denoise=0.0, seed=2))
    with pytest.raises(DataError, match=r"gone\.png"):
        generate(pipe, "白马", image="gone.png", denoise=0.5)
