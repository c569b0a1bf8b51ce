"""One name for each layer of Kolors' UNet, diffusers', from those that other programs' LoRA files give it:

    diffusers       unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q
    kohya, ComfyUI  lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q
                    lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q     the same in SDXL's own names
    DiffSynth       blocks.7.transformer_blocks.0.attn1.to_q

and with the names of whatever held the UNet in front: base_model.model. (peft), diffusion_model. (ComfyUI), lycoris_,
transformer., module., _orig_mod. (torch.compile). What is then no layer of such a UNet is none of ours.

diffusers can convert the second and third, by functions that are private and not the same in every release; 0.42.1
renames all of the UNet's blocks as is done here, but not add_embedding and encoder_hid_proj.
"""

from __future__ import annotations

import re
from functools import cache
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# The underscores that stay where kohya has turned every dot into one.
WORDS = re.compile(
    "((?:down|up|input|output|transformer)_blocks|mid_block|middle_block|to_[qkv]|to_out|proj_in|proj_out|time_emb_proj"
    "|conv_shortcut|conv_in|conv_out|(?:in|out|emb)_layers|skip_connection|time_embedding|add_embedding|linear_[12]"
    "|time_embed|label_emb|encoder_hid_proj)|_"
)
ENDS = {  # SDXL's and DiffSynth's names of a layer within its part, where they are not diffusers'
    "in_layers.2": "conv1",
    "out_layers.3": "conv2",
    "emb_layers.1": "time_emb_proj",
    "skip_connection": "conv_shortcut",
    "op": "conv",
    "to_out": "to_out.0",
    "act_fn.proj": "ff.net.0.proj",
    "ff": "ff.net.2",
}
OUTSIDE = {  # layers of SDXL that are in no block
    "input_blocks.0.0": "conv_in",
    "out.2": "conv_out",
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
}
FLAT = re.compile(r"(?:lora|lycoris)_(?:(?:unet|transformer)_)?")  # before a name whose dots are underscores
HOLDERS = re.compile(r"(?:(?:base_model|model|unet|diffusion_model|transformer|module|_orig_mod|pipe|lycoris)\.)+")
TEXT_ENCODER = re.compile(  # CLIP's, and ChatGLM's own, by the names that trainers give them
    r"(?:lora|lycoris)_te\d?_|(?:base_model\.model\.)?(?:text_encoder(?:_\d)?|text_model|te\d?|clip_[lg]|conditioner|"
    r"cond_stage_model|encoder\.layers)\.|(?:lora|lycoris)_text_"
)
LAYER = re.compile(  # what a UNet2DConditionModel of attention and resnets has to offer
    r"(?:(?:down_blocks|up_blocks)\.\d{1,2}|mid_block)\.(?:"
    r"resnets\.\d{1,2}\.(?:conv1|conv2|conv_shortcut|time_emb_proj)|(?:down|up)samplers\.0\.conv|"
    r"attentions\.\d{1,2}\.(?:proj_in|proj_out|transformer_blocks\.\d{1,2}\."
    r"(?:attn[12]\.(?:to_[qkv]|to_out\.0)|ff\.net\.(?:0\.proj|2))))|"
    r"conv_in|conv_out|time_embedding\.linear_[12]|add_embedding\.linear_[12]|encoder_hid_proj"
)


def layer_name(name: str) -> str | None:
    """diffusers' name of a layer of Kolors' UNet from any format's; None for one that it does not know."""
    if flat := FLAT.match(name):
        name = WORDS.sub(lambda match: match[1] or ".", name[flat.end() :])
    name = unheld(name)
    name = name.replace(".processor.", ".")
    name = re.sub(rf"\.({'|'.join(map(re.escape, ENDS))})$", lambda match: f".{ENDS[match[1]]}", name)
    name = OUTSIDE.get(name, name)
    if match := re.match(r"((?:input_|output_)?blocks\.\d+(?:\.\d+)?|middle_block\.\d+)\.(.+)", name):
        name = f"{elsewhere().get(match[1])}.{match[2]}"
    return name if LAYER.fullmatch(name) else None


def unheld(name: str) -> str:
    """A name without those of what held the UNet: unet.down_blocks.1 → down_blocks.1."""
    return name[holder.end() :] if (holder := HOLDERS.match(name)) else name


def kernel(name: str) -> tuple[int, ...]:
    """Height and width of a convolution's kernel, by its name; () for a linear layer."""
    if name.endswith("conv_shortcut"):
        return 1, 1
    return (3, 3) if re.search(r"(?:^|\.)conv(?:_in|_out|\d)?$", name) else ()


@cache
def elsewhere() -> dict[str, str]:
    """SDXL's and DiffSynth's names of the parts of Kolors' UNet, to diffusers'."""
    return {other: part for part, *others in unet_parts() for other in others}


def unet_parts(layers: int = 2, attention: tuple[bool, ...] = (False, True, True)) -> Iterator[tuple[str, str, str]]:
    """Every part of the UNet in order, by the names of diffusers, DiffSynth and SDXL.

    DiffSynth numbers one flat list in which each Push and Pop of a skip connection has a place too. SDXL counts input
    and output blocks, a resnet and what follows it being one. `attention`: which levels, outermost first, have any.
    """
    number, block, last = count(), count(1), len(attention) - 1
    for level, attends in enumerate(attention):
        for n in range(layers):
            here = next(block)
            yield f"down_blocks.{level}.resnets.{n}", f"blocks.{next(number)}", f"input_blocks.{here}.0"
            if attends:
                yield f"down_blocks.{level}.attentions.{n}", f"blocks.{next(number)}", f"input_blocks.{here}.1"
            next(number)  # Push
        if level < last:
            yield f"down_blocks.{level}.downsamplers.0", f"blocks.{next(number)}", f"input_blocks.{next(block)}.0"
            next(number)  # Push
    for n, part in enumerate(("resnets.0", "attentions.0", "resnets.1")):
        yield f"mid_block.{part}", f"blocks.{next(number)}", f"middle_block.{n}"
    block = count()
    for level, attends in enumerate(reversed(attention)):
        for n in range(layers + 1):
            here = next(block)
            next(number)  # Pop
            yield f"up_blocks.{level}.resnets.{n}", f"blocks.{next(number)}", f"output_blocks.{here}.0"
            if attends:
                yield f"up_blocks.{level}.attentions.{n}", f"blocks.{next(number)}", f"output_blocks.{here}.1"
        if level < last:
            yield f"up_blocks.{level}.upsamplers.0", f"blocks.{next(number)}", f"output_blocks.{here}.{1 + attends}"
