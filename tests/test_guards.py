"""Guards that nothing else would miss: each of these tests fails where its guard is taken out."""

from __future__ import annotations

import errno
import hashlib
import math
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers import make_set
from safetensors.torch import save_file

from kolors_lab.cli import main
from kolors_lab.core.errors import DataError, ModelError
from kolors_lab.training.checkpoint import KEPT, load_state, save_state, states


class Evil:
    """A pickle that makes a file when it is opened."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (open, (str(self.mark), "w"))


def test_a_state_comes_back_as_it_was(tmp_path):
    shared = torch.arange(6.0)
    state = {
        "weights": [shared.half(), shared.view(2, 3).T, torch.zeros(()), torch.zeros(0), shared[:2], shared[:2]],
        "optimizer": {
            "state": {0: {"step": 3, "exp": torch.ones(2).bfloat16()}},
            "param_groups": [{"betas": (0.9, 0.99)}],
        },
        "generator": torch.get_rng_state(),
        "rest": {"smooth": 0.1 + 0.2, "none": None, "on": True, "worst": math.inf, "名": "字", "empty": {}},
    }
    save_state(tmp_path, 1, state)
    found = load_state(tmp_path)
    assert found["optimizer"]["param_groups"] == [{"betas": (0.9, 0.99)}] and found["rest"] == state["rest"]
    assert all(
        torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(found["weights"], state["weights"], strict=True)
    )
    assert torch.equal(found["generator"], state["generator"])
    assert torch.equal(found["optimizer"]["state"][0]["exp"], state["optimizer"]["state"][0]["exp"])


def test_a_state_file_with_code_in_it_is_never_run(tmp_path):
    """Its SHA-256 is right: whoever gives away a run folder can compute it."""
    torch.save({"step": Evil(tmp_path / "opened")}, tmp_path / "evil.pt")
    data = (tmp_path / "evil.pt").read_bytes()
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/step-000001.state").write_bytes(hashlib.sha256(data).digest() + data)
    with pytest.raises(ModelError, match="no state that this version writes") as error:
        load_state(tmp_path)
    assert not (tmp_path / "opened").exists() and "\n" not in str(error.value)


def test_a_state_cannot_hold_what_is_no_figure(tmp_path):
    with pytest.raises(TypeError, match="cannot hold a Evil"):
        save_state(tmp_path, 1, {"step": Evil(tmp_path / "opened")})
    assert not states(tmp_path)


@pytest.mark.parametrize("text", ["[" * 100_000, "{}", '{"__metadata__": 3}', '{"__metadata__": {"state": "[1]"}}'])
def test_a_state_of_another_shape_is_one_line(tmp_path, text):
    data = len(text).to_bytes(8, "little") + text.encode()
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/step-000001.state").write_bytes(hashlib.sha256(data).digest() + data)
    with pytest.raises(ModelError, match="begin anew"):
        load_state(tmp_path)


def test_a_full_disk_takes_none_of_the_older_states(tmp_path, monkeypatch):
    for step in range(1, KEPT + 2):
        save_state(tmp_path, step, {"step": step})
    before = states(tmp_path)
    assert len(before) == KEPT

    def full(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DataError, match="No space left"):
        save_state(tmp_path, 9, {"step": 9})
    assert states(tmp_path) == before and load_state(tmp_path) == {"step": KEPT + 1}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_went_bad_are_not_saved(tmp_path, value):
    """The loss was finite when the weights were moved; the step after would say so, but the last one has none."""
    from contextlib import nullcontext

    from kolors_lab.training.loop import Training

    weights = [torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.tensor([1.0, value]))]
    training = SimpleNamespace(averaged=nullcontext, weights=weights, step=7, unet=None)
    written = []
    with pytest.raises(ModelError, match="weights after step 7 are not finite"):
        Training.save(training, tmp_path / "lora.safetensors", {}, lambda *args: written.append(args))
    assert not written


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_a_pipeline_s_pickle_is_never_opened(pipe_folder, tmp_path, part):
    """torch's reader of weights alone would not run it either: that the file is opened at all is what is looked for."""
    import shutil

    from kolors_lab.models.loading import load_pipeline
    from kolors_lab.models.presets import get_preset

    folder = shutil.copytree(pipe_folder, tmp_path / "pipeline")
    name = "pytorch_model.bin" if part == "text_encoder" else "diffusion_pytorch_model.bin"
    (weights,) = (folder / part).glob("*.safetensors")
    from safetensors.torch import load_file

    torch.save(load_file(weights), folder / part / name)  # good weights: without the guard all would load
    weights.unlink()
    with pytest.raises(ModelError, match="pipeline"):
        load_pipeline(get_preset(str(folder)), "cpu")


def test_what_is_given_stays_as_it_is(tmp_path, capsys):
    """No command writes into, beside or over what it reads, nor does it touch its times."""
    given = tmp_path / "given"
    cases = Path(__file__).parent / "cases"
    for name in ("sets/avif_jfif_heic", "story", "comfy", "lora"):
        shutil.copytree(cases / name, given / name)
    make_set(given / "raw")
    shutil.make_archive(str(given / "packed"), "zip", given / "raw")
    save_file({"lora_unet_conv_in.lora_down.weight": torch.ones(2, 4, 3, 3),
               "lora_unet_conv_in.lora_up.weight": torch.ones(8, 2, 1, 1),
               "lora_unet_conv_in.alpha": torch.tensor(2.0)}, given / "kohya.safetensors")  # fmt: skip

    def seen():
        files = sorted(given.rglob("*"))
        return [(f, f.stat().st_mtime_ns, f.read_bytes() if f.is_file() else None) for f in files]

    before, out = seen(), tmp_path / "out"
    for line in (
        f"juice --data {given / 'raw'} --out {out / 'a'} --min_sharpness 0",
        f"juice --data {given / 'packed.zip'} --out {out / 'b'} --min_sharpness 0",
        f"captions {given / 'raw'} --caption_prefix x",
        f"story check {given / 'story' / 'chat_md_headings.txt'}",
        f"comfy show {given / 'comfy' / 'subgraph_ui.json'} --out {out / 'graph.png'}",
        f"comfy export {given / 'comfy' / 'prompt_comments_ui.json'} --out {out / 'api.json'} --format api",
        f"lora show {given / 'kohya.safetensors'}",
        f"lora convert {given / 'kohya.safetensors'} {out / 'lora.safetensors'}",
    ):
        assert main(line.split()) == 0, capsys.readouterr()
        assert seen() == before, line
