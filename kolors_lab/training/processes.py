"""Several processes, one for each GPU, that train one LoRA: `accelerate launch` starts them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from kolors_lab.models.device import pick_device

if TYPE_CHECKING:
    import torch
    from accelerate import PartialState


def mean_over(processes: PartialState, tensors: list[torch.Tensor]) -> None:
    """Put the mean over all processes in place of each tensor, all in one message."""
    import torch
    from accelerate.utils import reduce

    if processes.num_processes > 1:
        flat = reduce(torch.cat([tensor.flatten() for tensor in tensors]), "mean")
        for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(mean.view_as(tensor))


def any_of(processes: PartialState, flag: bool) -> bool:
    """Whether the flag is up in any process, so that all leave together."""
    import torch

    found = torch.tensor(float(flag), device=processes.device)
    mean_over(processes, [found])
    return found.item() > 0


def from_main(processes: PartialState, value: float) -> float:
    """The main process's value, in every process: what hangs on it is decided once for all."""
    import torch
    from accelerate.utils import broadcast

    if processes.num_processes == 1:
        return value
    return broadcast(torch.tensor(value, dtype=torch.float64, device=processes.device)).item()


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
