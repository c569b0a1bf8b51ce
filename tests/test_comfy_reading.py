"""Workflows as they are in the wild: what every form says is read, and what is not used is named."""

from __future__ import annotations

import json
import random
import re
import time
from copy import deepcopy
from datetime import datetime
from pathlib import Path

import pytest
from helpers import failure
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from test_workflow import SETTINGS, between, inputs, kijai
from workflows import node

from kolors_lab.cli import main
from kolors_lab.comfy.graph import describe, faults, unused
from kolors_lab.comfy.infotext import parse_infotext
from kolors_lab.comfy.reader import normalise, read_forms, read_workflow
from kolors_lab.comfy.settings import settings_of
from kolors_lab.comfy.texts import file_prefix, unknown_tokens
from kolors_lab.comfy.writer import check_whole, outward, to_ui, workflow_api
from kolors_lab.core.errors import DataError
from kolors_lab.sampling.metadata import infotext

CASES = Path(__file__).parent / "cases" / "comfy"


def case(name: str) -> dict:
    return json.loads((CASES / f"{name}.json").read_text(encoding="utf-8"))


def plain(**changes) -> dict:
    return to_ui(workflow_api(SETTINGS | {"scheduler": "karras"} | changes))


def of_type(data: dict, kind: str) -> dict:
    return next(each for each in data["nodes"] if each["type"] == kind)


# Values of widgets


def test_true_behind_a_seed_is_a_control_word():
    sampler = normalise(case("ui_boolean_control_default_like"))["3"]["inputs"]
    assert (sampler["seed"], sampler["steps"], sampler["sampler_name"]) == (5, 4, "euler")


def test_values_by_name_win_over_those_in_order():
    assert normalise(case("widgets_values_named_ui_hole"))["6"]["inputs"]["text"] == "二次元，一个紫色短发少女"
    data = kijai()
    data["nodes"][3]["widgets_values_named"] = {"seed": 8, "control_after_generate": "fixed", "steps": 9}
    found = normalise(data)["4"]["inputs"]
    assert (found["seed"], found["steps"], found["cfg"]) == (8, 9, 5.0) and "control_after_generate" not in found


def test_a_value_too_many_is_named():
    data = kijai()
    data["nodes"][4]["widgets_values"] = ["sdxl.vae.safetensors", "tile", 512]
    graph = normalise(data)
    assert graph["5"]["inputs"] == {"vae_name": "sdxl.vae.safetensors"}
    assert any("node 5 (VAELoader): not used" in note and "tile" in note for note in graph.notes)


def test_figures_that_nobody_gave_are_named():
    graph = normalise(
        {"3": {"class_type": "KSampler", "inputs": {"steps": None, "cfg": 4.0, "seed": 5, "denoise": 1.0}}}
    )
    assert graph.notes == ("node 3 (KSampler): steps is not given; taken is 20",)
    assert not any("not given" in note for note in normalise(plain()).notes)


def test_two_nodes_of_one_id_are_refused():
    data = plain()
    data["nodes"].append(deepcopy(of_type(data, "KSampler")))
    with pytest.raises(DataError, match="two nodes have this id"):
        normalise(data)


def test_inputs_that_a_node_does_not_have_are_named_and_kept_from_it():
    graph = normalise(case("api_extra_keys_img2img_upload_key"))
    assert not faults(graph) and not unused(graph)  # the button for a file is no loss
    graph["3"]["inputs"]["sharpness"] = 0.5
    assert not faults(graph)
    assert unused(graph) == ["node 3 (KSampler): not used, since it has no such input: sharpness = 0.5"]


def test_comments_are_taken_out_of_prompts_as_the_editor_does():
    graph = normalise(case("prompt_comments_ui"))
    assert inputs(graph) == inputs(normalise(case("prompt_comments_what_comfyui_runs")))
    assert graph.notes == ("node 6 (CLIPTextEncode): comments are taken out of text, as ComfyUI does",)
    data = kijai()
    data["nodes"][2]["widgets_values"][0] = "白马 // 王子"  # kijai's node gets its text as it is
    assert normalise(data)["3"]["inputs"]["prompt"] == "白马 // 王子"


# Links


def test_set_and_get_nodes_are_followed_also_into_a_subgraph():
    assert normalise(case("set_get_ui"))["8"]["inputs"]["vae"] == ["4", 2]
    data = case("set_get_ui")
    data["nodes"] = [each for each in data["nodes"] if each["type"] != "SetNode"]
    graph = normalise(data)
    assert "node 41 (GetNode): no SetNode keeps 'vae'" in graph.notes and "vae is not linked" in faults(graph)[0]


def test_reroutes_that_are_drawn_on_a_link_change_nothing():
    data = kijai() | {"extra": {"linkExtensions": [{"id": 4, "parentId": 1}], "reroutes": [{"id": 1, "pos": [0, 0]}]}}
    assert inputs(normalise(data)) == inputs(normalise(kijai()))


@pytest.mark.parametrize("kind", ["Reroute", "Reroute (rgthree)", "SetNode"])
def test_nodes_that_only_pass_on_are_no_nodes(kind):
    added = node(9, kind, ["x"], (("", "*", 90),), ("*",))
    assert inputs(normalise(between(kijai(), added, 4))) == inputs(normalise(kijai()))


def through(kind: str, slots: tuple, outs: tuple, slot: int = 0, **more) -> dict:
    """A workflow whose model goes through a node 40."""
    data = plain()
    link = next(link for link in data["links"] if link[5] == "MODEL")
    data["links"].append([90, *link[1:3], 40, next(n for n, put in enumerate(slots) if put[2] == 90), "MODEL"])
    link[1:3] = [40, slot]
    data["nodes"].append(node(40, kind, None, slots, outs, **more))
    return data


@pytest.mark.parametrize(
    ("kind", "slots", "outs", "slot"),
    [
        ("Any Switch (rgthree)", (("any_01", "MODEL", None), ("any_02", "MODEL", 90)), ("*",), 0),
        ("Context (rgthree)", (("base_ctx", "X", None), ("model", "MODEL", 90)), ("X", "MODEL"), 1),
    ],
)
def test_rgthrees_switches_and_contexts_pass_on(kind, slots, outs, slot):
    graph = normalise(through(kind, slots, outs, slot))
    assert inputs(graph) == inputs(normalise(plain())) and not faults(graph)
    written = outward(graph) | {"40": {"class_type": kind, "inputs": {}, "_meta": {}}}  # the API's form, nothing linked
    written["7"]["inputs"]["model"] = ["40", slot]
    assert "model is not linked" in faults(normalise(written))[0]


def test_a_switch_takes_the_next_where_one_branch_is_muted():
    slots = (("any_01", "MODEL", 91), ("any_02", "MODEL", 90))
    data = through("Any Switch (rgthree)", slots, ("*",))
    data["nodes"].append(node(41, "UNETLoader", ["other"], (), ("MODEL",), mode=2))
    data["links"].append([91, 41, 0, 40, 0, "MODEL"])
    assert inputs(normalise(data)) == inputs(normalise(plain()))


def test_contexts_are_merged_and_a_circle_of_them_ends():
    graph = outward(normalise(plain()))
    model = graph["7"]["inputs"]["model"]
    for key, kind, put in (
        ("40", "Context (rgthree)", {"model": ["5", 0], "seed": 3}),
        ("41", "Context Big (rgthree)", {"base_ctx": ["40", 0], "model": model, "steps": 9}),
        ("42", "Context Merge (rgthree)", {"ctx_01": ["40", 0], "ctx_02": ["41", 0]}),
        ("43", "Context Switch (rgthree)", {"ctx_01": None, "ctx_02": ["42", 0]}),
    ):
        graph[key] = {"class_type": kind, "inputs": put, "_meta": {}}
    graph["7"]["inputs"] |= {"model": ["43", 1], "seed": ["43", 8], "steps": ["41", 9]}
    found = normalise(deepcopy(graph))
    assert not faults(found) and "40" not in found
    assert [found["7"]["inputs"][name] for name in ("model", "seed", "steps")] == [model, 3, 9]
    graph["40"]["inputs"] = {"base_ctx": ["43", 0]}
    graph["41"]["inputs"].pop("model")
    with pytest.raises(DataError, match="damaged"):
        normalise(graph)


def test_rgthrees_buttons_are_no_nodes():
    data = kijai()
    for number, name in enumerate(("Fast Muter", "Fast Groups Bypasser", "Label", "Bookmark"), 20):
        data["nodes"].append(node(number, f"{name} (rgthree)", [], (("", "*", None),), ("*",)))
    graph = normalise(data)
    assert inputs(graph) == inputs(normalise(kijai())) and not unused(graph)


@pytest.mark.parametrize("kind", ["IMAGE,MASK", "image", "*"])
def test_a_bypassed_node_passes_on_what_its_slots_agree_on(kind):
    data = between(kijai(), node(9, "ImageFilter", [], (("a", kind, 90),), ("IMAGE",), mode=4), 6)
    assert normalise(data)["7"]["inputs"]["images"] == ["6", 0]


def test_holes_in_the_list_of_links_are_no_damage():
    data = kijai()
    data["links"].insert(2, None)
    assert inputs(normalise(data)) == inputs(normalise(kijai()))


def test_of_two_set_nodes_of_one_name_the_first_that_is_linked_counts():
    data = case("set_get_ui")
    setter = of_type(data, "SetNode")
    data["nodes"].append(deepcopy(setter) | {"id": 50, "inputs": [{"name": "VAE", "link": None}]})
    assert normalise(data)["8"]["inputs"]["vae"] == ["4", 2]


def test_comments_are_taken_out_of_a_primitives_text_too():
    data = plain()
    text = of_type(data, "MZ_ChatGLM3_V2")
    text["inputs"].append({"name": "text", "type": "STRING", "link": 90, "widget": {"name": "text"}})
    data["nodes"].append(node(40, "PrimitiveNode", ["夜空 // not yet"], (), ("STRING",)))
    data["links"].append([90, 40, 0, text["id"], len(text["inputs"]) - 1, "STRING"])
    graph = normalise(data)
    assert graph[str(text["id"])]["inputs"]["text"] == "夜空 " and "comments are taken out" in graph.notes[0]


def test_a_bypassed_node_of_any_type_passes_on():
    data = between(kijai(), node(9, "ImageFilter", [], (("a", "*", 90),), ("IMAGE",), mode=4), 6)
    assert normalise(data)["7"]["inputs"]["images"] == ["6", 0]


@pytest.mark.parametrize("kind", ["PrimitiveInt", "INTConstant", "Seed (rgthree)", "CR Seed"])
def test_a_constant_from_a_node_that_comfyui_runs_is_filled_in(kind):
    graph = normalise(kijai())
    name = "seed" if "eed" in kind else "value"
    graph["20"] = {"class_type": kind, "inputs": {name: 77}, "_meta": {}}
    graph["4"]["inputs"]["seed"] = ["20", 0]
    assert not faults(graph) and settings_of(graph)["seed"] == 77
    graph["20"]["inputs"][name] = "many"
    assert f"node 20 ({kind}): {name} = 'many'" in faults(graph)[0]


TEXTS = {
    "StringConcatenate": ({"string_a": ["40", 0], "string_b": "夜空", "delimiter": "，"}, " a girl ，夜空"),
    "StringReplace": ({"string": ["40", 0], "find": "girl", "replace": "boy"}, " a boy "),
    "StringTrim": ({"string": ["40", 0], "mode": "Both"}, "a girl"),
    "StringSubstring": ({"string": ["40", 0], "start": 1, "end": -2}, "a gir"),
    "CaseConverter": ({"string": ["40", 0], "mode": "Title Case"}, " A Girl "),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_what_is_made_of_texts_is_the_prompt(kind):
    put, wanted = TEXTS[kind]
    data = outward(normalise(plain()))
    data["40"] = {"class_type": "PrimitiveStringMultiline", "inputs": {"value": " a girl "}}
    data["41"] = {"class_type": kind, "inputs": put}
    data["4"]["inputs"]["text"] = ["41", 0]
    graph = normalise(json.loads(json.dumps(data)))
    assert not faults(graph) and settings_of(graph)["prompt"] == wanted
    assert inputs(normalise(to_ui(outward(graph)))) == inputs(graph)


def joins(count: int, last: object) -> dict:
    data = outward(normalise(plain()))
    for n in range(count):
        put = {"string_a": [str(101 + n), 0], "string_b": [str(101 + n), 0]}
        data[str(100 + n)] = {"class_type": "StringConcatenate", "inputs": put}
    data[str(100 + count)] = {"class_type": "PrimitiveString", "inputs": {"value": last}}
    data["4"]["inputs"]["text"] = ["100", 0]
    return data


def test_joined_texts_are_bounded_and_a_circle_of_them_is_named():
    assert settings_of(normalise(joins(3, "a")))["prompt"] == "a" * 8
    assert not faults(normalise(joins(2000, "")))  # no deep recursion either
    assert "characters; 10000 at most are read" in faults(normalise(joins(60, "ab")))[0]
    assert "a node cannot need its own result" in faults(normalise(joins(2, "a") | {"102": joins(1, "")["100"]}))[0]


def test_a_replacement_that_makes_too_much_is_named_where_it_is_made():
    data = joins(0, "a" * 10_000)
    data["101"] = {"class_type": "StringReplace", "inputs": {"string": ["100", 0], "find": "", "replace": ["100", 0]}}
    data["102"] = {"class_type": "StringLength", "inputs": {"string": ["101", 0]}}
    data["7"]["inputs"]["seed"] = ["102", 0]
    assert re.match("node 101 .StringReplace.: has 100020000 characters", faults(normalise(data))[0])


@pytest.mark.parametrize("slot", [1, -1])
def test_an_output_that_a_constant_does_not_have_is_named(slot):
    data = joins(0, "a")
    data["4"]["inputs"]["text"] = ["100", slot]
    assert f"comes from output {slot} of node 100 (PrimitiveString), which has 1" in faults(normalise(data))[0]


def test_a_text_that_comes_from_a_node_that_is_not_here_is_named():
    data = joins(1, "a")
    data["101"] = {"class_type": "WildcardThing", "inputs": {}}
    found = faults(normalise(data))
    assert any("node 101 (WildcardThing): no such node here" in fault for fault in found)
    assert any(fault.startswith("node 100 (StringConcatenate): string_a =") for fault in found)


# Broadcasts


def unlinked(*kinds: str) -> tuple[dict, dict]:
    """A workflow without its links of these types; node and slot that they came from, by type in their order."""
    data, sources = plain(), {}
    for link in [link for link in data["links"] if link[5] in kinds]:
        data["links"].remove(link)
        slot = next(each for each in data["nodes"] if each["id"] == link[3])["inputs"][link[4]]
        slot["link"] = None
        sources.setdefault(link[5], []).append(link[1:3])
    return data, sources


def send(data: dict, number: int, kind: str, *given: tuple, **more) -> dict:
    """Put in a node that broadcasts; each of `given` is name, type, and what it comes from."""
    links = [[number * 10 + n, *source, number, n, of] for n, (_name, of, source) in enumerate(given)]
    slots = tuple((name, of, link[0]) for (name, of, _source), link in zip(given, links, strict=True))
    data["nodes"].append(node(number, kind, [], slots, **more))
    data["links"] += links
    return data


@pytest.mark.parametrize("kind", ["Anything Everywhere", "Anything Everywhere3", "Anything Everywhere?"])
def test_what_is_broadcast_reaches_every_open_input_of_its_type(kind):
    data, sources = unlinked("MODEL", "VAE", "CHATGLM3MODEL")
    given = [("anything", of, places[0]) for of, places in sources.items()]
    send(data, 40, kind, *given[:2])
    send(data, 41, kind, *given[2:], widgets_values=[".*", ".*", ".*"] if kind.endswith("?") else [])
    graph = normalise(data)
    assert inputs(graph) == inputs(normalise(plain())) and not graph.notes and not faults(graph)


def test_prompts_and_a_seed_are_broadcast_by_their_inputs_names():
    data, sources = unlinked("CONDITIONING")
    positive, negative = sources["CONDITIONING"]
    send(data, 40, "Prompts Everywhere", ("+ve", "CONDITIONING", positive), ("-ve", "CONDITIONING", negative))
    sampler = of_type(data, "KSampler")
    sampler["inputs"].append({"name": "seed", "type": "INT", "link": None, "widget": {"name": "seed"}})
    data["nodes"].append(node(41, "Seed Everywhere", [77, "fixed"], (), ("INT",)))
    graph = normalise(data)
    wanted = inputs(normalise(plain()))
    key = str(sampler["id"])
    assert graph[key]["inputs"].pop("seed") == 77
    assert graph[key]["inputs"] == {name: value for name, value in wanted[key][1].items() if name != "seed"}
    sampler["inputs"][-1]["localized_name"] = "seed"  # as the editor lists every widget now, made an input or not
    graph = normalise(data)
    assert inputs(graph) == wanted and "node 41 (Seed Everywhere): no input is open" in graph.notes[0]
    sampler["properties"] = {"ue_properties": {"widget_ue_connectable": {"seed": True}}}
    assert normalise(data)[key]["inputs"]["seed"] == 77


def test_the_api_form_has_the_seed_that_was_broadcast():
    data = outward(normalise(plain()))
    data["40"] = {"class_type": "Seed Everywhere", "inputs": {"seed": 77}}
    data["7"]["inputs"]["seed"] = ["40", 0]
    graph = normalise(data)
    assert not faults(graph) and settings_of(graph)["seed"] == 77


@pytest.mark.parametrize("rule", [{"prompt_regex": "model"}, {"negative_regex": "pos"}, {"priority": 1}])
def test_prompts_that_are_broadcast_by_a_rule_of_their_own_are_refused(rule):
    data, sources = unlinked("CONDITIONING")
    given = [(name, "CONDITIONING", source) for name, source in zip("+-", sources["CONDITIONING"], strict=True)]
    send(data, 40, "Prompts Everywhere", *given, properties={"ue_properties": rule})
    with pytest.raises(DataError, match=r"which broadcast its input positive gets cannot be told: node 40 [^,]*;"):
        normalise(data)


@pytest.mark.parametrize("rule", ["second", "pattern", "colour"])
def test_a_broadcast_that_cannot_be_told_is_refused_with_its_node(rule):
    data, sources = unlinked("VAE")
    data["nodes"].append(node(50, "VAELoader", ["other"], (), ("VAE",)))
    send(data, 40, "Anything Everywhere", ("VAE", "VAE", sources["VAE"][0]))
    if rule == "second":
        send(data, 41, "Anything Everywhere", ("VAE", "VAE", [50, 0]))
    elif rule == "pattern":
        send(data, 41, "Anything Everywhere?", ("VAE", "VAE", [50, 0]), widgets_values=["Decode", ".*"])
    else:
        send(data, 41, "Anything Everywhere", ("VAE", "VAE", [50, 0]), properties={"color_restricted": 1})
    with pytest.raises(DataError, match=r"VAEDecode\): .* vae .* node 40 .*, node 41 .*Convert to real links"):
        normalise(data)
    decoder = of_type(data, "VAEDecode")  # the extension itself has noted which
    note = {"downstream": decoder["id"], "downstream_slot": 1, "upstream": "50", "upstream_slot": 0, "controller": 41}
    data["extra"] = {"ue_links": [note], "links_added_by_ue": [99]}
    decoder["inputs"][1]["link"] = 99  # which it takes out of the list before it is saved
    graph = normalise(data)
    assert graph[str(decoder["id"])]["inputs"]["vae"] == ["50", 0] and not faults(graph)


def test_a_node_that_is_not_known_may_be_unsure_of_a_broadcast():
    data, sources = unlinked("VAE")
    data["nodes"].append(node(50, "Anything", [], (("model", "MODEL", None),)))
    data["nodes"].append(node(51, "UNETLoader", ["other"], (), ("MODEL",)))
    send(data, 40, "Anything Everywhere", ("MODEL", "MODEL", [51, 0]), ("VAE", "VAE", sources["VAE"][0]))
    loader = of_type(data, "MZ_KolorsUNETLoaderV2")["id"]
    send(data, 41, "Anything Everywhere", ("MODEL", "MODEL", [loader, 0]))
    graph = normalise(data)
    assert "node 50 (Anything): which broadcast its input model gets cannot be told" in graph.notes[0]
    assert not faults(graph)


def test_a_bypassed_node_broadcasts_nothing_and_some_nodes_refuse_it():
    data, sources = unlinked("MODEL")
    send(data, 40, "Anything Everywhere", ("MODEL", "MODEL", sources["MODEL"][0]), mode=4)
    assert "model is not linked" in faults(normalise(data))[0]
    for each in data["nodes"]:
        each["properties"] = {"rejects_ue_links": each["type"] == "KSampler"}
    data["nodes"][-1]["mode"] = 0
    assert "model is not linked" in faults(normalise(data))[0]


def test_too_many_broadcasts_are_refused():
    data, sources = unlinked("VAE")
    for number in range(100, 201):
        send(data, number, "Anything Everywhere", ("VAE", "VAE", sources["VAE"][0]))
    with pytest.raises(DataError, match="more than 100 broadcasts"):
        normalise(data)


def test_a_broadcast_reaches_a_subgraphs_input_and_not_into_it():
    data = case("subgraph_ui")
    wanted = inputs(normalise(data))
    host = next(each for each in data["nodes"] if each["type"] == data["definitions"]["subgraphs"][0]["id"])
    slot = next(slot for slot in host["inputs"] if slot["link"] is not None and not slot.get("widget"))
    link = next(link for link in data["links"] if link[0] == slot["link"])
    data["links"].remove(link)
    slot["link"] = None
    send(data, 90, "Anything Everywhere", (slot["type"], slot["type"], link[1:3]))
    assert inputs(normalise(data)) == wanted


def test_what_comes_into_a_subgraph_is_broadcast_within():
    data = case("subgraph_ui")
    wanted = inputs(normalise(data))
    (inner,) = data["definitions"]["subgraphs"]
    link, (sampler,) = inner["links"][0], inner["nodes"]
    assert (link["origin_id"], link["type"], sampler["inputs"][0]["name"]) == (-10, "MODEL", "model")
    sampler["inputs"][0]["link"], link["target_id"] = None, 90
    inner["nodes"].append(node(90, "Anything Everywhere", [], (("anything", "*", link["id"]),)))
    assert inputs(normalise(data)) == wanted
    inner["nodes"] += [node(91, "UNETLoader", ["b"], (), ("MODEL",))]
    inner["nodes"] += [node(92, "Anything Everywhere", [], (("anything", "MODEL", 92),))]
    inner["links"].append(link | {"id": 92, "origin_id": 91, "target_id": 92})
    with pytest.raises(DataError, match="cannot be told"):
        normalise(data)
    note = {"downstream": sampler["id"], "downstream_slot": 0, "upstream": -10, "upstream_slot": 0, "controller": 90}
    inner["extra"] = {"ue_links": [note]}
    assert inputs(normalise(data)).items() >= wanted.items()


# Subgraphs


def test_values_that_a_subgraph_promotes_win():
    graph = normalise(case("subgraph_ui"))
    sampler = graph["30:3"]["inputs"]
    assert (sampler["seed"], sampler["steps"], sampler["cfg"]) == (77, 6, 4.0)
    assert graph["8"]["inputs"]["samples"] == ["30:3", 0] and sampler["model"] == ["4", 0] and not faults(graph)


def test_a_value_too_many_of_a_subgraph_is_named():
    data = case("subgraph_ui")
    host = next(each for each in data["nodes"] if each["id"] == 30)
    host |= {"properties": {}, "widgets_values": [77, 6, "x"]}
    (definition,) = data["definitions"]["subgraphs"]
    assert any("node 30 (subgraph): not used" in note for note in normalise(data).notes), definition["inputs"]


def older(*proxies, values=("白马", "模糊")) -> dict:
    """A subgraph that shows two texts of a subgraph within it, as files before the middle of 2026 have it."""
    data = plain()
    texts = [each for each in data["nodes"] if each["type"] == "MZ_ChatGLM3_V2"]
    for number, text in zip((6, 7), texts, strict=True):
        data["nodes"].remove(text)
        for link in data["links"]:
            link[1:3] = [30, number - 6] if link[1] == text["id"] else link[1:3]
            link[3:5] = [30, number - 6] if link[3] == text["id"] else link[3:5]
    names, definitions = [f"{n}0000000-1111-4222-8333-000000000000" for n in (1, 2)], []
    clip, text = ("chatglm3_model", "CHATGLM3MODEL"), ("CONDITIONING",)
    for name in names:
        links = [{"id": n, "origin_id": -10, "origin_slot": n - 1, "target_slot": n - 1} for n in (1, 2)]
        links += [{"id": n, "origin_slot": n - 3, "target_id": -20, "target_slot": n - 3} for n in (3, 4)]
        puts = [{"name": f"{clip[0]} {n}", "type": clip[1], "linkIds": [n]} for n in (1, 2)]
        outs = [{"name": f"text {n}", "type": text[0], "linkIds": [n]} for n in (3, 4)]
        definitions.append({"id": name, "links": links, "inputs": puts, "outputs": outs})
    outer, inner = definitions
    both = [(f"{clip[0]} {n}", clip[1], n) for n in (1, 2)]
    host = node(1, names[1], ["within", "within"], both, text * 2)
    outer["nodes"] = [host | {"properties": {"proxyWidgets": [["6", "text"], ["7", "text"]]}}]
    inner["nodes"] = [node(n, "MZ_ChatGLM3_V2", ["deep"], ((*clip, n - 5),), text) for n in (6, 7)]
    for n, (above, below) in enumerate(zip(outer["links"], inner["links"], strict=True)):
        above["origin_id" if n > 1 else "target_id"], below["origin_id" if n > 1 else "target_id"] = 1, 6 + n % 2
        below |= {"target_slot": 0} if n < 2 else {"origin_slot": 0}
    fed = [link[0] for link in data["links"] if link[3] == 30]
    top = node(
        30, names[0], list(values), tuple((*put[:2], link) for put, link in zip(both, fed, strict=True)), text * 2
    )
    data["nodes"].append(top | {"properties": {"proxyWidgets": list(proxies)}})
    return data | {"definitions": {"subgraphs": definitions}}


def texts_of(graph: dict) -> list[str]:
    return [each["inputs"]["text"] for each in graph.values() if each["class_type"] == "MZ_ChatGLM3_V2"]


@pytest.mark.parametrize(
    ("proxies", "wanted"),
    [
        ([["1", "text", "6"], ["1", "text", "7"]], ["白马", "模糊"]),
        ([["1", "7: text"], ["1", "6: text"]], ["模糊", "白马"]),
        ([["1", "text"]], ["白马", "within"]),
        ([["1", "$$canvas-image-preview"], ["1", "text", "7"]], ["within", "模糊"]),
        ([], ["within", "within"]),
    ],
)
def test_what_an_outer_subgraph_shows_of_an_inner_one_wins(proxies, wanted):
    graph = normalise(older(*proxies))
    assert texts_of(graph) == wanted and not faults(graph)
    assert any("not used, for no such input" in note for note in graph.notes) == (len(proxies) < 2)


def test_a_value_of_a_subgraph_that_stands_for_nothing_is_named():
    for change in (
        {"properties": {"proxyWidgets": [["3", "seed"], ["99", "sharpness"]]}},
        {"properties": {}, "widgets_values": {"sharpness": 6}},
        {"properties": {}, "widgets_values": [], "widgets_values_named": {"sharpness": 6}},
    ):
        data = case("subgraph_ui")
        next(each for each in data["nodes"] if each["id"] == 30).update(change)
        assert "node 30 (subgraph): not used, for no such input: [6]" in normalise(data).notes


def test_a_control_word_among_a_subgraphs_values_takes_no_place():
    data = case("subgraph_ui")
    (definition,) = data["definitions"]["subgraphs"]
    host, sampler = next(each for each in data["nodes"] if each["id"] == 30), definition["nodes"][0]
    for slot, name in enumerate(("seed", "steps"), 4):
        definition["inputs"].append({"name": name, "type": "INT", "linkIds": [50 + slot]})
        ends = {"origin_id": -10, "origin_slot": slot, "target_id": 3, "target_slot": slot}
        definition["links"].append({"id": 50 + slot, "type": "INT"} | ends)
        sampler["inputs"].append({"name": name, "type": "INT", "link": 50 + slot, "widget": {"name": name}})
    for change in (
        {"properties": {}, "widgets_values": [88, "randomize", 9]},
        {"properties": {"proxyWidgets": [["-1", "seed"], ["3", "control_after_generate"], ["-1", "steps"]]},
         "widgets_values": [88, "randomize", 9]},
    ):  # fmt: skip
        graph = normalise((host.update(change), data)[1])
        assert (graph["30:3"]["inputs"]["seed"], graph["30:3"]["inputs"]["steps"]) == (88, 9)
        assert not graph.notes and not unused(graph)


def nested(inner_mode: int = 0, host_mode: int = 0) -> dict:
    """case subgraph, its sampler one storey deeper and, before it, a LoRA that may be bypassed."""
    data = case("subgraph_ui")
    (outer,) = data["definitions"]["subgraphs"]
    inner = deepcopy(outer) | {"id": "00000000-2222-4222-8333-9a0b1c2d3e4f"}
    host = next(each for each in data["nodes"] if each["id"] == 30)
    host |= {"widgets_values": [88], "mode": host_mode, "properties": {}}
    sampler = outer["nodes"][0]
    sampler |= {"id": 5, "type": inner["id"], "widgets_values": [66], "properties": {}}
    for link in outer["links"]:
        link["origin_id"] = 5 if link["origin_id"] == 3 else link["origin_id"]
        link["target_id"] = 5 if link["target_id"] == 3 else link["target_id"]
    for definition, target in ((outer, 5), (inner, 3)):  # the seed goes through both storeys
        definition["inputs"].append({"name": "the seed", "type": "INT", "linkIds": [50]})
        slot = {"id": 50, "origin_id": -10, "origin_slot": 4, "target_id": target, "target_slot": 4, "type": "INT"}
        definition["links"].append(slot)
    inner["nodes"][0]["inputs"].append({"name": "seed", "type": "INT", "link": 50, "widget": {"name": "seed"}})
    sampler["inputs"].append({"name": "the seed", "type": "INT", "link": 50, "widget": {"name": "the seed"}})
    inner["nodes"].append(
        node(4, "LoraLoaderModelOnly", ["a.safetensors", 1.0], (("model", "MODEL", 1),), ("MODEL",), mode=inner_mode)
    )
    inner["links"][0]["target_id"], inner["links"][0]["target_slot"] = 4, 0
    inner["nodes"][0]["inputs"][0]["link"] = 60
    inner["links"].append(
        {"id": 60, "origin_id": 4, "origin_slot": 0, "target_id": 3, "target_slot": 0, "type": "MODEL"}
    )
    data["definitions"]["subgraphs"].append(inner)
    return data


def test_subgraphs_within_subgraphs_the_outermost_value_wins():
    graph = normalise(nested())
    assert graph["30:5:3"]["inputs"]["seed"] == 88 and graph["30:5:3"]["inputs"]["model"] == ["30:5:4", 0]
    assert graph["30:5:4"]["inputs"]["model"] == ["4", 0] and not faults(graph)


def test_what_is_bypassed_inside_or_muted_outside():
    assert normalise(nested(inner_mode=4))["30:5:3"]["inputs"]["model"] == ["4", 0]
    graph = normalise(nested(host_mode=2))
    assert set(graph) == {"4", "5", "6", "7"}
    assert any("node 9 (SaveImage) does not run: it needs node 30" in note for note in graph.notes)


def test_one_input_of_a_subgraph_feeds_two_nodes():
    data = case("subgraph_ui")
    (definition,) = data["definitions"]["subgraphs"]
    more = deepcopy(definition["nodes"][0]) | {"id": 13}
    more["inputs"] = [{**put, "link": put["link"] + 100} for put in more["inputs"]]
    definition["nodes"].append(more)
    for number, put in enumerate(definition["inputs"]):
        put["linkIds"].append(101 + number)
        definition["links"].append(
            {"id": 101 + number, "origin_id": -10, "origin_slot": number, "target_id": 13, "target_slot": number,
             "type": put["type"]}
        )  # fmt: skip
    graph = normalise(data)
    assert graph["30:13"]["inputs"]["positive"] == graph["30:3"]["inputs"]["positive"] == ["6", 0]


def test_a_subgraph_that_is_not_in_the_file_is_said_to_be_one():
    data = case("subgraph_ui") | {"definitions": {}}
    assert "subgraph that the file does not describe" in faults(normalise(data))[0]


def grouped() -> dict:
    """kijai's workflow with text and sampler in a group node: inputs, outputs and values of both on the one node."""
    data = kijai((1024, 1024, 1, "fixed", 25, 5, "EulerDiscreteScheduler"))
    text, sampler = data["nodes"][2:4]
    inner = [{**text, "index": 0}, {**sampler, "index": 1}]
    group = {"nodes": inner, "links": [[0, 0, 1, 1, 3, "KOLORS_EMBEDS"]], "external": []}
    slots = (("chatglm3_model", "CHATGLM3MODEL", 1), ("kolors_model", "KOLORSMODEL", 2))
    values = ["白马", "模糊", 1, 512, 768, 9, "randomize", 20, 4.5, "DEISMultistepScheduler"]
    data["nodes"][2:4] = [node(30, "workflow>both", values, slots, ("LATENT",))]
    data["links"] = [link for link in data["links"] if link[0] != 3]
    for link in data["links"]:
        link[1:4] = [30 if link[1] == 4 else link[1], link[2], 30 if link[3] in (3, 4) else link[3]]
    return data | {"extra": {"groupNodes": {"both": group}}}


def test_a_group_node_is_the_nodes_in_it():
    graph = normalise(grouped())
    assert graph["30:0"]["inputs"]["prompt"] == "白马" and graph["30:0"]["inputs"]["chatglm3_model"] == ["2", 0]
    wanted = {"width": 512, "height": 768, "seed": 9, "steps": 20, "cfg": 4.5, "scheduler": "DEISMultistepScheduler"}
    assert graph["30:1"]["inputs"].items() >= wanted.items() and graph["30:1"]["inputs"]["kolors_model"] == ["1", 0]
    assert graph["30:1"]["inputs"]["kolors_embeds"] == ["30:0", 0] and graph["6"]["inputs"]["samples"] == ["30:1", 0]
    assert not faults(graph)


def test_a_button_of_a_group_node_takes_no_place_from_the_next_value():
    data = grouped()
    group, host = data["extra"]["groupNodes"]["both"], data["nodes"][2]
    picture = node(9, "LoadImage", ["a.png", "image"], (), ("IMAGE", "MASK"), index=0)
    group["nodes"] = [picture, *({**each, "index": each["index"] + 1} for each in group["nodes"])]
    group["links"] = [[row[0] + 1, row[1], row[2] + 1, *row[3:]] for row in group["links"]]
    host["widgets_values"] = ["b.png", "image", *host["widgets_values"]]
    host["outputs"] = [{"name": kind, "type": kind} for kind in ("IMAGE", "MASK", "LATENT")]
    next(link for link in data["links"] if link[1] == 30)[2] = 2
    graph = normalise(data)
    assert (graph["30:0"]["inputs"]["image"], graph["30:1"]["inputs"]["prompt"]) == ("b.png", "白马")
    assert graph["30:2"]["inputs"]["seed"] == 9 and graph["6"]["inputs"]["samples"] == ["30:2", 0]


def test_a_group_node_that_cannot_be_told_says_the_way_out():
    data = grouped()
    data["nodes"][2]["inputs"].pop()
    with pytest.raises(DataError, match=r"node 30 \(workflow>both\): its inputs .* convert it to nodes"):
        normalise(data)
    assert "group node that the file does not describe" in faults(normalise(grouped() | {"extra": {}}))[0]


def test_values_of_a_group_node_that_are_hidden_are_not_in_its_list():
    data = grouped()
    data["extra"]["groupNodes"]["both"]["config"] = {"0": {"input": {"negative_prompt": {"visible": False}}}}
    data["nodes"][2]["widgets_values"].remove("模糊")
    graph = normalise(data)
    assert graph["30:0"]["inputs"]["prompt"] == "白马" and graph["30:0"]["inputs"]["negative_prompt"] == ""
    assert graph["30:1"]["inputs"]["seed"] == 9 and not faults(graph)


@pytest.mark.parametrize(
    "values", [{"prompt": "白马"}, ["a", "b", 1, 512, 512, 9, 20, 4.5, "DEISMultistepScheduler", 1, 7]]
)
def test_values_of_a_group_node_that_cannot_be_told_apart_are_refused(values):
    data = grouped()
    data["nodes"][2]["widgets_values"] = values
    with pytest.raises(DataError, match=r"node 30 \(workflow>both\): its widgets_values are not those of its group"):
        normalise(data)


# What does not run


def test_a_preview_that_nothing_is_linked_to_is_named_and_stops_nothing():
    data = plain()
    data["nodes"].append(node(40, "PreviewImage", None, (("images", "IMAGE", None),)))
    graph = normalise(data)
    assert unused(graph) == ["node 40 (PreviewImage) does not run: nothing is linked to it"] and not faults(graph)
    graph["40"]["inputs"]["images"] = ["88", 0]
    assert "node 40 (PreviewImage): its input images comes from node 88, which is not" in faults(graph)[0]
    del graph["9"], graph["40"]["inputs"]["images"]
    assert "node 40 (PreviewImage): its input images is not linked" in faults(graph)[0]


def test_true_is_no_number():
    graph = normalise(workflow_api(SETTINGS))
    graph["7"]["inputs"]["steps"] = True
    assert faults(graph) == ["node 7 (KSampler): steps = True: must be a whole number"]


def test_rgthrees_list_of_loras_has_free_places_and_a_button():
    graph = outward(normalise(plain()))
    rows = {"lora_1": {"on": True, "lora": None, "strength": 1}, "lora_2": {"on": True, "lora": "a", "strength": 0.5}}
    buttons = {"PowerLoraLoaderHeaderWidget": {"type": "PowerLoraLoaderHeaderWidget"}, "➕ Add Lora": ""}
    put = {**buttons, **rows, "model": graph["7"]["inputs"]["model"]}
    graph["40"] = {"class_type": "Power Lora Loader (rgthree)", "inputs": put, "_meta": {}}
    graph["7"]["inputs"]["model"] = ["40", 0]
    graph = normalise(graph)
    assert not faults(graph) and not unused(graph) and settings_of(graph)["lora"] == "a"


def test_every_list_of_loras_is_in_the_settings_of_a_picture():
    graph = outward(normalise(plain()))
    off, on = {"switch_3": "Off", "lora_name_3": "c"}, {"switch_1": "On", "lora_name_1": "a", "model_weight_1": 0.5}
    graph["40"] = {"class_type": "CR LoRA Stack", "inputs": on | off, "_meta": {}}
    put = {"model": graph["7"]["inputs"]["model"], "clip": ["2", 0]}
    graph["41"] = {"class_type": "CR Apply LoRA Stack", "inputs": put | {"lora_stack": ["40", 0]}, "_meta": {}}
    names = {"lora_01": "b", "strength_01": 0.7, "model": ["41", 0], "clip": ["41", 1]}
    graph["42"] = {"class_type": "Lora Loader Stack (rgthree)", "inputs": names, "_meta": {}}
    graph["7"]["inputs"]["model"] = ["42", 0]
    assert settings_of(normalise(graph))["loras"] == [("a", 0.5), ("b", 0.7)]


@pytest.mark.parametrize("text", ["girl <lora:ink:0.8>", "(girl:1.2", "{girl}"])
def test_show_says_of_a_prompt_what_would_stop_a_run(text):
    graph = normalise(workflow_api(SETTINGS))
    graph["4"]["inputs"]["text"] = text
    assert "node 4 (MZ_ChatGLM3_V2): prompt, character" in faults(graph)[0]
    kijais = normalise(kijai())
    kijais["3"]["inputs"]["negative_prompt"] = "{bad}"
    assert faults(kijais)[0].startswith("node 3 (KolorsTextEncode): negative_prompt: prompt, character 1")


@pytest.mark.parametrize(
    "extra", [{"version": 0.4}, {"_comment": "mine"}, {"extra": {"ds": {}}}, {"9": {"class_type": "X"}}]
)
def test_an_entry_that_is_no_node_is_named(extra):
    with pytest.raises(DataError, match=f"{next(iter(extra))} is no node: it has no class_type"):
        normalise(workflow_api(SETTINGS) | extra)


def test_every_end_that_does_not_run_is_named_with_what_only_it_needs(tmp_path, capsys):
    lines = unused(normalise(case("other_output_node_api")))
    assert lines == [
        "node 15 (Image Save) does not run: there is no such node here, nor what only it needs: node 12, 13, 14"
    ]
    assert main(["comfy", "show", str(CASES / "other_output_node_api.json")]) == 0
    assert lines[0] in capsys.readouterr().out


def test_what_falls_away_with_a_muted_node_is_named():
    data = kijai()
    data["nodes"][3]["mode"] = 2
    notes = normalise(data).notes
    assert "node 7 (PreviewImage) does not run: it needs node 4 (KolorsSampler), which is muted" in notes


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a, embedding:easynegative", "character 4, embedding:easynegative"),
        ("(embedding:bad-hands-5:1.2)", "character 2"),
        ("a {0.7::red|blue} hat", "character 4, 0.7::"),
        ("{2$$red|blue|green}", "character 1"),
        ("a __color__ hat", "character 3, __color__"),
    ],
)
def test_what_prompts_cannot_do_here_is_refused_with_its_place(text, words):
    graph = normalise(workflow_api(SETTINGS))
    graph["5"]["inputs"]["text"] = text
    assert "node 5 (MZ_ChatGLM3_V2)" in faults(graph)[0] and words in faults(graph)[0]


def test_weights_and_times_are_no_wildcards():
    graph = normalise(workflow_api(SETTINGS | {"prompt": "(白马:1.2), {a|b}, 10:30, snake_case__"}))
    assert not faults(graph)


# Names of files


def test_tokens_in_names_of_files():
    graph = normalise(case("filename_tokens_ui"))
    now = datetime(2026, 3, 4, 5, 6, 7)

    def put(prefix):
        return file_prefix(graph, prefix, (128, 96), 2, now)

    assert put("%date:yyyy-MM-dd%/%KSampler.seed%_girl") == "2026-03-04/5_girl"
    assert put("%date:yy_M_d_hhmmss%") == "26_3_4_050607"
    assert put("%year%-%month%-%day%/%width%x%height%_%batch_num%") == "2026-03-04/128x96_2"
    assert put("%CLIPTextEncode.text%%Nobody.seed%100%") == "二次元，一个紫色短发少女%Nobody.seed%100%"
    assert unknown_tokens(graph, "a%Nobody.seed%") == ["%Nobody.seed%"]
    graph["4"]["inputs"]["ckpt_name"] = "../../up"
    assert put("%CheckpointLoaderSimple.ckpt_name%") == ".._.._up"


# Pictures that carry workflows


def exif_picture(file: Path, tags: dict[int, str]) -> Path:
    image = Image.new("RGB", (8, 8))
    exif = image.getexif()
    for tag, text in tags.items():
        exif[tag] = text
    image.save(file, exif=exif)
    return file


@pytest.mark.parametrize("suffix", ["webp", "jpg"])
def test_webp_and_jpeg_carry_workflows(tmp_path, suffix):
    graph = normalise(kijai())
    tags = {0x0110: f"prompt:{json.dumps(graph)}", 0x010F: f"workflow:{json.dumps(kijai())}"}
    file = exif_picture(tmp_path / f"a.{suffix}", tags)
    assert inputs(read_workflow(file)) == inputs(graph) and set(read_forms(file)) == {"prompt", "workflow"}
    assert inputs(read_workflow(exif_picture(tmp_path / f"b.{suffix}", {0x010F: tags[0x010F]}))) == inputs(graph)


def test_what_a_file_is_goes_by_its_content(tmp_path):
    image = exif_picture(tmp_path / "a.webp", {0x010F: f"workflow:{json.dumps(kijai())}"})
    renamed = image.rename(tmp_path / "b.png")
    assert inputs(read_workflow(renamed)) == inputs(normalise(kijai()))


@pytest.mark.parametrize("prompt", ["{}", "{broken", "[1, 2]", "null"])
def test_a_good_workflow_beside_an_empty_or_broken_prompt_is_read(tmp_path, prompt):
    info = PngInfo()
    info.add_text("prompt", prompt)
    info.add_text("workflow", json.dumps(kijai()))
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=info)
    graph = read_workflow(tmp_path / "a.png")
    assert inputs(graph) == inputs(normalise(kijai())) and "cannot be used" in graph.notes[0]
    command = ["comfy", "export", str(tmp_path / "a.png"), "--out", str(tmp_path / "b.json"), "--format", "api"]
    assert main(command) == 0 and inputs(read_workflow(tmp_path / "b.json")) == inputs(graph)


def test_a_good_workflow_beside_a_prompt_that_cannot_run_is_taken(tmp_path):
    graph = outward(normalise(kijai()))
    graph["4"]["inputs"]["cfg"] = float("nan")
    info = PngInfo()
    info.add_text("prompt", json.dumps(graph))
    info.add_text("workflow", json.dumps(kijai()))
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=info)
    found = read_workflow(tmp_path / "a.png")
    assert inputs(found) == inputs(normalise(kijai())) and "its prompt cannot be used: node 4" in found.notes[0]
    command = ["comfy", "export", str(tmp_path / "a.png"), "--out", str(tmp_path / "b.json"), "--format", "api"]
    assert main(command) == 0 and not faults(read_workflow(tmp_path / "b.json"))


@pytest.mark.parametrize("suffix", ["webp", "jpg"])
@pytest.mark.parametrize("rest", ["NaN", "-Infinity", "null", "", "{broken"])
def test_a_tag_that_holds_no_graph_is_named_beside_a_good_one_and_alone(tmp_path, suffix, rest):
    broken, good = {0x0110: f"prompt:{rest}"}, {0x010F: f"workflow:{json.dumps(kijai())}"}
    graph = read_workflow(exif_picture(tmp_path / f"a.{suffix}", broken | good))
    assert inputs(graph) == inputs(normalise(kijai()))
    assert re.search("a part cannot be used: .*: its prompt (is|holds)", graph.notes[0])
    for tags in (broken, {0x010F: f"workflow:{rest}"}):
        with pytest.raises(DataError, match=r"b.*: its (prompt|workflow) (is|holds)"):
            read_workflow(exif_picture(tmp_path / f"b.{suffix}", tags))


def comment_picture(file: Path, text: str) -> Path:
    image = Image.new("RGB", (8, 8))
    exif = image.getexif()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + text.encode("utf-16-be")
    image.save(file, exif=exif)
    return file


@pytest.mark.parametrize("number", ["NaN", "Infinity"])
def test_a_number_that_is_none_is_named_wherever_a_picture_has_it(tmp_path, capsys, number):
    workflow, graph = json.dumps(kijai()), outward(normalise(kijai()))
    graph["4"]["inputs"]["cfg"] = float(number)
    found = read_workflow(comment_picture(tmp_path / "a.webp", f'{{"prompt": {number}, "workflow": {workflow}}}'))
    assert inputs(found) == inputs(normalise(kijai())) and "its prompt is no workflow" in found.notes[0]
    file = comment_picture(tmp_path / "b.webp", f'{{"prompt": {number}, "workflow": {number}}}')
    with pytest.raises(DataError, match=r"b.webp: its prompt is no workflow"):
        read_workflow(file)
    tags = {0x0110: f"prompt:{json.dumps(graph)}", 0x010F: f"workflow:{workflow}"}
    found = read_workflow(exif_picture(tmp_path / "c.webp", tags))
    assert "its prompt cannot be used: node 4" in found.notes[0] and not faults(found)
    alone = exif_picture(tmp_path / "d.webp", {0x0110: tags[0x0110]})
    assert f"cfg = {float(number)}: must be from 0 to 100" in faults(read_workflow(alone))[0]
    for form in ("api", "ui"):
        assert main(["comfy", "export", str(alone), "--out", str(tmp_path / "o.json"), "--format", form]) == 2
        assert "node 4 (KolorsSampler): cfg" in failure(capsys) and not (tmp_path / "o.json").exists()
    ours = json.dumps(SETTINGS | {"width": float(number), "hires": 1.5, "hires_denoise": 0.5})
    info = PngInfo()
    info.add_text("kolors_lab", ours)
    Image.new("RGB", (8, 8)).save(tmp_path / "e.png", pnginfo=info)
    with pytest.raises(DataError, match="its settings make no workflow"):
        read_workflow(tmp_path / "e.png")


def test_words_behind_prompt_are_no_graph(tmp_path):
    with pytest.raises(DataError, match="carries no workflow"):
        read_workflow(exif_picture(tmp_path / "a.webp", {0x010F: "Prompt: nan is a bread"}))


@pytest.mark.parametrize("prompt", ["{}", "NaN", "[1]", '"girl"'])
def test_parameters_stand_in_for_an_empty_prompt(tmp_path, prompt):
    info = PngInfo()
    info.add_text("prompt", prompt)
    info.add_text("parameters", "girl\nSteps: 20, Sampler: Euler A, CFG scale: 4, Seed: 7, Size: 128x96")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=info)
    graph = read_workflow(tmp_path / "a.png")
    assert settings_of(graph)["sampler_name"] == "euler_ancestral" and "its prompt is" in graph.notes[0]


# Other programs' settings


WEBUI = """girl, <lora:ink:0.8>, (night:1.2)
two lines
Negative prompt: blurry
Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 4.5, Seed: 7, Size: 128x96, Model hash: 1a2b, \
Model: kolors, Clip skip: 2, Lora hashes: "ink: 12, other: 3", Version: v1.10"""
PARAMETERS = {
    "web UI": (WEBUI, {"sampler_name": "dpmpp_2m", "scheduler": "karras", "cfg": 4.5, "seed": 7, "height": 96}),
    "older web UI": (
        "girl\nSteps: 20, Sampler: DPM++ 2M Karras, CFG scale: 4, Seed: 7, Size: 128x96",
        {"sampler_name": "dpmpp_2m", "scheduler": "karras"},
    ),
    "Forge": (
        "girl\nSteps: 20, Sampler: Euler a, Schedule type: SGM Uniform, CFG scale: 1, Seed: 7, Size: 128x96, "
        "Denoising strength: 0.5, Hires upscale: 1.5, Hires steps: 10, Hires upscaler: Latent",
        {"sampler_name": "euler_ancestral", "scheduler": "sgm_uniform", "hires": 1.5, "hires_denoise": 0.5},
    ),
    "SD.Next": (
        "girl\nNegative prompt: blurry\nSteps: 20, Size: 128x96, Sampler: Euler, Seed: 7, CFG scale: 4, App: SD.Next",
        {"sampler_name": "euler", "scheduler": "normal"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("program", PARAMETERS)
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_the_web_uis_parameters_are_settings(tmp_path, program, suffix):
    text, wanted = PARAMETERS[program]
    image, file = Image.new("RGB", (8, 8)), tmp_path / f"a.{suffix}"
    info, exif = PngInfo(), image.getexif()
    info.add_text("parameters", text)
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + text.encode("utf-16-be")
    image.save(file, **({"pnginfo": info} if suffix == "png" else {"exif": exif}))
    graph = read_workflow(file)
    found = settings_of(graph)
    expected = {"steps": 20, "seed": 7, "width": 128, "prompt_syntax": "webui"} | wanted
    assert {name: found[name] for name in expected} == expected and not faults(graph)


FIRST = "girl\nSteps: 20, Sampler: Euler a, CFG scale: 4, Seed: 7, Size: 128x96, "
NAMED = {  # what nothing here does, and the first pass' own
    "web UI": ("Denoising strength: 0.4, Hires upscale: 1.5, ", "Hires steps: 10, Hires upscaler: Latent", 1.5),
    "Forge": (
        "Denoising strength: 0.4, Hires upscale: 1.5, ",
        "Hires Module 1: Use same choices, Hires CFG Scale: 7, Hires upscaler: 4x-UltraSharp, Hires prompt: a, b", 1.5,
    ),
    "a size": ("Denoising strength: 0.4, Hires resize: 192x144, ", "Hires upscaler: Latent", 1.5),
    "one side": ("Denoising strength: 0.4, Hires resize: 192x0, ", "Hires upscaler: Latent", 1.5),
    "SD.Next": (
        "Second pass: True, Hires size: 192x144, Denoising strength: 0.4, ",
        "Hires force: False, Hires steps: 10, Hires upscaler: Latent, Hires scale: 2, Hires sampler: Euler", 1.5,
    ),
    "SD.Next by a factor": (
        "Second pass: True, Hires upscale: 1.5, Denoising strength: 0.4, ", "Hires resize: 0x0, Hires size: 0x0", 1.5,
    ),
    "newer SD.Next": ("Second pass: True, HiRes scale: 1.5, Denoising strength: 0.4, ", "HiRes steps: 10", 1.5),
    "its own denoise": ("Hires scale: 1.5, Hires denoise: 0.4, ", "Denoising strength: 0.8", 1.5),
    "no denoise": ("", "Hires upscale: 2, Hires upscaler: Latent", None),
    "no factor": ("", "Second pass: True, Hires steps: 10, Denoising strength: 0.4", None),
    "another shape": ("", "Hires resize: 192x192, Denoising strength: 0.4", None),
    "drawn over": ("", "Hires scale: 2, Denoising strength: 0.4, Init image size: 64x64", None),
}  # fmt: skip


@pytest.mark.parametrize("program", NAMED)
def test_a_second_pass_is_hires_and_what_else_is_said_of_it_is_named(program):
    taken, left, factor = NAMED[program]
    told = left.replace("a, b", '"a, b"')
    settings, named = parse_infotext(f"{FIRST}{taken}{told}")
    assert ", ".join(named) == left
    assert (settings.get("hires"), settings.get("hires_denoise")) == (factor, factor and 0.4)


@pytest.mark.parametrize("said", ["Hires upscale: 9", "Hires scale: nan", "Hires upscale: Latent"])
def test_a_second_pass_that_cannot_be_is_one_line(tmp_path, capsys, said):
    info = PngInfo()
    info.add_text("parameters", f"{FIRST}Denoising strength: 0.4, {said}")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=info)
    assert main(["comfy", "show", str(tmp_path / "a.png")]) == 2
    assert "parameters" in failure(capsys)


def test_a_second_sampler_at_the_same_size_is_no_hires():
    found = settings_of(normalise(workflow_api(SETTINGS | {"hires": 1.0, "hires_denoise": 0.4})))
    assert "hires" not in found and found["denoise"] == 0.4  # 1 means no second pass to whoever reads it


def test_our_own_parameters_say_the_second_pass_as_the_web_ui_does():
    ours = {"prompt": "girl", "seed": 7, "steps": 20, "cfg": 4.0, "width": 128, "height": 96, "denoise": 1.0}
    ours |= {"hires": 1.5, "hires_denoise": 0.4, "sampler_name": "euler", "scheduler": "normal"}
    assert "Denoising strength: 0.4" in infotext(ours) and "Denoising strength: 1" not in infotext(ours)
    assert parse_infotext(infotext(ours))[0].items() >= ours.items()
    assert parse_infotext(infotext(ours | {"image": "a.png", "denoise": 0.8}))[0]["hires_denoise"] == 0.4


def test_what_of_them_has_no_place_here_is_named_and_loras_are_put_on(tmp_path):
    info = PngInfo()
    info.add_text("parameters", WEBUI)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=info)
    graph = read_workflow(tmp_path / "a.png")
    assert "Clip skip: 2" in graph.notes[0] and "Lora hashes: ink: 12, other: 3" in graph.notes[0]
    found = settings_of(graph)
    assert (found["lora"], found["lora_strength"]) == ("ink.safetensors", 0.8)
    assert found["prompt"].startswith("girl") and "two lines" in found["prompt"] and "lora" not in found["prompt"]
    assert found["negative_prompt"] == "blurry"


def test_invokeais_metadata_is_settings(tmp_path):
    data = {
        "positive_prompt": "girl++", "negative_prompt": "blurry", "seed": 7, "steps": 20, "cfg_scale": 4.5,
        "scheduler": "dpmpp_2m_k", "width": 128, "height": 96, "model": {"name": "kolors"},
        "loras": [{"model": {"name": "ink"}, "weight": 0.8}], "app_version": "5.0",
    }  # fmt: skip
    info = PngInfo()
    info.add_text("invokeai_metadata", json.dumps(data))
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=info)
    graph = read_workflow(tmp_path / "a.png")
    found = settings_of(graph)
    assert (found["sampler_name"], found["scheduler"], found["cfg"]) == ("dpmpp_2m", "karras", 4.5)
    assert (found["prompt"], found["prompt_syntax"], found["lora"]) == ("girl++", "compel", "ink.safetensors")
    assert "app_version" in graph.notes[0]


JSONS = {  # text, and what of it is named as left
    "Fooocus": (
        {"prompt": "girl", "negative_prompt": "blurry", "steps": "20", "guidance_scale": 4.5, "seed": "7",
         "resolution": "(128, 96)", "sampler": "dpmpp_2m_sde_gpu", "scheduler": "karras", "styles": "['Fooocus V2']",
         "loras": [["ink.safetensors", "0.8", "1a2b"]], "metadata_scheme": "fooocus"}, "styles",
    ),
    "SwarmUI": (
        {"sui_image_params": {"prompt": "girl", "negativeprompt": "blurry", "steps": 20, "cfgscale": 4.5, "seed": 7,
         "width": 128, "height": 96, "sampler": "dpmpp_2m_sde", "scheduler": "karras", "swarm_version": "0.9"}},
        "swarm_version",
    ),
    "NovelAI": (
        {"prompt": "girl, {{night}}, [day], 1.2::sea::, a (b)", "uc": "blurry", "steps": 20, "scale": 4.5, "seed": 7,
         "width": 128, "height": 96, "sampler": "k_dpmpp_2m_sde", "noise_schedule": "karras", "cfg_rescale": 0.1},
        "cfg_rescale",
    ),
}  # fmt: skip


@pytest.mark.parametrize("program", JSONS)
def test_settings_in_json_are_read(tmp_path, program):
    data, left = JSONS[program]
    info = PngInfo()
    info.add_text("Comment" if program == "NovelAI" else "parameters", json.dumps(data))
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=info)
    graph = read_workflow(tmp_path / "a.png")
    found = settings_of(graph)
    wanted = {"negative_prompt": "blurry", "steps": 20, "cfg": 4.5, "seed": 7, "width": 128, "height": 96}
    assert found.items() >= (wanted | {"sampler_name": "dpmpp_2m_sde", "scheduler": "karras"}).items()
    assert left in graph.notes[0] and not faults(graph)
    assert found.get("lora") == ("ink.safetensors" if program == "Fooocus" else None)
    if program == "NovelAI":
        assert found["prompt"] == r"girl, ((night:1.05):1.05), (day:0.952), (sea:1.2), a \(b\)"


def test_settings_in_a_jpegs_comment_are_no_graph(tmp_path):
    """Fooocus' JSON has a `prompt`, too, which is a text."""
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", comment=json.dumps(JSONS["Fooocus"][0]).encode())
    found = settings_of(read_workflow(tmp_path / "a.jpg"))
    assert (found["prompt"], found["steps"], found["width"]) == ("girl", 20, 128)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"steps": float("inf")}, "cannot be read"),
        ({"prompt": ["girl"]}, "a prompt that is no text"),
        ({"sampler": None}, "Sampler None"),
        ({"seed": "many"}, "cannot be read"),
        ({"loras": [3]}, "cannot be read"),
        ({"resolution": "(9, 9)"}, "width = 9"),
    ],
)
def test_json_that_cannot_be_meant_is_one_line(tmp_path, capsys, change, words):
    info = PngInfo()
    info.add_text("parameters", json.dumps(JSONS["Fooocus"][0] | change))
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=info)
    assert main(["comfy", "show", str(tmp_path / "a.png")]) == 2
    assert words in failure(capsys)


def test_a_comment_that_is_no_novelais_says_nothing_of_a_workflow(tmp_path):
    info = PngInfo()
    info.add_text("Comment", "Created with GIMP")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=info)
    with pytest.raises(DataError, match="carries no workflow"):
        read_workflow(tmp_path / "a.png")


def test_what_brackets_hold_in_parameters_is_one_value():
    civitai = '[{"type":"lora","weight":0.5},{"note":"Seed: 9, Size: 8x8"}]'
    text = (
        f"girl, Negative prompt: no\nNegative prompt: blurry\nSteps: 20, Sampler: Euler, Seed: 7, Size: 128x96, "
        f"ADM Guidance: (1.5, 0.8, 0.3), Civitai resources: {civitai}, Civitai metadata: {{}}, Styles: ['a', 'b']"
    )
    settings, left = parse_infotext(text)
    assert (settings["prompt"], settings["negative_prompt"]) == ("girl, Negative prompt: no", "blurry")
    assert (settings["seed"], settings["width"]) == (7, 128)
    assert left == [
        "ADM Guidance: (1.5, 0.8, 0.3)", f"Civitai resources: {civitai}", "Civitai metadata: {}", "Styles: ['a', 'b']",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text", ["A b-" * 24_000, "A:[," * 24_000, f"{' ' * 99_000}x"], ids=["name", "bracket", "space"]
)
def test_parameters_are_read_in_bounded_time(text):
    start = time.monotonic()
    with pytest.raises(KeyError, match="Size"):
        parse_infotext(f"girl\nSteps: 20, {text}")
    assert time.monotonic() - start < 10


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("DPM++ 2M", "Restart"), "Sampler Restart"),
        (("Karras", "Polyexponential"), "Schedule type Polyexponential"),
        (("Size: 128x96", "Size: 128"), "cannot be read"),
        (("Size: 128x96", "Size: 99999x96"), "width = 99999"),
        (("Seed: 7, ", ""), "cannot be read (it does not say Seed)"),
    ],
)
def test_settings_that_ask_for_what_is_not_here_are_one_line(tmp_path, capsys, change, words):
    info = PngInfo()
    info.add_text("parameters", WEBUI.replace(*change))
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=info)
    assert main(["comfy", "show", str(tmp_path / "a.png")]) == 2
    line = failure(capsys)
    assert words in line and str(tmp_path / "a.png") in line


# Export


def unknown_node(data: dict, named: bool) -> dict:
    slots = (("a", "INT", None, "a"), ("b", "INT", None, "b")) if named else ()
    data["nodes"].append(node(20, "SomethingElse", [1, "fixed", 2], (("image", "IMAGE", 20), *slots)))
    data["links"].append([20, 6, 0, 20, 0, "IMAGE"])
    return data


def test_export_gives_what_runs_in_comfyui_or_names_the_node(tmp_path, capsys):
    def export(data, form):
        (tmp_path / "a.json").write_text(json.dumps(data), encoding="utf-8")
        return main(["comfy", "export", str(tmp_path / "a.json"), "--out", str(tmp_path / "b.json"), "--format", form])

    assert export(unknown_node(kijai(), named=True), "api") == 0
    assert read_workflow(tmp_path / "b.json")["20"]["inputs"] == {"a": 1, "b": 2, "image": ["6", 0]}
    (tmp_path / "b.json").unlink()
    assert export(unknown_node(kijai(), named=False), "api") == 2
    assert "node 20 (SomethingElse)" in failure(capsys)
    assert export(outward(normalise(unknown_node(kijai(), named=True))), "ui") == 2
    assert "node 20 (SomethingElse): its slots are not known here" in failure(capsys)
    broken = normalise(kijai())
    del broken["6"]["inputs"]["vae"]
    assert export(broken, "ui") == 2
    assert "node 6 (VAEDecode): its input vae is not linked" in failure(capsys)
    assert not (tmp_path / "b.json").exists()


def test_a_widget_that_is_linked_stays_linked_in_the_editors_form():
    graph = normalise(kijai())
    graph["20"] = {"class_type": "PrimitiveInt", "inputs": {"value": 77}, "_meta": {"title": "seed"}}
    graph["4"]["inputs"]["seed"] = ["20", 0]
    assert inputs(normalise(to_ui(graph))) == inputs(graph)


# Limits


def chain(count: int, kind: str, **more) -> dict:
    """An empty latent, so many nodes behind it, and a picture."""
    nodes = [node(0, "EmptyLatentImage", [64, 64, 1], (), ("LATENT",), **more)]
    nodes += [
        node(n, kind, [1], (("samples", "LATENT", n),), ("LATENT",), **more) for n in range(1, count)
    ]  # fmt: skip
    nodes.append(node(count, "PreviewImage", None, (("images", "IMAGE", count),)))
    return {"nodes": nodes, "links": [[n, n - 1, 0, n, 0, "LATENT"] for n in range(1, count + 1)]}


@pytest.mark.parametrize(
    "data", [chain(40_000, "Reroute"), chain(20_000, "RepeatLatentBatch", mode=2), chain(5_000, "RepeatLatentBatch")]
)
def test_long_chains_are_read(data):
    graph = normalise(data)
    assert len(describe(graph)) == len(graph) and faults(graph) and len(unused(graph)) < 30


def doubling(storeys: int) -> dict:
    """Subgraphs each of which holds the next one ten times."""
    names = [f"{n:08x}-0000-4000-8000-000000000000" for n in range(storeys + 1)]
    inner = [[node(k, names[n + 1]) for k in range(10)] for n in range(storeys)] + [[node(1, "VAELoader", ["a"])]]
    definitions = [{"id": name, "nodes": nodes, "links": []} for name, nodes in zip(names, inner, strict=True)]
    return {"nodes": [node(1, names[0])], "links": [], "definitions": {"subgraphs": definitions}}


def endless() -> dict:
    """A subgraph that holds itself."""
    data = doubling(0)
    data["definitions"]["subgraphs"][0]["nodes"] = [node(1, data["nodes"][0]["type"])]
    return data


@pytest.mark.parametrize(
    "data",
    [{str(n): {"class_type": "VAELoader", "inputs": {}} for n in range(100_000)}, doubling(20), endless()],
    ids=["nodes", "subgraphs", "endless"],
)
def test_what_is_too_much_is_refused(data):
    with pytest.raises(DataError, match="no workflow that can run"):
        normalise(data)


def test_json_nested_without_end_is_one_line(tmp_path, capsys):
    for depth in (500, 100_000):
        (tmp_path / "a.json").write_text(
            '{"1": {"class_type": "X", "inputs": {"a": ' + "[" * depth + "]" * depth + "}}}"
        )
        assert main(["comfy", "show", str(tmp_path / "a.json")]) == 2
        assert str(tmp_path / "a.json") in failure(capsys)


def test_a_prompt_without_end_is_refused():
    graph = normalise(workflow_api(SETTINGS))
    graph["5"]["inputs"]["text"] = "(" * 300_000
    assert "has 300000 characters" in faults(graph)[0]


# Whatever is damaged

ODD = (
    None,
    True,
    -1,
    10**40,
    1.5,
    float("nan"),
    "",
    "x\x1b[31m",
    "9" * 300,
    [],
    ["4", 0],
    [1, 2, 3],
    {},
    {"a": {}},
    "\ud800",
)


def damaged(data: dict, chosen: random.Random) -> dict:
    """The data with one to three of its values, at any depth, something else."""
    for _ in range(chosen.randint(1, 3)):
        places = [(data, key) for key in data]
        for holder, key in places:
            inner = holder[key]
            keys = inner if isinstance(inner, dict) else range(len(inner)) if isinstance(inner, list) else ()
            places += [(inner, each) for each in keys]
        holder, key = chosen.choice(places)
        holder[key] = deepcopy(chosen.choice(ODD))
    return data


def switched() -> dict:
    """A workflow whose model goes through a context and a switch."""
    data = through("Context (rgthree)", (("base_ctx", "X", 91), ("model", "MODEL", 90)), ("X", "MODEL"), 1)
    data["nodes"].append(node(41, "Context Switch (rgthree)", None, (("ctx_01", "X", None),), ("X",)))
    data["links"].append([91, 41, 0, 40, 0, "X"])
    return data


@pytest.mark.parametrize("source", ["subgraph_ui", "set_get_ui", "other_output_node_api", "group", "older", "switched"])
def test_damage_anywhere_is_one_line_at_most(source):
    made = {"group": grouped, "older": lambda: older(["1", "text", "6"], ["1", "7: text"]), "switched": switched}
    whole = made[source]() if source in made else case(source)
    for seed in range(200):
        data = damaged(deepcopy(whole), random.Random(seed))
        try:
            graph = normalise(data)
            said = [*graph.notes, *describe(graph), *faults(graph), *unused(graph)]
            settings_of(graph)
            check_whole(graph)
            to_ui(outward(graph))
        except DataError as error:
            said = [str(error)]
        assert all("\n" not in line and "\x1b" not in line and len(line) < 2000 for line in said)
