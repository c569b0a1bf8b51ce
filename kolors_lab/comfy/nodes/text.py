"""Nodes that make a text what the model reads."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from kolors_lab.comfy.registry import (
    ChatGlm,
    Clip,
    Conditioning,
    Count,
    DynamicText,
    KolorsEmbeds,
    Link,
    Place,
    Size,
    Syntax,
    Text,
    node,
)  # fmt: skip
from kolors_lab.comfy.values import Prompt
from kolors_lab.sampling.text import encode_text

if TYPE_CHECKING:
    from kolors_lab.comfy.executor import Workbench

Projection = Annotated[Any, Link("TorchLinear")]


def _encode(bench: Workbench, text: str, syntax: str, ids: tuple[int, ...] | None = None) -> tuple[Prompt]:
    return (Prompt(*encode_text(bench.pipe, text, syntax), ids),)


@node("CLIPTextEncode", outputs=("CONDITIONING",))
def clip_text(bench: Workbench, *, text: DynamicText, clip: Clip, prompt_syntax: Syntax = "comfyui") -> tuple[Prompt]:
    return _encode(bench, text, prompt_syntax)


@node("MZ_ChatGLM3_V2", outputs=("CONDITIONING",))
def mz_text(
    bench: Workbench, *, chatglm3_model: ChatGlm, text: DynamicText, prompt_syntax: Syntax = "comfyui"
) -> tuple[Prompt]:
    return _encode(bench, text, prompt_syntax)


@node("MZ_ChatGLM3", outputs=("CONDITIONING",))
def mz_text_first(
    bench: Workbench, *, chatglm3_model: ChatGlm, text: DynamicText, hid_proj: Projection,
    prompt_syntax: Syntax = "comfyui",
) -> tuple[Prompt]:  # fmt: skip
    return _encode(bench, text, prompt_syntax)


@node("MZ_ChatGLM3_Advance_V2", outputs=("CONDITIONING",))
def mz_text_with_size(
    bench: Workbench, *, chatglm3_model: ChatGlm, text: DynamicText, width: Size = 1024, height: Size = 1024,
    crop_w: Place = 0, crop_h: Place = 0, target_width: Size = 1024, target_height: Size = 1024,
    prompt_syntax: Syntax = "comfyui",
) -> tuple[Prompt]:  # fmt: skip
    return _encode(bench, text, prompt_syntax, (height, width, crop_h, crop_w, target_height, target_width))


@node("KolorsTextEncode", outputs=("KOLORS_EMBEDS",))
def kijai_text(
    bench: Workbench, *, chatglm3_model: ChatGlm, prompt: Text, negative_prompt: Text = "",
    num_images_per_prompt: Count = 1,
) -> tuple[tuple[Prompt, Prompt]]:  # fmt: skip
    """Both prompts at once; a `|` parts several prompts, each drawn `num_images_per_prompt` times."""
    import torch

    each = [_encode(bench, text, "plain")[0] for text in prompt.split("|")]
    embeds = torch.cat([one.embeds for one in each]).repeat_interleave(num_images_per_prompt, 0)
    pooled = torch.cat([one.pooled for one in each]).repeat_interleave(num_images_per_prompt, 0)
    return ((Prompt(embeds, pooled), *_encode(bench, negative_prompt, "plain")),)


@node("MZ_ChatGLM3Embeds2Conditioning", outputs=("CONDITIONING", "CONDITIONING"))
def kijai_text_for_comfyui(
    bench: Workbench, *, kolors_embeds: KolorsEmbeds, width: Size = 1024, height: Size = 1024, crop_w: Place = 0,
    crop_h: Place = 0, target_width: Size = 1024, target_height: Size = 1024,
) -> tuple[Prompt, Prompt]:  # fmt: skip
    """kijai's two prompts as ComfyUI's; the sizes are told with the positive one only."""
    ids = (height, width, crop_h, crop_w, target_height, target_width)
    return replace(kolors_embeds[0], ids=ids), kolors_embeds[1]


@node("ConditioningZeroOut", outputs=("CONDITIONING",))
def zero_out(bench: Workbench, *, conditioning: Conditioning) -> tuple[Prompt]:
    """A prompt of nothing but zeros, which is not the empty prompt."""
    return (replace(conditioning, embeds=conditioning.embeds * 0, pooled=conditioning.pooled * 0),)
