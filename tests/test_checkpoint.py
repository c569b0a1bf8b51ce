"""A training that is cut short loses nothing: it goes on bit for bit, or says in one line why it cannot."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from kolors_lab.cli import main
from kolors_lab.core.errors import DataError, Interrupted, ModelError, SettingError
from kolors_lab.lora.adapter import read_lora
from kolors_lab.training import loop as module
from kolors_lab.training.callbacks import Callback
from kolors_lab.training.checkpoint import claim, load_state, save_state, states
from kolors_lab.training.loop import TrainConfig, train

EVERYTHING = {"dropout": 0.1, "ema_decay": 0.9, "optimizer": "lion", "lr_scheduler": "reduce_on_plateau"}


@pytest.fixture
def run(pipe_folder, pipe, pictures, tmp_path):
    """Train for six steps in a folder of the given name."""

    def run(out, pipe=pipe, calls=None, **settings):
        settings = {"steps": 6, "batch_size": 2, "rank": 4, "target_modules": ("to_q", "conv1")} | settings
        config = TrainConfig(preset=str(pipe_folder), data=str(pictures), out=str(tmp_path / out), **settings)
        return train(config, pipe, **(calls or {}))

    return run


class Terminated(Exception):
    pass


@pytest.fixture
def stopped_at(run, monkeypatch):
    """Have the system ask a training to end at a step."""

    def end(*_):
        raise Terminated

    before = signal.signal(signal.SIGTERM, end)

    def stopped_at(out, when, callbacks=(), **settings):
        def on_step(step, *_):
            if step == when:
                os.kill(os.getpid(), signal.SIGTERM)

        with pytest.raises(Terminated):
            run(out, calls={"on_step": on_step, "callbacks": callbacks}, **settings)

    yield stopped_at
    signal.signal(signal.SIGTERM, before)


def losses(folder):
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").open()]


@pytest.mark.parametrize("settings", [{}, EVERYTHING])
def test_stopped_and_gone_on_with_equals_never_stopped(run, stopped_at, tmp_path, settings):
    whole = run("whole", **settings)
    stopped_at("cut", 3, **settings)
    assert [state.name for state in states(tmp_path / "cut")] == ["step-000003.state"]
    assert not (tmp_path / "cut/lora.safetensors").exists()
    cut = run("cut", **settings)  # the same call goes on
    assert cut.read_bytes() == whole.read_bytes()
    assert losses(cut.parent) == losses(whole.parent)
    assert not states(cut.parent)


def test_the_command_goes_on_with_a_folders_own_settings(run, stopped_at, tmp_path, capsys):
    whole = run("whole", **EVERYTHING)
    stopped_at("cut", 2, **EVERYTHING)
    assert main(["train", "--resume", str(tmp_path / "cut"), "--rank", "8"]) == 2
    assert "rank = 4 there, 8 here" in capsys.readouterr().err
    assert main(["train", "--resume", str(tmp_path / "cut"), "--rank", "4"]) == 0
    assert (tmp_path / "cut/lora.safetensors").read_bytes() == whole.read_bytes()


def test_what_differs_is_named_before_anything_is_done(run, stopped_at, pictures, tmp_path):
    stopped_at("cut", 2)
    before = (tmp_path / "cut/config.json").read_bytes()
    with pytest.raises(
        SettingError, match=r"cut short.*steps = 6 there, 7 here; optimizer = 'adamw' there, 'lion' here"
    ):
        run("cut", steps=7, optimizer="lion", learning_rate=4e-3)
    file = pictures / "metadata.jsonl"
    file.write_text(file.read_text(encoding="utf-8").replace("白马", "黑马"), encoding="utf-8")
    with pytest.raises(SettingError, match="pictures = "):
        run("cut")
    assert (tmp_path / "cut/config.json").read_bytes() == before


def test_a_set_that_was_moved_goes_on_and_an_older_run_too(run, stopped_at, pictures, tmp_path):
    """Only the place differs; and a field that the older run does not know has its default."""
    whole = run("whole")
    stopped_at("cut", 2)
    pictures.rename(tmp_path / "elsewhere")
    file = tmp_path / "cut/config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    for newer in ("use_dora", "patience", "masks"):
        del config[newer]
    file.write_text(json.dumps(config), encoding="utf-8")
    (newest,) = states(tmp_path / "cut")
    state = load_state(tmp_path / "cut")
    del state["settings"]["patience"]
    newest.unlink()
    save_state(tmp_path / "cut", 2, state)
    cut = train(TrainConfig(resume=str(tmp_path / "cut"), data=str(tmp_path / "elsewhere")))
    assert cut.read_bytes() == whole.read_bytes()


def test_a_notebooks_stop_button_says_what_is_kept_and_how_to_go_on(run, tmp_path):
    with pytest.raises(KeyboardInterrupt) as stopped:
        run("cut", calls={"on_step": lambda step, *_: os.kill(os.getpid(), signal.SIGINT)})
    (line,) = stopped.value._render_traceback_()  # what IPython shows
    assert "after step 1 of" in line and str(tmp_path / "cut") in line and "resume=" in line
    assert run("cut").exists()


def test_ignored_signals_end_a_training_without_a_lora_by_an_exception(run, tmp_path):
    """Begun with nohup or &, SIGINT is ignored: the command must not say where a LoRA lies that does not exist."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(Interrupted, match="after step 1 of"):
            run("cut", calls={"on_step": lambda step, *_: os.kill(os.getpid(), signal.SIGINT)})
    finally:
        signal.signal(signal.SIGINT, before)
    assert [state.name for state in states(tmp_path / "cut")] == ["step-000001.state"]
    assert run("cut").exists()


def test_without_room_for_a_checkpoint_nothing_begins_and_nothing_is_lost(run, stopped_at, monkeypatch, tmp_path):
    stopped_at("cut", 2)
    free = SimpleNamespace(free=1000)
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda path: free)
        for out in ("new", "cut"):
            with pytest.raises(
                DataError, match=rf"{out}: a checkpoint of this training takes . MiB and 0 MiB are free"
            ):
                run(out)
    assert not list((tmp_path / "new").rglob("*.safetensors"))
    assert run("cut").exists()


def test_the_best_is_kept_whoever_ends_the_training(run, monkeypatch):
    class Mine(Callback):
        def on_step(self, training, row):
            training.ended = training.step == 3

    looks = iter((2.0, 1.0, 3.0))
    monkeypatch.setattr("kolors_lab.training.validation.validation_loss", lambda *_: next(looks))
    watched = {"held_out": 0.3, "validate_every": 1, "checkpoint_every": 1, "learning_rate": 0.05}
    file = run("run", calls={"callbacks": [Mine()]}, **watched)
    steps = [file.parent / "checkpoints" / f"step-00000{n}.safetensors" for n in (1, 2)]
    best, first = (load_file(step) for step in reversed(steps))
    kept = load_file(file)
    assert all(torch.equal(kept[key], best[key]) for key in kept)
    assert not all(torch.equal(kept[key], first[key]) for key in kept)


def test_a_callback_hears_of_every_step_ends_the_training_and_goes_on_where_it_was(run, stopped_at, tmp_path):
    class Mine(Callback):
        def __init__(self, last):
            self.last, self.heard = last, []

        def on_step(self, training, row):
            row["mine"] = training.step * 10
            self.heard.append(training.step)
            training.ended = training.step == self.last

        def on_end(self, training):
            self.heard.append("end")

        def state_dict(self):
            return {"heard": self.heard}

        def load_state_dict(self, state):
            self.heard = state["heard"]

    stopped_at("cut", 2, callbacks=[Mine(4)])
    mine = Mine(4)
    run("cut", calls={"callbacks": [mine]})
    assert mine.heard == [1, 2, 3, 4, "end"]
    rows = [json.loads(line) for line in (tmp_path / "cut/metrics.jsonl").open()]
    assert [row["mine"] for row in rows] == [10, 20, 30, 40]


def test_a_folder_without_a_training_cannot_be_gone_on_with(run, tmp_path):
    for folder in (tmp_path / "nothing", run("done").parent):
        with pytest.raises(DataError, match="resume = "):
            train(TrainConfig(resume=str(folder)))


def test_checkpoints_are_loras_and_the_last_two_can_be_gone_on_from(run, tmp_path):
    kept = []
    run("run", checkpoint_every=1, calls={"on_step": lambda *_: kept.append(len(states(tmp_path / "run")))})
    assert kept == [0, 1, 2, 2, 2, 2]
    files = sorted((tmp_path / "run/checkpoints").iterdir())
    assert [file.name for file in files] == [f"step-{step:06d}.safetensors" for step in range(1, 7)]
    assert files[-1].read_bytes() == (tmp_path / "run/lora.safetensors").read_bytes()
    assert all(read_lora(file) for file in files)


def test_a_loss_that_is_not_finite_keeps_the_last_good_checkpoint(run, monkeypatch, tmp_path):
    loss, calls = module.loss, []

    def turns_bad(*args):
        calls.append(1)
        return loss(*args) * (float("nan") if len(calls) == 4 else 1.0)

    monkeypatch.setattr(module, "loss", turns_bad)
    with pytest.raises(ModelError, match=r"loss at step 4 is nan: .*step-000002\.safetensors stays; try a lower"):
        run("run", checkpoint_every=2)
    assert not (tmp_path / "run/lora.safetensors").exists()
    assert read_lora(tmp_path / "run/checkpoints/step-000002.safetensors")


def test_a_damaged_checkpoint_gives_way_to_the_one_before(run, stopped_at, tmp_path):
    whole, told = run("whole", checkpoint_every=2), []
    stopped_at("cut", 5, checkpoint_every=2)
    older, newer = states(tmp_path / "cut")
    data = newer.read_bytes()
    newer.write_bytes(data[:5000] + bytes([data[5000] ^ 1]) + data[5001:])
    cut = run("cut", checkpoint_every=2, calls={"say": told.append})
    assert cut.read_bytes() == whole.read_bytes()
    assert "step-000005.state is damaged" in told[0]
    older.write_bytes(b"")
    with pytest.raises(ModelError, match=r"every checkpoint in .* is damaged"):
        load_state(tmp_path / "cut")


def test_two_trainings_never_share_a_folder(run, tmp_path):
    with claim(tmp_path / "run"), pytest.raises(DataError, match="is in use by another training"):
        run("run")
    assert run("run").exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_kill_while_saving_leaves_the_checkpoint_before(tmp_path):
    save_state(tmp_path, 1, {"step": 1})
    child = os.fork()
    if child == 0:
        Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # all is written, nothing is in its place yet
        save_state(tmp_path, 2, {"step": 2})
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert load_state(tmp_path) == {"step": 1}


def test_a_full_disk_leaves_the_checkpoint_before_and_the_training_can_go_on(run, monkeypatch, tmp_path):
    whole, write = run("whole", checkpoint_every=2), Path.write_bytes

    def full(self, data):
        if "step-000004" in self.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(DataError, match=r"cannot write .*step-000004.*No space left"):
            run("run", checkpoint_every=2)
    assert [state.name for state in states(tmp_path / "run")] == ["step-000002.state"]
    assert run("run", checkpoint_every=2).read_bytes() == whole.read_bytes()
    assert torch.is_grad_enabled()


def test_tensorboard_gets_every_figure_where_it_is_installed(run, stopped_at, monkeypatch, tmp_path):
    """At its own boundary, since it may be absent; a training that goes on takes back what it does again."""
    told = []

    class SummaryWriter:
        def __init__(self, folder, purge_step):
            told.append((folder, purge_step))

        def add_scalar(self, name, value, step):
            told.append((name, value, step))

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=SummaryWriter))
    stopped_at("cut", 2, steps=3)
    run("cut", steps=3)
    board = str(tmp_path / "cut/tensorboard")
    assert [entry for entry in told if len(entry) == 2] == [(board, 1), (board, 3)]
    rows = [json.loads(line) for line in (tmp_path / "cut/metrics.jsonl").open()]
    figures = [(name, value, row["step"]) for row in rows for name, value in row.items()]
    assert [entry for entry in told if len(entry) == 3] == figures


def test_a_disk_that_fills_up_before_the_last_save_costs_no_checkpoint(run, monkeypatch, tmp_path):
    with monkeypatch.context() as patch:

        def fill(step, *_):
            if step == 6:
                patch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=100))

        with pytest.raises(DataError, match="what is saved stays; free some space"):
            run("cut", checkpoint_every=4, calls={"on_step": fill})
    assert [state.name for state in states(tmp_path / "cut")] == ["step-000004.state"]
    assert not list((tmp_path / "cut").glob("*.safetensors"))
    steps = []
    assert run("cut", checkpoint_every=4, calls={"on_step": lambda step, *_: steps.append(step)}).exists()
    assert steps == [5, 6]
