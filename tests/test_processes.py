"""`accelerate launch`: several processes share out what a command draws or scores, and it comes out as by one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from kolors_lab.cli import main
from kolors_lab.core.files import read_table

STORY = "scene,prompt,seed\n" + "".join(f"第{n}格,一个少女，全身,{n}\n" for n in range(5))


def commands(preset: Path, folder: Path, out: Path) -> list[list[str]]:
    (folder / "story.csv").write_text(STORY, encoding="utf-8")
    drawing = ["--preset", str(preset), "--steps", "2"]
    return [
        ["story", *drawing, "--story", str(folder / "story.csv"), "--together", "1", "--out", str(out / "story")],
        ["grid", *drawing, "--prompt", "少女", "--x", "seed=1-3", "--out", str(out / "grid" / "grid.png")],
        ["score", str(out / "story" / "panels"), "--preset", "tiny", "--out", str(out / "scores")],
    ]


def launched(script: Path) -> subprocess.CompletedProcess:
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", str(script)]
    env = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(launch, capture_output=True, encoding="utf-8", check=False, env=env)


def pixels(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): Image.open(f).convert("RGB").tobytes() for f in sorted(folder.rglob("*.png"))}


def test_two_processes_draw_and_score_what_one_does(pipe_folder, tmp_path, capsys):
    one, two = tmp_path / "one", tmp_path / "two"
    script = tmp_path / "script.py"
    work = commands(pipe_folder, tmp_path, two)
    script.write_text(f"from kolors_lab.cli import main\nfor line in {work!r}:\n    assert main(line) == 0\n")
    done = launched(script)
    assert done.returncode == 0, done.stderr
    assert [main(line) for line in commands(pipe_folder, tmp_path, one)] == [0, 0, 0]
    assert pixels(one / "story") == pixels(two / "story")
    assert pixels(one / "grid") == pixels(two / "grid")
    score = lambda folder: [(row["image"], float(row["score"])) for row in read_table(folder / "scores/scores.csv")]  # noqa: E731
    assert score(two) == [(name, pytest.approx(value, abs=1e-4)) for name, value in score(one)]
    assert done.stdout.replace(str(two), "") == capsys.readouterr().out.replace(str(one), "")


def test_what_one_process_does_is_not_started_twice(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["juice", "--data", str(tmp_path), "--out", str(tmp_path / "clean")]) == 2
    assert "juice is done by one process" in capsys.readouterr().err
