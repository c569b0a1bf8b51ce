"""OpenMP's threads: no more of them than a container allows, and never over what a user has set."""

import os
import subprocess
import sys

import pytest

from kolors_lab.core.threads import cpu_quota, settle_threads


@pytest.mark.parametrize(
    ("files", "worth"),
    [
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({}, None),
    ],
)
def test_the_quota_of_a_container(tmp_path, files, worth):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cpu_quota(tmp_path) == worth


def test_what_a_user_has_set_stays(tmp_path, monkeypatch):
    (tmp_path / "cpu.max").write_text("100000 100000")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(8), raising=False)
    fresh, own = {}, {"OMP_NUM_THREADS": "3"}
    settle_threads(fresh, tmp_path)
    settle_threads(own, tmp_path)
    assert fresh == {"OMP_NUM_THREADS": "1"}
    assert own == {"OMP_NUM_THREADS": "3"}


@pytest.mark.parametrize("code", ["import kolors_lab", "import kolors_lab.cli"])
def test_it_is_settled_without_loading_torch(code):
    code = f"import sys; {code}; print('kolors_lab.core.threads' in sys.modules, 'torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["True", "False"]
