"""Muon (Jordan et al. 2024) for the matrices and kernels of a model, AdamW for the rest."""

import torch
from torch.optim import _muon


def as_matrix(kernel: torch.Tensor) -> torch.Tensor:
    """A matrix or (out, in, h, w) kernel as (out, rest); for a channels-last kernel the order that needs no copy."""
    return kernel.permute(0, 2, 3, 1).flatten(1) if kernel.ndim == 4 else kernel


def orthogonal(grad: torch.Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> torch.Tensor:
    """The nearest (semi-)orthogonal matrix, by Muon's Newton-Schulz iteration, in float32.

    Torch's own computes in bfloat16, which costs a CPU without it more than the whole training step. Every step
    multiplies by a polynomial in the Gram matrix; for wide matrices these small factors are multiplied among
    themselves first, so that the wide one is touched twice and not ten times.
    """
    wide = grad if len(grad) <= grad.shape[1] else grad.T
    wide = wide / wide.norm().clamp(min=eps)
    gram = wide @ wide.T
    factor = polynomial = _polynomial(gram, coefficients)
    for _ in range(steps - 1):
        gram = polynomial @ gram @ polynomial
        polynomial = _polynomial(gram, coefficients)
        factor = polynomial @ factor
    wide = factor @ wide
    return wide if len(grad) <= grad.shape[1] else wide.T


def _polynomial(gram: torch.Tensor, coefficients: tuple[float, float, float]) -> torch.Tensor:
    a, b, c = coefficients
    return torch.addmm(gram, gram, gram, beta=b, alpha=c) + a * torch.eye(len(gram), device=gram.device)


_muon._zeropower_via_newtonschulz = orthogonal


def matrices(part: torch.nn.Module) -> list[torch.nn.Parameter]:
    """The kernels and matrices that Muon trains: not those that read or write a few channels."""
    return [p for p in part.parameters() if p.requires_grad and p.ndim in (2, 4) and min(p.shape[:2]) >= 16]


class Optimizer:
    """AdamW; and Muon for the parameters in `hidden`, if any. The rate is given with every step.

    Torch's Muon takes matrices only, so the kernels of the channels-last model are handed to it as views.
    """

    def __init__(self, model: torch.nn.Module, hidden: list[torch.nn.Parameter], weight_decay: float = 0.01):
        self.pairs = [(p, torch.nn.Parameter(as_matrix(p.data))) for p in hidden]
        if any(p.data_ptr() != matrix.data_ptr() for p, matrix in self.pairs):
            raise ValueError("the model must be channels-last: a copied kernel would never be trained")
        chosen = {id(p) for p in hidden}
        rest = [p for p in model.parameters() if p.requires_grad and id(p) not in chosen]
        self.parts = [torch.optim.AdamW(rest, betas=(0.9, 0.99), weight_decay=weight_decay, fused=True)]
        if hidden:
            views = [matrix for _, matrix in self.pairs]
            self.parts.append(torch.optim.Muon(views, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"))

    def step(self, rate: float) -> None:
        for parameter, matrix in self.pairs:
            matrix.grad = None if parameter.grad is None else as_matrix(parameter.grad)
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = rate
            part.step()

    def state_dict(self) -> dict:
        return dict(enumerate(part.state_dict() for part in self.parts))

    def load_state_dict(self, state: dict) -> None:
        for part, kept in zip(self.parts, state.values(), strict=True):
            part.load_state_dict(kept)
