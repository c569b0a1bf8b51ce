"""Every reader of files from elsewhere, given whatever hypothesis thinks of: it returns, or says in one line why not.

`make fuzz` does it for ten minutes, at random; here it is a few examples of each, the same in every run.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import random
import string
import warnings
import zipfile
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from kolors_lab.challenge.check import missing
from kolors_lab.comfy.graph import describe, faults, unused
from kolors_lab.comfy.reader import normalise, read_workflow
from kolors_lab.comfy.writer import check_whole, outward, to_ui
from kolors_lab.comic.script import read_script, write_script
from kolors_lab.core.errors import KolorsLabError
from kolors_lab.dataset.folder import check_examples, read_examples, read_sources
from kolors_lab.lora.reading import read_lora
from kolors_lab.lora.writing import write_lora
from kolors_lab.prompts.syntax import SYNTAXES, choose, extract_loras, parse
from kolors_lab.sampling.metadata import read_settings

CASES = Path(__file__).parent / "cases"
EXAMPLES = int(os.environ.get("FUZZ", "40"))
LONGEST = 2000  # characters of a line that says what is wrong
fuzz = settings(
    max_examples=EXAMPLES,
    derandomize="FUZZ" not in os.environ,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
slow = settings(fuzz, max_examples=max(EXAMPLES // 4, 10))
pytestmark = pytest.mark.filterwarnings("ignore")


def tried(read: Any, *args: Any) -> Any:
    """What a reader gives; None where it says, in one line of its own, why not."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return read(*args)
    except KolorsLabError as error:
        line = str(error)
        assert line and "\n" not in line and "\x1b" not in line and len(line) < LONGEST
        return None


def mixed(*parts: str, most: int = 12) -> st.SearchStrategy[str]:
    """Texts of these parts and of any others, in any order."""
    other = st.text(st.characters(codec="utf-8") | st.sampled_from("\x1b\0\u2028\ufeff"), max_size=6)
    return st.lists(st.sampled_from(parts) | other, max_size=most).map("".join)


ODD = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=8), st.just([]), st.just({}),
    st.just("长" * 3000), st.just([["9", 0]]), st.just(["9", 0]), st.just({"a": [{"b": []}]}),
)  # fmt: skip


def json_of(*keys: str) -> st.SearchStrategy[Any]:
    names = st.sampled_from(keys) | st.text(max_size=4)
    return st.recursive(
        ODD | st.sampled_from(keys),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=6),
        max_leaves=20,
    )


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every place in a JSON value, as what holds it and its key."""
    found, waiting = [], [value]
    while waiting:
        holder = waiting.pop()
        inner = holder.items() if isinstance(holder, dict) else enumerate(holder) if isinstance(holder, list) else ()
        for key, item in list(inner):
            found.append((holder, key))
            waiting.append(item)
    return found


# Prompts -------------------------------------------------------------------------------------------------------------

PROMPT = mixed(
    "(", ")", "[", "]", "{", "}", "|", ":1.3", "：１．３", "++", "--", "\\", "少女", "girl ", "，", "<lora:", ">",
    "a:0.5", "__", "$$", "::", "BREAK", "AND", ".and(", "（", "）", "｛", "embedding:x",
)  # fmt: skip


@fuzz
@given(PROMPT, st.integers(0, 2**64 - 1))
def test_prompts(text, seed):
    settled = tried(choose, text, seed)
    assert settled is None or (len(settled) <= len(text) and choose(text, seed) == settled)
    tried(extract_loras, text)
    for syntax in SYNTAXES:
        for written in (text, settled):
            spans = tried(parse, written, syntax) if written is not None else None
            assert sum(len(span.text) for span in spans or ()) <= len(text)
            assert all(-10 <= span.weight <= 10 for span in spans or ())


# Stories -------------------------------------------------------------------------------------------------------------

STORY = mixed(
    "1. ", "2. ", "第1格", "场景2：", "### ", "**", "提示词：", "负面提示词", "Prompt: ", "种子：5", "\n", "\n\n",
    "|", "|---|", ",", "scene,prompt,seed", "{衣服}", "衣服：红", "- ", "```json\n", "[{",
    '{"scene": "a", "prompt": "b"}', "}]", '"prompt"', ":", "<think>", "</think>", "上课",
    "少女，白马", "=", "\t", "(1.2)", most=30,
)  # fmt: skip
RECORDS = json_of("scene", "prompt", "提示词", "negative_prompt", "seed", "scenes", "prompts", "title", "{衣服}")


@fuzz
@given(STORY)
def test_stories(tmp_path_factory, text):
    if script := tried(read_script, f"{text}\n"):
        scenes = tried(script.filled) or ()
        assert len(script.scenes) <= 1000 and sum(len(scene.prompt) for scene in scenes) < 10 * (len(text) + 10) ** 2
        file = write_script(script, tmp_path_factory.getbasetemp() / "again.csv")
        tried(read_script, file)


@fuzz
@given(RECORDS)
def test_stories_of_json(value):
    tried(read_script, json.dumps(value, ensure_ascii=False) + "\n")
    if isinstance(value, list) and value:
        tried(read_script, value)


# LoRAs ---------------------------------------------------------------------------------------------------------------

LAYER = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
NAME = st.tuples(
    st.sampled_from(["", "unet.", "transformer.", "base_model.model.", "lora_unet_", "lycoris_", "lora_te_", "x."]),
    st.sampled_from([LAYER, LAYER.replace(".", "_"), "blocks.7.attn1.to_q", "conv_in", "mid_block.resnets.0.conv1"]),
    st.sampled_from([
        ".lora_A.weight", ".lora_B.weight", ".lora_down.weight", ".lora_up.weight", ".alpha", ".dora_scale",
        ".lora_mid", ".hada_w1_a", ".hada_w1_b", ".hada_w2_a", ".hada_w2_b", ".lokr_w1", ".lokr_w2", ".lokr_w2_a",
        ".lokr_w2_b", ".diff",
    ]),
).map("".join)  # fmt: skip
SHAPE = st.lists(st.sampled_from([0, 1, 2, 4, 16, 3]), max_size=4).map(tuple)
KIND = st.sampled_from(["float32", "float16", "bfloat16", "int64", "bool", "float8_e4m3fn"])
HEADER = st.dictionaries(
    st.sampled_from(["lora_adapter_metadata", "ss_network_alpha", "alpha", "rank", "settings", "trigger_word"]),
    json_of("unet.lora_alpha", "unet.r", "unet.alpha_pattern", "unet.rank_pattern").map(json.dumps)
    | st.text(max_size=9),
    max_size=3,
)


@slow
@given(st.dictionaries(NAME, st.tuples(SHAPE, KIND, st.floats(width=16)), max_size=6), HEADER, st.none() | st.floats())
def test_loras(tmp_path_factory, tensors, header, alpha):
    import torch
    from safetensors.torch import save_file

    file = tmp_path_factory.getbasetemp() / "fuzz.safetensors"
    made = {name: torch.full(shape, value).to(getattr(torch, kind)) for name, (shape, kind, value) in tensors.items()}
    save_file(made, file, header)
    if lora := tried(read_lora, file, alpha):
        size = sum(layer.down.numel() + layer.up.numel() for layer in lora.layers.values())
        assert size < 10**6 and all(layer.alpha is not None for layer in lora.layers.values())
        assert tried(write_lora, lora, file.with_name("again.safetensors")) is not None


@slow
@given(
    st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 255)), max_size=20), st.integers(0, 2**20), st.booleans()
)
def test_pickles(tmp_path_factory, changes, cut, whole):
    import torch

    file = tmp_path_factory.getbasetemp() / "fuzz.ckpt"
    torch.save({f"{LAYER}.lora_A.weight": torch.ones(2, 4), f"{LAYER}.lora_B.weight": torch.ones(4, 2)}, file)
    content = bytearray(file.read_bytes())
    for place, byte in changes:
        content[place % len(content)] = byte
    file.write_bytes(content if whole else content[: cut % len(content)])
    tried(read_lora, file)


# Workflows and pictures ----------------------------------------------------------------------------------------------

WORKFLOWS = {file.stem: json.loads(file.read_text("utf-8-sig")) for file in sorted((CASES / "comfy").glob("*.json"))}


def seen(graph: Any) -> None:
    """All that is told of a graph, and what is made of it."""
    for tell in (describe, faults, unused):
        lines = tried(tell, graph)
        assert lines is None or sum(map(len, lines)) < 200_000
    tried(exported, graph)


def exported(graph: Any) -> dict:
    check_whole(graph)
    return to_ui(outward(graph))


@fuzz
@given(st.sampled_from(sorted(WORKFLOWS)), st.integers(0, 2**32), st.lists(ODD, min_size=1, max_size=4))
def test_workflows(name, seed, odd):
    data, chosen = deepcopy(WORKFLOWS[name]), random.Random(seed)
    for value in odd:
        holder, key = chosen.choice(places(data))
        holder[key] = deepcopy(value)  # one that holds itself is no JSON
    if (graph := tried(normalise, data)) is not None:
        seen(graph)


@fuzz
@given(
    json_of(
        "nodes", "links", "id", "type", "inputs", "class_type", "KSampler", "widgets_values", "definitions", "extra"
    )
)
def test_workflows_of_any_json(tmp_path_factory, value):
    file = tmp_path_factory.getbasetemp() / "fuzz.json"
    file.write_text(json.dumps(value), encoding="utf-8")
    if (graph := tried(read_workflow, file)) is not None:
        seen(graph)


TEXT = mixed(
    "Steps: 20, ", "Sampler: Euler a, ", "CFG scale: 7, ", "Seed: 1, ", "Size: 64x64", "\n", "Negative prompt: ",
    "少女", '"a, b"', "{", "}", '{"prompt": "a", "seed": 1}', "<lora:x:1>", "Model: x", ": ", ",",
)  # fmt: skip
KEYS = st.sampled_from(
    ["prompt", "workflow", "parameters", "kolors_lab", "invokeai_metadata", "sd-metadata", "Comment"]
)
CHUNK = TEXT | json_of("prompt", "seed", "steps", "cfg", "width", "height", "nodes", "image", "loras").map(json.dumps)


@fuzz
@given(st.dictionaries(KEYS, CHUNK))
def test_texts_in_pictures(tmp_path_factory, chunks):
    info = PngInfo()
    for key, text in chunks.items():
        info.add_itxt(key, text.replace("\0", ""))
    file = tmp_path_factory.getbasetemp() / "fuzz.png"
    Image.new("L", (8, 8)).save(file, pnginfo=info)
    tried(read_settings, file)
    if (graph := tried(read_workflow, file)) is not None:
        seen(graph)


# Sets ----------------------------------------------------------------------------------------------------------------

FILE = st.sampled_from([
    "1.png", "1.txt", "2.PNG", "2.caption", "10_toy/3.png", "10_toy/3.txt", "0_x/4.png", "2024_y/4.txt", "train/5.jpg",
    "._1.png", "train/metadata.csv", "metadata.jsonl", "prompt.json", "a/b/6.webp", "a/b/6.txt", "__MACOSX/1.png",
    "../7.png", "readme.txt",
])  # fmt: skip
LINE = json_of("image", "text", "file_name", "source", "target", "prompt", "repeats", "1.png").map(json.dumps)
CELLS = st.lists(
    st.sampled_from(["file_name", "text", "repeats", "1.png", "5", "..", "/etc/passwd"]) | st.text(max_size=5)
)
TABLE = st.lists(CELLS, max_size=4)


def table_of(rows: list[list[str]]) -> str:
    stream = io.StringIO()
    with contextlib.suppress(csv.Error):
        csv.writer(stream).writerows(rows)
    return "file_name,text\n" + stream.getvalue()


BYTES = st.one_of(
    st.lists(LINE, max_size=4).map("\n".join).map(lambda text: text.encode()),
    TABLE.map(table_of).map(lambda text: text.encode("utf-8", "replace")),
    st.sampled_from(["二次元，少女", "girl \\(x\\)"]).flatmap(
        lambda text: st.sampled_from(["utf-8", "gbk", "utf-16", "utf-8-sig"]).map(text.encode)
    ),
    st.binary(max_size=40),
    st.just((CASES / "sets" / "avif_jfif_heic" / "a.png").read_bytes()),
)
FILES = st.dictionaries(FILE, BYTES, max_size=5)


@fuzz
@given(FILES, st.sampled_from([None, "gbk", "utf-16"]))
def test_sets(tmp_path_factory, files, encoding):
    folder = tmp_path_factory.mktemp("set") / "set"
    folder.mkdir()
    for name, content in files.items():
        with contextlib.suppress(FileExistsError):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    examples = tried(read_examples, folder, encoding)
    assert all(example.image.resolve().is_relative_to(folder.resolve()) for example in examples or ())
    tried(check_examples, examples or [])
    tried(read_sources, folder)


@fuzz
@given(FILES, st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 255)), max_size=6))
def test_sets_in_a_zip(tmp_path_factory, files, changes):
    folder = tmp_path_factory.mktemp("zip")
    with zipfile.ZipFile(folder / "set.zip", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    content = bytearray((folder / "set.zip").read_bytes())
    for place, byte in changes:
        content[place % len(content)] = byte
    (folder / "set.zip").write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KOLORS_LAB_CACHE", str(folder / "cache"))
        tried(check_examples, tried(read_examples, folder / "set.zip") or [])
    assert {path.name for path in folder.iterdir()} <= {"set.zip", "cache"}


# Submissions ---------------------------------------------------------------------------------------------------------


@fuzz
@given(json_of("name", "score", "files", "trigger", "mean", "practice", "word", "guessed"), TABLE)
def test_submissions(tmp_path_factory, mark, table):
    folder = tmp_path_factory.mktemp("submission")
    good = {"name": "队-可图Kolors训练-题", "score": {"mean": 6.0, "practice": False}, "files": {}, "trigger": None}
    content = good | mark if isinstance(mark, dict) else mark
    (folder / "submission.json").write_text(json.dumps(content), encoding="utf-8")
    (folder / "prompts.csv").write_text(table_of(table), encoding="utf-8", errors="replace")
    (folder / "images").mkdir()
    for name in string.digits[1:3]:
        Image.new("RGB", (8, 8)).save(folder / "images" / f"{name}.png")
    lines = tried(missing, folder)
    assert lines is None or all("\n" not in line and len(line) < LONGEST for line in lines)
