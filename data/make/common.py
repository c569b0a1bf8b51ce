"""What all the training scripts share: folders, rendered sets, and one training loop.

Everything in data/ is rebuilt by `make data` (see build.py); what is made on the way lies in data/make/build/.
"""

import json
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from scenes import Scene
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

DATA = Path(__file__).resolve().parent.parent
BUILD = Path(__file__).resolve().parent / "build"
TINY = DATA / "tiny-kolors"
SIZE = 128


def _pixels(scene: Scene) -> np.ndarray:
    from draw import render  # here, so that only the workers need skia

    return np.asarray(render(scene, SIZE, SIZE), dtype=np.uint8)


def rendered(name: str, scenes: list[Scene]) -> np.ndarray:
    """The pictures of `scenes` as uint8 (N, 128, 128, 3), drawn once by two processes and kept in build/."""
    file = BUILD / f"{name}.npy"
    if not file.exists():
        BUILD.mkdir(exist_ok=True)
        with ProcessPoolExecutor(2) as pool:
            np.save(file, np.stack(list(pool.map(_pixels, scenes, chunksize=64))))
    return np.load(file, mmap_mode="r")


def to_tensor(pictures: np.ndarray) -> torch.Tensor:
    """uint8 (N, H, W, 3) -> float32 (N, 3, H, W) in -1..1."""
    return torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


def fit(
    model, loss_of, steps: int, lr: float, name: str, decay: float = 0.999, weight_decay: float = 0.01, report=None
):
    """AdamW on a one-cycle schedule with a moving average of the weights; returns the averaged model.

    `loss_of(step)` draws a batch and returns its loss. Every 500 steps the state is kept in build/<name>.pt, so that
    a killed run goes on where it was; `report(step, averaged)` is called then too.
    """
    model.train()
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, lr, total_steps=steps, pct_start=0.1, final_div_factor=100
    )
    file, first = BUILD / f"{name}.pt", 0
    if file.exists():
        state = torch.load(file, weights_only=True)
        first = state["step"]
        for part, key in ((model, "model"), (averaged, "averaged"), (optimizer, "optimizer"), (schedule, "schedule")):
            part.load_state_dict(state[key])
    start, recent = time.time(), []
    for step in range(first, steps):
        loss = loss_of(step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        averaged.update_parameters(model)
        recent = [*recent[-99:], loss.item()]
        if (step + 1) % 100 == 0:
            print(f"{name} {step + 1}/{steps} loss {np.mean(recent):.4f} {time.time() - start:.0f}s", flush=True)
        if (step + 1) % 500 == 0 or step + 1 == steps:
            torch.save({"step": step + 1, "model": model.state_dict(), "averaged": averaged.state_dict(),
                        "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}, file)  # fmt: skip
            if report:
                report(step + 1, averaged.module)
    return averaged.module.eval()


def note(name: str, **figures) -> None:
    """Keep what a script measured in data/make/build/figures.json, for the cards."""
    file = BUILD / "figures.json"
    known = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**known, name: figures}, indent=1))
