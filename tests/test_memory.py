"""The plan for main memory: what is free, what each stage takes, the way that fits, found before loading."""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from kolors_lab.core.errors import ModelError, explain
from kolors_lab.models import loading, memory
from kolors_lab.models.loading import load_parts, load_pipeline
from kolors_lab.models.memory import free_memory, plan
from kolors_lab.models.presets import GIB, get_preset
from kolors_lab.sampling.loading import load_for
from kolors_lab.sampling.pipeline import generate
from kolors_lab.training import stages as training_stages
from kolors_lab.training.cache_files import weights_hash
from kolors_lab.training.config import TrainConfig, resolve
from kolors_lab.training.loop import train
from kolors_lab.training.stages import plan_training

KOLORS = {"text_encoder": 6_243_584_000, "unet": 2_579_000_000, "vae": 83_653_863}  # counted in Kolors' own files
CPU = torch.device("cpu")


@pytest.fixture
def kolors(monkeypatch, pipe_folder):
    """A preset whose weights count as many as Kolors'; `free(gib)` says how much memory there is."""
    monkeypatch.setattr(memory, "parameter_count", lambda folder, part="*": KOLORS[part])
    monkeypatch.setattr(memory, "find_spec", lambda name: None)
    return replace(get_preset(str(pipe_folder)), size=1024)


def free(monkeypatch, gib):
    monkeypatch.setattr(memory, "free_memory", lambda mapped=0: int(gib * GIB))


@pytest.mark.parametrize(
    ("gib", "size", "dtype", "tiled"),
    [
        (48, 1024, torch.float32, False), (28, 1024, torch.float32, False), (22, 1024, torch.bfloat16, False),
        (14, 1024, torch.bfloat16, False), (14, 1536, torch.bfloat16, True),
    ],
)  # fmt: skip
def test_the_roomiest_way_that_fits_is_taken(monkeypatch, kolors, gib, size, dtype, tiled):
    free(monkeypatch, gib)
    way = plan(kolors, CPU, size)
    assert (way.dtype, way.tiled) == (dtype, tiled) and way.peak <= gib * GIB
    assert way.in_turn and way.peak == memory.LIBRARIES + max(way.stages.values())


def test_an_eight_bit_text_encoder_where_that_is_what_fits(monkeypatch, kolors):
    monkeypatch.setattr(memory, "find_spec", lambda name: object())
    free(monkeypatch, 9)
    assert plan(kolors, CPU).bits == 8


def test_what_cannot_be_is_refused_with_what_it_needs_has_and_what_would_fit(monkeypatch, kolors):
    free(monkeypatch, 6)
    with pytest.raises(ModelError, match=r"at 1024 px needs 12.6 GiB of main memory .* 6.0 GiB are free: close other"):
        plan(kolors, CPU)
    monkeypatch.setattr(memory, "find_spec", lambda name: object())
    free(monkeypatch, 7.5)
    with pytest.raises(ModelError, match=r"768 px would fit \(--width 768 --height 768\)"):
        plan(kolors, CPU)


def test_under_ulimit_the_files_that_are_read_take_their_place_too(monkeypatch, pipe_folder):
    """`ulimit -v` counts mapped files; without them a plan fitted and its loading failed."""
    preset, files = get_preset(str(pipe_folder)), memory.largest_part(pipe_folder)
    assert files == max(sum(f.stat().st_size for f in memory.weight_files(pipe_folder, p)) for p in loading.PARTS)
    monkeypatch.setattr(memory, "_own_room", lambda: [room])
    room = 2**40
    room = plan(preset, CPU).peak + files
    assert plan(preset, CPU).dtype == torch.float32 and not plan(preset, CPU).tiled
    room -= 1
    assert plan(preset, CPU).tiled
    config = resolve(TrainConfig(preset=str(pipe_folder)), preset)
    assert plan_training(preset, config, CPU).mapped == files


HELD = """
import psutil, torch
from kolors_lab.models.memory import free_memory
del (first := [torch.ones(7_000_000)])[0]  # from now on glibc keeps what is smaller than these 28 MB
blocks = [torch.ones(500_000) for _ in range(200)]
last = torch.ones(500_000)  # what lies above them keeps the heap from shrinking by itself
del blocks
held = psutil.Process().memory_info().rss
free_memory()
print(held - psutil.Process().memory_info().rss)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries give back by themselves")
def test_what_was_freed_is_given_back_before_it_is_asked_what_is_free():
    """A UNet that had been trained was kept, 5 GiB, beside a text encoder that then did not fit."""
    given = subprocess.run([sys.executable, "-c", HELD], capture_output=True, text=True, check=True).stdout
    assert int(given) > 0.8 * 200 * 4 * 500_000


def test_memory_that_runs_out_while_loading_is_no_damaged_file(monkeypatch, pipe_folder):
    def load(*_):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 266338304 bytes")

    monkeypatch.setattr(loading, "_from_pretrained", load)
    with pytest.raises(MemoryError) as caught:
        load_parts(get_preset(str(pipe_folder)), ("unet",), torch.float32)
    assert "memory" in explain(caught.value) and "fetch" not in explain(caught.value)


def test_a_pipeline_that_must_lie_together_is_refused_and_not_begun(monkeypatch, kolors):
    free(monkeypatch, 14)
    monkeypatch.setattr("kolors_lab.models.loading._from_pretrained", lambda *_: pytest.fail("loaded"))
    with pytest.raises(ModelError, match="main memory"):
        load_pipeline(kolors, "cpu")


def test_parts_that_come_one_after_the_other_draw_the_same_picture(monkeypatch, pipe_folder):
    preset, settings = get_preset(str(pipe_folder)), {"steps": 1, "width": 64, "height": 64}
    whole = load_pipeline(preset, "cpu")
    way = plan(preset, CPU)
    for tiled in (False, True):
        monkeypatch.setattr("kolors_lab.sampling.loading.plan", lambda *_, tiled=tiled: replace(way, tiled=tiled))
        parts = load_for(preset, [("白马", "webui"), ("", "webui")])
        whole.vae.use_tiling = tiled
        assert parts.text_encoder is None and parts.vae.use_tiling == tiled
        assert generate(parts, "白马", **settings).tobytes() == generate(whole, "白马", **settings).tobytes()


# Training -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def kolors_training(monkeypatch, kolors):
    """`plan_training` of a LoRA on Kolors' own counts, on a CPU; takes a size and TrainConfig's fields."""
    monkeypatch.setattr(training_stages, "parameter_count", lambda folder, part: KOLORS[part])
    monkeypatch.setattr(training_stages, "tensor_shapes", lambda *_: {"unet/conv_in.weight": (KOLORS["unet"],)})
    monkeypatch.setattr(training_stages, "find_spec", lambda name: None)

    def plan_it(size=1024, **fields):
        preset = replace(kolors, size=size)
        return plan_training(preset, resolve(TrainConfig(steps=1, **fields), preset), CPU)

    return plan_it


@pytest.mark.parametrize(("gib", "dtype"), [(28, torch.float32), (14, torch.bfloat16)])
def test_a_training_takes_its_largest_part_and_not_the_sum(monkeypatch, kolors_training, gib, dtype):
    free(monkeypatch, gib)
    way = kolors_training()
    assert way.dtype == dtype and way.peak == memory.LIBRARIES + max(way.stages.values())
    assert list(way.stages) == ["captions", "latents", "training"] and max(way.stages, key=way.stages.get) == "captions"


@pytest.mark.parametrize(
    ("gib", "size", "mode"), [(16, 1024, "none"), (11, 1024, "partial"), (9, 1024, "full"), (11, 512, "none")]
)
def test_memory_that_is_free_saves_time(monkeypatch, kolors_training, kolors, gib, size, mode):
    """Without checkpointing a step takes two thirds of the time."""
    preset = replace(kolors, size=size)
    config = resolve(TrainConfig(steps=1), preset)
    monkeypatch.setattr(training_stages, "free_memory", lambda: int(gib * GIB))
    chosen = training_stages.with_checkpointing(preset, config, torch.bfloat16, CPU)
    assert chosen == replace(config, gradient_checkpointing=mode)
    assert training_stages.with_checkpointing(preset, chosen, torch.bfloat16, torch.device("meta")) is chosen


def test_a_training_that_cannot_be_is_refused_with_what_would_fit(monkeypatch, kolors_training):
    free(monkeypatch, 14)
    with pytest.raises(ModelError, match=r"needs 24.* GiB .* 14.0 GiB are free: 16 bit would fit \(--precision bf16\)"):
        kolors_training(precision="fp32")
    monkeypatch.setattr(training_stages, "find_spec", lambda name: object())
    free(monkeypatch, 9)
    assert kolors_training().bits == 8
    with pytest.raises(ModelError, match=r"at 1536 px .* 9.0 GiB are free: 768 px would fit \(--size 768\)"):
        kolors_training(1536)
    free(monkeypatch, 4)
    with pytest.raises(ModelError, match="close other programs"):
        kolors_training()


def test_a_training_that_cannot_be_loads_nothing(monkeypatch, pipe_folder, pictures, tmp_path):
    free(monkeypatch, 0.5)
    monkeypatch.setattr(loading, "_from_pretrained", lambda *_: pytest.fail("loaded"))
    with pytest.raises(ModelError, match=r"GiB of main memory at the least, 0\.5 GiB are free"):
        train(TrainConfig(preset=str(pipe_folder), data=str(pictures), out=str(tmp_path / "run")))


@pytest.fixture
def loads(monkeypatch):
    """What every load asks for, and what of all earlier loads is in memory then."""
    seen, alive, load = [], weakref.WeakSet(), loading._from_pretrained

    def watch(folder, vae, dtype, bits, absent):
        seen.append(([part for part in loading.PARTS if part not in absent], [type(part).__name__ for part in alive]))
        pipe = load(folder, vae, dtype, bits, absent)
        alive.update(loading._parts(pipe))
        return pipe

    monkeypatch.setattr(loading, "_from_pretrained", watch)
    return seen


def test_the_parts_of_a_training_never_lie_together(loads, pipe_folder, pictures, tmp_path):
    """Held-out pictures and prompts of pictures on the way are encoded in the same turn."""
    where = {"preset": str(pipe_folder), "data": str(pictures), "out": str(tmp_path / "run")}
    watched = {"held_out": 0.3, "validate_every": 1, "sample_every": 1, "sample_prompts": ("少女",), "size": 64}
    train(TrainConfig(**where, **watched, steps=1, rank=2, batch_size=1))
    assert loads == [([], []), (["text_encoder"], []), (["vae"], []), (["unet", "vae"], [])]
    picture = Image.open(tmp_path / "run/samples/step-000001_0.png")
    assert picture.size == (64, 64)
    again = [json.loads(row) for row in (tmp_path / "run/metrics.jsonl").open()]
    assert again[0]["validation_loss"] > 0


def test_pictures_of_the_class_are_drawn_before_and_their_model_is_gone(loads, pipe_folder, pictures, tmp_path):
    where = {"preset": str(pipe_folder), "data": str(pictures), "out": str(tmp_path / "run")}
    subject = {"trigger_word": "二次元", "class_word": "少女", "class_pictures": 1, "size": 64}
    train(TrainConfig(**where, **subject, steps=1, rank=2, batch_size=1))
    drawing, training = [["text_encoder"], ["unet", "vae"]], [["text_encoder"], ["vae"], ["unet"]]
    assert loads == [(parts, []) for parts in ([], *drawing, *training)]


def test_a_base_in_few_bits_is_the_only_unet(loads, monkeypatch, pipe_folder, pictures, tmp_path):
    from diffusers import UNet2DConditionModel

    asked = []

    def quantized(preset, bits, dtype):
        asked.append(bits)
        return UNet2DConditionModel.from_pretrained(preset.model, subfolder="unet", torch_dtype=dtype)

    monkeypatch.setattr("kolors_lab.training.loop.need_quantization", lambda *_: None)
    monkeypatch.setattr(training_stages, "load_quantized_unet", quantized)
    where = {"preset": str(pipe_folder), "data": str(pictures), "out": str(tmp_path / "run")}
    train(TrainConfig(**where, base_bits=4, size=64, steps=1, rank=2, batch_size=1))
    assert asked == [4] and [parts for parts, _ in loads] == [[], ["text_encoder"], ["vae"]]


def test_on_a_small_gpu_the_text_encoder_works_in_main_memory(monkeypatch, pipe):
    monkeypatch.setattr(memory, "free_on", lambda gpu: room)
    weights = sum(parameter.nbytes for parameter in pipe.text_encoder.parameters())
    room = weights + GIB
    assert memory.fitting_device(pipe.text_encoder, "cuda").type == "cuda"
    room = weights + GIB // 8
    assert memory.fitting_device(pipe.text_encoder, "cuda").type == "cpu"


def test_a_training_goes_on_in_the_number_type_that_it_had(monkeypatch, pipe_folder, pictures, tmp_path):
    """More or less memory is free the second time; a step in another type would be another training."""
    config = TrainConfig(
        preset=str(pipe_folder), data=str(pictures), out=str(tmp_path / "run"), steps=2, rank=2, size=64,
        checkpoint_every=1,
    )  # fmt: skip
    types, plan_it = [], training_stages.first_that_fits
    way = lambda ways, *_: types.append([way.dtype for way in ways]) or next(w for w in reversed(ways) if not w.bits)  # noqa: E731
    monkeypatch.setattr(training_stages, "first_that_fits", way)

    def stop(step, *_):
        if step == 2:  # after the first checkpoint
            raise RuntimeError("the session closed")

    with pytest.raises(RuntimeError):
        train(config, on_step=stop)
    monkeypatch.setattr(training_stages, "first_that_fits", plan_it)
    monkeypatch.setattr(training_stages, "find_spec", lambda name: None)
    monkeypatch.setattr("kolors_lab.training.loop.Training.load_state_dict", lambda it, state: types.append(it.dtype))
    train(config)
    assert types[-1] == torch.bfloat16


def test_the_measuring_of_full_size_on_a_cpu_is_rehearsed(pipe_folder):
    """By itself, as a reader calls it: benchmarks/ is no package."""
    bench = Path(__file__).parents[1] / "benchmarks" / "full_size.py"
    command = [sys.executable, str(bench), "--cpu", str(pipe_folder), "--sizes", "64", "--rounds", "1"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert re.search(r"64 px, .* GiB\na step: ours .* s, the camp's .* x; a picture of 50 steps: \d+ s", run.stdout)


# What there is --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "version"),
    [
        ({"memory.max": "3000", "memory.current": "1000"}, "0::/"),
        ({"memory/memory.limit_in_bytes": "3000", "memory/memory.usage_in_bytes": "1000"}, "4:memory:/"),
    ],
)
def test_a_containers_limit_counts_and_mapped_files_are_no_burden(tmp_path, monkeypatch, files, version):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
        (tmp_path / name).with_name("memory.stat").write_text("anon 900\ninactive_file 60\nactive_file 40\n")
    assert memory._container_room(tmp_path) == [2100]
    monkeypatch.setattr(memory, "_container_room", lambda: [2100])
    assert free_memory() == 2100


def test_a_limit_that_is_not_set_is_none(tmp_path, monkeypatch):
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000\n")
    assert memory._container_room(tmp_path) == []


def test_the_text_encoder_in_eight_bit_on_a_cpu_reads_nearly_the_same(pipe_folder):
    pytest.importorskip("torchao")
    preset = get_preset(str(pipe_folder))
    full, few = (load_parts(preset, ("text_encoder",), torch.bfloat16, bits) for bits in (None, 8))
    assert "Int8" in type(few.text_encoder.encoder.layers[0].mlp.dense_h_to_4h.weight).__name__
    one, other = (pipe.encode_prompt("白马", do_classifier_free_guidance=False)[0].float() for pipe in (full, few))
    assert ((one - other).norm() / one.norm()).item() < 0.05
    assert len({weights_hash(full.text_encoder), weights_hash(few.text_encoder)}) == 2  # no caption of the other's


def test_a_training_whose_text_encoder_has_to_be_in_eight_bit(monkeypatch, pipe_folder, pictures, tmp_path):
    pytest.importorskip("torchao")
    monkeypatch.setattr(training_stages, "first_that_fits", lambda ways, *_: next(way for way in ways if way.bits == 8))
    where = {"preset": str(pipe_folder), "data": str(pictures), "out": str(tmp_path / "run")}
    assert train(TrainConfig(**where, size=64, steps=1, rank=2, batch_size=1)).exists()
