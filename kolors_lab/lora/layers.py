"""A LoRA in memory: what it adds to which layer, its strongest directions, and how peft describes it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch


class Layer(NamedTuple):
    """What a LoRA adds to one layer: alpha / rank · up @ down."""

    down: torch.Tensor  # A: (rank, in), of a convolution (rank, in, k, k)
    up: torch.Tensor  # B: (out, rank), of a convolution (out, rank, 1, 1)
    alpha: float | None  # None: the file does not say
    magnitude: torch.Tensor | None = None  # of a DoRA: the length of each of the layer's output rows

    @property
    def rank(self) -> int:
        return self.down.shape[0]

    def delta(self) -> torch.Tensor:
        """What a plain LoRA adds to the weight, in float32 and of its shape."""
        flat = self.up.float().flatten(1) @ self.down.float().flatten(1)
        return (self.alpha / self.rank * flat).reshape(len(self.up), *self.down.shape[1:])


class Lora(NamedTuple):
    """A LoRA: its layers by diffusers' names, and what its file says about itself."""

    layers: dict[str, Layer]
    header: dict[str, str]

    @property
    def dora(self) -> bool:
        return any(layer.magnitude is not None for layer in self.layers.values())


def strongest(up: torch.Tensor, down: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The nearest product up @ down, (out, n) and (n, in), of at most `rank` directions, and all its singular values.

    U √S and √S V of its SVD, found in the few rows and columns instead of the whole matrix.
    """
    import torch

    left, upper = torch.linalg.qr(up)
    right, lower = torch.linalg.qr(down.T)
    u, s, v = torch.linalg.svd(upper @ lower.T, full_matrices=False)
    root = s[:rank].sqrt()
    return left @ u[:, :rank] * root, (right @ v.T[:, :rank] * root).T, s


def adapter_config(lora: Lora) -> dict[str, Any]:
    """peft's settings for this LoRA: those of most layers, and patterns for the others. No more than old peft knows."""
    rank, alpha = Counter((layer.rank, layer.alpha) for layer in lora.layers.values()).most_common(1)[0][0]
    config = {"r": rank, "lora_alpha": alpha, "target_modules": sorted(lora.layers)}
    config["rank_pattern"] = {name: layer.rank for name, layer in lora.layers.items() if layer.rank != rank}
    config["alpha_pattern"] = {name: layer.alpha for name, layer in lora.layers.items() if layer.alpha != alpha}
    return config | ({"use_dora": True} if lora.dora else {})
