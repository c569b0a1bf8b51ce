# ruff: noqa: F811, the fixtures of test_comfy
"""What single ComfyUI nodes do: samplers in parts, masks, sizes, lists of LoRAs, files; bounds of all of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import failure
from PIL import Image
from test_comfy import SETTINGS, draw, graph_of, lora, preset, same  # noqa: F401
from test_control import make_net

from kolors_lab import run_workflow
from kolors_lab.cli import main
from kolors_lab.comfy.executor import Workbench, fingerprints
from kolors_lab.comfy.nodes import latents, masks
from kolors_lab.comfy.prepare import fit
from kolors_lab.comfy.registry import NODES
from kolors_lab.comfy.values import Latent
from kolors_lab.core.errors import DataError, KolorsLabError
from kolors_lab.lora.adapter import load_lora

CASES = Path(__file__).parent / "cases" / "comfy"


def put(graph: dict, key: str, kind: str, **inputs) -> None:
    graph[key] = {"class_type": kind, "inputs": inputs, "_meta": {"title": kind}}


# Samplers in parts


def in_parts(**changes) -> dict:
    """The graph of SETTINGS with a SamplerCustomAdvanced in place of its KSampler."""
    graph = graph_of(scheduler="normal", **changes)
    knobs = graph["7"]["inputs"]
    put(graph, "30", "RandomNoise", noise_seed=knobs["seed"])
    put(graph, "31", "CFGGuider", model=knobs["model"], positive=["4", 0], negative=["5", 0], cfg=knobs["cfg"])
    put(graph, "32", "KSamplerSelect", sampler_name=knobs["sampler_name"])
    put(graph, "33", "BasicScheduler", model=knobs["model"], scheduler="normal", steps=3, denoise=1.0)
    parts = {"noise": ["30", 0], "guider": ["31", 0], "sampler": ["32", 0], "sigmas": ["33", 0]}
    put(graph, "7", "SamplerCustomAdvanced", **parts, latent_image=["6", 0])
    return graph


def test_a_sampler_in_parts_draws_what_the_whole_one_draws(draw):
    steps = []
    whole = draw(graph_of(scheduler="normal"))[0]
    assert same(draw(in_parts(), on_step=lambda *step: steps.append(step))[0], whole)
    assert steps == [(1, 3), (2, 3), (3, 3)]
    custom = graph_of(scheduler="normal")
    graph = in_parts()
    custom |= {key: graph[key] for key in ("32", "33")}
    inputs = {"model": ["1", 0], "add_noise": True, "noise_seed": 5, "cfg": 4.0, "sampler": ["32", 0]}
    inputs |= {"positive": ["4", 0], "negative": ["5", 0], "sigmas": ["33", 0], "latent_image": ["6", 0]}
    put(custom, "7", "SamplerCustom", **inputs)
    assert same(draw(custom)[0], whole)


def test_a_basic_guider_asks_the_prompt_alone(draw):
    graph = in_parts()
    put(graph, "31", "BasicGuider", model=["1", 0], conditioning=["4", 0])
    assert same(draw(graph)[0], draw(graph_of(scheduler="normal", cfg=1.0))[0])


def test_sigmas_that_are_split_are_run_one_after_the_other(draw):
    graph = in_parts()
    put(graph, "34", "SplitSigmas", sigmas=["33", 0], step=1)
    put(graph, "35", "DisableNoise")
    graph["7"]["inputs"]["sigmas"] = ["34", 0]
    put(graph, "36", "SamplerCustomAdvanced", **graph["7"]["inputs"])
    graph["36"]["inputs"] |= {"noise": ["35", 0], "sigmas": ["34", 1], "latent_image": ["7", 0]}
    graph["8"]["inputs"]["samples"] = ["36", 0]
    assert np.abs(draw(graph)[0].astype(int) - draw(in_parts())[0]).max() <= 1


def test_the_settings_of_a_sampler_in_parts_are_told(pipe, preset, tmp_path):
    from kolors_lab.comfy.settings import settings_of

    told = settings_of(fit(in_parts(lora=None), preset).graph)
    assert {name: told[name] for name in ("seed", "steps", "cfg", "sampler_name", "scheduler", "prompt", "width")} == {
        "seed": 5, "steps": 3, "cfg": 4.0, "sampler_name": "euler", "scheduler": "normal",
        "prompt": SETTINGS["prompt"], "width": 128,
    }  # fmt: skip


@pytest.mark.parametrize("cfg", [1.0, 4.0])
def test_the_sizes_that_a_node_tells_the_model_count_at_any_cfg(draw, cfg):
    def with_target(size):
        graph = graph_of(cfg=cfg)
        sizes = {"width": size, "height": size, "crop_w": 0, "crop_h": 0, "target_width": size, "target_height": size}
        put(graph, "4", "MZ_ChatGLM3_Advance_V2", chatglm3_model=["2", 0], text="白马", **sizes)
        return draw(graph)[0]

    assert not same(with_target(64), with_target(256))


# Masks


def latent_of(pipe, job, key):
    bench = Workbench(pipe)
    bench.run(job)
    return bench.results[fingerprints(job)[key]][0]


def over_a_picture(tmp_path, **changes) -> dict:
    Image.effect_noise((128, 64), 80).convert("RGB").save(tmp_path / "a.png")
    return graph_of(image="a.png", denoise=0.8, **changes)


@pytest.mark.parametrize("sampler", ["euler", "euler_ancestral", "dpmpp_2m"])
def test_outside_of_a_mask_latents_stay(pipe, preset, tmp_path, sampler):
    graph = over_a_picture(tmp_path, sampler_name=sampler)
    mask = Image.new("L", (128, 64))
    mask.paste(255, (64, 0, 128, 64))  # the right half
    mask.convert("RGB").save(tmp_path / "mask.png")
    put(graph, "40", "LoadImageMask", image="mask.png", channel="red")
    put(graph, "41", "SetLatentNoiseMask", samples=["6", 0], mask=["40", 0])
    graph["7"]["inputs"]["latent_image"] = ["41", 0]
    job = fit(graph, preset, images=tmp_path)
    bench = Workbench(pipe)
    bench.run(job)
    before, after = (bench.results[fingerprints(job)[key]][0].samples for key in ("6", "7"))
    assert torch.allclose(before[..., :7], after[..., :7], atol=1e-4)
    assert (before[..., 9:] - after[..., 9:]).abs().mean() > 0.1


def test_what_is_drawn_anew_is_hidden_before_it_is_encoded(pipe, preset, tmp_path):
    graph = over_a_picture(tmp_path)
    put(graph, "40", "SolidMask", value=1.0, width=128, height=64)
    put(graph, "6", "VAEEncodeForInpaint", pixels=["13", 0], vae=["3", 0], mask=["40", 0], grow_mask_by=6)
    hidden = latent_of(pipe, fit(graph, preset, images=tmp_path), "6")
    Image.effect_noise((128, 64), 20).convert("RGB").save(tmp_path / "a.png")
    assert torch.equal(hidden.samples, latent_of(pipe, fit(graph, preset, images=tmp_path), "6").samples)
    assert hidden.mask.shape == (1, 64, 128) and hidden.mask.min() == 1


def test_a_mask_for_inpainting_grows_by_so_many_px_in_all():
    mask = torch.zeros(1, 32, 32)
    mask[:, 12:20, 12:20] = 1
    for pixels, width in ((0, 8), (1, 8), (6, 13), (7, 14)):
        assert latents.grown(mask, pixels)[0, 16].sum() == width


def test_masks_grow_shrink_fade_and_turn():
    mask = torch.zeros(1, 16, 16)
    mask[:, 6:10, 6:10] = 1
    (wide,) = masks.grow(None, mask=mask, expand=2, tapered_corners=False)
    (tapered,) = masks.grow(None, mask=mask, expand=2, tapered_corners=True)
    (small,) = masks.grow(None, mask=mask, expand=-1, tapered_corners=False)
    assert (wide.sum(), tapered.sum(), small.sum()) == (64, 52, 4)
    (faded,) = masks.feather(None, mask=torch.ones(1, 8, 8), left=4, top=0, right=0, bottom=0)
    assert faded[0, 3].tolist() == [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]
    assert masks.invert(None, mask=mask)[0].sum() == 16 * 16 - 16
    assert masks.threshold(None, mask=faded, value=0.6)[0].sum() == 48
    (pictures,) = masks.as_images(None, mask=mask)
    assert same(masks.of_images(None, image=pictures, channel="red")[0], mask)


def test_a_transparent_place_is_a_mask(tmp_path):
    image = Image.new("RGBA", (16, 8), (255, 0, 0, 255))
    image.paste((0, 0, 0, 0), (0, 0, 8, 8))
    image.save(tmp_path / "a.png")
    _, mask = NODES["LoadImage"].run(None, image=tmp_path / "a.png")
    assert mask[0, 0].tolist() == [1] * 8 + [0] * 8
    assert same(masks.load(None, image=tmp_path / "a.png", channel="alpha")[0], mask)
    image.convert("RGB").save(tmp_path / "b.png")
    assert NODES["LoadImage"].run(None, image=tmp_path / "b.png")[1].sum() == 0


# ControlNets


def controlled(kind: str, **more) -> dict:
    graph = graph_of(scheduler="normal")
    put(graph, "50", "LoadImage", image="edges.png")
    put(graph, "51", "ControlNetLoader", control_net_name="kolors/net.safetensors")
    put(graph, "52", kind, control_net=["51", 0], image=["50", 0], strength=0.7, **more)
    graph["7"]["inputs"]["positive"] = ["52", 0]
    if kind == "ControlNetApplyAdvanced":
        graph["7"]["inputs"]["negative"] = ["52", 1]
    return graph


def test_a_control_net_in_a_workflow_draws_what_generate_draws(pipe, draw, tmp_path):
    from kolors_lab.sampling.control import Control, load_control_net
    from kolors_lab.sampling.pipeline import generate

    net = make_net(pipe.unet, tmp_path / "nets" / "net")
    edges = Image.effect_noise((128, 64), 80).convert("RGB")
    edges.save(tmp_path / "edges.png")
    folders = {"images": tmp_path, "control_nets": tmp_path / "nets"}
    both = {"positive": ["4", 0], "negative": ["5", 0], "start_percent": 0.0, "end_percent": 0.6}
    drawn = draw(controlled("ControlNetApplyAdvanced", **both), **folders)[0]
    control = Control(load_control_net(net, pipe.unet), (edges,), "none", 0.7, 0.0, 0.6)
    truth = np.asarray(generate(pipe, **{**SETTINGS, "scheduler": "normal"}, control=control))
    assert np.abs(drawn.astype(int) - truth).max() <= 1
    plain = draw(graph_of(scheduler="normal"))[0]
    alone = draw(controlled("ControlNetApply", conditioning=["4", 0]), **folders)[0]
    assert not same(drawn, plain) and not same(alone, drawn)  # the simpler node acts to the end
    of_one = controlled("ControlNetApplyAdvanced", **both)
    of_one["7"]["inputs"]["negative"] = ["5", 0]
    assert not same(draw(of_one, **folders)[0], drawn)


def test_a_control_net_is_found_before_anything_runs(preset, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "edges.png")
    graph = controlled("ControlNetApply", conditioning=["4", 0])
    with pytest.raises(DataError, match=r"node 51 \(ControlNetLoader\): .*--control_nets"):
        fit(graph, preset, images=tmp_path)
    with pytest.raises(DataError, match=r"node 51 .* holds no ControlNet kolors/net.safetensors"):
        fit(graph, preset, images=tmp_path, control_nets=tmp_path)


# Sizes


@pytest.mark.parametrize(
    ("kind", "inputs", "size"),
    [
        ("ImageScale", {"width": 64, "height": 32, "crop": "center"}, (64, 32)),
        ("ImageScale", {"width": 64, "height": 0, "crop": "disabled"}, (64, 48)),
        ("ImageScale", {"width": 0, "height": 0, "crop": "disabled"}, (120, 90)),
        ("ImageScaleBy", {"scale_by": 0.5}, (60, 45)),
        ("ImageScaleToTotalPixels", {"megapixels": 0.01}, (118, 89)),
    ],
)
def test_pictures_are_scaled(kind, inputs, size):
    (scaled,) = NODES[kind].run(None, image=[Image.new("RGB", (120, 90))], upscale_method="area", **inputs)
    assert scaled[0].size == size


def test_bislerp_turns_between_neighbours_and_is_not_bicubic():
    flat = torch.full((1, 4, 4, 4), 0.5)
    assert torch.allclose(latents.resize(flat, "bislerp", 64, 64), torch.full((1, 4, 8, 8), 0.5), atol=1e-6)
    x = torch.zeros(1, 2, 1, 2)
    x[0, 0, 0, 0], x[0, 1, 0, 1] = 2, 4  # at right angles, 2 and 4 long
    wide = latents.bislerp(x, 4, 3)[0, :, 0]
    assert torch.allclose(wide.norm(dim=0), torch.tensor([2, 2.5, 3.5, 4]))  # the length goes straight
    angle = torch.atan2(wide[1], wide[0]) / (torch.pi / 2)
    assert torch.allclose(angle, torch.tensor([0, 0.25, 0.75, 1]), atol=1e-6)  # the direction turns evenly
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    assert not torch.allclose(*(latents.resize(noise, method, 96, 96) for method in ("bislerp", "bicubic")), atol=0.1)


@pytest.mark.parametrize(
    ("kind", "inputs"),
    [
        ("RepeatLatentBatch", {"amount": 64}),
        ("LatentUpscaleBy", {"upscale_method": "bilinear", "scale_by": 8.0}),
        ("LatentUpscale", {"upscale_method": "bislerp", "width": 4096, "height": 4096, "crop": "disabled"}),
    ],
)
def test_sizes_and_batches_have_bounds(kind, inputs):
    samples = Latent(torch.zeros(64, 4, 128, 128))
    with pytest.raises(DataError, match="at most 4096 px a side and 64 megapixels"):
        NODES[kind].run(None, samples=samples, **inputs)
    with pytest.raises(DataError, match="megapixels"):
        NODES["ImageScaleBy"].run(None, image=[Image.new("RGB", (1000, 1000))], upscale_method="area", scale_by=8.0)


def test_a_batch_without_bound_names_its_node(pipe, preset):
    graph = graph_of()
    for key, source in (("40", "6"), ("41", "40"), ("42", "41"), ("43", "42")):
        put(graph, key, "RepeatLatentBatch", samples=[source, 0], amount=64)
    graph["7"]["inputs"]["latent_image"] = ["43", 0]
    with pytest.raises(DataError, match=r"node 4[0-3] \(RepeatLatentBatch\): .* megapixels in all"):
        Workbench(pipe).run(fit(graph, preset))


# LoRAs


def test_lists_of_loras_are_chains(draw, lora):
    graph = graph_of(lora="my.safetensors", lora_strength=0.7)
    once, plain = draw(graph, loras=lora.parent)[0], draw(graph_of())[0]
    row = {"on": True, "lora": "my.safetensors", "strength": 0.7}
    put(graph, "10", "Power Lora Loader (rgthree)", model=["1", 0], lora_1=row, lora_2=row | {"on": False})
    assert same(draw(graph, loras=lora.parent)[0], once)
    put(graph, "10", "Lora Loader Stack (rgthree)", model=["1", 0], clip=["2", 0], lora_01="my.safetensors")
    graph["10"]["inputs"] |= {f"lora_0{n}": "None" for n in (2, 3, 4)} | {f"strength_0{n}": 0.7 for n in (1, 2, 3, 4)}
    assert same(draw(graph, loras=lora.parent)[0], once)
    put(graph, "44", "CR LoRA Stack")
    for n, switch in ((1, "On"), (2, "Off"), (3, "Off")):
        more = {f"switch_{n}": switch, f"lora_name_{n}": "my.safetensors" if n == 1 else "gone.safetensors"}
        graph["44"]["inputs"] |= more | {f"model_weight_{n}": 0.7, f"clip_weight_{n}": 1.0}
    put(graph, "10", "CR Apply LoRA Stack", model=["1", 0], clip=["2", 0], lora_stack=["44", 0])
    assert same(draw(graph, loras=lora.parent)[0], once) and not same(once, plain)


def test_a_lora_of_the_caller_does_not_act(pipe, preset, draw, lora):
    plain = draw(graph_of())[0]
    load_lora(pipe, lora)
    assert same(draw(graph_of())[0], plain)


@pytest.mark.parametrize("name", ["lora_subfolder_posix", "lora_subfolder_windows"])
def test_a_lora_lies_where_the_workflow_says_or_anywhere_within(preset, lora, tmp_path, name):
    data = json.loads((CASES / f"{name}.json").read_text(encoding="utf-8"))
    from kolors_lab.comfy.reader import normalise

    loras = tmp_path / "all"
    (loras / "kolors").mkdir(parents=True)
    shutil.copy(lora, loras / "kolors" / "ink.safetensors")
    assert fit(normalise(data), preset, loras=loras).files["10", "lora_name"] == loras / "kolors" / "ink.safetensors"
    (loras / "kolors").rename(loras / "elsewhere")
    assert fit(normalise(data), preset, loras=loras).files["10", "lora_name"].parent.name == "elsewhere"
    shutil.copytree(loras / "elsewhere", loras / "again")
    with pytest.raises(DataError, match=r"LoRA ink.safetensors is there 2 times: again/.*, elsewhere/"):
        fit(normalise(data), preset, loras=loras)


def test_a_lora_that_is_left_out_is_in_no_picture(preset, pipe, tmp_path):
    from kolors_lab.comfy.prepare import save_pictures
    from kolors_lab.sampling.metadata import read_settings

    graph = graph_of(lora="gone.safetensors", steps=1)
    row = {"on": True, "lora": "gone.safetensors", "strength": 1.0}
    put(graph, "60", "Power Lora Loader (rgthree)", model=["10", 0], lora_1=row)
    graph["7"]["inputs"]["model"] = ["60", 0]
    job = fit(graph, preset, missing_loras="skip")
    (file,) = save_pictures(job, Workbench(pipe).run(job), tmp_path, "random-kolors")
    assert "lora" not in read_settings(file) and "loras" not in read_settings(file)
    assert job.graph["60"]["inputs"]["lora_1"]["on"] is False and "10" not in job.graph


def test_pictures_that_no_sampler_made_are_written_with_their_workflow(pipe, preset, tmp_path):
    from kolors_lab.comfy.prepare import save_pictures
    from kolors_lab.comfy.reader import read_workflow

    Image.new("RGB", (120, 90), "red").save(tmp_path / "a.png")
    graph: dict = {}
    put(graph, "1", "LoadImage", image="a.png")
    put(graph, "2", "ImageScaleBy", image=["1", 0], upscale_method="area", scale_by=0.5)
    put(graph, "3", "SaveImage", images=["2", 0], filename_prefix="half")
    job = fit(graph, preset, images=tmp_path)
    (file,) = save_pictures(job, Workbench(pipe).run(job), tmp_path / "out", "random-kolors")
    assert Image.open(file).size == (60, 45) and set(read_workflow(file)) == {"1", "2", "3"}


def test_settings_are_told_through_control_nets_and_chains_of_loras():
    from kolors_lab.comfy.settings import settings_of

    graph = controlled("ControlNetApplyAdvanced", positive=["4", 0], negative=["5", 0])
    put(graph, "61", "LoraLoaderModelOnly", model=["1", 0], lora_name="a.safetensors", strength_model=0.5)
    put(graph, "62", "LoraLoaderModelOnly", model=["61", 0], lora_name="b.safetensors", strength_model=0.7)
    graph["7"]["inputs"]["model"] = ["62", 0]
    told = settings_of(graph)
    assert (told["prompt"], told["negative_prompt"]) == (SETTINGS["prompt"], SETTINGS["negative_prompt"])
    assert told["loras"] == [("a.safetensors", 0.5), ("b.safetensors", 0.7)] and "lora" not in told


@pytest.mark.parametrize("name", ["/", "..", "a" * 300, "\udc80", "x\0y", "a/" * 200])
def test_names_that_no_file_can_have_are_one_line(preset, tmp_path, name):
    with pytest.raises(DataError, match=r"node 10 .LoraLoaderModelOnly.: LoRA"):
        fit(graph_of(lora=name), preset, loras=tmp_path)
    with pytest.raises(DataError, match=r"node 13 .LoadImage."):
        fit(graph_of(image=name, denoise=0.5), preset, images=tmp_path)


# One call and the command


def test_one_call_gives_the_pictures_of_a_file(pipe, tmp_path):
    file, said = tmp_path / "a.json", []
    file.write_text(json.dumps(graph_of(steps=1)), encoding="utf-8")
    (picture,) = run_workflow(file, pipe, say=said.append)
    assert picture.size == (128, 64) and any("weights" in note for note in said)
    with pytest.raises(KolorsLabError, match="there is none of that name"):
        run_workflow(file, pipe, missing_loras="perhaps")


def test_cases_run_and_say_what_does_not(pipe_folder, tmp_path, capsys):
    Image.new("RGB", (128, 128), "red").save(tmp_path / "girl.png")
    for name in ("api_extra_keys_img2img_upload_key", "other_output_node_api", "filename_tokens_ui"):
        command = ["comfy", "run", str(CASES / f"{name}.json"), "--preset", str(pipe_folder)]
        assert main([*command, "--images", str(tmp_path), "--out", str(tmp_path / name)]) == 0
    out = capsys.readouterr()
    assert "node 15 (Image Save) does not run" in out.out + out.err
    (named,) = (tmp_path / "filename_tokens_ui").glob("*/*.png")
    assert named.name == "5_girl_00001_.png" and len(named.parent.name.split("-")) == 3
    command = ["comfy", "run", str(CASES / "embedding_api.json"), "--preset", str(pipe_folder)]
    assert main([*command, "--out", str(tmp_path / "out")]) == 2 and not (tmp_path / "out").exists()
    assert "node 7 (CLIPTextEncode)" in failure(capsys)
