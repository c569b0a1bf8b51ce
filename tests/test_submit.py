"""The folder to hand in: whole, ours, and honest about what is missing."""

import csv
import errno
import json
import re
import shutil
import zipfile

import pytest
import yaml
from helpers import make_lora, use_stand_ins
from PIL import Image

from kolors_lab.challenge import submission as module
from kolors_lab.challenge.check import CheckConfig, ReproduceConfig, check, missing, reproduce
from kolors_lab.challenge.submission import SubmitConfig, submit
from kolors_lab.cli import main
from kolors_lab.comic.page import make_page
from kolors_lab.comic.panels import tell_story
from kolors_lab.comic.script import StoryScene
from kolors_lab.core.errors import DataError, ModelError, SettingError
from kolors_lab.core.images import open_image
from kolors_lab.lora.layers import Lora
from kolors_lab.lora.reading import open_lora, read_lora
from kolors_lab.lora.writing import write_lora
from kolors_lab.models.presets import get_preset
from kolors_lab.pictures.files import save_picture
from kolors_lab.sampling.metadata import file_mark, read_settings
from kolors_lab.sampling.repair import RepairConfig, repair


def make_run(folder, pipe, count=8):
    """What a baseline leaves behind, without drawing: a LoRA and panels with settings."""
    from kolors_lab.lora.adapter import add_lora, save_lora, unload_lora

    add_lora(pipe.unet, 2, 2.0, ("to_q",), 0)
    save_lora(pipe.unet, folder / "train" / "lora.safetensors", {"trigger_word": "二次元", "settings": '{"steps": 3}'})
    unload_lora(pipe)
    lora = {"lora": file_mark("LoRA", folder / "train" / "lora.safetensors"), "lora_strength": 1.0}
    for n in range(1, count + 1):
        settings = {"prompt": f"二次元，{n}", "negative_prompt": "a|b", "seed": n, "steps": 2, "cfg": 4.0}
        settings |= {"width": 64, "height": 64, "model": "tiny", "scene": f"第{n}格", **lora}
        save_picture(Image.new("RGB", (64, 64), (n * 20, 0, 0)), folder / "lora" / "panels" / f"{n}.png", settings)
    return folder


@pytest.fixture
def run(monkeypatch, pipe_folder, pipe, tmp_path):
    use_stand_ins(monkeypatch, pipe_folder, tmp_path / "stand-ins")
    return make_run(tmp_path / "run", pipe)


def test_what_is_in_the_folder(run):
    submit(SubmitConfig(str(run), team="星光", title="梦"))
    folder = run / "submission"
    names = {f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file()}
    panels = {f"images/{n}.png" for n in range(1, 9)}
    name = "星光-可图Kolors训练-梦"
    loras = {f"{name}.safetensors", f"{name}-comfyui.safetensors"}
    assert names == panels | loras | {"README.md", "prompts.csv", "page.png", "page.html", "submission.json"}
    assert [open_lora(folder / lora)[0] for lora in sorted(loras)] == ["kohya/ComfyUI", "diffusers"]
    with zipfile.ZipFile(run / "submission.zip") as archive:
        assert set(archive.namelist()) == {f"{name}/{inside}" for inside in names}
    with (folder / "prompts.csv").open(encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert [(r["image"], r["prompt"], r["seed"]) for r in rows][7] == ("images/8.png", "二次元，8", "8")
    text = (folder / "README.md").read_text(encoding="utf-8")
    front = yaml.safe_load(text.split("---")[1])
    assert front["trigger_words"] == ["二次元"]
    assert front["base_model"] == ["Kwai-Kolors/Kolors"]
    assert "# 星光-可图Kolors训练-梦" in text
    assert f"`{name}-comfyui.safetensors`" in text and "coherence of the series" in text
    assert "| 3 | ![3](images/3.png) | 二次元，3 | a\\|b | 3 |" in text
    assert "练习分" in text


def test_a_complete_one_lacks_only_the_real_score(run):
    assert len(left := submit(SubmitConfig(str(run), team="星光"))) == 1
    assert "练习分" in left[0]


def test_what_is_missing_is_said(run):
    (run / "lora" / "panels" / "8.png").unlink()
    left = "\n".join(submit(SubmitConfig(str(run))))
    assert "队伍名称" in left
    assert "7 pictures" in left
    folder = run / "submission"
    next(folder.glob("*训练-run.safetensors")).unlink()
    (folder / "page.png").unlink()
    (folder / "images" / "7.png").unlink()
    left = "\n".join(missing(folder))
    assert all(word in left for word in ("LoRA", "page.png", "6 pictures", "other pictures"))
    assert "no submission" in missing(run)[0]


def edit(folder, **changes):
    """Change the figures of a submission's score."""
    mark = json.loads((folder / "submission.json").read_text(encoding="utf-8"))
    mark["score"] |= changes
    (folder / "submission.json").write_text(json.dumps(mark), encoding="utf-8")


@pytest.mark.parametrize(
    ("score", "words"),
    [(6.0, None), (5.9999, "5.9999 is below the gate of 6"), (float("nan"), "nan is below the gate of 6")],
)
def test_the_challenges_own_score_at_the_gate(run, score, words):
    submit(SubmitConfig(str(run), team="星光"))
    edit(run / "submission", mean=score, practice=False)
    left = missing(run / "submission")
    assert (len(left) == 1 and words in left[0]) if words else left == []


def test_faults_in_the_pictures_are_named_in_a_line_each(run):
    submit(SubmitConfig(str(run), team="星光"))
    images = run / "submission" / "images"
    settings = read_settings(images / "1.png")
    (images / "Thumbs.db").write_bytes(b"windows")
    save_picture(Image.new("RGB", (72, 64)), images / "2.png", read_settings(images / "2.png"))
    Image.new("RGB", (64, 64)).save(images / "3.png")
    save_picture(Image.new("RGB", (64, 64)), images / "4.png", settings | {"lora": "lora.safetensors:000000000000"})
    (images / "5.png").write_bytes(b"")
    save_picture(Image.new("RGB", (64, 64)), images / "9.png", settings | {"prompt": "二次元，9"})
    left = missing(run / "submission")
    told = [
        "9 pictures, the page to post holds 8",
        "images/Thumbs.db: no panel",
        "5.png is empty",
        "images/2.png: 72 x 64 px, the others 64 x 64",
        "images/3.png, 5.png: no settings inside",
        "images/4.png: not drawn with the LoRA",
        "not the prompt that made images/4.png, 9.png",
        "it belongs to other pictures",
    ]
    assert len(left) == len(told)
    assert all(words in line for words, line in zip(told, left, strict=True)), left


def test_what_is_not_said_is_taken_from_the_run(run):
    make_page([run / "lora/panels/1.png"], ["一"], run / "lora/page.png", "梦")
    (run / "config.json").write_text('{"team": "星光", "preset": "tiny"}', encoding="utf-8")
    (run / "lora/panels/3.png").unlink()
    submit(SubmitConfig(str(run)))
    assert (run / "submission/星光-可图Kolors训练-梦.safetensors").is_file()
    rows = (run / "submission/README.md").read_text(encoding="utf-8")
    assert "![4](images/4.png) | 二次元，4 |" in rows and "images/3.png" not in rows
    submit(SubmitConfig(str(run), out=str(run / "mine"), title="另一个"))
    assert (run / "mine/星光-可图Kolors训练-另一个.safetensors").is_file()


def test_a_score_below_the_gate_is_said(monkeypatch, pipe_folder, pipe, tmp_path):
    use_stand_ins(monkeypatch, pipe_folder, tmp_path / "stand-ins", level=3.0)
    left = submit(SubmitConfig(str(make_run(tmp_path / "run", pipe)), team="星光"))
    assert any("below the gate of 6" in line for line in left)


def test_again_replaces_ours_but_never_the_users(run):
    config = SubmitConfig(str(run), team="星光")
    submit(config)
    submit(config)
    card = run / "submission" / "README.md"
    card.write_text("my own words", encoding="utf-8")
    with pytest.raises(DataError, match=r"README\.md was changed by hand"):
        submit(config)
    assert card.read_text(encoding="utf-8") == "my own words"
    own = run.parent / "own"
    own.mkdir()
    (own / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match="other files"):
        submit(SubmitConfig(str(run), out=str(own)))
    assert [f.name for f in own.iterdir()] == ["thesis.txt"]


def test_a_full_disk_leaves_nothing_half_written(run, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "_prompts", full)
    with pytest.raises(DataError, match="No space left"):
        submit(SubmitConfig(str(run), team="星光"))
    assert sorted(f.name for f in run.iterdir()) == ["lora", "train"]


def test_a_zip_that_is_not_ours_stays(run):
    with zipfile.ZipFile(run / "submission.zip", "w") as archive:
        archive.writestr("thesis.txt", "")
    content = (run / "submission.zip").read_bytes()
    newer = content.replace(b"PK\x01\x02\x14\x03\x14", b"PK\x01\x02\x14\x03\x40")  # of a version still to come
    assert newer != content
    (run / "submission.zip").write_bytes(newer)
    with pytest.raises(DataError, match=r"submission\.zip: it is not a submission of ours"):
        submit(SubmitConfig(str(run), team="星光"))
    (run / "submission.zip").write_bytes(b"my thesis")
    with pytest.raises(DataError, match=r"submission\.zip: it is not a submission of ours"):
        submit(SubmitConfig(str(run), team="星光"))
    assert (run / "submission.zip").read_bytes() == b"my thesis" and not (run / "submission").exists()


def test_panels_come_out_again_from_the_folder_alone(run, pipe, tmp_path):
    """Drawn in a batch, handed in, the run thrown away: every pixel again; and not with another LoRA or none."""
    shutil.rmtree(run / "lora")
    scenes = [StoryScene(f"第{n}格", f"二次元，少女，{n}", "模糊", n) for n in range(4)]
    tell_story(pipe, scenes, run / "lora", get_preset("tiny"), run / "train" / "lora.safetensors")
    submit(SubmitConfig(str(run), team="星光", out=str(tmp_path / "away")))
    shutil.rmtree(run)
    done = reproduce(ReproduceConfig(str(tmp_path / "away")), pipe)
    assert list(done.differences) == [f"{n}.png" for n in range(1, 5)]
    assert done.identical and "to the last pixel" in done.lines()[-1]
    assert reproduce(ReproduceConfig(str(tmp_path / "away"))).identical  # by a model loaded for these prompts alone
    image = Image.open(tmp_path / "away" / "images" / "2.png")
    settings = read_settings(tmp_path / "away" / "images" / "2.png")
    save_picture(image.point(lambda value: 255 - value), tmp_path / "away" / "images" / "2.png", settings)
    spoiled = reproduce(ReproduceConfig(str(tmp_path / "away")), pipe)
    assert [name for name, difference in spoiled.differences.items() if difference] == ["2.png"]
    next((tmp_path / "away").glob("*训练-lora.safetensors"), next((tmp_path / "away").glob("*.safetensors"))).unlink()
    with pytest.raises((ModelError, DataError)):
        (tmp_path / "away" / "submission.json").unlink()
        reproduce(ReproduceConfig(str(tmp_path / "away")), pipe)


def test_a_repaired_panel_comes_out_again(run, pipe, tmp_path, capsys):
    """A panel of its own LoRA, repaired twice, and one repaired with another LoRA, whose file is not handed in."""
    shutil.rmtree(run / "lora")
    lora, other = run / "train" / "lora.safetensors", tmp_path / "other.safetensors"
    scenes = [StoryScene(f"第{n}格", f"二次元，少女全身，{n}", "模糊", n) for n in range(2)]
    panels = tell_story(pipe, scenes, run / "lora", get_preset("tiny"), lora)
    repair(RepairConfig((str(panels[0]),), box="8,8,24,24", lora=str(lora)), pipe)
    repair(RepairConfig((str(panels[0]),), box="30,20,20,24", lora=str(lora), lora_strength=0.4, seed=9), pipe)
    submit(SubmitConfig(str(run), team="星光"))
    folder = str(run / "submission")
    done = reproduce(ReproduceConfig(folder), pipe)
    assert done.identical and "repaired (repair), and the repair was done again: 1.png" in done.lines()
    assert reproduce(ReproduceConfig(folder)).identical  # by a model loaded for these prompts alone
    assert main(["submit", "check", folder]) == 2
    said = capsys.readouterr().out
    assert "panel 1 was repaired (repair)" in said and "still missing: panel" not in said
    write_lora(make_lora(pipe.unet, ["to_q", "to_v"], 8.0), other)
    repair(RepairConfig((str(panels[1]),), box="8,8,24,24", lora=str(other), lora_strength=3), pipe)
    submit(SubmitConfig(str(run), team="星光"))
    *_, why, last = reproduce(ReproduceConfig(folder), pipe).lines()
    assert "with a LoRA that is not in the folder" in why and "2.png" in why
    assert last == "1 of 2 panels differ: what was drawn over them is not drawn again"


def test_runs_without_lora_or_panels(run):
    with pytest.raises(SettingError, match="team"):
        SubmitConfig(str(run), team="a/b")
    with pytest.raises(SettingError, match="team = '': it is empty"):
        SubmitConfig(str(run), team="")
    (run / "train" / "lora.safetensors").unlink()
    with pytest.raises(DataError, match="LoRA"):
        submit(SubmitConfig(str(run)))
    shutil.rmtree(run)
    with pytest.raises(DataError):
        submit(SubmitConfig(str(run)))


# Strangers' text, missing words, damaged files -----------------------------------------------------------------------

NASTY = '<toy>"\n```|a|b\\ `x` <lora:style:1>'


def put_header(run, pipe, **header):
    """The run's LoRA with another header, and panels that say they were drawn with it."""
    lora = read_lora(run / "train" / "lora.safetensors")
    write_lora(Lora(lora.layers, header), run / "train" / "lora.safetensors")
    mark = file_mark("LoRA", run / "train" / "lora.safetensors")
    for panel in (run / "lora" / "panels").glob("*.png"):
        save_picture(open_image(panel), panel, read_settings(panel) | {"lora": mark})
    return run


def card_of(run):
    return (run / "submission" / "README.md").read_text(encoding="utf-8")


def test_what_strangers_wrote_stays_text_in_the_card(run, pipe):
    """In YAML, in Python and in a table cell of Markdown: three ways out, none taken."""
    import ast

    put_header(run, pipe, trigger_word=NASTY, settings='{"data": "<b>|x|</b>"}')
    panel = run / "lora" / "panels" / "1.png"
    save_picture(open_image(panel), panel, read_settings(panel) | {"prompt": NASTY, "negative_prompt": "[a](b) *c*"})
    submit(SubmitConfig(str(run), team="星光"))
    text = card_of(run)
    assert yaml.safe_load(text.split("---")[1])["trigger_words"] == [NASTY]
    (code,) = [line for line in text.splitlines() if line.startswith("image = pipe(")]
    call = ast.parse(code).body[0].value.value.value
    assert ast.literal_eval(call.args[0]) == f"{NASTY}，…"
    (row,) = [line for line in text.splitlines() if line.startswith("| 1 |")]
    cells = re.split(r"(?<!\\)(?:\\\\)*\|", row)
    shown = re.sub(r"\\([\\`*_\[\]<>|~&$])", r"\1", row)
    assert len(cells) == 7 and "<toy>" in shown and "<lora:style:1>" in shown
    assert not re.search(r"(?<!\\)<", text.split("```")[-1])  # no tag below the code


def test_a_missing_trigger_word_is_guessed_from_the_captions_and_asked_for(run, pipe):
    put_header(run, pipe)
    left = submit(SubmitConfig(str(run), team="星光"))
    assert any("trigger word: none is known" in line and "--trigger_word" in line for line in left)
    assert "—" not in card_of(run).split("## 分数")[0]
    (run / "clean").mkdir()
    table = "file_name,text\n1.png,少女，水墨风，桥\n2.png,水墨风，白马\n"
    (run / "clean" / "metadata.csv").write_text(table, encoding="utf-8")
    left = submit(SubmitConfig(str(run), team="星光"))
    assert any("水墨风 is only guessed" in line for line in left)
    assert yaml.safe_load(card_of(run).split("---")[1])["trigger_words"] == ["水墨风"]
    for word in ("sks玩偶", ""):
        left = submit(SubmitConfig(str(run), team="星光", trigger_word=word))
        assert not any("trigger word" in line for line in left)
        assert ("sks玩偶" in card_of(run)) == bool(word)


@pytest.mark.parametrize(
    ("captions", "word"),
    [
        (["二次元，少女", "白马，二次元"], "二次元"),
        (["sks玩偶在书院", "sks玩偶坐着"], "sks玩偶"),
        (["a girl, ink", "a dog, ink"], "ink"),
        (["一", "二"], ""),
        ([], ""),
    ],
)
def test_what_captions_share(captions, word):
    assert module.shared(captions) == word


def test_a_panel_s_workflow_draws_that_panel_with_the_lora_that_is_handed_in(run):
    panels = run / "lora" / "panels"
    for panel in panels.glob("*.png"):
        save_picture(open_image(panel), panel, read_settings(panel) | {"batch": 8})
    assert len(submit(SubmitConfig(str(run), team="星光", title="梦"))) == 1
    folder = run / "submission"
    for panel in (folder / "images").glob("*.png"):
        with Image.open(panel) as image:
            graph, ui = json.loads(image.text["prompt"]), json.loads(image.text["workflow"])
            assert image.tobytes() == Image.open(panels / panel.name).tobytes()
        nodes = {node["class_type"]: node["inputs"] for node in graph.values()}
        assert (folder / nodes["LoraLoaderModelOnly"]["lora_name"]).is_file()
        assert nodes["LoraLoaderModelOnly"]["lora_name"] == "星光-可图Kolors训练-梦-comfyui.safetensors"
        assert nodes["EmptyLatentImage"]["batch_size"] == 1
        assert any("星光-可图Kolors训练-梦-comfyui.safetensors" in node["widgets_values"] for node in ui["nodes"])
        assert read_settings(panel)["batch"] == 8  # the same pixels come only from a batch of that size


MARKS = [
    "[]",
    "3",
    "{",
    "[" * 100_000,
    '{"name": 3, "score": {}, "files": {}}',
    '{"name": "a", "score": 1, "files": []}',
]
MARKS += ['{"name": "../a", "score": {"mean": 7, "practice": false}, "files": {}}']
MARKS += ['{"name": "a", "score": {"mean": "7", "practice": false}, "files": {}}']
MARKS += ['{"name": "a", "score": {"mean": 7, "practice": false}, "files": {"/etc/passwd": "x"}}']
MARKS += ['{"name": "a", "score": {"mean": 7, "practice": false}, "files": {"a\\u0000": "x"}}']
MARKS += ['{"name": "a", "score": {"mean": 7, "practice": false}, "files": {}, "trigger": 3}']


@pytest.mark.parametrize("text", MARKS)
def test_a_submission_that_says_what_it_cannot_is_one_line(tmp_path, text):
    (tmp_path / "submission.json").write_text(text, encoding="utf-8")
    for call in (lambda: check(CheckConfig(str(tmp_path))), lambda: reproduce(ReproduceConfig(str(tmp_path)))):
        with pytest.raises(DataError) as error:
            call()
        assert "\n" not in str(error.value)
    assert len(missing(tmp_path)) == 1


def test_a_table_and_a_run_of_other_kinds_are_said(run, pipe):
    for text in ("[1]", "[" * 100_000, '{"team": 3}'):
        (run / "config.json").write_text(text, encoding="utf-8")
        if "team" in text:
            with pytest.raises(SettingError, match="team = 3"):
                submit(SubmitConfig(str(run)))
        else:
            submit(SubmitConfig(str(run)))
    (run / "submission" / "prompts.csv").write_text("image,prompt\n" + "x" * 200_000, encoding="utf-8")
    assert any("prompts.csv: cannot be read" in line for line in missing(run / "submission"))
    shutil.rmtree(run / "submission")
    for settings in ("[1]", "{", "[" * 100_000):
        put_header(run, pipe, trigger_word="二次元", settings=settings)
        with pytest.raises(ModelError, match="settings"):
            submit(SubmitConfig(str(run), team="星光"))
