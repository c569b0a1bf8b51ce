"""The plan for main memory: what is free, what each stage takes, the way that fits, found before loading."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from kolors_lab.core.errors import ModelError
from kolors_lab.models import memory
from kolors_lab.models.loading import load_parts, load_pipeline
from kolors_lab.models.memory import free_memory, plan
from kolors_lab.models.presets import GIB, get_preset
from kolors_lab.sampling.pipeline import generate, load_for

KOLORS = {"text_encoder": 6_243_584_000, "unet": 2_579_000_000, "vae": 83_653_863}  # counted in Kolors' own files
CPU = torch.device("cpu")


@pytest.fixture
def kolors(monkeypatch, pipe_folder):
    """A preset whose weights count as many as Kolors'; `free(gib)` says how much memory there is."""
    monkeypatch.setattr(memory, "parameter_count", lambda folder, part="*": KOLORS[part])
    monkeypatch.setattr(memory, "find_spec", lambda name: None)
    return replace(get_preset(str(pipe_folder)), size=1024)


def free(monkeypatch, gib):
    monkeypatch.setattr(memory, "free_memory", lambda: int(gib * GIB))


@pytest.mark.parametrize(
    ("gib", "dtype", "in_turn"),
    [(48, torch.float32, False), (28, torch.float32, True), (22, torch.bfloat16, False), (14, torch.bfloat16, True)],
)
def test_the_roomiest_way_that_fits_is_taken(monkeypatch, kolors, gib, dtype, in_turn):
    free(monkeypatch, gib)
    way = plan(kolors, CPU)
    assert (way.dtype, way.in_turn) == (dtype, in_turn) and way.peak <= gib * GIB


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


def test_a_pipeline_that_must_lie_together_is_refused_and_not_begun(monkeypatch, kolors):
    free(monkeypatch, 14)
    monkeypatch.setattr("kolors_lab.models.loading._from_pretrained", lambda *_: pytest.fail("loaded"))
    with pytest.raises(ModelError, match="main memory"):
        load_pipeline(kolors, "cpu")


def test_parts_that_come_one_after_the_other_draw_the_same_picture(monkeypatch, pipe_folder):
    preset, settings = get_preset(str(pipe_folder)), {"steps": 1, "width": 64, "height": 64}
    pipe = load_for(preset, [("白马", "webui"), ("", "webui")])
    pipe.vae.enable_tiling()  # as where memory is tight
    whole = generate(pipe, "白马", **settings)
    way = replace(plan(preset, CPU), in_turn=True)
    monkeypatch.setattr("kolors_lab.sampling.pipeline.plan", lambda *_: way)
    pipe = load_for(preset, [("白马", "webui"), ("", "webui")])
    assert pipe.text_encoder is None and generate(pipe, "白马", **settings).tobytes() == whole.tobytes()


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
    monkeypatch.setattr(memory, "_cgroups", lambda root: [tmp_path, tmp_path / "memory"])
    assert memory._container_room(tmp_path) == [2100]
    monkeypatch.setattr(memory, "_container_room", lambda: [2100])
    assert free_memory() == 2100


def test_a_limit_that_is_not_set_is_none(tmp_path, monkeypatch):
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000\n")
    monkeypatch.setattr(memory, "_cgroups", lambda root: [tmp_path])
    assert memory._container_room(tmp_path) == []


def test_the_text_encoder_in_eight_bit_on_a_cpu_reads_nearly_the_same(pipe_folder):
    pytest.importorskip("torchao")
    preset = get_preset(str(pipe_folder))
    full, few = (load_parts(preset, ("text_encoder",), torch.bfloat16, bits) for bits in (None, 8))
    assert "Int8" in type(few.text_encoder.encoder.layers[0].mlp.dense_h_to_4h.weight).__name__
    one, other = (pipe.encode_prompt("白马", do_classifier_free_guidance=False)[0].float() for pipe in (full, few))
    assert ((one - other).norm() / one.norm()).item() < 0.05
