"""The README's commands, in the order written, on a model with random weights: what one needs, an earlier one made."""

import re
import shlex
import shutil
from dataclasses import fields
from pathlib import Path

from helpers import make_set, use_stand_ins

from kolors_lab.cli import main
from kolors_lab.cli.options import find_command, settings_of

ROOT = Path(__file__).parents[1]
NOT_HERE = ("epoch=0-step=500.ckpt", "--preset kolors", "kolors-lab serve", "kolors-lab app", "kolors-lab course")
WITHOUT_A_TRAINED_MODEL = {"--find face": "--box 20,20,64,64"}  # no face is found in noise
MAY_BE_NO = ("submit check", "train --resume")  # exit code 2: the team has no name yet; nothing was cut off


def block() -> list[str]:
    """The lines of the bash blocks that call `kolors-lab` and need no network, no Kolors and no file of a reader's."""
    text = "\n".join(re.findall(r"^```bash\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S))
    lines = [line for line in text.splitlines() if line.startswith("kolors-lab ")]
    assert len(lines) > 20
    return [line for line in lines if not any(word in line for word in NOT_HERE)]


def shortened(line: str) -> list[str]:
    """The command's words, with as few steps as will do."""
    for words, others in WITHOUT_A_TRAINED_MODEL.items():
        line = line.replace(words, others)
    words = shlex.split(line, comments=True)[1:]
    name, rest = find_command(words)
    if "steps" in {field.name for field in fields(settings_of(name))} and "--resume" not in rest:
        at = rest.index("--steps") if "--steps" in rest else len(rest)
        rest[at : at + 2] = ["--steps", "2"]
    if "--checkpoint_every" in rest:
        rest[rest.index("--checkpoint_every") + 1] = "1"
    return [*name.split(), *rest]


def test_every_command_of_the_readme_runs_in_the_order_written(pipe_folder, tmp_path, monkeypatch, capsys):
    use_stand_ins(monkeypatch, pipe_folder, tmp_path / "stand-ins")
    make_set(tmp_path / "data" / "anime_raw")
    for name in ("figurine", "stories"):
        shutil.copytree(ROOT / "data" / name, tmp_path / "data" / name)
    monkeypatch.chdir(tmp_path)
    for line in block():
        argv = shortened(line)
        code = main(argv)
        assert code == 0 or " ".join(argv[:2]) in MAY_BE_NO, f"{line}\n{capsys.readouterr().err[-2000:]}"
