"""What goes from node to node, beside pictures and numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from kolors_lab.comfy.nodes.control import Hint
    from kolors_lab.lora.adapter import Chain


def in_turn(rows: torch.Tensor, count: int) -> torch.Tensor:
    """(count, …): the rows one after the other, and from the first on again."""
    return rows[[n % len(rows) for n in range(count)]]


@dataclass(frozen=True)
class Prompt:
    """What an encoding node gives: embeddings (B, 256, hidden), pooled (B, hidden), and what else belongs to it."""

    embeds: torch.Tensor
    pooled: torch.Tensor
    ids: tuple[int, ...] | None = None  # height, width, crop top and left, target height and width, in px
    hints: tuple[Hint, ...] = ()

    def fill(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings and pooled for `count` pictures, the prompts in turn."""
        return in_turn(self.embeds, count), in_turn(self.pooled, count)


@dataclass(frozen=True)
class Latent:
    """Latents (B, 4, h, w) in the model's scale, and the mask (B, H, W), 0 to 1, in which alone they are drawn anew."""

    samples: torch.Tensor
    mask: torch.Tensor | None = None


@dataclass(frozen=True)
class Guider:
    """What is asked at each step: the model's chain of LoRAs, two prompts, how much one counts (cfg 1: alone)."""

    chain: Chain
    prompt: Prompt
    negative: Prompt
    cfg: float
