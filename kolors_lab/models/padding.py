"""A prompt has 256 places, most of them padding, and Kolors masks none: its UNet reads one vector over and over again.
Here it reads that once.

In attention, n places of one key and value are worth one of them with log n added to its score, since
exp(score + log n) = n exp(score): the same numbers but for float32's rounding, 2e-6 at most. On tiny-kolors a step of
drawing then takes 0.72 and a step of training 0.80 of the processor time (benchmarks/README.md). In 16 bit log n itself
would be rounded, and what a GPU would gain is not known, so there all places are read.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    import torch
    from diffusers.models.attention_processor import Attention

READ = "encoder_hidden_states"
_attentions: WeakKeyDictionary[torch.nn.Module, list[Attention]] = WeakKeyDictionary()  # of a model and of its copies


class Repeated:
    """diffusers' attention, in which the first place of the text stands for `repeats` places."""

    def __call__(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
        repeats: int = 1,
    ) -> torch.Tensor:
        from diffusers.models.attention_processor import AttnProcessor2_0

        if encoder_hidden_states is not None and repeats > 1:
            attention_mask = hidden_states.new_zeros(len(hidden_states), 1, encoder_hidden_states.shape[1])
            attention_mask[..., 0] = math.log(repeats)
        return AttnProcessor2_0()(attn, hidden_states, encoder_hidden_states, attention_mask, temb)


def read_padding_once(model: torch.nn.Module) -> None:
    """Have a UNet or ControlNet of diffusers, in float32 on a CPU, read a text's padding once, whoever calls it.

    All places are read where somebody else's attention is at work (an IP-Adapter, attention shared between panels) or a
    mask is given.
    """
    from diffusers.models.attention_processor import AttnProcessor2_0

    for attention in _attentions_of(model):
        if type(attention.processor) is AttnProcessor2_0:
            attention.set_processor(Repeated())
    model.register_forward_pre_hook(_fold, with_kwargs=True)


def _fold(model: torch.nn.Module, args: tuple, options: dict[str, Any]) -> tuple[tuple, dict[str, Any]] | None:
    """`model(sample, time, text, …)` with less of a text; None to leave it as it is."""
    import torch

    text = args[2] if len(args) > 2 else options.get(READ)
    asked = options.get("cross_attention_kwargs") or options.get("encoder_attention_mask") is not None
    if text is None or asked or text.dtype != torch.float32 or text.device.type != "cpu":
        return None
    if any(type(attention.processor) is not Repeated for attention in _attentions_of(model)):
        return None
    short, repeats = folded(text)
    options = {**options, "cross_attention_kwargs": {"repeats": repeats}}
    return ((*args[:2], short, *args[3:]), options) if len(args) > 2 else (args, {**options, READ: short})


def _attentions_of(model: torch.nn.Module) -> list[Attention]:
    from diffusers.models.attention_processor import Attention

    if model not in _attentions:
        _attentions[model] = [module for module in model.modules() if isinstance(module, Attention)]
    return _attentions[model]


def folded(text: torch.Tensor) -> tuple[torch.Tensor, int]:
    """A text (B, places, hidden) from the last of the places on that hold one vector in every row of the batch, and how
    many such places there are, 1 at least."""
    same = (text == text[:, :1]).all(dim=-1).all(dim=0)
    repeats = max(1, int(same.cumprod(0).sum()))  # a NaN is not equal to itself
    return text[:, repeats - 1 :], repeats
