"""What all the training scripts share: folders, rendered sets, and one training loop.

Everything in data/ is rebuilt by `make data` (see build.py); what is made on the way lies in data/make/build/.
"""

import json
import os
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch.optim import _muon
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from world.scenes import Scene

DATA = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("KOLORS_LAB_BUILD") or DATA / "make" / "build")
TINY = DATA / "tiny-kolors"
SIZE = 128


def _pixels(scene: Scene) -> np.ndarray:
    from world.draw import render  # here, so that only the workers need skia

    return np.asarray(render(scene, SIZE, SIZE), dtype=np.uint8)


def rendered(name: str, scenes: list[Scene]) -> np.ndarray:
    """The pictures of `scenes` as uint8 (N, 128, 128, 3), drawn once by two processes and kept in build/."""
    file = BUILD / f"{name}.npy"
    if not file.exists():
        BUILD.mkdir(exist_ok=True)
        with ProcessPoolExecutor(2) as pool:
            np.save(file, np.stack(list(pool.map(_pixels, scenes, chunksize=64))))
    return np.load(file, mmap_mode="r")


def kept(name: str, make):
    """What `make()` returns (tensors), made once and kept in build/."""
    file = BUILD / name
    if not file.exists():
        torch.save(make(), file)
    return torch.load(file, weights_only=True)


def to_tensor(pictures: np.ndarray) -> torch.Tensor:
    """uint8 (N, H, W, 3) -> float32 (N, 3, H, W) in -1..1."""
    return torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


def as_matrix(kernel: torch.Tensor) -> torch.Tensor:
    """A matrix or (out, in, h, w) kernel as (out, rest); for a channels-last kernel the order that needs no copy."""
    return kernel.permute(0, 2, 3, 1).flatten(1) if kernel.ndim == 4 else kernel


def orthogonal(grad: torch.Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> torch.Tensor:
    """The nearest (semi-)orthogonal matrix, by Muon's Newton-Schulz iteration, in float32.

    Torch's own computes in bfloat16, which costs a CPU without it more than the whole training step.
    """
    a, b, c = coefficients
    wide = grad if len(grad) <= grad.shape[1] else grad.T
    wide = wide / wide.norm().clamp(min=eps)
    for _ in range(steps):
        gram = wide @ wide.T
        wide = torch.addmm(wide, torch.addmm(gram, gram, gram, beta=b, alpha=c), wide, beta=a)
    return wide if len(grad) <= grad.shape[1] else wide.T


_muon._zeropower_via_newtonschulz = orthogonal


class Optimizer:
    """AdamW on a one-cycle schedule; and Muon (Jordan et al. 2024) on the same for the parameters in `hidden`, if any.

    Torch's Muon takes matrices only, so the kernels of the channels-last model are handed to it as views.
    """

    def __init__(self, model, lr: float, steps: int, hidden: list[torch.nn.Parameter], weight_decay: float = 0.01):
        self.pairs = [(p, torch.nn.Parameter(as_matrix(p.data))) for p in hidden]
        if any(p.data_ptr() != matrix.data_ptr() for p, matrix in self.pairs):
            raise ValueError("the model must be channels-last: a copied kernel would never be trained")
        chosen = {id(p) for p in hidden}
        rest = [p for p in model.parameters() if id(p) not in chosen]
        self.optimizers = [torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.99), weight_decay=weight_decay, fused=True)]
        if hidden:
            matrices = [matrix for _, matrix in self.pairs]
            muon = torch.optim.Muon(matrices, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
            self.optimizers.insert(0, muon)
        one_cycle = torch.optim.lr_scheduler.OneCycleLR
        self.schedules = [
            one_cycle(o, lr, total_steps=steps, pct_start=0.1, final_div_factor=100, cycle_momentum=False)
            for o in self.optimizers
        ]

    def step(self) -> None:
        for parameter, matrix in self.pairs:
            matrix.grad = None if parameter.grad is None else as_matrix(parameter.grad)
        for part in (*self.optimizers, *self.schedules):
            part.step()

    def state(self) -> list[dict]:
        return [part.state_dict() for part in (*self.optimizers, *self.schedules)]

    def load(self, state: list[dict]) -> None:
        for part, kept in zip((*self.optimizers, *self.schedules), state, strict=True):
            part.load_state_dict(kept)


def fit(model, loss_of, steps: int, lr: float, name: str, decay: float = 0.999, report=None, hidden=()):
    """Train on a one-cycle schedule with a moving average of the weights; returns the averaged model.

    `loss_of(step)` draws a batch and returns its loss. Every 500 steps the state is kept in build/<name>.pt, so that
    a killed run goes on where it was; `report(step, averaged)` is called then too.
    """
    model.train()
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
    optimizer = Optimizer(model, lr, steps, list(hidden))
    file, first = BUILD / f"{name}.pt", 0
    if file.exists():
        state = torch.load(file, weights_only=True)
        first = state["step"]
        model.load_state_dict(state["model"])
        averaged.load_state_dict(state["averaged"])
        optimizer.load(state["optimizer"])
    start, recent = time.time(), []
    for step in range(first, steps):
        loss = loss_of(step)
        model.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        averaged.update_parameters(model)
        recent = [*recent[-99:], loss.item()]
        if (step + 1) % 100 == 0:
            print(f"{name} {step + 1}/{steps} loss {np.mean(recent):.4f} {time.time() - start:.0f}s", flush=True)
        if (step + 1) % 500 == 0 or step + 1 == steps:
            kept = {"model": model.state_dict(), "averaged": averaged.state_dict(), "optimizer": optimizer.state()}
            torch.save({"step": step + 1, **kept}, file)
            if report:
                report(step + 1, averaged.module)
    return averaged.module.eval()


def forget_places(folder: Path) -> None:
    """Take out of the configurations below `folder` where on this machine their parts were loaded from."""
    for file in folder.rglob("*.json"):
        config = json.loads(file.read_text(encoding="utf-8"))
        if known := {"_name_or_path", "name_or_path", "is_local", "local_files_only"} & set(config):
            kept = {key: value for key, value in config.items() if key not in known}
            file.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def note(name: str, **figures) -> None:
    """Keep what a script measured in data/make/build/figures.json, for the cards."""
    file = BUILD / "figures.json"
    known = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**known, name: figures}, indent=1))
