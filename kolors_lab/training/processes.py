"""Several processes, one for each card, that train one LoRA: `accelerate launch` starts them."""

from __future__ import annotations

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


def start_processes() -> PartialState:
    """One process for each card where `accelerate launch` started several, else this one alone on the best device."""
    from accelerate import PartialState

    processes = PartialState(cpu=pick_device().type == "cpu")
    if processes.num_processes == 1:
        processes.device = pick_device()
    return processes
