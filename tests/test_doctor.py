"""The doctor's table: every stage tried with real code on random weights, failures in one line with a way out."""

import os
import re
import sys
from pathlib import Path

import pytest
from helpers import use_stand_ins

from kolors_lab.challenge import checkup as module
from kolors_lab.challenge.checkup import Check, DoctorConfig, doctor
from kolors_lab.cli import main
from kolors_lab.core.errors import DataError, FetchError, SettingError

LOOKS = ["machine", "gpu", "disk", "packages", "conflicts", "font"]
STAGES = ["juice", "train", "generate", "score"]


@pytest.fixture
def tiny(monkeypatch, pipe_folder, tmp_path):
    return use_stand_ins(monkeypatch, pipe_folder, tmp_path)


def only(monkeypatch, *names):
    """Leave out all other checks."""
    every = module._checks
    monkeypatch.setattr(module, "_checks", lambda *args: {n: c for n, c in every(*args).items() if n in names})


def test_all_stages_are_tried_and_nothing_is_left_behind(tiny, monkeypatch, tmp_path):
    monkeypatch.setenv("KOLORS_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module.tempfile, "tempdir", str(tmp_path))
    before, said = sorted(tmp_path.iterdir()), []
    checks = doctor(DoctorConfig(), said.append)
    assert [check.name for check in checks] == [*LOOKS, "weights", "memory", *STAGES] and said == checks
    result = {check.name: check for check in checks}
    assert all(result[stage].ok for stage in ["weights", "memory", *STAGES]), "\n".join(map(str, checks))
    plan = r"at 128 px: draw in float32: text 0.0 GiB, pictures .*; train in float32: captions .*, latents "
    assert re.match(plan, result["memory"].detail) and "; score in float32: scorer 0.0 GiB. " in result["memory"].detail
    assert "On a GPU of 24 GB: all of it stays" in result["memory"].detail
    assert result["juice"].detail.startswith("kept 2 of 2 pictures, ")
    assert result["generate"].detail.startswith("2 steps at 128 px, with the LoRA, ")
    assert "practice score" in result["score"].detail and result["score"].detail.endswith(" GiB RAM")
    assert "torch 2." in result["packages"].detail
    assert sorted(tmp_path.iterdir()) == before and os.environ["KOLORS_LAB_CACHE"] == str(tmp_path / "cache")


def test_failing_stage_is_one_line_and_the_rest_goes_on(tiny, monkeypatch):
    def fails(*args, **options):
        raise DataError("two\nlines")

    monkeypatch.setattr("kolors_lab.dataset.cleaning.clean", fails)
    monkeypatch.setattr("kolors_lab.training.loop.train", fails)
    monkeypatch.setattr("kolors_lab.pictures.files.generate_file", lambda config: 1 / 0)
    only(monkeypatch, *STAGES)
    juice, train, generate, score = doctor(DoctorConfig())
    assert (juice.ok, juice.detail, train.ok) == (False, "two lines", False)
    assert generate.detail == "ZeroDivisionError: division by zero"
    assert score.ok  # of one of the two pictures, as none was generated


def test_a_smaller_size_is_tried_where_it_is_asked_for(tiny, monkeypatch):
    only(monkeypatch, "memory", "train", "generate")
    memory, train, generate = doctor(DoctorConfig(size=64))
    assert memory.detail.startswith("at 64 px: ") and train.ok and train.detail.startswith("2 steps at 64 px, ")
    assert generate.detail.startswith("2 steps at 64 px, with the LoRA, ")


def test_what_does_not_fit_is_said_and_never_loaded(tiny, monkeypatch):
    monkeypatch.setattr("kolors_lab.models.memory.free_memory", lambda mapped=0: 2**29)
    monkeypatch.setattr("kolors_lab.models.loading._from_pretrained", lambda *_: pytest.fail("loaded"))
    only(monkeypatch, "memory", "train", "generate", "score")
    checks = doctor(DoctorConfig())
    assert not any(check.ok for check in checks)
    assert all("GiB of main memory at the least, 0.5 GiB are free" in check.detail for check in checks)


def test_a_scorer_that_is_not_here_yet_hides_no_other_plan(tiny, monkeypatch):
    def absent(preset):
        raise FetchError("not here")

    monkeypatch.setattr("kolors_lab.scoring.aesthetics.find_scorer", absent)
    only(monkeypatch, "memory")
    (memory,) = doctor(DoctorConfig())
    assert memory.ok and "; score in what its weights take, once they are here. " in memory.detail


def test_missing_model_is_a_line_with_a_hint(monkeypatch, tmp_path):
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path))
    only(monkeypatch, "weights", "generate", "score")
    checks = doctor(DoctorConfig(preset="kolors"))
    assert [check.ok for check in checks] == [False] * 3
    assert "AI-ModelScope/sdxl-vae-fp16-fix" in checks[0].detail
    assert "kolors-lab fetch --preset kolors model" in str(checks[0])
    assert not any("Traceback" in str(check) for check in checks)


def test_unknown_preset_is_a_setting_error():
    with pytest.raises(SettingError, match="preset = 'kolorz'"):
        doctor(DoctorConfig(preset="kolorz"))


@pytest.mark.parametrize(
    ("versions", "name", "said"),
    [
        ({"simple-aesthetics-predictor": None}, "packages", "pip install --no-deps simple-aesthetics-predictor"),
        ({"peft": None}, "packages", "pip install peft"),
        ({"datasets": "99.1"}, "conflicts", "datasets 99.1 is too new for modelscope"),
        ({"torchvision": "0.1+cu999"}, "conflicts", "torchvision 0.1+cu999 does not fit torch 2"),
    ],
)
def test_bad_packages_are_named(monkeypatch, versions, name, said):
    monkeypatch.setitem(sys.modules, "torchvision", None)  # importing it fails
    version = module.installed
    monkeypatch.setattr(module, "installed", lambda package: versions.get(package, version(package)))
    only(monkeypatch, name)
    (check,) = doctor(DoctorConfig())
    assert not check.ok and said in str(check) and check.hint.startswith("pip ")


def test_card_that_only_calls_itself_available(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda: (15 * 2**30, 16 * 2**30))
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "Tesla P100")
    monkeypatch.setattr("kolors_lab.models.device.pick_device", lambda: __import__("torch").device("cpu"))
    only(monkeypatch, "gpu")
    (check,) = doctor(DoctorConfig())
    assert not check.ok and "Tesla P100, 16 GiB (15 free), but" in check.detail


def test_full_disk(monkeypatch):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: type("usage", (), {"free": 10**6}))
    only(monkeypatch, "disk")
    (check,) = doctor(DoctorConfig())
    assert not check.ok and "KOLORS_LAB_CACHE" in check.hint


def test_free_space_is_that_of_the_users_own_cache(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setenv("KOLORS_LAB_CACHE", str(tmp_path))
    monkeypatch.setattr(module, "_free", lambda place: asked.append(place) or 10**12)
    only(monkeypatch, "disk")
    doctor(DoctorConfig())
    assert tmp_path in asked


def test_table_shows_neither_home_nor_secrets(monkeypatch):
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", "ms-0123-secret")

    def fails():
        raise OSError(f"{Path.home()}/models refused ms-0123-secret")

    monkeypatch.setattr(module, "_checks", lambda *args: {"weights": fails})
    assert str(doctor(DoctorConfig())[0]) == "BAD  weights   OSError: ~/models refused ***"


def test_hint_only_where_something_is_wrong():
    assert str(Check("disk", True, "fine", "do this")) == "ok   disk      fine"
    assert str(Check("disk", False, "full", "do this")) == "BAD  disk      full\n               → do this"


def test_the_command_tells_each_line_as_it_is_known(monkeypatch, capsys):
    monkeypatch.setattr(module, "_checks", lambda *args: {"first": lambda: "fine", "second": lambda: "fine too"})
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out.splitlines() == ["ok   first     fine", "ok   second    fine too", "all is well"]
