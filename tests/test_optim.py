"""Optimisers and schedules by name, batch sizes over a training, one gradient however a batch is shared out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from kolors_lab.core.errors import DataError, SettingError
from kolors_lab.models import processes
from kolors_lab.training.loop import TrainConfig, train
from kolors_lab.training.optim import SCHEDULES, advance, batch_sizes, find_optimizer, make_schedule, peak_rate


@pytest.fixture
def run(pipe_folder, pipe, pictures, tmp_path):
    """Train for a step in a folder of the given name; the LoRA's tensors and the rows of metrics."""

    def run(out, **settings):
        settings = {"steps": 1, "batch_size": 2, "rank": 4, "lr_warmup_steps": 0, "data": str(pictures)} | settings
        file = train(TrainConfig(preset=str(pipe_folder), out=str(tmp_path / out), **settings), pipe)
        return load_file(file), [json.loads(line) for line in (file.parent / "metrics.jsonl").open()]

    return run


def same(first, second):
    return all(torch.allclose(first[key], second[key], rtol=1e-4, atol=1e-7) for key in first)


@pytest.mark.parametrize("name", ["lion", "prodigy", "torch.optim.Adamax", "pytorch_optimizer.AdaBelief"])
def test_any_optimizer_trains_by_its_name(run, name):
    tensors, rows = run("run", optimizer=name, steps=3)
    plain, _ = run("plain", steps=3)
    assert all(tensor.isfinite().all() for tensor in tensors.values())
    assert rows[0]["learning_rate"] > 0 and not same(tensors, plain)


def test_the_learning_rate_is_the_presets_as_the_optimizer_needs_it():
    assert peak_rate("adamw", 4e-3) == peak_rate("torch.optim.Adamax", 4e-3) == 4e-3
    assert peak_rate("lion", 4e-3) < 2e-3 and peak_rate("prodigy", 4e-3) == 1.0


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("adamv", "nearest is adamw"),
        ("torch.optim.Adamm", "torch.optim has no optimizer called Adamm"),
        ("json.JSONDecoder", "there is none of that name"),
        ("torch.optim.os.system", "there is none of that name"),
        ("torch.optim.LBFGS", "several times a step"),
    ],
)
def test_a_name_that_is_no_optimizer_is_one_line(name, said):
    with pytest.raises(SettingError, match=said):
        find_optimizer(TrainConfig(optimizer=name).optimizer)


def test_a_run_folder_from_somebody_else_names_no_code(tmp_path, monkeypatch):
    """Its config.json said which module to import, and a module beside it was run."""
    (tmp_path / "theirs.py").write_text("import pathlib; pathlib.Path('run').touch()", encoding="utf-8")
    config = json.dumps({"optimizer": "theirs.Adam", "data": "somewhere"})
    (tmp_path / "config.json").write_text(config, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DataError, match=r"resume = .*optimizer = 'theirs\.Adam'"):
        train(TrainConfig(resume=str(tmp_path)))
    assert not (tmp_path / "run").exists()


def test_every_process_has_a_gpu_of_its_own_before_anything_computes(monkeypatch):
    """What computes first opens a context, half a GiB, on the GPU that is set; by default the first one."""
    done = []
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda number: done.append(number))
    monkeypatch.setattr(processes, "pick_device", lambda: done.append("computes") or torch.device("cpu"))
    monkeypatch.setattr("accelerate.PartialState", lambda cpu: SimpleNamespace(num_processes=2))
    processes.start_processes()
    assert done == [1, "computes"]


def test_eight_bit_adamw_says_which_package_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(SettingError, match="optimizer = adamw8bit: needs the package bitsandbytes"):
        find_optimizer("adamw8bit")


def rates(name, values, **settings):
    """The learning rates that the schedule gives while the loss takes these values."""
    config = TrainConfig(lr_scheduler=name, steps=len(values), learning_rate=1.0, **settings)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule, found = make_schedule(config, optimizer), []
    for value in values:
        found.append(schedule.get_last_lr()[0])
        optimizer.step()
        advance(schedule, value)
    return found


@pytest.mark.parametrize("name", [name for name in SCHEDULES if name != "reduce_on_plateau"])
def test_schedules_are_those_of_diffusers(name):
    from diffusers.optimization import get_scheduler

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs, expected = get_scheduler(name, optimizer, num_warmup_steps=3, num_training_steps=12), []
    for _ in range(12):
        expected.append(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()
    assert rates(name, [1.0] * 12, lr_warmup_steps=3) == expected


def test_reduce_on_plateau_halves_the_rate_only_while_the_loss_stays():
    falling = [1.0 / step for step in range(1, 41)]
    assert rates("reduce_on_plateau", falling) == [1.0] * 40
    assert rates("reduce_on_plateau", [1.0] * 40)[-1] in (0.25, 0.125)


def test_batches_grow_at_their_parts_of_the_steps():
    config = TrainConfig(steps=10, batch_size=1, batch_growth="0.5:2,0.8:4")
    assert batch_sizes(config) == [1, 1, 1, 1, 1, 2, 2, 2, 4, 4]


def test_accumulated_batches_make_the_step_of_one_large_batch(run):
    sgd = {"optimizer": "torch.optim.SGD", "learning_rate": 0.1}
    whole, rows = run("whole", batch_size=4, **sgd)
    parts, others = run("parts", batch_size=2, gradient_accumulation_steps=2, **sgd)
    assert same(whole, parts) and abs(rows[0]["loss"] - others[0]["loss"]) < 1e-6
    assert not same(whole, run("half", batch_size=2, **sgd)[0])


def test_two_processes_make_the_step_of_one_with_twice_the_batch(run, pipe_folder, pictures, tmp_path):
    """`accelerate launch` with the same command; plain gradient descent, so that equal LoRAs mean equal gradients."""
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    command = f"-m kolors_lab train --preset {pipe_folder} --data {pictures} --out {tmp_path}/two --steps 1 --rank 4 "
    command += "--batch_size 2 --lr_warmup_steps 0 --optimizer torch.optim.SGD --learning_rate 0.1"
    done = subprocess.run(
        [*launch, *command.split()], capture_output=True, encoding="utf-8", check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    one, rows = run("one", batch_size=4, optimizer="torch.optim.SGD", learning_rate=0.1)
    two = [json.loads(line) for line in (tmp_path / "two/metrics.jsonl").open()]
    assert same(one, load_file(tmp_path / "two/lora.safetensors"))
    assert len(two) == 1 and abs(two[0]["loss"] - rows[0]["loss"]) < 1e-6
