"""ComfyUI workflows: every form comes to one graph, faults are named before anything runs, what is written opens."""

from __future__ import annotations

import json

import pytest
from helpers import failure
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from kolors_lab.cli import main
from kolors_lab.comfy.graph import check, describe, escapes, faults, running_order
from kolors_lab.comfy.reader import LIMIT, normalise, read_forms, read_workflow  # fmt: skip
from kolors_lab.comfy.settings import settings_of  # fmt: skip
from kolors_lab.comfy.writer import outward, to_ui, workflow_api  # fmt: skip
from kolors_lab.core.errors import DataError

SETTINGS = {
    "prompt": "白马，(夜空:1.2)", "negative_prompt": "模糊", "prompt_syntax": "webui", "seed": 2**63, "steps": 20,
    "cfg": 4.0, "sampler_name": "euler", "scheduler": "leading", "denoise": 1.0, "width": 128, "height": 96, "batch": 2,
}  # fmt: skip


def node(number, kind, values=None, inputs=(), outputs=(), mode=0, **more):
    """A node of the editor; `inputs` are (name, type, link)."""
    return {
        "id": number, "type": kind, "mode": mode, "pos": {"0": 0, "1": 0}, "size": [1, 1], "widgets_values": values,
        "inputs": [{"name": name, "type": of, "link": link} for name, of, link in inputs],
        "outputs": [{"name": of, "type": of} for of in outputs], **more,
    }  # fmt: skip


def kijai(sampler_values=(1024, 1024, 7, "fixed", 25, 5, "EulerDiscreteScheduler")):
    """The kind of workflow the camp uses, in the editor's form 0.4."""
    return {
        "nodes": [
            node(1, "DownloadAndLoadKolorsModel", ["Kwai-Kolors/Kolors", "fp16"], outputs=["KOLORSMODEL"]),
            node(2, "DownloadAndLoadChatGLM3", ["fp16"], outputs=["CHATGLM3MODEL"]),
            node(3, "KolorsTextEncode", ["一 |二", "", 1], [("chatglm3_model", "CHATGLM3MODEL", 1)], ["KOLORS_EMBEDS"]),
            node(
                4, "KolorsSampler", list(sampler_values),
                [("kolors_model", "KOLORSMODEL", 2), ("kolors_embeds", "KOLORS_EMBEDS", 3)], ["LATENT"],
            ),
            node(5, "VAELoader", ["sdxl.vae.safetensors"], outputs=["VAE"]),
            node(6, "VAEDecode", None, [("samples", "LATENT", 4), ("vae", "VAE", 5)], ["IMAGE"]),
            node(7, "PreviewImage", None, [("images", "IMAGE", 6)]),
            node(8, "Note", ["say"]),
        ],
        "links": [
            [1, 2, 0, 3, 0, "CHATGLM3MODEL"], [2, 1, 0, 4, 0, "KOLORSMODEL"], [3, 3, 0, 4, 1, "KOLORS_EMBEDS"],
            [4, 4, 0, 6, 0, "LATENT"], [5, 5, 0, 6, 1, "VAE"], [6, 6, 0, 7, 0, "IMAGE"],
        ],
        "version": 0.4,
    }  # fmt: skip


def inputs(graph):
    return {key: (each["class_type"], each["inputs"]) for key, each in graph.items()}


def between(data, added, link):
    """Put a node 9 with one input and one output into the link."""
    data["nodes"].append(added)
    for row in data["links"]:
        if row[0] == link:
            data["links"].append([90, *row[1:3], 9, 0, row[5]])
            row[1:3] = [9, 0]
    return data


@pytest.fixture
def graph():
    return normalise(kijai())


def png(file, chunks, raw=False):
    info = PngInfo()
    for name, data in chunks.items():
        text = json.dumps(data, ensure_ascii=not raw)
        info.add(b"tEXt", f"{name}\0{text}".encode()) if raw else info.add_text(name, text)
    Image.new("RGB", (8, 8)).save(file, pnginfo=info)
    return file


# Reading


def test_editor_values_go_to_their_inputs(graph):
    assert "8" not in graph and not faults(graph)
    assert graph["4"]["inputs"] == {
        "kolors_model": ["1", 0], "kolors_embeds": ["3", 0], "width": 1024, "height": 1024, "seed": 7, "steps": 25,
        "cfg": 5.0, "scheduler": "EulerDiscreteScheduler", "denoise_strength": 1.0,
    }  # fmt: skip


def test_a_seed_without_a_control_word_takes_no_place_for_one(graph):
    assert inputs(normalise(kijai((1024, 1024, 7, 25, 5, "EulerDiscreteScheduler", 1)))) == inputs(graph)


def test_both_versions_of_the_editor_and_the_api_form_come_to_one_graph(graph):
    newer = kijai() | {"version": 1}
    names = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    newer["links"] = [dict(zip(names, link, strict=True)) for link in newer["links"]]
    assert inputs(normalise(newer)) == inputs(graph)
    assert inputs(normalise({"prompt": outward(graph)})) == inputs(normalise(outward(graph))) == inputs(graph)


def test_widgets_may_come_by_name_or_as_inputs(graph):
    named = kijai()
    names = ("width", "height", "seed", "steps", "cfg", "scheduler")
    values = (1024, 1024, 7, 25, 5, "EulerDiscreteScheduler")
    named["nodes"][3]["widgets_values"] = dict(zip(names, values, strict=True))
    assert inputs(normalise(named)) == inputs(graph)
    primitive = kijai((1024, 1024, 1, "fixed", 25, 5, "EulerDiscreteScheduler"))  # the place of the seed stays
    primitive["nodes"].append(node(9, "PrimitiveNode", [7, "fixed"], outputs=["INT"]))
    primitive["nodes"][3]["inputs"].append({"name": "seed", "type": "INT", "link": 9, "widget": {"name": "seed"}})
    primitive["links"].append([9, 9, 0, 4, 2, "INT"])
    assert inputs(normalise(primitive)) == inputs(graph)


def test_reroutes_and_bypassed_nodes_pass_on_and_muted_ones_take_what_needs_them_along(graph):
    rerouted = between(kijai(), node(9, "Reroute", None, [("", "*", 90)], ["*"]), 4)
    assert inputs(normalise(rerouted)) == inputs(graph)
    lora = node(9, "LoadKolorsLoRA", ["a.ckpt", 2.0], [("kolors_model", "KOLORSMODEL", 90)], ["KOLORSMODEL"], mode=4)
    assert inputs(normalise(between(kijai(), lora, 2))) == inputs(graph)
    muted = kijai()
    muted["nodes"][3]["mode"] = 2
    assert set(normalise(muted)) == {"1", "2", "3", "5"}


def test_a_png_gives_the_seed_that_was_used(tmp_path, graph):
    file = png(tmp_path / "a.png", {"workflow": kijai((1024, 1024, 8, *kijai()["nodes"][3]["widgets_values"][3:]))})
    assert read_workflow(file)["4"]["inputs"]["seed"] == 8
    chunks = {"prompt": graph, "workflow": kijai((1024, 1024, 8, "increment", 25, 5, "EulerDiscreteScheduler"))}
    assert read_workflow(png(tmp_path / "b.png", chunks))["4"]["inputs"]["seed"] == 7


@pytest.mark.parametrize("raw", [True, False])
def test_chinese_survives_both_ways_of_writing_a_chunk(tmp_path, graph, raw):
    assert read_workflow(png(tmp_path / "a.png", {"prompt": graph}, raw))["3"]["inputs"]["prompt"] == "一 |二"


def test_a_picture_of_ours_without_these_chunks_still_gives_a_workflow(tmp_path):
    assert settings_of(read_workflow(png(tmp_path / "a.png", {"kolors_lab": SETTINGS}))) == SETTINGS


# Writing


@pytest.mark.parametrize("form", [workflow_api, lambda settings: to_ui(workflow_api(settings))])
def test_settings_survive_the_way_through_either_form(form):
    settings = SETTINGS | {"lora": "a.safetensors", "lora_strength": 0.7, "scheduler": "karras"}
    written = json.loads(json.dumps(form(settings)))
    graph = normalise(written)
    check(graph)
    assert settings_of(graph) == settings
    assert settings_of(normalise(form(SETTINGS)))["scheduler"] == "leading"


def test_what_is_written_speaks_comfyuis_words_only():
    api = workflow_api(SETTINGS)
    assert api["7"]["inputs"]["scheduler"] == "ddim_uniform" and "prompt_syntax" not in api["4"]["inputs"]
    api["7"]["inputs"]["scheduler"] = "karras"  # changed in ComfyUI: our word counts no longer
    assert settings_of(normalise(api))["scheduler"] == "karras"


def test_the_editor_finds_every_link_at_both_ends():
    ui = to_ui(workflow_api(SETTINGS | {"lora": "a.safetensors"}))
    nodes = {each["id"]: each for each in ui["nodes"]}
    assert len(nodes) == len(ui["nodes"]) and max(nodes) == ui["last_node_id"]
    assert len(ui["links"]) == ui["last_link_id"] == sum(len(each["inputs"]) for each in ui["nodes"])
    for number, source, slot, target, place, kind in ui["links"]:
        assert number in nodes[source]["outputs"][slot]["links"] and nodes[source]["outputs"][slot]["type"] == kind
        assert nodes[target]["inputs"][place]["link"] == number
    for number, each in nodes.items():
        left = [nodes[link[1]]["pos"][0] for link in ui["links"] if link[3] == number]
        assert all(x < each["pos"][0] for x in left)
    sampler = next(each for each in ui["nodes"] if each["type"] == "KSampler")
    assert sampler["widgets_values"] == [2**63, "fixed", 20, 4.0, "euler", "ddim_uniform", 1.0]


def test_the_editors_form_of_a_graph_comes_back_as_that_graph(graph):
    assert inputs(normalise(to_ui(graph))) == inputs(graph)


# Faults


@pytest.mark.parametrize(
    ("node_id", "change", "words"),
    [
        ("4", {"class_type": "KolorSampler"}, ["node 4 (KolorSampler)", "nearest is KolorsSampler"]),
        ("4", {"steps": 0}, ["node 4 (KolorsSampler)", "steps = 0", "from 1 to 1000"]),
        ("4", {"steps": 2.5}, ["steps = 2.5", "a whole number"]),
        ("4", {"cfg": float("nan")}, ["cfg = nan", "from 0 to 100"]),
        ("4", {"width": 1001}, ["width = 1001", "a multiple of 8"]),
        ("4", {"scheduler": "EulerScheduler"}, ["scheduler = 'EulerScheduler'", "nearest is EulerDiscreteScheduler"]),
        ("4", {"kolors_model": ["77", 0]}, ["kolors_model", "node 77", "not in the workflow"]),
        ("4", {"kolors_model": ["3", 0]}, ["takes a KOLORSMODEL", "node 3 (KolorsTextEncode) gives a KOLORS_EMBEDS"]),
        ("4", {"kolors_model": ["1", 5]}, ["output 5 of node 1", "has 1"]),
        ("4", {"kolors_model": None}, ["kolors_model is not linked", "KOLORSMODEL"]),
        ("4", {"latent": ["4", 0]}, ["node 4 (KolorsSampler) → node 4", "its own result"]),
        ("3", {"prompt": None}, ["prompt = None", "must be given"]),
        ("7", {"class_type": "SaveImage", "filename_prefix": "../../x"}, ["filename_prefix", "out of the folder"]),
    ],
)
def test_each_fault_is_one_line_with_node_and_way_out(graph, node_id, change, words):
    graph[node_id]["class_type"] = change.pop("class_type", graph[node_id]["class_type"])
    graph[node_id]["inputs"] |= change
    with pytest.raises(DataError) as error:
        check(graph)
    assert all(word in str(error.value) for word in words), error.value


def test_only_what_a_picture_needs_is_checked(graph):
    graph["20"] = {"class_type": "SomethingElse", "inputs": {"x": ["99", 0]}, "_meta": {}}
    assert not faults(graph) and "20" not in running_order(graph)
    assert any("SomethingElse" in line and "no picture needs it" in line for line in describe(graph))


def test_a_sampler_that_is_not_here_is_said_with_the_nearest():
    graph = normalise(workflow_api(SETTINGS))
    graph["7"]["inputs"]["sampler_name"] = "dpmpp_2m_sde_gpu"
    assert "the nearest is dpmpp_2m_sde" in faults(graph)[0]


@pytest.mark.parametrize(
    "path", ["../a.png", "a/../../b", "/etc/passwd", "C:\\a.png", "..\\a", "\\\\host\\a", "~/a", "a\0b"]
)
def test_paths_that_lead_out(path):
    assert escapes(path)


def test_paths_that_stay():
    assert not any(escapes(path) for path in ("a.png", "story/page", "第一页 (1).png", "a..b.png"))


@pytest.mark.parametrize("kind", ["truncated", "plain", "other json", "list", "text", "binary", "huge", "deep", "gone"])
def test_what_is_no_workflow_is_one_line_and_nothing_is_written(tmp_path, capsys, kind):
    file = tmp_path / ("a.png" if kind in ("truncated", "plain") else "a.json")
    contents = {
        "other json": b'{"name": "x", "version": 2}', "list": b"[1, 2]", "text": b"no json", "binary": b"\xff\xfe\x00",
        "huge": b" " * (LIMIT + 1), "deep": b"[" * 200_000,
    }  # fmt: skip
    if kind == "truncated":
        Image.effect_noise((64, 64), 50).save(file)
        file.write_bytes(file.read_bytes()[:-900])
    elif kind == "plain":
        Image.new("RGB", (8, 8)).save(file)
    elif kind != "gone":
        file.write_bytes(contents[kind])
    assert main(["comfy", "export", str(file), "--out", str(tmp_path / "out.json")]) == 2
    assert str(file) in failure(capsys)
    assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize(
    "damage", [{"nodes": [1]}, {"links": [[1]]}, {"links": []}, {"nodes": [{"id": 1}]}, {"links": {"a": 1}}]
)
def test_damaged_workflows_are_one_line(damage):
    with pytest.raises(DataError):
        check(normalise(kijai() | damage))


def test_a_circle_of_reroutes_ends():
    data = between(kijai(), node(9, "Reroute", None, [("", "*", 90)], ["*"]), 4)
    data["links"][-1][1:3] = [9, 0]
    with pytest.raises(DataError, match=r"node 6 \(VAEDecode\).*circle"):
        normalise(data)


# Commands


@pytest.mark.parametrize("form", ["ui", "api"])
def test_an_empty_workflow_is_not_exported(tmp_path, capsys, form):
    (tmp_path / "empty.json").write_text('{"nodes": []}')
    out = tmp_path / "out.json"
    assert main(["comfy", "export", str(tmp_path / "empty.json"), "--out", str(out), "--format", form]) == 2
    assert "holds no nodes" in capsys.readouterr().err and not out.exists()


def test_show_and_export(tmp_path, capsys):
    source, drawn, out = tmp_path / "a.json", tmp_path / "graph.png", tmp_path / "api.json"
    data = kijai()
    data["nodes"][3]["widgets_values"][4] = 5000
    source.write_text(json.dumps(data), encoding="utf-8")
    assert main(["comfy", "show", str(source), "--out", str(drawn)]) == 0
    shown = capsys.readouterr().out
    assert "KolorsTextEncode" in shown and "cannot run here: node 4 (KolorsSampler): steps = 5000" in shown
    assert Image.open(drawn).width > 500
    assert main(["comfy", "export", str(source), "--out", str(out), "--format", "api"]) == 0
    assert inputs(read_workflow(out)) == inputs(read_workflow(source))
    assert main(["comfy", "export", str(out), "--out", str(tmp_path / "ui.json")]) == 0
    assert inputs(read_workflow(tmp_path / "ui.json")) == inputs(read_workflow(source))
    assert set(read_forms(tmp_path / "ui.json")) == {"workflow"}
