"""Which processor computes, and in which number type."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from diffusers import KolorsPipeline


def pick_device() -> torch.device:
    """CUDA where a real operation works on it, else the CPU; of cards of different size the largest, by its number, for
    diffusers takes a card without one for the first.

    An old GPU (a P100) calls itself available and fails only when used.
    """
    import torch

    if torch.cuda.is_available():
        try:
            _take_largest()
            ones = torch.ones(8, 8, device="cuda")
            if (ones @ ones).sum().item() == 512:
                return torch.device("cuda", torch.cuda.current_device())
        except RuntimeError:
            pass
    return torch.device("cpu")


def _take_largest() -> None:
    """Make the card of most memory the current one, the first of equals, unless `accelerate launch` gave this process
    its own. CUDA_VISIBLE_DEVICES hides those that are not to be taken."""
    import torch

    sizes = [torch.cuda.get_device_properties(n).total_memory for n in range(torch.cuda.device_count())]
    if len(set(sizes)) > 1 and "LOCAL_RANK" not in os.environ:
        torch.cuda.set_device(sizes.index(max(sizes)))


def pick_dtype(device: torch.device | str) -> torch.dtype:
    """float32 on a CPU; bfloat16 on a GPU that computes in it (a T4 only pretends to), else float16."""
    import torch

    if torch.device(device).type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.get_device_capability(device)[0] >= 8 else torch.float16


def device_of(pipe: KolorsPipeline) -> torch.device:
    """Where a pipeline computes. Its `device` says CPU where its parts come to the GPU only when it is their turn."""
    return pipe._execution_device  # diffusers has no public name for this
