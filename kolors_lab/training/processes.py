"""What several processes (models/processes.py) that train one LoRA tell each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
