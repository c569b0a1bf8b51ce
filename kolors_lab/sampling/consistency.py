"""One heroine in all panels: every panel looks at the first while it is drawn (StyleAligned).

In each self-attention the queries and keys of a panel take on the mean and spread of the anchor's, and the anchor's
keys and values stand beside its own. The panels of one batch share nothing but the anchor, the first of them, so a
panel comes out the same whichever others are drawn with it.

Reference: StyleAligned https://arxiv.org/abs/2312.02133
"""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Any

from kolors_lab.core.errors import ModelError, check_number

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from diffusers import UNet2DConditionModel


class Shared:
    """A self-attention processor for any UNet of diffusers: batches hold `panels` pictures, the first is the anchor.

    With guidance the batch holds them twice. Of `strength` 1 the anchor's keys count like a panel's own, of 0.5 half as
    much; queries and keys go that far towards the anchor's mean and spread. The anchor itself comes out as it would
    alone.
    """

    def __init__(self, panels: int, strength: float):
        self.panels, self.strength = panels, strength

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        *args: Any,
        **options: Any,
    ) -> torch.Tensor:
        import torch
        from torch.nn.functional import scaled_dot_product_attention

        if len(hidden_states) % self.panels:
            count = len(hidden_states)
            raise ModelError(
                "{count} pictures reach the attention, no multiple of {panels}", count=count, panels=self.panels
            )
        heads, tokens = attn.heads, hidden_states.shape[1]
        query, key, value = (
            part(hidden_states).unflatten(-1, (heads, -1)).transpose(1, 2) for part in (attn.to_q, attn.to_k, attn.to_v)
        )  # B, heads, tokens, width
        query, key = (self.towards_anchor(part) for part in (query, key))
        keys, values = (torch.cat([part, self.anchor(part)], 2) for part in (key, value))
        # exp(log strength) = strength: so much a look at the anchor weighs against one at a panel's own tokens
        bias = torch.zeros(1, 1, 1, 2 * tokens, device=query.device, dtype=query.dtype)
        bias[..., tokens:] = math.log(self.strength)
        mixed = scaled_dot_product_attention(query, keys, values, attn_mask=bias, scale=attn.scale)
        mixed = attn.to_out[1](attn.to_out[0](mixed.transpose(1, 2).flatten(2)))
        mixed = mixed + hidden_states if attn.residual_connection else mixed
        return mixed / attn.rescale_output_factor

    def anchor(self, states: torch.Tensor) -> torch.Tensor:
        """(B, …) with every picture replaced by the anchor of its half."""
        first = states.unflatten(0, (-1, self.panels))[:, :1]
        return first.expand(-1, self.panels, *first.shape[2:]).flatten(0, 1)

    def towards_anchor(self, states: torch.Tensor) -> torch.Tensor:
        """AdaIN: mean and spread over the tokens, (B, heads, tokens, width), go towards the anchor's."""
        mean, spread = states.mean(2, keepdim=True), states.std(2, keepdim=True) + 1e-5
        like = (states - mean) / spread * self.anchor(spread) + self.anchor(mean)
        return states + self.strength * (like - states)


@contextlib.contextmanager
def sharing(unet: UNet2DConditionModel, panels: int, strength: float) -> Iterator[None]:
    """While it lasts the UNet draws batches of `panels` pictures that look at their first; strength 0 changes nothing.

    Works on any UNet whose self-attentions are called attn1, SDXL's and Kolors'. Raises SettingError.
    """
    check_number("consistency", strength, 0, 1)
    if not strength or panels < 2:
        yield
        return
    before = dict(unet.attn_processors)
    shared = {name: Shared(panels, strength) if ".attn1." in name else old for name, old in before.items()}
    unet.set_attn_processor(dict(shared))  # it empties the dict that it is given
    try:
        yield
    finally:
        unet.set_attn_processor(before)
