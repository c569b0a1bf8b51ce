"""The whole way on models with random weights: every file is there, and a second run does only what changed."""

import errno
import json
from dataclasses import replace

import pytest
from helpers import in_browser, make_set, make_story, use_stand_ins

from kolors_lab.challenge import pipeline as module
from kolors_lab.challenge.pipeline import RESULTS, BaselineConfig, baseline
from kolors_lab.core.errors import DataError, FetchError, KolorsLabWarning
from kolors_lab.core.files import fingerprint
from kolors_lab.core.steps import Steps
from kolors_lab.models import presets as models


@pytest.fixture(scope="module")
def world(pipe_folder, tmp_path_factory):
    """A finished run, its configuration and its result."""
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        use_stand_ins(patch, pipe_folder, folder / "stand-ins")
        config = BaselineConfig(out=str(folder / "run"), story=str(make_story(folder / "my_story.csv")), rank=2)
        stages = []
        result = baseline(config, progress=lambda stage: stages.append(stage))
        yield folder / "run", config, result, stages


def test_every_file_of_the_run_is_there(world):
    run, _, result, stages = world
    panels = [f"{story}/panels/{n}.png" for story in ("base", "lora") for n in range(1, 9)]
    files = ["config.json", "clean/train/metadata.csv", "train/lora.safetensors", "train/metrics.jsonl", "scores.json"]
    files += ["base/page.png", "lora/page.png", "submission/README.md", "report.html"]
    assert [f for f in files + panels if not (run / f).is_file()] == []
    assert (result.kept, result.rejected) == (6, 0)
    assert result.effect.practice and result.effect.word == "二次元"
    assert stages == ["juice", "encode", "train", "base", "lora", "score", "submit"]


def test_report_holds_everything_and_loads_nothing(world):
    import re

    html = world[1] and (world[0] / "report.html").read_text(encoding="utf-8")
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)[^"']+|@import|url\((?!#|data:font/otf;base64,\w)""", html)
    assert html.count("data:image") == 1 + 6 + 16  # page, samples of the set, panels without and with the LoRA
    for words in ("练习分", "my story", "二次元，少女，白马，7", "diffusers", "第8格", "<svg", "由 AI 生成"):
        assert words in html


@pytest.mark.parametrize("width", [400, 500, 1280])
def test_report_in_a_browser_on_a_phone_and_on_a_desk(world, tmp_path, width):
    seen = in_browser(world[0] / "report.html", tmp_path, width)
    assert seen == {"broken": 0, "images": 1 + 6 + 16, "overflow": 0}


def test_the_whole_model_stays_only_where_as_much_again_is_free(world, monkeypatch):
    """A training beside all of Kolors would otherwise be killed by the system."""
    run = module.Run(world[1])
    peak = replace(module.plan(run.preset, module.pick_device()), in_turn=False).peak
    monkeypatch.setattr(module, "load_pipeline", lambda *a, **k: "loaded")
    for free, loaded in ((2 * peak - 1, None), (2 * peak, "loaded")):
        monkeypatch.setattr(module, "free_memory", lambda mapped, free=free: free)
        assert module.Run(world[1]).pipe == loaded


def test_again_nothing_is_done(world, monkeypatch):
    run, config, first, _ = world
    for name in ("clean", "train", "load_pipeline", "load_scorer", "submit"):
        monkeypatch.setattr(module, name, lambda *a, **k: pytest.fail("done already"))
    before = {f: f.stat().st_mtime_ns for f in run.rglob("*.png")}
    assert baseline(config) == first
    assert before == {f: f.stat().st_mtime_ns for f in run.rglob("*.png")}


def test_only_what_changed_is_done(world, monkeypatch, tmp_path):
    run, config, first, _ = world
    for name in ("clean", "train"):
        monkeypatch.setattr(module, name, lambda *a, **k: pytest.fail("done already"))
    (run / "lora" / "panels" / "3.png").unlink()
    stages = []
    again = baseline(config, progress=lambda stage: stages.append(stage))
    assert stages == ["lora", "score", "submit"]  # a panel drawn alone is not to the bit the one drawn among eight
    assert again.effect.lora["mean"] == pytest.approx(first.effect.lora["mean"], abs=0.01)


@pytest.mark.parametrize("cut", ["nothing of the training", "half of it"])
def test_a_training_that_was_done_but_not_recorded_is_not_done_again(world, monkeypatch, cut):
    """A full disk or a kill at steps.json, and in the middle of a line of metrics.jsonl."""
    run, config, first, _ = world
    record, metrics = run / "steps.json", run / "train" / "metrics.jsonl"
    kept, rows = record.read_text(encoding="utf-8"), metrics.read_text(encoding="utf-8")
    known = json.loads(kept)
    del known["train"]
    record.write_text(json.dumps(known) if cut.startswith("nothing") else kept[: len(kept) // 2], encoding="utf-8")
    metrics.write_text(rows + '{"step": 4, "lo', encoding="utf-8")
    monkeypatch.setattr(module, "train", lambda *a, **k: pytest.fail("trained already"))
    with pytest.warns(KolorsLabWarning, match=r"metrics\.jsonl: line 4 is damaged"):
        assert baseline(config).loss == first.loss
    assert not list((run / "train").glob("*previous*"))
    metrics.write_text(rows, encoding="utf-8")


@pytest.mark.parametrize("content", ['{"train": {"set', "[1]", '{"train": 5, "juice": {"made": []}}', "[" * 100_000])
def test_a_damaged_record_of_steps_is_named_and_its_steps_are_done_anew(tmp_path, content):
    (tmp_path / "steps.json").write_text(content, encoding="utf-8")
    with pytest.warns(KolorsLabWarning, match=r"steps\.json is damaged: done anew is"):
        steps = Steps(tmp_path)
    assert steps.do("train", {"a": 1}, [], lambda: 7) == 7
    assert Steps(tmp_path).do("train", {"a": 1}, [], lambda: pytest.fail("done")) == 7


@pytest.mark.parametrize("result", [5, None, {}, {"loss": "low"}, {"loss": True}, [0.1]])
def test_a_result_of_another_shape_is_done_anew(tmp_path, result):
    entry = {"settings": {}, "made": {}, "seconds": 1, "result": result}
    (tmp_path / "steps.json").write_text(json.dumps({"train": entry}), encoding="utf-8")
    with pytest.warns(KolorsLabWarning, match=r"steps\.json is damaged: done anew is train"):
        steps = Steps(tmp_path, RESULTS)
    assert steps.do("train", {}, [], lambda: {"loss": 0.1}) == {"loss": 0.1}


def test_the_users_own_lora_stays(world, monkeypatch):
    run, config, _, _ = world
    file = run / "train" / "lora.safetensors"
    monkeypatch.setattr(module, "train", lambda *a, **k: pytest.fail("fed by hand"))
    monkeypatch.setattr(module, "tell_story", lambda *a, **k: (_ for _ in ()).throw(DataError("told again")))
    before = file.read_bytes()
    file.write_bytes(before + b" ")
    with pytest.raises(DataError, match="told again"):
        baseline(config)
    file.write_bytes(before)


@pytest.fixture
def tiny(monkeypatch, pipe_folder, tmp_path):
    return use_stand_ins(monkeypatch, pipe_folder, tmp_path / "stand-ins")


def test_a_bad_story_is_found_before_anything_is_done(tiny, tmp_path):
    story = make_story(tmp_path / "s.csv", 0)
    with pytest.raises(DataError, match="no scenes"):
        baseline(BaselineConfig(out=str(tmp_path / "run"), story=str(story)))
    assert not (tmp_path / "run").exists()


def test_a_missing_scorer_is_found_before_anything_is_done(tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(models.PRESETS, "tiny", lambda: replace(tiny, scorer="some/scorer"))
    with pytest.raises(FetchError, match="kolors-lab fetch scorer"):
        baseline(BaselineConfig(out=str(tmp_path / "run")))
    assert not (tmp_path / "run").exists()


def test_what_a_file_browser_leaves_behind_changes_nothing(tmp_path):
    (tmp_path / "a").write_text("a")
    before = fingerprint(tmp_path)
    (tmp_path / ".DS_Store").write_text("x")
    assert fingerprint(tmp_path) == before


def test_a_set_filtered_to_nothing(tiny, tmp_path):
    data = make_set(tmp_path / "small", 2, side=40)
    with pytest.raises(DataError):
        baseline(BaselineConfig(out=str(tmp_path / "run"), data=str(data)))
    assert not (tmp_path / "run" / "clean").exists()


def test_a_full_disk_in_training_can_be_taken_up_again(tiny, tmp_path, monkeypatch):
    config = BaselineConfig(out=str(tmp_path / "run"), story=str(make_story(tmp_path / "s.csv", 1)))
    train = module.train

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "train", full)
    with pytest.raises(OSError, match="No space"):
        baseline(config)
    assert list(json.loads((tmp_path / "run" / "steps.json").read_text(encoding="utf-8"))) == ["juice"]
    monkeypatch.setattr(module, "train", train)
    monkeypatch.setattr(module, "clean", lambda *a, **k: pytest.fail("done already"))
    assert baseline(config).report.is_file()
