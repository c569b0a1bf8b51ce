"""The commands: help that is quick and complete, one line and exit code 2 for bad input, nothing half-written."""

import contextlib
import errno
import os
import re
import shlex
import subprocess
import sys
from dataclasses import fields
from importlib import import_module

import pytest
from helpers import failure, make_set, make_story, use_stand_ins

from kolors_lab import __version__
from kolors_lab.cli import main
from kolors_lab.cli.options import COMMANDS, POSITIONAL, read_config
from kolors_lab.comic import panels as story
from kolors_lab.core.errors import SettingError
from kolors_lab.core.fields import read_words


def run(*argv, **env):
    command = [sys.executable, "-m", "kolors_lab", *argv]
    return subprocess.run(command, capture_output=True, encoding="utf-8", env=os.environ | env, check=False)


def test_alone_it_shows_every_command_and_imports_nothing_heavy():
    code = "import sys; from kolors_lab.cli import main; main([]); print({'torch', 'PIL', 'numpy'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True).stdout
    assert all(f"    {name}" in shown for name in COMMANDS)
    assert shown.endswith("set()\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_function(name):
    module, config, function = COMMANDS[name]
    assert callable(getattr(import_module(module), function)) and hasattr(import_module(module), config)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_explains_every_option(name, capsys):
    with pytest.raises(SystemExit) as done:
        main([*name.split(), "--help"])
    assert done.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    module, config_name, _ = COMMANDS[name]
    config = getattr(import_module(module), config_name)
    for field in fields(config):
        flag = field.name if field.name in POSITIONAL else rf"--{field.name} \S+"
        found = re.findall(f" {flag} (.)", shown)
        assert found, field.name
        assert found[-1].isalnum() or found[-1] in '"“(.', f"{name} {field.name}: no words of explanation"


@pytest.mark.parametrize("given", ["attention,conv1", "attention, conv1", "[attention,conv1]", '["attention","conv1"]'])
def test_several_words_go_with_commas_or_in_brackets(given):
    assert read_config("train", ["--target_modules", given]).target_modules == ("attention", "conv1")


def test_prompts_in_brackets_keep_their_chinese_commas():
    assert read_words("prompts", "[二次元，白马，全身, 二次元，少女]") == ("二次元，白马，全身", "二次元，少女")
    for wrong in ("[二次元", "[{红|白}马]", "[" * 100_000):
        with pytest.raises(SettingError, match="quotes"):
            read_words("prompts", wrong)


def test_options_are_read_as_the_types_of_their_fields():
    config = read_config("train", ["--snr_gamma", "none", "--use_dora", "--keep_best", "false", "--steps", "7"])
    assert (config.snr_gamma, config.use_dora, config.keep_best) == (None, True, False)
    assert (config.steps, config.alpha, config.learning_rate, config.data) == (7, 16.0, None, "runs/clean")
    mix = read_config("lora mix", ["a.safetensors=0.5", "b.safetensors=1", "--out", "c.safetensors"])
    assert (mix.parts, mix.out) == (("a.safetensors=0.5", "b.safetensors=1"), "c.safetensors")


@pytest.mark.parametrize("word", ["comfy", "lora"])
def test_the_first_word_of_several_commands_shows_them(word, capsys):
    for argv in ([word], [word, "--help"]):
        assert main(argv) == 0
        shown = capsys.readouterr().out
        assert all(f"    {name} " in shown for name in COMMANDS if name.startswith(f"{word} "))


def test_the_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{__version__}\n"


def test_no_line_holds_an_invisible_space(capsys):
    for argv in (["story", "brief", "--help"], ["story", "brief", "--scene", "x"], ["story", "breif"]):
        with contextlib.suppress(SystemExit):
            main(argv)
        assert "\xa0" not in "".join(capsys.readouterr())


def test_a_closed_stderr_is_no_traceback():
    command = f"{shlex.quote(sys.executable)} -m kolors_lab train --steps 0 2>&-"
    done = subprocess.run(["bash", "-c", command], capture_output=True, encoding="utf-8", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "")


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, kolors_lab; print({'torch', 'numpy', 'PIL', 'diffusers', 'argparse'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], encoding="utf-8") == "set()\n"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError("Unable to allocate 8.00 GiB for an array"), "main memory does not suffice"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 8 bytes"), "main memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), "the GPU's memory does not suffice"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), "the GPU's memory"),
    ],
)
def test_out_of_memory_is_one_line_with_a_way_out(error, line, capsys, monkeypatch):
    def fails(config):
        raise error

    monkeypatch.setattr("kolors_lab.comic.brief.brief", fails)
    assert main(["story", "brief"]) == 2
    said = failure(capsys)
    assert line in said and "take smaller pictures" in said


def test_a_fault_of_the_program_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr("kolors_lab.comic.brief.brief", lambda config: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["story", "brief"])


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["train", "--steps", "many"], "steps = 'many': must be a whole number"),
        (["train", "--steps", "0"], "steps"),
        (["train", "--rank", "0"], "rank"),
        (["generate", "--cfg", "x"], "cfg = 'x': must be a number"),
        (["generate", "--out", "picture.bmp"], ".png"),
        (["story", "--lora_strength", "nan"], "lora_strength"),
        (["train", "--colour", "red"], "--colour"),
        (["score"], "folder"),
        (["score", "/no/such/folder"], "/no/such/folder"),
        (["score", "--preset", "huge", "."], "huge"),
        (["fetch", "everything"], "everything"),
        (["submit", "--run", "/no/such/run"], "/no/such/run"),
        (["juice", "--data", "/no/such/set"], "/no/such/set"),
        (["story", "--story", "/no/such.csv"], "/no/such.csv"),
        (["paint"], "paint"),
        (["generate", "--promt", "x"], "did you mean --prompt?"),
        (["generate", "--lora-strength", "x"], "did you mean --lora_strength?"),
        (["generate", "白马"], 'did you mean --prompt "白马"?'),
        (["lora", "shw"], "did you mean lora show?"),
        (["comfy"] * 2, "did you mean comfy"),
        (["lora", "convert"], "required: file"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(argv, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(argv) == 2
    assert said in failure(capsys)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def tiny(monkeypatch, pipe_folder, tmp_path):
    monkeypatch.chdir(tmp_path)
    return use_stand_ins(monkeypatch, pipe_folder, tmp_path / "stand-ins")


def test_every_step_by_hand(tiny, tmp_path, capsys):
    make_story(tmp_path / "s.csv", 2)
    assert main(["juice", "--out", "clean"]) == 0
    assert main(["train", "--data", "clean", "--out", "run", "--rank", "2"]) == 0
    lora = "run/lora.safetensors"
    assert main(["generate", "--prompt", "白马", "--lora", lora, "--seed", "3", "--out", "p.png"]) == 0
    assert main(["story", "--story", "s.csv", "--lora", lora, "--out", "run"]) == 0
    capsys.readouterr()
    assert main(["score", "run/panels"]) == 0
    assert "练习分" in capsys.readouterr().out
    assert main(["submit", "--run", "run", "--out", "hand-in", "--team", "星光"]) == 0
    assert "2 pictures" in capsys.readouterr().out
    assert (tmp_path / "hand-in" / "page.png").is_file()
    assert main(["submit", "reproduce", "hand-in"]) == 0
    assert main(["submit", "check", "hand-in"]) == 2  # for scripts: not ready yet
    assert "still missing: images: 2 pictures" in capsys.readouterr().out
    assert main(["submit", "check", "run"]) == 2
    assert "no submission here" in failure(capsys)


def test_captions_that_do_not_match(tiny, tmp_path, capsys):
    data = make_set(tmp_path / "data", 2)
    (data / "train" / "1.png").unlink()
    assert main(["train", "--data", "data", "--out", "run"]) == 2
    assert "1.png" in failure(capsys)
    (data / "metadata.jsonl").write_text("{broken", encoding="utf-8")
    assert main(["train", "--data", "data", "--out", "run"]) == 2
    assert "line 1" in failure(capsys)
    assert not (tmp_path / "run").exists()


def test_a_lora_of_another_model(tiny, tmp_path, capsys):
    import torch
    from safetensors.torch import save_file

    layer = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
    tensors = {f"{layer}.lora_A.weight": torch.zeros(2, 640), f"{layer}.lora_B.weight": torch.zeros(640, 2)}
    save_file(tensors, tmp_path / "other.safetensors")
    assert main(["story", "--story", str(make_story(tmp_path / "s.csv")), "--lora", "other.safetensors"]) == 2
    assert "another model" in failure(capsys)
    assert not list(tmp_path.rglob("*.png.*"))
    assert not (tmp_path / "runs" / "story" / "page.png").exists()


def test_a_full_disk(tiny, tmp_path, capsys, monkeypatch):
    def full(self, *_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("PIL.Image.Image.save", full)
    assert main(["generate", "--prompt", "白马", "--out", "p.png"]) == 2
    assert "No space left on device" in failure(capsys)
    assert not (tmp_path / "p.png").exists()


def test_ctrl_c_is_one_line(tiny, tmp_path, capsys, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(story, "generate_batch", stop)
    assert main(["story", "--story", str(make_story(tmp_path / "s.csv"))]) == 130
    assert "stopped" in failure(capsys)


def test_sigterm_while_cleaning_leaves_nothing_behind(tmp_path):
    make_set(tmp_path / "raw")
    code = (
        "import os, signal; from kolors_lab.cli import main; from kolors_lab.dataset import cleaning; "
        "cleaning.run_recipe = lambda *_: os.kill(os.getpid(), signal.SIGTERM) or iter(()); "
        "raise SystemExit(main(['juice', '--data', 'raw', '--out', 'clean']))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 130 and "stopped" in done.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["raw"]


def test_chinese_is_printed_where_the_locale_is_c(tmp_path):
    done = run(
        "story", "--story", str(tmp_path / "故事.csv"), LC_ALL="C", LANG="C", PYTHONUTF8="0", PYTHONIOENCODING=""
    )
    assert done.returncode == 2
    assert "故事.csv" in done.stderr
