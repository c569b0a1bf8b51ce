"""Training: the right loss, the right files, nothing saved when it goes wrong."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from kolors_lab.core.errors import DataError, KolorsLabWarning, ModelError, SettingError
from kolors_lab.dataset.folder import Example, read_examples
from kolors_lab.dataset.sets import DataConfig, tell_doubts
from kolors_lab.lora.adapter import load_lora, read_lora
from kolors_lab.models.presets import get_preset
from kolors_lab.sampling.pipeline import generate
from kolors_lab.training.latent_cache import encode
from kolors_lab.training.loop import TrainConfig, train
from kolors_lab.training.loss import draw_noise, loss


@pytest.fixture
def run(pipe_folder, pipe, pictures, tmp_path):
    """Train for two steps in a folder of the given name."""

    def run(out="run", pipe=pipe, **settings):
        calls = {name: settings.pop(name) for name in list(settings) if name in ("on_step", "callbacks", "say")}
        settings = {"steps": 2, "batch_size": 2, "rank": 4, "lr_warmup_steps": 0, "data": str(pictures)} | settings
        return train(TrainConfig(preset=str(pipe_folder), out=str(tmp_path / out), **settings), pipe, **calls)

    return run


def reference_loss(unet, noise_scheduler, batch, noise, timesteps, snr_gamma):
    """Step by step as diffusers' examples/text_to_image/train_text_to_image_lora_sdxl.py computes it."""
    from diffusers.training_utils import compute_snr
    from torch.nn import functional

    noisy = noise_scheduler.add_noise(batch["latents"], noise, timesteps)
    conditions = {"time_ids": batch["time_ids"], "text_embeds": batch["pooled"]}
    predicted = unet(noisy, timesteps, batch["prompt_embeds"], added_cond_kwargs=conditions, return_dict=False)[0]
    if snr_gamma is None:
        return functional.mse_loss(predicted.float(), noise.float(), reduction="mean")
    snr = compute_snr(noise_scheduler, timesteps)
    weights = torch.stack([snr, snr_gamma * torch.ones_like(timesteps)], dim=1).min(dim=1)[0] / snr
    value = functional.mse_loss(predicted.float(), noise.float(), reduction="none")
    return (value.mean(dim=list(range(1, len(value.shape)))) * weights).mean()


@pytest.mark.parametrize("snr_gamma", [5.0, None])
def test_loss_equals_that_of_diffusers_sdxl_training(pipe, pictures, snr_gamma):
    from diffusers import DDPMScheduler

    noise_scheduler = DDPMScheduler.from_config(pipe.scheduler.config)
    batch = encode(pipe, read_examples(pictures), 128).batch(torch.tensor([0, 1, 2]), "cpu")
    noise = torch.randn(batch["latents"].shape, generator=torch.Generator().manual_seed(0))
    timesteps = torch.tensor([3, 400, 1099])
    with torch.no_grad():
        ours = loss(pipe.unet, noise_scheduler, batch, noise, timesteps, snr_gamma)
        theirs = reference_loss(pipe.unet, noise_scheduler, batch, noise, timesteps, snr_gamma)
    assert abs(ours.item() - theirs.item()) < 1e-6


def test_noise_is_added_along_kolors_own_1100_steps(pipe):
    """The noise schedule from its formula, independent of any scheduler class."""
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler.from_config(pipe.scheduler.config)
    kept = np.cumprod(1 - np.linspace(0.00085**0.5, 0.014**0.5, 1100) ** 2)
    assert len(scheduler) == 1100
    x, noise, t = torch.ones(3, 4, 2, 2), torch.full((3, 4, 2, 2), 0.5), torch.tensor([0, 500, 1099])
    expected = kept[t.numpy()] ** 0.5 + (1 - kept[t.numpy()]) ** 0.5 * 0.5
    assert np.allclose(scheduler.add_noise(x, noise, t)[:, 0, 0, 0], expected, atol=1e-4)


def test_every_example_of_a_batch_has_a_timestep_of_its_own():
    noise, timesteps = draw_noise(
        torch.Size([64, 4, 2, 2]), 1100, torch.Generator().manual_seed(0), torch.device("cpu")
    )
    assert noise.shape == (64, 4, 2, 2) and timesteps.shape == (64,)
    assert len(timesteps.unique()) > 50 and 1000 < timesteps.max() < 1100 and timesteps.min() >= 0


def test_a_run_leaves_lora_settings_and_one_line_of_metrics_per_step(run, tmp_path):
    peak = get_preset("tiny").learning_rate
    file = run(alpha=2.0, target_modules=("to_q", "conv1"))
    names = [f.name for f in file.parent.iterdir() if not f.name.startswith(".") and f.name != "tensorboard"]
    assert sorted(names) == ["config.json", "lora.safetensors", "metrics.jsonl"]
    rows = [json.loads(line) for line in (file.parent / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2]
    figures = {"step", "loss", "learning_rate", "seconds", "pictures_per_second", "memory_gib"}
    assert all(set(row) == figures and row["pictures_per_second"] > 0 and row["memory_gib"] > 0 for row in rows)
    assert rows[1]["learning_rate"] < rows[0]["learning_rate"] == peak  # a cosine from the preset's peak
    config = json.loads((file.parent / "config.json").read_text(encoding="utf-8"))
    assert (config["steps"], config["target_modules"][0], config["learning_rate"]) == (2, "to_q", peak)
    layers, header = read_lora(file)
    assert (header["rank"], header["alpha"], header["trigger_word"], header["examples"]) == ("4", "2.0", "二次元", "3")
    assert str(tmp_path) not in json.dumps(header)
    assert {name.rsplit(".", 1)[-1] for name in layers} == {"to_q", "conv1"}


def test_a_trained_lora_gives_the_same_picture_in_plain_diffusers(run, pipe, pipe_folder):
    from diffusers import KolorsPipeline

    file = run(alpha=2.0, learning_rate=0.05)
    without = np.asarray(generate(pipe, "二次元，少女", steps=2))
    load_lora(pipe, file)
    ours = np.asarray(generate(pipe, "二次元，少女", steps=2))
    plain = KolorsPipeline.from_pretrained(pipe_folder, torch_dtype=torch.float32)
    for part in (plain.text_encoder, plain.unet, plain.vae):
        part.requires_grad_(False)  # CPU kernels round otherwise where gradients are asked for
    plain.load_lora_weights(str(file.parent), weight_name=file.name)
    theirs = np.asarray(generate(plain, "二次元，少女", steps=2))
    far = [int(np.abs(ours.astype(int) - other).max()) for other in (theirs, without)]
    assert far[0] <= 1 < far[1]  # plain diffusers reads all of the padding, which rounds otherwise


def test_equal_seeds_give_the_same_lora_bit_for_bit(run):
    first, second, other = run("a", seed=1), run("b", seed=1), run("c", seed=2)
    assert first.read_bytes() == second.read_bytes()
    tensors, others = load_file(first), load_file(other)
    assert not all(torch.equal(tensors[key], others[key]) for key in tensors)


def test_training_on_one_picture_brings_its_loss_down(run, pictures):
    row = json.dumps({"text": "白马", "image": ["train/0.png"]}, ensure_ascii=False)
    (pictures / "metadata.jsonl").write_text(row, encoding="utf-8")
    file = run(steps=40, batch_size=4, learning_rate=1e-2, rank=16, target_modules=("to_q", "to_v", "conv1", "conv2"))
    values = [json.loads(line)["loss"] for line in (file.parent / "metrics.jsonl").read_text().splitlines()]
    assert np.mean(values[-10:]) < 0.9 * np.mean(values[:10])


def told(of):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", KolorsLabWarning)
        of()
    return [str(warning.message) for warning in said if warning.category is KolorsLabWarning]


def captioned(pictures, *texts):
    rows = [json.dumps({"text": text, "image": [f"train/{n}.png"]}) for n, text in enumerate(texts)]
    (pictures / "metadata.jsonl").write_text("\n".join(rows), encoding="utf-8")


def test_a_trigger_word_that_no_caption_holds_is_told_before_anything_is_encoded(run, pictures, monkeypatch):
    def heard(**settings):
        """What is said before a training begins to encode."""
        monkeypatch.setattr("kolors_lab.training.loop.encode_sets", lambda *_: pytest.fail("begun"))
        with pytest.raises(pytest.fail.Exception, match="begun"):
            run(f"run {len(list(pictures.parent.iterdir()))}", **settings)

    captioned(pictures, "a man, mkphoto", "mkphoto, a house", "a tree, mkphoto")
    [said] = told(lambda: heard(trigger_word="zebra"))
    assert "trigger word zebra is in none of 3 captions, so nothing will call this LoRA; --add_trigger" in said
    assert said.endswith("--trigger_word mkphoto")
    assert ["二次元 is in none" in line for line in told(heard)] == [True]
    for right in (
        {"trigger_word": "mkphoto"},
        {"add_trigger": True},
        {"trigger_word": ""},
        {"method": "controlnet", "rank": 16},
    ):
        assert told(lambda right=right: heard(**right)) == []
    captioned(pictures, "a man in the sun", "the sun over a house", "the dog")  # they share `the`, which is no name
    assert "--trigger_word" not in told(heard)[0]


def test_an_identifier_that_never_stands_before_its_class_is_told(pipe_folder, pictures):
    def heard(*texts):
        config = DataConfig(trigger_word="sks", class_word="dog")
        return told(lambda: tell_doubts([Example(Path(f"{n}.png"), text) for n, text in enumerate(texts)], config))

    [said] = heard("sks on a lawn", "sks in the sea")
    assert said.startswith("sksdog is in none of 2 captions: sks never stands before dog there")
    assert heard("sks dog on a lawn", "sks dog in the sea") == []


def test_a_single_picture_is_told_to_be_learned_by_heart(run, pictures):
    captioned(pictures, "二次元，白马")
    assert sum("1 picture: it will be learned by heart" in line for line in told(lambda: run(steps=1))) == 1


def test_a_finished_training_says_so_where_it_is_to_go_on(run):
    file = run("done")
    with pytest.raises(DataError, match="this training of 2 steps is finished, there is nothing to go on") as error:
        train(TrainConfig(resume=str(file.parent)))
    assert f"in another out folder with init_lora = {file}" in str(error.value)
    file.unlink()
    with pytest.raises(DataError, match="holds no checkpoint; leave resume out"):
        train(TrainConfig(resume=str(file.parent)))


def test_a_pipeline_that_was_passed_in_comes_back_as_it_was(run, pipe):
    before = np.asarray(generate(pipe, "白马", steps=2))
    run()
    assert np.array_equal(np.asarray(generate(pipe, "白马", steps=2)), before)


def test_without_a_pipeline_the_presets_own_is_loaded_and_gives_the_same_lora(run):
    assert run("a").read_bytes() == run("b", pipe=None).read_bytes()


def test_a_loss_that_is_not_finite_stops_and_saves_nothing(run, pipe, tmp_path):
    pipe.unet.conv_out.bias.data.fill_(float("nan"))
    with pytest.raises(ModelError, match="loss at step 1 is nan: nothing saved"):
        run()
    assert not list(tmp_path.rglob("lora.safetensors"))


def test_an_older_lora_is_never_overwritten(run):
    file = run()
    before = file.read_bytes()
    with pytest.raises(DataError, match="already holds"):
        run(seed=5)
    assert file.read_bytes() == before


def test_somebody_elses_config_is_never_overwritten(run, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.json").write_text('{"team": "mine"}', encoding="utf-8")
    with pytest.raises(DataError, match=r"config\.json was not made by this step"):
        run()
    assert (tmp_path / "run/config.json").read_text(encoding="utf-8") == '{"team": "mine"}'


def test_a_run_that_broke_off_can_be_done_again(run, tmp_path):
    def stop(*_):
        raise RuntimeError("the cell was interrupted")

    with pytest.raises(RuntimeError):
        run(on_step=stop)
    assert not (tmp_path / "run/lora.safetensors").exists()
    assert run().exists()


def test_a_set_that_cannot_be_used_stops_before_anything_is_written(run, pictures, tmp_path):
    (pictures / "train/1.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"1\.png is empty.*juice"):
        run()
    with pytest.raises(DataError, match="no metadata"):
        run(data=str(tmp_path))
    with pytest.raises(DataError, match="runs/none does not exist"):  # not taken for a ModelScope id
        run(data="runs/none")
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_written_is_named(run, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot write .*file"):
        run("file/run")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0), ("rank", 0), ("rank", 2.5), ("alpha", 0.0), ("alpha", float("nan")), ("seed", -1),
        ("batch_size", 0), ("learning_rate", -1e-4), ("learning_rate", float("inf")), ("snr_gamma", 0.0),
        ("target_modules", ()), ("rank", "16"), ("rank", True), ("base_bits", 3), ("dropout", 1.0),
        ("ema_decay", 1.0), ("gradient_accumulation_steps", 0), ("checkpoint_every", -1), ("noise_offset", 2.0),
        ("optimizer", 5), ("lr_scheduler", ["cosine"]), ("precision", None),
        ("batch_growth", "0.5"), ("batch_growth", "0.8:2,0.5:4"), ("batch_growth", "0.5:0"),
    ],
)  # fmt: skip
def test_settings_check_themselves(field, value):
    with pytest.raises(SettingError, match=rf"{field} = .*(must|there is none of that name)") as error:
        TrainConfig(**{field: value})
    assert "\n" not in str(error.value)


def test_noise_offset_shifts_whole_channels():
    plain, _ = draw_noise(torch.Size([8, 4, 16, 16]), 1100, torch.Generator().manual_seed(0), torch.device("cpu"))
    moved, _ = draw_noise(torch.Size([8, 4, 16, 16]), 1100, torch.Generator().manual_seed(0), torch.device("cpu"), 0.1)
    shift = moved - plain
    assert torch.allclose(shift, shift[:, :, :1, :1].expand_as(shift), atol=1e-6)
    assert 0.05 < shift[:, :, 0, 0].std() < 0.15


def test_the_moving_average_is_what_is_saved(run):
    plain = run("plain", steps=4, checkpoint_every=1, target_modules=("to_q",))
    mean = run("mean", steps=4, ema_decay=0.2, target_modules=("to_q",))
    losses = [[json.loads(row)["loss"] for row in (f.parent / "metrics.jsonl").open()] for f in (plain, mean)]
    assert losses[0] == losses[1]  # training itself does not see it
    steps = [load_file(file) for file in sorted((plain.parent / "checkpoints").glob("*.safetensors"))]
    for key, tensor in load_file(mean).items():
        expected = steps[0][key]
        for count, later in enumerate(steps[1:], 1):
            decay = min(0.2, (1 + count) / (10 + count))  # diffusers' own warm-up of the average
            expected = decay * expected + (1 - decay) * later[key]
        assert torch.allclose(tensor, expected, atol=1e-6)
    assert not all(torch.equal(tensor, steps[-1][key]) for key, tensor in load_file(mean).items())


@pytest.mark.parametrize("kind", ["plain", "use_rslora", "use_dora"])
def test_every_kind_of_lora_is_trained_and_can_be_begun_from(run, pipe, kind):
    """A training from it begins with its picture: one step at a rate of nearly nothing changes nothing to be seen."""
    switch = {} if kind == "plain" else {kind: True}
    first = run("first", alpha=2.0, learning_rate=0.02, target_modules=("to_q", "to_v"), **switch)
    less = {"steps": 1, "learning_rate": 1e-9, "target_modules": ("to_q", "to_v")}
    second = run("second", rank=8, init_lora=str(first), **less, **switch)
    pictures = [np.asarray(generate(pipe, "二次元，少女", steps=2), int)]
    for file in (first, second):
        load_lora(pipe, file)
        pictures.append(np.asarray(generate(pipe, "二次元，少女", steps=2), int))
    plain, one, two = pictures
    assert abs(one - plain).max() > 5 and abs(two - one).max() <= 1
    assert any("magnitude" in key for key in load_file(first)) == (kind == "use_dora")
    header = read_lora(second).header
    assert (header["rank"], "init_lora" in header["settings"]) == ("8", False)  # a path on this machine


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_in_half_precision_the_lora_is_trained_in_single(run, precision):
    file = run(pipe=None, precision=precision, steps=3)
    rows = [json.loads(line) for line in (file.parent / "metrics.jsonl").open()]
    tensors = load_file(file)
    assert all(tensor.dtype == torch.float32 for tensor in tensors.values())
    assert any(tensor.any() for key, tensor in tensors.items() if "lora_B" in key)
    full = run("full", pipe=None, steps=3)
    whole = [json.loads(line) for line in (full.parent / "metrics.jsonl").open()]
    assert all(abs(a["loss"] - b["loss"]) < 0.02 * b["loss"] for a, b in zip(rows, whole, strict=True))


def test_gradient_checkpointing_changes_memory_not_the_lora(run, pipe):
    counts, files = {}, []

    def count(*_):
        counts[mode] = sum(getattr(module, "gradient_checkpointing", False) for module in pipe.unet.modules())

    for mode in ("none", "partial", "full"):
        files.append(run(mode, gradient_checkpointing=mode, on_step=count))
    assert 0 == counts["none"] < counts["partial"] < counts["full"]
    plain, *others = (load_file(file) for file in files)
    assert all(plain[key].equal(other[key]) for other in others for key in plain)


def test_the_memory_plan_comes_before_the_first_step(run):
    told = []
    run(say=told.append, on_step=lambda *_: told.append("step"))
    assert told[1:] == ["step", "step"]
    assert "GiB" in told[0] and "2 x 128 px" in told[0] and "\n" not in told[0]


def test_a_base_in_few_bits_says_what_it_needs(run, monkeypatch, tmp_path):
    from kolors_lab.models import loading as models

    with pytest.raises(ModelError, match="base_bits = 4: needs a CUDA GPU"):
        run(pipe=None, base_bits=4)
    monkeypatch.setattr(models, "pick_device", lambda: torch.device("cuda"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match="needs the package bitsandbytes"):
        models.need_quantization("base_bits", 8)
    assert not (tmp_path / "run").exists()


def test_a_pipeline_of_another_precision_is_refused(run):
    with pytest.raises(SettingError, match=r"precision = bf16: the pipeline that was passed in is in torch\.float32"):
        run(precision="bf16")
