"""Nodes that are known and do not run here, and what would help instead."""

from __future__ import annotations

from kolors_lab.comfy.nodes import NODES
from kolors_lab.comfy.registry import nearest
from kolors_lab.core.language import _

IP_ADAPTERS = (
    "MZ_KolorsCLIPVisionLoader", "MZ_IPAdapterModelLoaderKolors", "MZ_IPAdapterAdvancedKolors",
    "MZ_IPAdapterInsightFaceLoader", "MZ_IPAdapterFaceID", "CLIPVisionLoader", "IPAdapterModelLoader",
    "IPAdapterAdvanced", "IPAdapter", "IPAdapterUnifiedLoader",
)  # fmt: skip
PASSING = (  # of rgthree: what they pass on is found while reading
    "Any Switch (rgthree)", "Context (rgthree)", "Context Big (rgthree)", "Context Switch (rgthree)",
    "Context Switch Big (rgthree)", "Context Merge (rgthree)", "Context Merge Big (rgthree)",
)  # fmt: skip


def reasons() -> dict[str, str]:
    """Why each of them does not run here."""
    edges = _("what a ControlNet reads is not made here; give it the finished picture by LoadImage")
    own = _("the model's own noise levels are Kolors' and stay so")
    enlarging = _("enlarging models are not run here; use ImageScale")
    return dict.fromkeys(IP_ADAPTERS, _("IP-Adapters are not run here")) | {
        "Canny": edges, "CannyEdgePreprocessor": edges, "DWPreprocessor": edges, "DepthAnythingPreprocessor": edges,
        "MZ_ApplySDXLSamplingSettings": own, "ModelSamplingDiscrete": own,
        "MZ_ApplyCUDAGenerator": _("noise is drawn on the CPU here, the same on every machine"),
        "InpaintModelConditioning": _(
            "it is for a UNet of nine channels; use VAEEncodeForInpaint or SetLatentNoiseMask"
        ),
        "LoraLoaderBlockWeight": _("a LoRA counts alike in all blocks here; use LoraLoader"),
        **dict.fromkeys(PASSING, _("its whole context goes to a node that is not here; take the parts one by one")),
        "UpscaleModelLoader": enlarging, "ImageUpscaleWithModel": enlarging,
    }  # fmt: skip


def reason(class_type: str) -> str:
    """Why a node that does not run here does not, and what would help."""
    if class_type.startswith(("workflow>", "workflow/")):
        return _("is a group node that the file does not describe; in ComfyUI convert it to nodes and save again")
    if len(class_type) == 36 and class_type.count("-") == 4:
        return _("is a subgraph that the file does not describe; in ComfyUI unpack it, or export the API form")
    if why := reasons().get(class_type):
        return _("{why}. Replace, bypass or mute it in ComfyUI").format(why=why)
    told = _("no such node here; the nearest is {near}. Replace, bypass or mute it in ComfyUI")
    return told.format(near=nearest(class_type, NODES))
