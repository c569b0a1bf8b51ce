"""Nodes that load: whatever weights they name, the pipeline's own are used; LoRAs become a chain on the model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from kolors_lab.comfy.registry import (
    Clip,
    KolorsModel,
    LoraFile,
    LoraStack,
    Model,
    Strength,
    Text,
    Weights,
    Widget,
    node,
)  # fmt: skip
from kolors_lab.lora.reading import read_lora

OnOff = Annotated[str, Widget(choices=("Off", "On"))]
CrStrength = Annotated[float, Widget(-10, 10)]
File1, File2, File3 = (Annotated[str, Widget(folder="loras", switch=f"switch_{n}")] for n in (1, 2, 3))
Row = Annotated[dict, Widget()]  # {"on": true, "lora": "a.safetensors", "strength": 1.0}


@node("DownloadAndLoadKolorsModel", outputs=("KOLORSMODEL",))
def kijai_model(bench: Any, *, model: Weights, precision: Text = "fp16") -> tuple:
    return ((),)


@node("DownloadAndLoadChatGLM3", outputs=("CHATGLM3MODEL",))
def kijai_text_encoder(bench: Any, *, precision: Text = "fp16") -> tuple:
    return (None,)


@node("LoadChatGLM3", outputs=("CHATGLM3MODEL",))
def kijai_text_encoder_file(bench: Any, *, chatglm3_checkpoint: Weights, precision: Text = "fp16") -> tuple:
    return (None,)


@node("MZ_ChatGLM3Loader", outputs=("CHATGLM3MODEL",))
def mz_text_encoder(bench: Any, *, chatglm3_checkpoint: Weights) -> tuple:
    return (None,)


@node("MZ_KolorsUNETLoaderV2", outputs=("MODEL",))
def mz_unet(bench: Any, *, unet_name: Weights) -> tuple:
    return ((),)


@node("MZ_KolorsUNETLoader", outputs=("MODEL", "TorchLinear"))
def mz_unet_first(bench: Any, *, unet_name: Weights) -> tuple:
    """Its first version handed the projection of the text over apart; here it is the UNet's own."""
    return (), None


@node("MZ_KolorsCheckpointLoaderSimple", outputs=("MODEL", "VAE"))
def mz_checkpoint(bench: Any, *, ckpt_name: Weights) -> tuple:
    return (), None


@node("CheckpointLoaderSimple", outputs=("MODEL", "CLIP", "VAE"))
def checkpoint(bench: Any, *, ckpt_name: Weights) -> tuple:
    return (), None, None


@node("UNETLoader", outputs=("MODEL",))
def unet(bench: Any, *, unet_name: Weights, weight_dtype: Text = "default") -> tuple:
    return ((),)


@node("VAELoader", outputs=("VAE",))
def vae(bench: Any, *, vae_name: Weights) -> tuple:
    return (None,)


# LoRAs ----------------------------------------------------------------------------------------------------------------


def _on(chain: tuple, file: Path | None, strength: float) -> tuple:
    return (*chain, (file, strength)) if file else chain


@node("LoraLoader", outputs=("MODEL", "CLIP"))
def lora(
    bench: Any, *, model: Model, clip: Clip = None, lora_name: LoraFile, strength_model: Strength = 1.0,
    strength_clip: Strength = 1.0,
) -> tuple:  # fmt: skip
    """A Kolors LoRA sits on the UNet only: the strength for the text encoder has nothing to act on."""
    return _on(model, lora_name, strength_model), clip


@node("LoraLoaderModelOnly", outputs=("MODEL",))
def lora_model_only(bench: Any, *, model: Model, lora_name: LoraFile, strength_model: Strength = 1.0) -> tuple:
    return (_on(model, lora_name, strength_model),)


@node("LoadKolorsLoRA", outputs=("KOLORSMODEL",))
def camp_lora(
    bench: Any, *, kolors_model: KolorsModel, lora_path: LoraFile,
    lora_alpha: Annotated[float, Widget(0, 1000)] = 2.0,
) -> tuple:  # fmt: skip
    """The camp's node: it scales by lora_alpha / rank, whatever alpha the file was trained with or says."""
    on = lora_path and lora_alpha
    return ((*kolors_model, (read_lora(lora_path, lora_alpha), 1.0)) if on else kolors_model,)


@node("Lora Loader Stack (rgthree)", outputs=("MODEL", "CLIP"))
def rgthree_stack(
    bench: Any, *, model: Model, clip: Clip,
    lora_01: LoraFile = "None", strength_01: Strength = 1.0, lora_02: LoraFile = "None", strength_02: Strength = 1.0,
    lora_03: LoraFile = "None", strength_03: Strength = 1.0, lora_04: LoraFile = "None", strength_04: Strength = 1.0,
) -> tuple:  # fmt: skip
    pairs = ((lora_01, strength_01), (lora_02, strength_02), (lora_03, strength_03), (lora_04, strength_04))
    for file, strength in pairs:
        model = _on(model, file, strength)
    return model, clip


@node("Power Lora Loader (rgthree)", outputs=("MODEL", "CLIP"))
def rgthree_power(bench: Any, *, model: Model, clip: Clip = None, **loras: Row) -> tuple:
    for _, row in sorted(loras.items(), key=lambda item: int(item[0][5:])):
        model = _on(model, row["lora"], row["strength"])
    return model, clip


@node("CR LoRA Stack", outputs=("LORA_STACK", "STRING"))
def cr_stack(
    bench: Any, *,
    switch_1: OnOff = "Off", lora_name_1: File1 = "None", model_weight_1: CrStrength = 1.0,
    clip_weight_1: CrStrength = 1.0,
    switch_2: OnOff = "Off", lora_name_2: File2 = "None", model_weight_2: CrStrength = 1.0,
    clip_weight_2: CrStrength = 1.0,
    switch_3: OnOff = "Off", lora_name_3: File3 = "None", model_weight_3: CrStrength = 1.0,
    clip_weight_3: CrStrength = 1.0,
    lora_stack: LoraStack = None,
) -> tuple:  # fmt: skip
    stack = lora_stack or ()
    for switch, file, weight in (
        (switch_1, lora_name_1, model_weight_1), (switch_2, lora_name_2, model_weight_2),
        (switch_3, lora_name_3, model_weight_3),
    ):  # fmt: skip
        stack = _on(stack, file if switch == "On" else None, weight)
    return stack, ""


@node("CR Apply LoRA Stack", outputs=("MODEL", "CLIP", "STRING"))
def cr_apply(bench: Any, *, model: Model, clip: Clip, lora_stack: LoraStack = None) -> tuple:
    return (*model, *(lora_stack or ())), clip, ""
