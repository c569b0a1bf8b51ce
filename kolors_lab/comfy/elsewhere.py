"""Nodes that are known and do not run here, and what would help instead."""

from __future__ import annotations

from kolors_lab.comfy.nodes import NODES
from kolors_lab.comfy.registry import nearest

BYPASS = "Replace, bypass or mute it in ComfyUI"
EDGES = "what a ControlNet reads is not made here; give it the finished picture by LoadImage"
IP_ADAPTER = "IP-Adapters are not run here"
OWN_SCHEDULE = "the model's own noise levels are Kolors' and stay so"
ELSEWHERE = {
    "Canny": EDGES, "CannyEdgePreprocessor": EDGES, "DWPreprocessor": EDGES, "DepthAnythingPreprocessor": EDGES,
    "MZ_ApplySDXLSamplingSettings": OWN_SCHEDULE, "ModelSamplingDiscrete": OWN_SCHEDULE,
    "MZ_ApplyCUDAGenerator": "noise is drawn on the CPU here, the same on every machine",
    "InpaintModelConditioning": "it is for a UNet of nine channels; use VAEEncodeForInpaint or SetLatentNoiseMask",
    **dict.fromkeys(
        (
            "MZ_KolorsCLIPVisionLoader", "MZ_IPAdapterModelLoaderKolors", "MZ_IPAdapterAdvancedKolors",
            "MZ_IPAdapterInsightFaceLoader", "MZ_IPAdapterFaceID", "CLIPVisionLoader", "IPAdapterModelLoader",
            "IPAdapterAdvanced", "IPAdapter", "IPAdapterUnifiedLoader",
        ),
        IP_ADAPTER,
    ),
    "LoraLoaderBlockWeight": "a LoRA counts alike in all blocks here; use LoraLoader",
    "UpscaleModelLoader": "enlarging models are not run here; use ImageScale",
    "ImageUpscaleWithModel": "enlarging models are not run here; use ImageScale",
}  # fmt: skip


def reason(class_type: str) -> str:
    """Why a node that does not run here does not, and what would help."""
    if class_type.startswith(("workflow>", "workflow/")):
        return "is a group node that the file does not describe; in ComfyUI convert it to nodes and save again"
    if len(class_type) == 36 and class_type.count("-") == 4:
        return "is a subgraph that the file does not describe; in ComfyUI unpack it, or export the API form"
    if class_type in ELSEWHERE:
        return f"{ELSEWHERE[class_type]}. {BYPASS}"
    return f"no such node here; the nearest is {nearest(class_type, NODES)}. {BYPASS}"
