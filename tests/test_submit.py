"""The folder to hand in: whole, ours, and honest about what is missing."""

import csv
import errno
import shutil
import zipfile

import pytest
import yaml
from helpers import use_stand_ins
from PIL import Image

from kolors_lab.challenge import submission as module
from kolors_lab.challenge.check import ReproduceConfig, missing, reproduce
from kolors_lab.challenge.submission import SubmitConfig, submit
from kolors_lab.comic.page import make_page
from kolors_lab.comic.panels import tell_story
from kolors_lab.comic.script import StoryScene
from kolors_lab.core.errors import DataError, ModelError, SettingError
from kolors_lab.lora.formats import open_lora
from kolors_lab.models.presets import get_preset
from kolors_lab.pictures.files import save_picture
from kolors_lab.sampling.metadata import read_settings
from kolors_lab.sampling.pipeline import file_mark


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
    import json

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
    image = Image.open(tmp_path / "away" / "images" / "2.png")
    settings = read_settings(tmp_path / "away" / "images" / "2.png")
    save_picture(image.point(lambda value: 255 - value), tmp_path / "away" / "images" / "2.png", settings)
    spoiled = reproduce(ReproduceConfig(str(tmp_path / "away")), pipe)
    assert [name for name, difference in spoiled.differences.items() if difference] == ["2.png"]
    next((tmp_path / "away").glob("*训练-lora.safetensors"), next((tmp_path / "away").glob("*.safetensors"))).unlink()
    with pytest.raises((ModelError, DataError)):
        (tmp_path / "away" / "submission.json").unlink()
        reproduce(ReproduceConfig(str(tmp_path / "away")), pipe)


def test_runs_without_lora_or_panels(run):
    with pytest.raises(SettingError, match="team"):
        SubmitConfig(str(run), team="a/b")
    (run / "train" / "lora.safetensors").unlink()
    with pytest.raises(DataError, match="LoRA"):
        submit(SubmitConfig(str(run)))
    shutil.rmtree(run)
    with pytest.raises(DataError):
        submit(SubmitConfig(str(run)))
