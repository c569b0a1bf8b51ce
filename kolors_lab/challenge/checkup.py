"""Does everything work here? Looks at machine, disk and packages, then does two steps of every stage with real code.

    kolors-lab doctor --preset kolors

What it says can be pasted into a bug report: the home folder is written ~, and no tokens are in it.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from kolors_lab.challenge.report import PACKAGES, installed
from kolors_lab.core.fields import Range
from kolors_lab.core.language import _

if TYPE_CHECKING:
    from kolors_lab.models.presets import Preset

GIB = 2**30
NO_DEPS = "simple-aesthetics-predictor"  # its metadata asks for packages that its code does not need


@dataclass(frozen=True)
class DoctorConfig:
    """Check this machine: packages, disk, and two steps of every stage."""

    preset: str = "tiny"
    """which model to try: "tiny" (embedded), "kolors", or a folder that holds a Kolors pipeline"""
    size: Annotated[int | None, Range(64, 2048)] = None
    """px of the pictures to plan for, learn from and draw, such as 512; without it the preset's"""


@dataclass(frozen=True)
class Check:
    """One line of the table; `hint` says what to do where `ok` is False."""

    name: str
    ok: bool
    detail: str
    hint: str = ""

    def __str__(self) -> str:
        line = f"{'ok ' if self.ok else 'BAD'}  {self.name:<9} {self.detail}"
        return line if self.ok or not self.hint else f"{line}\n     {'':<9} → {self.hint}"


class Unwell(Exception):
    """Something is wrong, and there is a hint."""

    def __init__(self, detail: str, hint: str):
        super().__init__(detail)
        self.hint = hint


def doctor(config: DoctorConfig, say: Callable[[Check], None] | None = None) -> list[Check]:
    """Run all checks in order and return them; `say` is called with each as it is done. Only a bad preset raises."""
    from kolors_lab.models.presets import get_preset

    preset, checks = get_preset(config.preset), []
    preset = replace(preset, size=config.size or preset.size)
    with tempfile.TemporaryDirectory(prefix="kolors-lab-") as folder:
        for name, check in _checks(config.preset, preset, Path(folder)).items():
            checks.append(_run(name, check))
            if say:
                say(checks[-1])
    return checks


def _checks(name: str, preset: Preset, folder: Path) -> dict[str, Callable[[], str]]:
    stages = {"juice": _juice, "train": _train, "generate": _generate, "score": _score}
    return {
        "machine": partial(_machine, preset), "gpu": _gpu, "disk": _disk, "packages": _packages,
        "conflicts": _conflicts, "font": _font, "weights": partial(_weights, name, preset),
        "memory": partial(_memory, name, preset),
        **{stage: partial(_measured, partial(work, name, preset, folder), folder) for stage, work in stages.items()},
    }  # fmt: skip


def _run(name: str, check: Callable[[], str]) -> Check:
    try:
        return Check(name, True, _clean(check()))
    except Exception as error:
        detail = str(error) or type(error).__name__
        if type(error).__module__.split(".")[0] != "kolors_lab":
            detail = f"{type(error).__name__}: {detail}"
        return Check(name, False, _clean(detail), _clean(getattr(error, "hint", "")))


def _clean(text: str) -> str:
    """One line without the home folder and without what the environment keeps secret."""
    secrets = [value for key, value in os.environ.items() if re.search("TOKEN|SECRET|PASSWORD|_KEY", key.upper())]
    for secret in (value for value in secrets if len(value) > 5):
        text = text.replace(secret, "***")
    with contextlib.suppress(RuntimeError):  # no HOME, and the user is in no list of the system's
        text = text.replace(str(Path.home()), "~")
    return " ".join(text.split())[:600]


def _machine(preset: Preset) -> str:
    import psutil

    ram = psutil.virtual_memory()
    system = f"{platform.system()} {platform.release()} {platform.machine()}, Python {platform.python_version()}"
    told = _("{system}, {cores} cores, {total:.0f} GiB RAM ({free:.0f} free), preset {preset}")
    total, free = ram.total / GIB, ram.available / GIB
    return told.format(system=system, cores=os.cpu_count(), total=total, free=free, preset=preset.name)


def _gpu() -> str:
    import torch

    from kolors_lab.models.device import pick_device, pick_dtype

    if not torch.cuda.is_available():
        return _("none: all runs on the CPU")
    free, total = torch.cuda.mem_get_info()
    gpu = _("{name}, {total:.0f} GiB ({free:.0f} free)")
    gpu = gpu.format(name=torch.cuda.get_device_name(), total=total / GIB, free=free / GIB)
    if pick_device().type != "cuda":
        told, hint = _("{gpu}, but a small matrix product fails on it"), _("torch {version} does not serve it")
        raise Unwell(told.format(gpu=gpu), hint.format(version=torch.__version__))
    return _("{gpu}, works in {dtype}").format(gpu=gpu, dtype=str(pick_dtype("cuda")).removeprefix("torch."))


def _disk() -> str:
    from kolors_lab.core.files import cache_dir
    from kolors_lab.models.hub import cache_dir as weights_dir

    places = {_("here"): Path.cwd(), _("the cache"): cache_dir(), _("ModelScope's cache"): weights_dir()}
    free = {name: _free(place) for name, place in places.items()}
    told = _("{space:.0f} GiB free for {name}")
    detail = ", ".join(told.format(space=space / GIB, name=name) for name, space in free.items())
    hint = _("KOLORS_LAB_CACHE and MODELSCOPE_CACHE name other folders")
    for name, place in places.items():
        if not os.access(_existing(place), os.W_OK):
            raise Unwell(_("{name}: {place} cannot be written").format(name=name, place=place), hint)
    if min(free.values()) < GIB:
        raise Unwell(detail, _("make room, or move the caches: {hint}").format(hint=hint))
    return detail


def _free(place: Path) -> int:
    return shutil.disk_usage(_existing(place)).free


def _existing(place: Path) -> Path:
    """The place, or the nearest folder above it that is there."""
    return next(path for path in (place, *place.parents) if path.is_dir())


def _packages() -> str:
    found = {name: installed(name) for name in PACKAGES}
    missing = [name for name, version in found.items() if not version]
    if missing:
        commands = [f"pip install {'--no-deps ' if name == NO_DEPS else ''}{name}" for name in missing]
        raise Unwell(_("missing: {names}").format(names=", ".join(missing)), "; ".join(commands))
    return ", ".join(f"{name} {version}" for name, version in found.items())


def _conflicts() -> str:
    if installed("torchvision"):  # nothing here needs it, but where it is installed transformers imports it
        try:
            import torchvision  # noqa: F401
        except Exception as error:
            told = _("torchvision {version} does not fit torch {torch}: {error}")
            detail = told.format(version=installed("torchvision"), torch=installed("torch"), error=error)
            hint = _("pip uninstall torchvision (nothing here needs it), then restart Python")
            raise Unwell(detail, hint) from error
    if limit := _limit("modelscope", "datasets"):
        told = _("datasets {version} is too new for modelscope")
        raise Unwell(told.format(version=installed("datasets")), f"pip install 'datasets{limit}'")
    return _("none known")


def _limit(package: str, needs: str) -> str:
    """The versions of `needs` that `package` asks for, if the installed one is outside; else an empty text."""
    from packaging.requirements import Requirement

    there = installed(needs)
    requirements = [Requirement(text) for text in (metadata.requires(package) or [])] if installed(package) else []
    asked = [r.specifier for r in requirements if r.name == needs]
    return next((str(s) for s in asked if there and not s.contains(there, prereleases=True)), "")


def _font() -> str:
    from kolors_lab.core.fonts import font

    return " ".join(font(12).getname())


def _weights(name: str, preset: Preset) -> str:
    from kolors_lab.models.presets import local_path, pipeline_path

    try:
        for part, repo in (("model", preset.vae), ("scorer", preset.scorer), ("data", preset.dataset)):
            if repo:
                local_path(repo, part)
        return str(pipeline_path(preset))
    except Exception as error:
        fetch = f"kolors-lab fetch --preset {name}"
        hint = _("{fetch} model; {fetch} scorer; {fetch} data (for the embedded ones: restore data/)")
        raise Unwell(str(error), hint.format(fetch=fetch)) from error


def _memory(name: str, preset: Preset) -> str:
    """The plan of each stage that loads weights; nothing is loaded for it."""
    from kolors_lab.models.device import pick_device
    from kolors_lab.models.memory import gpu_plans, memory_plan
    from kolors_lab.training.config import TrainConfig, resolve
    from kolors_lab.training.stages import plan_training

    device = pick_device()
    training = plan_training(preset, resolve(TrainConfig(preset=name), preset), device)
    told = _("at {size} px: draw in {drawing}; train in {training}; score in {scoring}. On a GPU of {others}")
    drawing, scoring, others = memory_plan(preset, device), _scoring(preset), gpu_plans(preset)
    return told.format(size=preset.size, drawing=drawing, training=training, scoring=scoring, others=others)


def _scoring(preset: Preset) -> str:
    """The scorer's plan. That it is not here yet the line about weights says; the other plans are told all the same."""
    from kolors_lab.core.errors import FetchError
    from kolors_lab.scoring.aesthetics import scoring_plan

    try:
        return str(scoring_plan(preset))
    except FetchError:
        return _("what its weights take, once they are here")


def _juice(name: str, preset: Preset, folder: Path) -> str:
    from kolors_lab.dataset.cleaning import CleanConfig, clean

    done = clean(CleanConfig(preset=name, data=str(_raw(preset, folder)), out=str(folder / "clean")))
    return _("kept {count} of 2 pictures").format(count=done.kept)


def _train(name: str, preset: Preset, folder: Path) -> str:
    from kolors_lab.training.loop import TrainConfig, train

    clean = folder / "clean"
    data = clean if clean.is_dir() else _raw(preset, folder)
    file = train(TrainConfig(preset=name, data=str(data), out=str(folder / "train"), steps=2, size=preset.size))
    told = _("2 steps at {size} px, LoRA of {mebibytes:.1f} MiB")
    return told.format(size=preset.size, mebibytes=file.stat().st_size / 2**20)


def _generate(name: str, preset: Preset, folder: Path) -> str:
    from kolors_lab.pictures.files import generate_file
    from kolors_lab.sampling.config import GenerateConfig

    lora = folder / "train" / "lora.safetensors"
    with_lora = str(lora) if lora.is_file() else None
    (folder / "panels").mkdir()
    sides = {"width": preset.size, "height": preset.size}
    generate_file(GenerateConfig(preset=name, lora=with_lora, steps=2, out=str(folder / "panels" / "1.png"), **sides))
    told = _("2 steps at {size} px, with the LoRA") if with_lora else _("2 steps at {size} px, without the LoRA")
    return told.format(size=preset.size)


def _score(name: str, preset: Preset, folder: Path) -> str:
    from kolors_lab.scoring.aesthetics import score_folder

    panels = folder / "panels"
    done = score_folder(preset, panels if any(panels.glob("*")) else _raw(preset, folder) / "train")
    told = _("{count} picture, practice score {mean:.2f}") if done.practice else _("{count} picture, score {mean:.2f}")
    return told.format(count=len(done.files), mean=done.mean)


def _raw(preset: Preset, folder: Path) -> Path:
    """Two sharp pictures, unlike each other, in the raw layout; they pass the preset's thresholds."""
    from PIL import Image

    raw, side = folder / "raw", max(preset.size, preset.min_size)
    (raw / "train").mkdir(parents=True, exist_ok=True)
    for n in range(2):
        Image.effect_noise((side, side), 96).convert("RGB").save(raw / "train" / f"{n}.png")
    rows = [{"text": "二次元，少女", "image": [f"train/{n}.png"]} for n in range(2)]
    (raw / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    return raw


@contextlib.contextmanager
def _cache_in(folder: Path) -> Iterator[None]:
    before = os.environ.get("KOLORS_LAB_CACHE")
    os.environ["KOLORS_LAB_CACHE"] = str(folder)
    try:
        yield
    finally:
        del os.environ["KOLORS_LAB_CACHE"]
        if before is not None:
            os.environ["KOLORS_LAB_CACHE"] = before


def _measured(work: Callable[[], str], folder: Path) -> str:
    """What `work` returns, with its seconds and the most memory taken meanwhile, looked at ten times a second."""
    import psutil
    import torch

    process, done, peak = psutil.Process(), threading.Event(), 0

    def watch() -> None:
        nonlocal peak
        while True:
            peak = max(peak, process.memory_info().rss)
            if done.wait(0.1):
                return

    watcher, start = threading.Thread(target=watch, daemon=True), time.perf_counter()
    if cuda := torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    watcher.start()
    try:
        # a cache of its own, so that the trial finds no examples encoded already and leaves none behind
        with _cache_in(folder / "cache"):
            detail = work()
    finally:
        done.set()
        watcher.join()
    told = _("{detail}, {seconds:.1f} s, {memory:.1f} GiB RAM")
    told = told.format(detail=detail, seconds=time.perf_counter() - start, memory=peak / GIB)
    gpu = _("{told}, {memory:.1f} GiB on the GPU")
    return gpu.format(told=told, memory=torch.cuda.max_memory_allocated() / GIB) if cuda else told
