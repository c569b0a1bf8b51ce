"""LoHa and LoKr, two other ways to write a change of weights in few numbers, as the plain LoRA that they are; and a
change that is written whole, where a plain LoRA holds all of it.

    LoHa  ΔW = (w1a · w1b) ∘ (w2a · w2b) · alpha / rank     element by element  https://arxiv.org/abs/2108.06098
    LoKr  ΔW = w1 ⊗ w2 · alpha / rank                       Kronecker's product https://arxiv.org/abs/2309.14859
    full  ΔW = diff                                         LyCORIS' `full`, ComfyUI's `full_diff`; no alpha

as peft's, LyCORIS' and ComfyUI's own code has it. A LoHa of rank r is a LoRA of rank r²; the best LoRA of a LoKr
follows from the singular values of its two factors, the big matrix never being made.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from kolors_lab.core.language import _
from kolors_lab.lora.layer_names import kernel
from kolors_lab.lora.layers import Layer, strongest

if TYPE_CHECKING:
    import torch

    Parts = dict[str, torch.Tensor]  # a layer's tensors, by the ends of their names

LYCORIS = (  # ends of their tensors' names
    "hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2",
    "lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t1", "lokr_t2",
)  # fmt: skip
WHOLE = "diff"  # the end of the name of a change that is written whole
MOST = 2**26  # weights of the largest layer that is unfolded; Kolors' largest has 29.5 million
EXACT = 1e-5  # what float32's rounding makes of a change that lies within the directions
SPARE = 8  # directions more than are wanted: without them a change of just that rank was missed every other time
NOTHING = 1e-7  # a direction weaker than this beside the strongest is float32's rounding


def plain(name: str, parts: Parts, alpha: float | None, rank: float | None, limit: int) -> tuple[Layer, float]:
    """The layer as a LoRA of at most `limit` directions, and the share of ΔW (Frobenius norm) that these cannot hold.

    `alpha` and `rank` are what the file says; without them the effect is not scaled, as in LyCORIS' full matrices.
    Raises ValueError for parts that do not fit each other and KeyError for one that is missing.
    """
    parts = {part: tensor.float() for part, tensor in parts.items()}
    change = _loha if "hada_w1_a" in parts else _lokr
    up, down, shape, lost, dim = change(name, parts, limit)
    dim = rank or dim
    scale = alpha / dim if alpha is not None and dim else 1.0
    return _layer(up, down * scale, shape), lost


def whole(name: str, change: torch.Tensor, limit: int) -> Layer | None:
    """A change that is written whole as a LoRA of at most `limit` directions; None where these cannot hold all of it.

    Raises ValueError for what is no layer's change.
    """
    import torch

    flat = change.float().flatten(1) if change.ndim in (2, 4) else change.new_zeros(0, 0)
    out, into = flat.shape
    _bounded(out, into)
    shape = _shape(name, change if change.ndim == 4 and kernel(name) else None, into)
    up, down = (flat, torch.eye(into)) if into <= out else (torch.eye(out), flat)
    if min(out, into) > limit:  # randomized range finder, with directions to spare: https://arxiv.org/abs/0909.4061
        seen = flat @ torch.randn(into, limit + SPARE, generator=torch.Generator().manual_seed(0))
        basis, _ = torch.linalg.qr(seen)
        up, down, values = strongest(basis, basis.T @ flat, limit)
        if not (flat - up @ down).norm() <= EXACT * flat.norm():
            return None
        rank = max(1, int((values[:limit] > 10 * NOTHING * values[0]).sum()))
        up, down = up[:, :rank], down[:rank]
    return _layer(up, down, shape)


def _layer(up: torch.Tensor, down: torch.Tensor, shape: tuple[int, ...]) -> Layer:
    """up (out, rank) and down (rank, in) in the shapes of a layer with inputs of this shape; alpha is taken in."""
    up = up.reshape(*up.shape, *(1,) * (len(shape) - 1))
    return Layer(down.reshape(len(down), *shape).contiguous(), up.contiguous(), float(len(down)))


def _loha(name: str, parts: Parts, limit: int) -> tuple[torch.Tensor, torch.Tensor, tuple[int, ...], float, int]:
    import torch

    (a1, b1), (a2, b2) = (_factors(parts, f"hada_w{n}", f"hada_t{n}") for n in (1, 2))
    if a1.shape != a2.shape or b1.shape != b2.shape:
        shapes = ", ".join(str(tuple(half.shape)) for half in (a1, a2, b1, b2))
        raise ValueError(_("halves of shapes {shapes}").format(shapes=shapes))
    (out, rank), into = a1.shape, b1.flatten(1).shape[1]
    _bounded(out, into)
    b1, b2 = b1.flatten(1), b2.flatten(1)
    if rank * rank < min(out, into):  # each row of (A1 B1) ∘ (A2 B2) is one of A1's kron one of A2's, likewise columns
        up = torch.einsum("or,os->ors", a1, a2).flatten(1)
        down = torch.einsum("ri,si->rsi", b1, b2).flatten(0, 1)
    else:
        up, down = (a1 @ b1) * (a2 @ b2), torch.eye(into)
        up, down = (up, down) if into <= out else (torch.eye(out), up)
    lost = 0.0
    if up.shape[1] > limit:
        up, down, values = strongest(up, down, limit)
        lost = _lost(values, limit)
    dim = parts["hada_w1_b"].shape[0]
    return up, down, _shape(name, parts.get("hada_t1"), into), lost, dim


def _lokr(name: str, parts: Parts, limit: int) -> tuple[torch.Tensor, torch.Tensor, tuple[int, ...], float, int]:
    import torch

    w1, dim1 = _whole(parts, "lokr_w1", "lokr_t1")
    w2, dim2 = _whole(parts, "lokr_w2", "lokr_t2")
    if w1.ndim != 2:
        raise ValueError(_("a first factor of shape {shape}").format(shape=tuple(w1.shape)))
    _bounded(w1.shape[0] * w2.shape[0], w1.shape[1] * w2.flatten(1).shape[1])
    u1, s1, v1 = torch.linalg.svd(w1, full_matrices=False)
    u2, s2, v2 = torch.linalg.svd(w2.flatten(1), full_matrices=False)
    strength = torch.outer(s1, s2).flatten()  # the product's singular values are those of the factors, each by each
    order = strength.argsort(descending=True, stable=True)
    kept = order[: max(1, min(limit, int((strength > NOTHING * strength.max()).sum())))]
    first, second = kept // len(s2), kept % len(s2)
    root = strength[kept].sqrt()
    up = torch.einsum("an,cn->acn", u1[:, first], u2[:, second]).flatten(0, 1) * root
    down = torch.einsum("nb,nd->nbd", v1[first], v2[second]).flatten(1) * root[:, None]
    shape = _shape(name, w2 if w2.ndim == 4 else None, down.shape[1])
    return up, down, shape, _lost(strength, len(kept)), dim1 or dim2


def _factors(parts: Parts, side: str, core: str) -> tuple[torch.Tensor, torch.Tensor]:
    """A (out, rank) and B (rank, in, …) of one matrix; Tucker's core goes into B."""
    import torch

    a, b = parts[f"{side}_a"], parts[f"{side}_b"]
    if core in parts:
        a, b = a.T, torch.einsum("ijkl,jr->irkl", parts[core], b)
    if a.ndim != 2 or a.shape[1] != b.shape[0]:
        raise ValueError(_("parts of shapes {one} and {other}").format(one=tuple(a.shape), other=tuple(b.shape)))
    return a, b


def _whole(parts: Parts, side: str, core: str) -> tuple[torch.Tensor, int]:
    """One factor as a matrix or kernel, and the rank it is made of, 0 for one that was learned whole."""
    if side in parts:
        return parts[side], 0
    a, b = _factors(parts, side, core)
    _bounded(a.shape[0], b.flatten(1).shape[1])
    return (a @ b.flatten(1)).reshape(a.shape[0], *b.shape[1:]), parts[f"{side}_b"].shape[0]


def _lost(strength: torch.Tensor, kept: int) -> float:
    squares = strength.double().square().sort(descending=True).values
    total = squares.sum().item()
    lost = math.sqrt(squares[kept:].sum().item() / total) if total else 0.0
    return lost if lost > NOTHING * 10 else 0.0


def _shape(name: str, core: torch.Tensor | None, into: int) -> tuple[int, ...]:
    """(in,) or (in, k, k), where `into` = in · k · k; a flattened kernel's size follows from the layer's name."""
    size = tuple(core.shape[2:]) if core is not None else kernel(name)
    area = math.prod(size)
    if into % area:
        raise ValueError(_("{count} numbers a row, which is no kernel of {size}").format(count=into, size=size))
    return (into // area, *size)


def _bounded(out: int, into: int) -> None:
    if not 0 < out * into <= MOST:
        raise ValueError(_("a layer of {out:,} x {into:,}, larger than any of Kolors").format(out=out, into=into))
