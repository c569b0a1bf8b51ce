"""Several processes, one for each GPU, that share one command's work: `accelerate launch -m kolors_lab …` starts them.

What is drawn or scored is shared out, each process for itself; what is written from all of it is written by the main
process first, and the others find it made.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from kolors_lab.models.device import pick_device

if TYPE_CHECKING:
    from accelerate import PartialState


def is_alone() -> bool:
    """Whether no other process does the same; asked without loading torch, as is_main."""
    return os.environ.get("WORLD_SIZE", "1") == "1"


def is_main() -> bool:
    """Whether this process speaks for all."""
    return os.environ.get("RANK", "0") == "0"


def start_processes() -> PartialState:
    """One process for each GPU where `accelerate launch` started several, else this one alone on the best device."""
    import torch
    from accelerate import PartialState

    if "LOCAL_RANK" in os.environ and torch.cuda.is_available():
        # before anything computes: each process would open a context, half a GiB, on the first GPU
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    processes = PartialState(cpu=pick_device().type == "cpu")
    if processes.num_processes == 1:
        processes.device = pick_device()
    return processes
