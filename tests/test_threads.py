"""OpenMP's threads: no more than a container allows, spinning for a moment only, and never over what a user has set."""

import os
import re
import subprocess
import sys

import pytest

from kolors_lab.core import threads
from kolors_lab.core.threads import SPINS, cpu_quota, settle_threads


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


def test_the_nearest_of_several_containers_counts(tmp_path, monkeypatch):
    """As in a slice of systemd's with CPUQuota, or in a container that sees the whole tree."""
    for name, text in {"cpu.max": "max 100000", "a/cpu.max": "300000 100000", "a/b/cpu.max": "200000 100000"}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(threads, "OWN", tmp_path / "cgroup")
    threads.OWN.write_text("0::/a/b\n")
    assert cpu_quota(tmp_path) == 2


def test_what_a_user_has_set_stays(tmp_path, monkeypatch):
    (tmp_path / "cpu.max").write_text("100000 100000")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(8), raising=False)
    fresh, own = {}, {"OMP_NUM_THREADS": "3", "OMP_WAIT_POLICY": "active"}
    settle_threads(fresh, tmp_path)
    settle_threads(own, tmp_path)
    assert fresh == {"OMP_NUM_THREADS": "1", "GOMP_SPINCOUNT": SPINS}
    assert own == {"OMP_NUM_THREADS": "3", "OMP_WAIT_POLICY": "active"}


@pytest.mark.skipif(sys.platform != "linux", reason="torch's OpenMP is another one")
def test_openmp_waits_as_was_said_and_as_a_user_says():
    """`OMP_DISPLAY_ENV` has libgomp print what it took, when torch loads it."""
    bare = {key: value for key, value in os.environ.items() if "OMP_" not in key} | {"OMP_DISPLAY_ENV": "VERBOSE"}
    took = []
    for environ in (bare, bare | {"GOMP_SPINCOUNT": "7"}):
        run = subprocess.run(
            [sys.executable, "-c", "import kolors_lab, torch"], capture_output=True, text=True, check=True, env=environ
        )
        took += re.findall(r"GOMP_SPINCOUNT = '(\d+)'", run.stderr)
    assert took == [SPINS, "7"]


@pytest.mark.parametrize("code", ["import kolors_lab", "import kolors_lab.cli"])
def test_it_is_settled_without_loading_torch(code):
    code = f"import sys; {code}; print('kolors_lab.core.threads' in sys.modules, 'torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["True", "False"]
