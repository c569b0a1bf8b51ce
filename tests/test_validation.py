"""Watching a training: the same look each time, an end in time, the best kept; class pictures; the best checkpoint."""

from __future__ import annotations

import contextlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import make_lora
from PIL import Image

from kolors_lab.challenge.selection import Candidate, ChooseConfig, choose_checkpoint, rank
from kolors_lab.core.errors import DataError, SettingError
from kolors_lab.dataset.folder import Example
from kolors_lab.dataset.sets import DataConfig
from kolors_lab.lora.adapter import read_lora
from kolors_lab.lora.writing import write_lora
from kolors_lab.models.presets import get_preset
from kolors_lab.sampling.pipeline import generate
from kolors_lab.sampling.text import encode_text, encode_then_free
from kolors_lab.training import dreambooth
from kolors_lab.training.dreambooth import class_examples
from kolors_lab.training.loop import TrainConfig, train
from kolors_lab.training.validation import TIMESTEPS, Samples, Watcher, validation_loss

CPU = torch.device("cpu")


class Held:
    """Two pictures of different shapes."""

    def __len__(self):
        return 2

    def batch(self, index, device):
        return {"latents": torch.full((len(index), 4, 2, 2 + index[0]), float(index[0]))}


def training(steps=9, **settings):
    """Weights that say which step they are of."""
    config = {"validate_every": 1, "patience": 0, "keep_best": True, **settings}
    unet = SimpleNamespace(eval=lambda: None, train=lambda: None)
    config = SimpleNamespace(**config, steps=steps, batch_size=3, snr_gamma=5.0)
    return SimpleNamespace(
        config=config, step=0, unet=unet, noise_scheduler=range(1100), device=CPU, dtype=torch.float32, ended=False,
        processes=SimpleNamespace(num_processes=1, is_main_process=True),
        weights=[torch.zeros(2)], ema=None, averaged=contextlib.nullcontext,
    )  # fmt: skip


def run(training, watcher, stop=99):
    """Take steps until the watcher ends it; the rows of metrics."""
    rows = []
    while training.step < min(training.config.steps, stop):
        training.step += 1
        training.weights[0].fill_(training.step)
        rows.append({})
        watcher.on_step(training, rows[-1])
        if training.ended or training.step == training.config.steps:
            watcher.on_end(training)
            break
    return rows


def losses(training, values):
    """A loss that goes as `values` say, one for each step."""
    return lambda *_: torch.tensor(float(values[training.step - 1]))


def test_every_look_sees_the_same_noise_and_timesteps():
    seen = []

    def loss(unet, scheduler, batch, noise, timesteps, gamma):
        seen.append((noise, timesteps))
        return (batch["latents"] + noise).square().mean() * timesteps.float().mean()

    first = validation_loss(training(), Held(), loss)
    torch.manual_seed(5)
    torch.rand(3)
    assert validation_loss(training(), Held(), loss) == first
    half = len(seen) // 2
    for (noise, timesteps), (again, also) in zip(seen[:half], seen[half:], strict=True):
        assert torch.equal(noise, again) and torch.equal(timesteps, also)
    timesteps = torch.cat([t for _, t in seen[:half]]).tolist()
    assert timesteps == 2 * [68, 206, 343, 481, 618, 756, 893, 1031] and TIMESTEPS == 8
    assert max(len(t) for _, t in seen) == 3  # never more at once than a batch of the training


@pytest.mark.parametrize(("patience", "ended"), [(1, 4), (2, 5), (3, 9), (0, 9)])
def test_it_ends_when_nothing_gets_better_and_keeps_the_best(patience, ended):
    values = [5, 4, 3, 3.5, 3.4, 2, float("nan"), 2, 4]
    it = training(patience=patience)
    watcher = Watcher(losses(it, values), Held())
    rows = run(it, watcher)
    best = 3 if ended < 6 else 6
    assert (it.step, watcher.best_step, it.weights[0].tolist()) == (ended, best, [best, best])
    assert [row["validation_loss"] for row in rows][:5] == pytest.approx(values[:ended][:5])


def test_the_last_weights_stay_where_they_are_asked_for():
    it = training(keep_best=False, validate_every=4)
    watcher = Watcher(losses(it, [1, 2, 3, 4, 5, 6, 7, 8, 9]), Held())
    rows = run(it, watcher)
    assert it.weights[0].tolist() == [9, 9] and watcher.best == 4
    assert [step for step, row in enumerate(rows, 1) if row] == [4, 8, 9]


def test_a_moving_average_goes_back_as_well():
    it = training(steps=2)
    it.ema = SimpleNamespace(shadow_params=[torch.ones(2)])
    run(it, Watcher(losses(it, [1, 2]), Held()))
    assert it.ema.shadow_params[0].tolist() == it.weights[0].tolist() == [1, 1]


def test_a_watcher_goes_on_where_its_state_was_saved():
    values = [5, 3, 4, 2, 6, 6, 6, 6, 6]
    whole = training(patience=3)
    run(whole, Watcher(losses(whole, values), Held()))
    cut = training(patience=3)
    first = Watcher(losses(cut, values), Held())
    run(cut, first, stop=5)
    second = Watcher(losses(cut, values), Held())
    second.load_state_dict(first.state_dict())
    run(cut, second)
    assert (cut.step, cut.weights[0].tolist()) == (whole.step, whole.weights[0].tolist()) == (7, [4, 4])


def test_one_process_decides_for_all_when_to_end(monkeypatch):
    """Each computes its own loss, never quite the same; were each to decide, one would wait for ever for the others."""
    monkeypatch.setattr("kolors_lab.training.validation.from_main", lambda processes, value: main[it.step - 1])
    main, it = [3, 2, 1, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0], training(patience=1)
    rows = run(it, Watcher(losses(it, [1, 2, 3, 4, 5, 6, 7, 8, 9]), Held()))
    assert it.step == 9 and [row["validation_loss"] for row in rows] == main


def test_patience_asks_for_held_out_pictures():
    with pytest.raises(SettingError, match="patience = 3: needs held-out pictures"):
        TrainConfig(patience=3)


def test_pictures_on_the_way_are_those_of_generate_without_the_text_encoder(pipe, pipe_folder, tmp_path):
    preset = replace(get_preset(str(pipe_folder)), steps=2)
    expected = [np.asarray(generate(pipe, "白马", seed=0, steps=2, cfg=preset.cfg), dtype=int)]
    encode_then_free(pipe, [(text, "plain") for text in ("白马", "少女", "")])
    samples = Samples(pipe, ("白马", "少女"), preset, tmp_path, CPU)
    files = samples.draw(7)
    assert [file.name for file in files] == ["step-000007_0.png", "step-000007_1.png"]
    assert abs(np.asarray(Image.open(files[0]), dtype=int) - expected[0]).max() <= 1


def test_in_half_precision_pictures_on_the_way_are_decoded_in_single(pipe, pipe_folder, tmp_path, monkeypatch):
    """In float16 SDXL's VAE overflows, and autocast would take it back there."""
    pipe.to(torch.float16)
    for text in ("白马", ""):
        encode_text(pipe, text, "plain")
    samples = Samples(pipe, ("白马",), replace(get_preset(str(pipe_folder)), steps=1), tmp_path, CPU)
    decode, seen = pipe.vae.decode, []

    def look(latents):
        seen.append((latents.dtype, pipe.vae.dtype, torch.is_autocast_enabled("cpu")))
        return decode(latents)

    monkeypatch.setattr(pipe.vae, "decode", look)
    (file,) = samples.draw(1)
    assert seen == [(torch.float32, torch.float32, False)] and np.asarray(Image.open(file)).std() > 0
    assert pipe.vae.dtype == torch.float16 and pipe.text_encoder is not None


def test_a_training_is_watched_and_learns_from_the_class_as_well(pipe, pipe_folder, pictures, tmp_path):
    settings = {"held_out": 0.3, "validate_every": 1, "sample_every": 9, "sample_prompts": ("少女",), "steps": 3}
    subject = {"trigger_word": "二次元", "class_word": "少女", "class_pictures": 1}
    where = {"preset": str(pipe_folder), "data": str(pictures), "out": str(tmp_path / "run")}
    file = train(TrainConfig(**where, **settings, **subject, rank=2, batch_size=2, learning_rate=0.05), pipe)
    rows = [json.loads(line) for line in (file.parent / "metrics.jsonl").read_text().splitlines()]
    assert all(row["validation_loss"] > 0 for row in rows) and len(rows) == 3
    drawn = sorted(picture.name for picture in (file.parent / "samples").iterdir())
    assert drawn == ["step-000003_0.png"]
    assert read_lora(file)[1]["examples"] == "2"  # of the three pictures; what the base drew of the class is no example


# DreamBooth ----------------------------------------------------------------------------------------------------------

TOYS = [Example(Path("1.png"), "sks玩偶，书院"), Example(Path("2.png"), "sks，舞台"), Example(Path("3.png"), "白马")]
CLASS = DataConfig(trigger_word="sks", class_word="玩偶", class_pictures=3, prior_weight=0.5)


def test_the_class_is_drawn_once_without_the_identifier(pipe, pipe_folder, monkeypatch):
    preset = replace(get_preset(str(pipe_folder)), steps=2)
    ticks = []
    found = class_examples(pipe, TOYS, CLASS, preset, on_step=lambda *tick: ticks.append(tick))
    assert [example.text for example in found] == ["玩偶，书院", "玩偶，舞台", "玩偶，书院"]
    assert {example.weight for example in found} == {0.5} and ticks[-1] == (3, 3)
    pictures = {example.image.read_bytes() for example in found}
    assert len(pictures) == 3
    monkeypatch.setattr(dreambooth, "generate_batch", None)
    assert class_examples(pipe, TOYS, CLASS, preset) == found


def test_without_a_class_word_or_a_weight_there_is_no_class(pipe, pipe_folder):
    preset = get_preset(str(pipe_folder))
    for config in (replace(CLASS, class_word=""), replace(CLASS, prior_weight=0.0)):
        assert class_examples(pipe, TOYS, config, preset) == []
    with pytest.raises(DataError, match="no caption holds the trigger word sks"):
        class_examples(pipe, TOYS[2:], CLASS, preset)


# The best checkpoint -------------------------------------------------------------------------------------------------


def test_score_and_prompt_fit_count_alike_whatever_their_scales():
    def candidate(name, score, fit):
        return Candidate(Path(name), [score - 0.1, score, score + 0.1], [fit, fit, fit])

    pretty, middling, fitting = candidate("a", 6.6, 0.10), candidate("b", 6.5, 0.30), candidate("c", 6.0, 0.31)
    assert [one.file.name for one in rank([pretty, middling, fitting])] == ["b", "a", "c"]
    assert [one.total for one in rank([pretty, replace(pretty, file=Path("d"))])] == [0, 0]


def test_a_score_that_tells_nothing_apart_has_no_vote():
    """Means of 6.50 and 6.51 from scores that go up and down by a tenth; the fit is better of every picture."""
    lucky = Candidate(Path("a"), [6.40, 6.63, 6.50, 6.51], [0.30, 0.31, 0.29, 0.30])
    fitting = Candidate(Path("b"), [6.52, 6.43, 6.56, 6.49], [0.31, 0.32, 0.30, 0.32])
    assert [one.file.name for one in rank([lucky, fitting])] == ["b", "a"]
    assert [one.total for one in rank([lucky, replace(fitting, fits=lucky.fits)])] == [0, 0]


def test_each_different_lora_of_a_training_draws_and_the_finished_one_goes_by_its_name(pipe, pipe_folder, tmp_path):
    for seed, name in enumerate(("checkpoints/step-000001", "checkpoints/step-000002")):
        (tmp_path / "checkpoints").mkdir(exist_ok=True)
        write_lora(make_lora(pipe.unet, ["to_q"], 4.0, seed=seed), tmp_path / f"{name}.safetensors")
    with pytest.raises(DataError, match="holds 0 LoRAs"):
        choose_checkpoint(ChooseConfig(str(tmp_path / "none")))
    shutil.copy(tmp_path / "checkpoints/step-000002.safetensors", tmp_path / "lora.safetensors")
    config = ChooseConfig(str(tmp_path), str(pipe_folder), prompts=("二次元，少女", "白马"), steps=1)
    ticks = []
    found = choose_checkpoint(config, pipe, lambda *tick: ticks.append(tick))
    assert sorted(candidate.file.name for candidate in found) == ["lora.safetensors", "step-000001.safetensors"]
    assert ticks == [(2, 4), (4, 4)]
    assert [one.score for one in choose_checkpoint(config)] == [one.score for one in found]  # a model of its own
    assert found[0].total >= found[1].total
    assert not hasattr(pipe.unet, "peft_config")
