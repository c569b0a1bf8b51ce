"""The nodes that run here, by family; importing this package enters them into `registry.NODES`.

From ComfyUI's own nodes, kijai's ComfyUI-KwaiKolorsWrapper, MinusZone's ComfyUI-Kolors-MZ, the camp's LoRA node,
rgthree's and Comfyroll's LoRA lists.
"""

from kolors_lab.comfy.nodes import constants, control, images, latents, loaders, masks, sampling, text
from kolors_lab.comfy.registry import NODES, kind_of

__all__ = ["NODES", "constants", "control", "images", "kind_of", "latents", "loaders", "masks", "sampling", "text"]
