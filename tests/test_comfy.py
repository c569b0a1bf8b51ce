"""ComfyUI workflows on a model: what they draw, what runs again, what is refused before anything runs."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from helpers import failure
from PIL import Image
from test_workflow import kijai, node

from kolors_lab.cli import main
from kolors_lab.comfy.executor import Workbench
from kolors_lab.comfy.prepare import fit, save_pictures
from kolors_lab.comfy.reader import normalise, read_workflow
from kolors_lab.comfy.writer import workflow_api
from kolors_lab.core.errors import DataError, ModelError
from kolors_lab.lora.adapter import add_lora, load_lora, save_lora, unload_lora
from kolors_lab.models.presets import get_preset
from kolors_lab.pictures.files import save_picture
from kolors_lab.sampling.metadata import read_settings
from kolors_lab.sampling.pipeline import generate

SETTINGS = {
    "prompt": "白马，(夜空:1.3)", "negative_prompt": "模糊", "seed": 5, "steps": 3, "cfg": 4.0, "width": 128,
    "height": 64, "sampler_name": "euler", "scheduler": "leading", "denoise": 1.0, "batch": 1,
}  # fmt: skip


@pytest.fixture
def preset(pipe_folder):
    return get_preset(str(pipe_folder))


@pytest.fixture
def draw(pipe, preset):
    """Run a graph and return its only pictures as arrays."""

    def draw(graph, on_step=None, **folders):
        (images,) = Workbench(pipe).run(fit(graph, preset, **folders), on_step).values()
        return [np.asarray(image) for image in images]

    return draw


@pytest.fixture
def lora(pipe, tmp_path) -> Path:
    add_lora(pipe.unet, 4, 4.0, ("to_q", "to_v"), seed=0)
    for parameter in pipe.unet.parameters():
        if parameter.requires_grad:
            parameter.data.fill_(0.05)
    file = save_lora(pipe.unet, tmp_path / "loras" / "my.safetensors")
    unload_lora(pipe)
    return file


def graph_of(**changes):
    return normalise(workflow_api(SETTINGS | changes))


def same(a, b) -> bool:
    return np.array_equal(np.asarray(a), np.asarray(b))


# Running


@pytest.mark.parametrize(
    "changes",
    [{}, {"sampler_name": "dpmpp_2m", "scheduler": "karras"}, {"hires": 1.5, "hires_denoise": 0.5}, {"cfg": 1.0}],
)
def test_a_picture_and_its_workflow_are_identical(pipe, draw, changes):
    settings = SETTINGS | changes
    assert same(draw(graph_of(**changes))[0], generate(pipe, **settings))


def test_so_are_a_batch_and_a_picture_drawn_over(pipe, draw, tmp_path):
    source = tmp_path / "a.png"
    Image.effect_noise((700, 500), 80).save(source)
    changes = {"image": "a.png:0123", "denoise": 0.6, "batch": 2}
    drawn = draw(graph_of(**changes), images=tmp_path)
    alone = generate(pipe, **{**SETTINGS, "denoise": 0.6, "batch": 2}, image=Image.open(source).convert("RGB"))
    assert same(drawn[0], alone) and len(drawn) == 2 and not same(*drawn)


def test_a_lora_acts_at_its_strength_and_is_off_again(pipe, draw, lora):
    plain = draw(graph_of())[0]
    graph = graph_of(lora="my.safetensors:0123", lora_strength=0.7)
    drawn = draw(graph, loras=lora.parent)[0]
    load_lora(pipe, lora, 0.7)
    assert same(drawn, generate(pipe, **SETTINGS))
    unload_lora(pipe)
    assert same(draw(graph_of())[0], plain) and not same(drawn, plain)


def test_a_chain_of_loras_adds_up(draw, lora):
    graph = graph_of(lora="my.safetensors", lora_strength=0.3)
    once = draw(graph_of(lora="my.safetensors", lora_strength=0.7), loras=lora.parent)[0].astype(int)
    graph["20"] = json.loads(json.dumps(graph["10"]))
    graph["20"]["inputs"] |= {"model": ["10", 0], "strength_model": 0.4, "lora_name": "sub\\my.safetensors"}
    graph["7"]["inputs"]["model"] = ["20", 0]
    assert np.abs(draw(graph, loras=lora.parent)[0] - once).max() <= 1


def test_kijais_nodes_draw_what_the_pipeline_draws(pipe, draw):
    import torch

    values = (128, 64, 9, "fixed", 4, 5, "EulerDiscreteScheduler")
    data = kijai(values)
    data["nodes"][2]["widgets_values"] = ["白马|王子", "模糊", 1]
    drawn = draw(normalise(data))
    truth = pipe(
        prompt=["白马", "王子"], negative_prompt=["模糊"] * 2, num_inference_steps=4, guidance_scale=5.0, width=128,
        height=64, generator=torch.Generator().manual_seed(9),
    ).images  # fmt: skip
    assert len(drawn) == 2
    assert max(np.abs(a.astype(int) - np.asarray(b)).max() for a, b in zip(drawn, truth, strict=True)) <= 1


def test_the_camps_lora_node_scales_by_alpha(pipe, draw, lora):
    data = kijai((128, 64, 9, "fixed", 2, 5, "EulerDiscreteScheduler"))
    data["nodes"][3]["inputs"][0]["link"] = 9
    data["nodes"].append(
        node(9, "LoadKolorsLoRA", ["/mnt/x/my.ckpt", 2.0], [("kolors_model", "KOLORSMODEL", 2)], ["KOLORSMODEL"])
    )
    data["links"].append([9, 9, 0, 4, 0, "KOLORSMODEL"])
    graph = normalise(data)
    half = draw(graph, loras=lora.parent)[0]
    graph["9"]["inputs"]["lora_alpha"] = 0.0
    assert not same(half, draw(graph, loras=lora.parent)[0])
    graph["9"]["inputs"]["lora_alpha"] = 4.0
    settings = {"steps": 2, "cfg": 5.0, "width": 128, "height": 64, "seed": 9, "prompt_syntax": "plain"}
    graph["3"]["inputs"]["prompt"] = "白马"
    load_lora(pipe, lora)  # it was trained with alpha 4
    trained = generate(pipe, "白马", "", **settings)
    unload_lora(pipe)
    assert np.abs(draw(graph, loras=lora.parent)[0].astype(int) - np.asarray(trained)).max() <= 1
    assert "my.safetensors in place of my.ckpt" in fit(graph, get_preset("tiny"), loras=lora.parent).notes[-1]


def test_two_advanced_samplers_share_the_steps_of_one(draw):
    whole, steps = graph_of(steps=4, scheduler="normal"), []
    knobs = {name: value for name, value in whole["7"]["inputs"].items() if name not in ("seed", "denoise")}
    knobs |= {"noise_seed": 5, "add_noise": "enable", "start_at_step": 0, "end_at_step": 2}
    split = dict(whole)
    split["7"] = {
        "class_type": "KSamplerAdvanced",
        "_meta": {},
        "inputs": knobs | {"return_with_leftover_noise": "enable"},
    }
    rest = {"latent_image": ["7", 0], "add_noise": "disable", "start_at_step": 2, "end_at_step": 10000}
    rest |= {"return_with_leftover_noise": "disable"}
    split["21"] = {"class_type": "KSamplerAdvanced", "_meta": {}, "inputs": knobs | rest}
    split["8"] = {**whole["8"], "inputs": whole["8"]["inputs"] | {"samples": ["21", 0]}}
    assert np.abs(draw(split, on_step=lambda *step: steps.append(step))[0].astype(int) - draw(whole)[0]).max() <= 1
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_only_what_changed_runs_again(pipe, preset):
    bench, graph, steps = Workbench(pipe), graph_of(), []
    with pytest.raises(DataError, match="fit it to a preset first"):
        bench.run(graph)
    first = bench.run(fit(graph, preset), lambda *step: steps.append(step))
    assert len(bench.ran) == len(graph) and steps == [(1, 3), (2, 3), (3, 3)]
    bench.run(fit(graph, preset))
    assert bench.ran == []
    graph["5"]["inputs"]["text"] = "王子"
    second = bench.run(fit(graph, preset))
    assert bench.ran == ["5", "7", "8", "9"]
    graph["9"]["inputs"]["filename_prefix"] = "other"
    assert same(bench.run(fit(graph, preset))["9"][0], second["9"][0]) and bench.ran == ["9"]
    assert not same(first["9"][0], second["9"][0])


def test_a_changed_file_of_the_same_name_counts(pipe, preset, tmp_path):
    bench, graph = Workbench(pipe), graph_of(image="a.png", denoise=0.5)
    for color in ("red", "blue"):
        Image.new("RGB", (128, 64), color).save(tmp_path / "a.png")
        bench.run(fit(graph, preset, images=tmp_path))
        assert "13" in bench.ran and ("4" in bench.ran) == (color == "red")


# Fitting


def test_sizes_are_brought_to_the_models_own_and_that_is_said(preset):
    job = fit(graph_of(width=1344, height=768, hires=1.5, hires_denoise=0.5), preset)
    size, larger = (job.graph[key]["inputs"] for key in ("6", "11"))
    assert (size["width"], size["height"], larger["width"], larger["height"]) == (168, 96, 256, 144)
    assert any("1344 x 768 → 168 x 96" in note for note in job.notes)
    assert fit(graph_of(width=256, height=256), preset).graph["6"]["inputs"]["width"] == 256
    assert any("kolors_unet_fp16.safetensors" in note and "random-kolors" in note for note in job.notes)


def test_a_node_whose_value_is_used_is_not_said_to_be_idle(preset):
    data = workflow_api(SETTINGS)
    data["40"] = {"class_type": "PrimitiveString", "inputs": {"value": "白马"}}
    data["4"]["inputs"]["text"] = ["40", 0]
    assert not any("node 40" in note for note in fit(normalise(data), preset).notes)


def test_a_picture_says_its_second_pass(pipe, preset, tmp_path):
    job = fit(graph_of(hires=1.5, hires_denoise=0.4), preset)
    (file,) = save_pictures(job, Workbench(pipe).run(job), tmp_path, "tiny")
    told = {"width": 128, "height": 64, "hires": 1.5, "hires_denoise": 0.4, "denoise": 1.0}
    assert read_settings(file).items() >= told.items() and Image.open(file).size == (192, 96)


def test_choices_come_from_the_seed(preset):
    data = workflow_api(SETTINGS)
    data["4"]["inputs"]["text"] = "{白马|王子|少女|夜空}"
    found = []
    for seed in (1, 1, 2, 3, 4):
        data["7"]["inputs"]["seed"] = seed
        found.append(fit(normalise(data), preset).graph["4"]["inputs"]["text"])
    assert found[0] == found[1] and len(set(found)) > 1


def test_a_weight_that_is_wrong_is_said_with_its_node_before_anything_runs(preset):
    graph = graph_of()
    graph["4"]["inputs"]["text"] = "(白马:1.2"
    with pytest.raises(DataError, match=r"node 4 \(MZ_ChatGLM3_V2\): prompt, character \d"):
        fit(graph, preset)


class Bomb:
    def __reduce__(self):
        return Path.touch, (Path("touched"),)


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("gone.safetensors", DataError, "node 10 .LoraLoaderModelOnly.: LoRA gone.safetensors is not in"),
        ("../../up.safetensors", DataError, "LoRA up.safetensors is not in"),
        ("/etc/passwd", DataError, "LoRA passwd is not in"),
        ("bomb.ckpt", ModelError, "pickle"),
        ("link.safetensors", DataError, "is not in"),
    ],
)
def test_a_lora_is_read_from_its_folder_only_and_never_as_a_pickle(
    preset, lora, tmp_path, monkeypatch, name, error, words
):
    monkeypatch.chdir(tmp_path)
    (lora.parent / "bomb.ckpt").write_bytes(pickle.dumps(Bomb()))
    (tmp_path / "up.safetensors").write_bytes(lora.read_bytes())
    (lora.parent / "link.safetensors").symlink_to(tmp_path / "up.safetensors")
    with pytest.raises(error, match=words):
        fit(graph_of(lora=name), preset, loras=lora.parent)
    assert not Path("touched").exists()


def test_a_missing_lora_may_be_skipped(draw, preset):
    graph = graph_of(lora="gone.safetensors")
    job = fit(graph, preset, missing_loras="skip")
    assert any("gone.safetensors is missing and left out" in note for note in job.notes)
    assert same(draw(graph, missing_loras="skip")[0], draw(graph_of())[0])


@pytest.mark.parametrize("name", ["../a.png", "/etc/passwd", "gone.png", "text.png", "..\\a.png [input]"])
def test_a_picture_is_read_from_its_folder_only(preset, tmp_path, name):
    folder = tmp_path / "input"
    folder.mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    (folder / "text.png").write_text("no picture")
    with pytest.raises(DataError, match=r"node 13 \(LoadImage\)"):
        fit(graph_of(image=name, denoise=0.5), preset, images=folder)


# Files and commands


def test_our_own_picture_read_back_and_run_is_identical(pipe, preset, tmp_path):
    job = fit(read_workflow(save_picture(generate(pipe, **SETTINGS), tmp_path / "a.png", SETTINGS)), preset)
    (again,) = save_pictures(job, Workbench(pipe).run(job), tmp_path / "out", "random-kolors")
    assert same(Image.open(again), Image.open(tmp_path / "a.png"))
    assert read_settings(again) == {**SETTINGS, "model": "random-kolors", "prompt_syntax": "webui"}
    once_more = fit(read_workflow(again), preset)
    assert same(Workbench(pipe).run(once_more)["9"][0], Image.open(again))
    assert {"prompt", "workflow", "parameters", "kolors_lab"} <= Image.open(again).text.keys()


def test_run_writes_numbered_pictures(pipe_folder, tmp_path, capsys):
    file = tmp_path / "a.json"
    file.write_text(json.dumps(workflow_api(SETTINGS | {"width": 1024, "height": 1024, "steps": 1})), encoding="utf-8")
    command = ["comfy", "run", str(file), "--preset", str(pipe_folder), "--out", str(tmp_path / "out")]
    assert main(command) == 0 and main(command) == 0
    assert sorted(each.name for each in (tmp_path / "out").iterdir()) == [
        "kolors_lab_00001_.png", "kolors_lab_00002_.png",
    ]  # fmt: skip
    assert "1024 x 1024 → 128 x 128" in capsys.readouterr().out


def test_on_a_small_card_all_texts_of_a_workflow_are_encoded_first(pipe_folder, tmp_path, monkeypatch):
    from kolors_lab.sampling import loading as module

    monkeypatch.setattr(module, "gpu_plan_here", lambda *_: "encode")
    data = kijai((128, 64, 9, "fixed", 1, 5, "EulerDiscreteScheduler"))
    for name, form in (("a", workflow_api(SETTINGS | {"steps": 1})), ("b", data)):
        (tmp_path / f"{name}.json").write_text(json.dumps(form), encoding="utf-8")
        command = ["comfy", "run", str(tmp_path / f"{name}.json"), "--preset", str(pipe_folder)]
        assert main([*command, "--out", str(tmp_path / name)]) == 0 and any((tmp_path / name).iterdir())


def test_run_refuses_before_anything_is_loaded_or_written(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("kolors_lab.sampling.loading.load_pipeline", lambda *_: pytest.fail("loaded"))
    file = tmp_path / "a.json"
    file.write_text(json.dumps(workflow_api(SETTINGS | {"lora": "gone.safetensors"})), encoding="utf-8")
    assert main(["comfy", "run", str(file), "--out", str(tmp_path / "out")]) == 2
    assert "LoRA gone.safetensors is needed: say with --loras (in Python: loras=…)" in failure(capsys)
    assert not (tmp_path / "out").exists()
