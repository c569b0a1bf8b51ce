"""What moves the weights: the optimiser, its learning rate and the pictures of each step, over the whole training.

A new optimiser is one line in OPTIMIZERS, a new schedule of diffusers one name in SCHEDULES.
"""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import TYPE_CHECKING

from kolors_lab.core.errors import SettingError, check_name

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from torch.optim.lr_scheduler import LRScheduler

    from kolors_lab.training.config import TrainConfig

OPTIMIZERS = {  # name: (class, its learning rate in multiples of AdamW's; None: it finds its own, times 1)
    "adamw": ("torch.optim.AdamW", 1.0),
    "adamw8bit": ("bitsandbytes.optim.AdamW8bit", 1.0),  # CUDA only
    "lion": ("pytorch_optimizer.Lion", 0.2),  # each of its steps has full size: its paper advises 3 to 10 times less
    "prodigy": ("pytorch_optimizer.Prodigy", None),
}
SCHEDULES = (  # diffusers' names, and torch's schedule that watches the loss
    "cosine", "cosine_with_restarts", "linear", "polynomial", "constant", "constant_with_warmup", "reduce_on_plateau",
)  # fmt: skip
LIBRARIES = ("torch.optim", "pytorch_optimizer", "bitsandbytes.optim")  # whose classes go by their dotted names


def parse_growth(text: str) -> list[tuple[float, int]]:
    """`0.5:2,0.8:4` → [(0.5, 2), (0.8, 4)]: from this part of the steps on that batch size. Raises SettingError."""
    try:
        pairs = [(float(a), int(b)) for a, b in (part.split(":") for part in text.split(",") if part.strip())]
        if not all(0 < fraction < 1 and size >= 1 for fraction, size in pairs) or pairs != sorted(pairs):
            raise ValueError
    except ValueError as error:
        raise SettingError(
            "batch_growth = {text!r}: must be like 0.5:2,0.8:4, fractions between 0 and 1 that rise, and batch sizes",
            text=text,
        ) from error
    return pairs


def batch_sizes(config: TrainConfig) -> list[int]:
    """The batch size of every step."""
    stages = [(0.0, config.batch_size), *parse_growth(config.batch_growth)]
    return [next(b for part, b in reversed(stages) if step >= part * config.steps) for step in range(config.steps)]


def peak_rate(optimizer: str, preset_rate: float) -> float:
    """The learning rate that suits the optimiser where AdamW wants the preset's."""
    factor = OPTIMIZERS.get(optimizer, ("", 1.0))[1]
    return 1.0 if factor is None else factor * preset_rate


def check_optimizer(name: str) -> None:
    """Raise SettingError unless it is one of OPTIMIZERS or the dotted name of a class in one of LIBRARIES.

    Of no other module: the name may come from a run folder that somebody else made, and importing runs code.
    """
    if str(name) not in OPTIMIZERS and str(name).rpartition(".")[0] not in LIBRARIES:
        check_name("optimizer", name, [*OPTIMIZERS, *(f"{library}.NAME" for library in LIBRARIES)])


def find_optimizer(name: str) -> Callable[..., torch.optim.Optimizer]:
    """The optimiser's class. Raises SettingError where its package is missing or holds no such class."""
    import torch

    check_optimizer(name)
    dotted = OPTIMIZERS.get(name, (name,))[0]
    package, _, last = dotted.rpartition(".")
    try:
        found = getattr(import_module(package), last, None)
    except ImportError as error:
        root = package.split(".")[0]
        raise SettingError(
            "optimizer = {name}: needs the package {root}; install it: pip install {root}", name=name, root=root
        ) from error
    if not (inspect.isclass(found) and issubclass(found, torch.optim.Optimizer)):
        raise SettingError(
            "optimizer = {name}: {package} has no optimizer called {last}", name=name, package=package, last=last
        )
    closure = inspect.signature(found.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise SettingError(
            "optimizer = {name}: computes the loss several times a step, which this training does not", name=name
        )
    return found


def make_optimizer(config: TrainConfig, weights: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """The config's optimiser over the weights. SettingError for settings that it refuses."""
    import torch

    kind, options = find_optimizer(config.optimizer), {"lr": config.learning_rate}
    if config.weight_decay is not None:
        options["weight_decay"] = config.weight_decay
    if kind is torch.optim.AdamW:
        options["fused"] = True  # one call for all weights: a LoRA has hundreds of small ones
    try:
        return kind(weights, **options)
    except (TypeError, ValueError, RuntimeError) as error:
        raise SettingError(
            "optimizer = {name}: cannot be made with {options} ({error})",
            name=config.optimizer,
            options=options,
            error=error,
        ) from error


def make_schedule(config: TrainConfig, optimizer: torch.optim.Optimizer) -> LRScheduler:
    """The config's learning-rate schedule; `advance` takes it on."""
    from diffusers.optimization import get_scheduler
    from torch.optim.lr_scheduler import ReduceLROnPlateau

    if config.lr_scheduler == "reduce_on_plateau":
        return ReduceLROnPlateau(optimizer, factor=0.5, patience=max(10, config.steps // 20))
    settings = {"num_warmup_steps": config.lr_warmup_steps, "num_training_steps": config.steps}
    return get_scheduler(config.lr_scheduler, optimizer, **settings)


def advance(schedule: LRScheduler, value: float) -> None:
    """Take the schedule one step on; one that watches the loss is told its running mean, `value`."""
    from torch.optim.lr_scheduler import ReduceLROnPlateau

    if isinstance(schedule, ReduceLROnPlateau):
        schedule.step(value)
    else:
        schedule.step()
