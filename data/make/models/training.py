"""One training loop for every embedded model.

The rate rises, stays, and falls at the end only (warm-up, stable, decay: Hägele et al. 2024), so that nobody has to
know beforehand how long a training will be: go on at the full rate for as long as there is time, then ask for the
cool-down. The state before it is kept, and a longer training goes on from there.

What is trained is watched by a moving average of the weights, which is what is kept. States are written every five
minutes, at the end and when the run is told to stop (SIGTERM, Ctrl-C): the same command takes it up again and draws
the same batches as if nothing had happened.
"""

import argparse
import json
import random
import signal
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from models.common import BUILD
from models.muon import Optimizer

SAVE_EVERY = 300  # seconds


@dataclass(frozen=True)
class Run:
    """How a model is trained: `name` of its state in build/, `steps` in all, of which the last `cooldown` let the
    rate `lr` down to nothing; at most `minutes` in this go, of which the last `cool_minutes` do the same; `decay` of
    the moving average."""

    name: str
    steps: int
    lr: float
    cooldown: int = 0
    warmup: int = 100
    decay: float = 0.999
    minutes: float = float("inf")
    cool_minutes: float = 0
    device: str = "cpu"
    started: float = field(default_factory=time.time)

    @property
    def minutes_done(self) -> float:
        """Since this go began."""
        return (time.time() - self.started) / 60

    @property
    def minutes_left(self) -> float:
        return self.minutes - self.minutes_done

    def rate(self, step: int) -> float:
        """The rate of a step, counted from 0."""
        rising = (step + 1) / self.warmup
        falling = (self.steps - step) / self.cooldown if self.cooldown else 1.0
        in_time = max(0.0, self.minutes_left / self.cool_minutes) if self.cool_minutes else 1.0
        return self.lr * min(1.0, rising, falling, in_time)

    def cooling(self, step: int) -> bool:
        return step > self.steps - self.cooldown or self.minutes_left < self.cool_minutes

    @property
    def file(self) -> Path:
        """The state at the full rate."""
        return BUILD / f"{self.name}.pt"

    @property
    def cooling_file(self) -> Path:
        """The state of this very cool-down."""
        return BUILD / f"{self.name}-{self.steps}-{self.cooldown}.pt"


def add_options(parser: argparse.ArgumentParser, **defaults) -> argparse.ArgumentParser:
    """The options of a Run: --steps, --cooldown, --lr, --minutes, --cool-minutes, --device."""
    parser.add_argument("--steps", type=int, help="in all, earlier goes and the cool-down included (%(default)s)")
    parser.add_argument("--cooldown", type=int, help="the last steps, in which the rate falls (%(default)s)")
    parser.add_argument("--lr", type=float, help="the rate (%(default)s)")
    parser.add_argument("--minutes", type=float, help="stop after that time, with the state kept")
    parser.add_argument("--cool-minutes", type=float, help="the last of them, in which the rate falls (%(default)s)")
    parser.add_argument("--device", choices=("cpu", "cuda"))
    parser.set_defaults(**{"cooldown": 0, "minutes": float("inf"), "cool_minutes": 0, "device": "cpu"} | defaults)
    return parser


def run_of(name: str, options: argparse.Namespace, **more) -> Run:
    chosen = {key: getattr(options, key) for key in ("steps", "cooldown", "lr", "minutes", "cool_minutes", "device")}
    return Run(name, **chosen | more)


class Lots:
    """All that a training draws by lot, with a state that can be kept: `rng` for choices, `noise` for tensors on
    `device`."""

    def __init__(self, seed: int, device: str = "cpu"):
        self.rng = random.Random(seed)
        self.noise = torch.Generator(device).manual_seed(seed)

    def normal(self, shape: Sequence[int]) -> torch.Tensor:
        return torch.randn(shape, generator=self.noise, device=self.noise.device)

    def state_dict(self) -> dict:
        return {"rng": self.rng.getstate(), "noise": self.noise.get_state(), "torch": torch.get_rng_state()}

    def load_state_dict(self, state: dict) -> None:
        self.rng.setstate(state["rng"])
        self.noise.set_state(state["noise"])
        torch.set_rng_state(state["torch"])


def precision(device: str) -> torch.dtype:
    """bfloat16 where the processor computes it. A CPU that has to emulate it takes ten times as long as in float32."""
    if device == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    known = torch.cpu.get_capabilities()
    return torch.bfloat16 if known.get("avx512_bf16") or known.get("amx_bf16") else torch.float32


def autocast(device: str):
    kind = precision(device)
    return torch.autocast(device, kind, enabled=kind != torch.float32)


def write_atomically(state, file: Path) -> None:
    """A killed process leaves the old file or the new one, never half of one."""
    partial = file.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(file)


class Stop:
    """True as soon as the process has been asked to stop; a second Ctrl-C stops at once."""

    def __init__(self):
        self.asked = False
        signal.signal(signal.SIGTERM, self._ask)
        signal.signal(signal.SIGINT, self._ask)

    def _ask(self, number, frame) -> None:
        signal.signal(number, signal.SIG_DFL)
        self.asked = True

    def __bool__(self) -> bool:
        return self.asked


class State:
    """The training's parts and where it is; `parts` is what has a state_dict."""

    def __init__(self, run: Run, parts: dict):
        self.run, self.parts, self.step = run, parts, 0
        kept = run.cooling_file if run.cooldown and run.cooling_file.exists() else run.file
        if kept.exists():
            state = torch.load(kept, weights_only=True, map_location=run.device)
            self.step = state["step"]
            for name, part in parts.items():
                part.load_state_dict(_on_cpu(state[name]) if isinstance(part, Lots) else state[name])
            print(f"{kept.name}: going on at step {self.step}", flush=True)

    def save(self, cooling: bool) -> None:
        """`cooling`: the rate was falling already."""
        BUILD.mkdir(exist_ok=True)
        state = {"step": self.step} | {name: part.state_dict() for name, part in self.parts.items()}
        write_atomically(state, self.run.cooling_file if cooling else self.run.file)


def _on_cpu(state: dict) -> dict:
    """The states of random generators are read on the CPU, wherever the rest lies."""
    return {key: value.cpu() if isinstance(value, torch.Tensor) else value for key, value in state.items()}


class Journal:
    """The course of a training, printed and kept as lines of build/<name>.jsonl."""

    def __init__(self, run: Run):
        self.run = run
        self.recent, self.ends = deque(maxlen=100), deque(maxlen=20)

    def step(self, loss: torch.Tensor) -> None:
        self.recent.append(loss)  # read when it is written: a GPU need not wait
        self.ends.append(time.time())

    def write(self, step: int, **figures: float) -> None:
        rounded = {name: round(float(value), 5) for name, value in figures.items()}
        row = {"step": step, "loss": round(float(sum(self.recent)) / len(self.recent), 5), **rounded}
        row |= {"seconds_a_step": round((self.ends[-1] - self.ends[0]) / max(1, len(self.ends) - 1), 3)}
        row |= {"minutes": round(self.run.minutes_done, 1)}
        print(self.run.name, json.dumps(row), flush=True)
        with (BUILD / f"{self.run.name}.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")


def fit(model, loss_of, run: Run, lots: Lots, hidden=(), report=None, beside: dict | None = None):
    """Train, and return the moving average of the weights, ready to be used.

    `loss_of(step)` draws a batch by `lots` and returns its loss. `hidden` are the parameters that Muon trains.
    `report(averaged)` returns figures for the journal, whenever the state is kept. `beside` are further parts with a
    state (an adversary and its optimizer).
    """
    model.to(run.device).train()
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(run.decay), use_buffers=True)
    optimizer = Optimizer(model, list(hidden))
    state = State(run, {"model": model, "averaged": averaged, "optimizer": optimizer, "lots": lots, **(beside or {})})
    torch.backends.cudnn.benchmark = run.device == "cuda"
    journal, stop, saved, cooling = Journal(run), Stop(), time.time(), run.cooling(state.step)
    while state.step < run.steps:
        with autocast(run.device):
            loss = loss_of(state.step)
        model.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step(run.rate(state.step))
        averaged.update_parameters(model)
        journal.step(loss.detach())
        state.step += 1
        ends, cools = stop or state.step == run.steps or run.minutes_left < 0, run.cooling(state.step + 1)
        if ends or cools > cooling or time.time() - saved > SAVE_EVERY:  # the last state at the full rate is kept
            state.save(cooling)
            journal.write(state.step, **(report(averaged.module.eval()) if report and not stop else {}))
            journal.ends.clear()  # what was not training is not counted
            saved = time.time()
        cooling = cools
        if stop:
            sys.exit(f"{run.name}: stopped at step {state.step}; the same command goes on from there")
        if ends:
            break
    return averaged.module.eval()
