"""The ComfyUI nodes that run here: their inputs in ComfyUI's order, what each allows, and their outputs.

From ComfyUI's own nodes, kijai's ComfyUI-KwaiKolorsWrapper, MinusZone's ComfyUI-Kolors-MZ and the camp's LoRA node.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

CONTROL = ("fixed", "increment", "decrement", "randomize")  # a word that the editor keeps behind a seed
NOTES = ("Note", "MarkdownNote")
VIRTUAL = (*NOTES, "Reroute", "PrimitiveNode")  # the editor's own: nothing of them is computed
KIJAI_SCHEDULERS = {  # diffusers' classes: (sampler_name, scheduler) here
    "EulerDiscreteScheduler": ("euler", "leading"),
    "EulerAncestralDiscreteScheduler": ("euler_ancestral", "leading"),
    "DPMSolverMultistepScheduler": ("dpmpp_2m", "leading"),
    "DPMSolverMultistepScheduler_SDE_karras": ("dpmpp_2m_sde", "karras"),
    "UniPCMultistepScheduler": ("uni_pc_bh2", "leading"),
    "DEISMultistepScheduler": ("deis", "leading"),
}


@dataclass(frozen=True)
class Widget:
    """A value set in the node itself. `choices` may name a table of sampling.py, which is looked at when checking."""

    kind: type = str
    default: object = None  # None: must be given
    low: float = 0
    high: float = 0
    choices: tuple[str, ...] | str = ()
    step: int = 1

    @property
    def is_seed(self) -> bool:
        return self.high == SEEDS

    def cast(self, value: object) -> object:
        """The value as this widget's type, as ComfyUI casts it ("25" → 25); what cannot be cast stays."""
        try:
            whole = self.kind is not int or float(value) == int(value)
            return self.kind(value) if whole and not isinstance(value, (list, dict, bool)) else value
        except (TypeError, ValueError, OverflowError):
            return value

    def fault(self, value: object) -> str | None:
        """What is wrong with a value that was cast, or None."""
        if not isinstance(value, self.kind):
            return {int: "must be a whole number", float: "must be a number"}.get(self.kind, "must be text")
        if self.kind is not str and not self.low <= value <= self.high:  # NaN never is
            return f"must be from {self.low:g} to {self.high:g}"
        if self.step > 1 and value % self.step:
            return f"must be a multiple of {self.step}"
        if names := self.names():
            return None if value in names else f"there is no such one here; the nearest is {nearest(value, names)}"
        return None

    def names(self) -> tuple[str, ...]:
        """What may be chosen; () where any text will do."""
        if isinstance(self.choices, str):
            from kolors_lab.sampling import samplers, schedules

            return tuple(getattr(samplers if self.choices == "SAMPLERS" else schedules, self.choices))
        return self.choices


@dataclass(frozen=True)
class Node:
    """Inputs by name, in order: the type of a link (`LATENT?`: may be left open) or a Widget; the types it puts out."""

    inputs: dict[str, str | Widget]
    outputs: tuple[str, ...] = ()

    @property
    def widgets(self) -> dict[str, Widget]:
        return {name: kind for name, kind in self.inputs.items() if isinstance(kind, Widget)}

    @property
    def links(self) -> dict[str, str]:
        return {name: kind for name, kind in self.inputs.items() if isinstance(kind, str)}


def nearest(name: object, names: Iterable[str]) -> str:
    """The one of `names` most like `name`."""
    return difflib.get_close_matches(str(name), list(names), 1, 0)[0]


SEEDS = 2**64 - 1
SEED, TEXT, FILE = Widget(int, 0, 0, SEEDS), Widget(), Widget()
SIZE, PLACE = Widget(int, 1024, 64, 4096, step=8), Widget(int, 0, 0, 4096)  # px
ANY_SIZE = Widget(int, 1024, 0, 4096, step=8)  # 0: as the other side asks for
STEPS, CFG, PART = Widget(int, 20, 1, 1000), Widget(float, 8.0, 0, 100), Widget(float, 1.0, 0, 1)
COUNT, STRENGTH = Widget(int, 1, 1, 64), Widget(float, 1.0, -100, 100)
CUT = Widget(str, "disabled", choices=("disabled", "center"))
SWITCH = Widget(str, "enable", choices=("enable", "disable"))
METHOD = Widget(choices=("nearest-exact", "bilinear", "area", "bicubic", "bislerp"))
PRECISION = Widget(str, "fp16")

# fmt: off
HOW = {"sampler_name": Widget(choices="SAMPLERS"), "scheduler": Widget(choices="SCHEDULERS")}
WHAT = {"positive": "CONDITIONING", "negative": "CONDITIONING", "latent_image": "LATENT"}
SIZES = {"width": SIZE, "height": SIZE}
NODES = {
    # kijai's wrapper, which the camp's workflows use, and the camp's node for a LoRA
    "DownloadAndLoadKolorsModel": Node({"model": FILE, "precision": PRECISION}, ("KOLORSMODEL",)),
    "DownloadAndLoadChatGLM3": Node({"precision": PRECISION}, ("CHATGLM3MODEL",)),
    "LoadChatGLM3": Node({"chatglm3_checkpoint": FILE}, ("CHATGLM3MODEL",)),
    "KolorsTextEncode": Node({
        "chatglm3_model": "CHATGLM3MODEL", "prompt": TEXT, "negative_prompt": Widget(str, ""),
        "num_images_per_prompt": COUNT,
    }, ("KOLORS_EMBEDS",)),
    "KolorsSampler": Node({
        "kolors_model": "KOLORSMODEL", "kolors_embeds": "KOLORS_EMBEDS", **SIZES, "seed": SEED,
        "steps": Widget(int, 25, 1, 1000), "cfg": Widget(float, 5.0, 0, 100),
        "scheduler": Widget(str, "EulerDiscreteScheduler", choices=tuple(KIJAI_SCHEDULERS)),
        "denoise_strength": PART, "latent": "LATENT?",
    }, ("LATENT",)),
    "LoadKolorsLoRA": Node({
        "kolors_model": "KOLORSMODEL", "lora_path": FILE, "lora_alpha": Widget(float, 2.0, 0, 1000),
    }, ("KOLORSMODEL",)),
    # MinusZone's nodes, for the core KSampler
    "MZ_ChatGLM3Loader": Node({"chatglm3_checkpoint": FILE}, ("CHATGLM3MODEL",)),
    "MZ_ChatGLM3_V2": Node({"chatglm3_model": "CHATGLM3MODEL", "text": TEXT}, ("CONDITIONING",)),
    "MZ_ChatGLM3_Advance_V2": Node({
        "chatglm3_model": "CHATGLM3MODEL", "text": TEXT, **SIZES, "crop_w": PLACE, "crop_h": PLACE,
        "target_width": SIZE, "target_height": SIZE,
    }, ("CONDITIONING",)),
    "MZ_KolorsUNETLoaderV2": Node({"unet_name": FILE}, ("MODEL",)),
    "MZ_KolorsCheckpointLoaderSimple": Node({"ckpt_name": FILE}, ("MODEL", "VAE")),
    # ComfyUI's own
    "CheckpointLoaderSimple": Node({"ckpt_name": FILE}, ("MODEL", "CLIP", "VAE")),
    "KSampler": Node(
        {"model": "MODEL", "seed": SEED, "steps": STEPS, "cfg": CFG, **HOW, **WHAT, "denoise": PART}, ("LATENT",)
    ),
    "KSamplerAdvanced": Node({
        "model": "MODEL", "add_noise": SWITCH, "noise_seed": SEED, "steps": STEPS, "cfg": CFG, **HOW, **WHAT,
        "start_at_step": Widget(int, 0, 0, 10000), "end_at_step": Widget(int, 10000, 0, 10000),
        "return_with_leftover_noise": Widget(str, "disable", choices=SWITCH.choices),
    }, ("LATENT",)),
    "EmptyLatentImage": Node({**SIZES, "batch_size": COUNT}, ("LATENT",)),
    "RepeatLatentBatch": Node({"samples": "LATENT", "amount": COUNT}, ("LATENT",)),
    "LoraLoader": Node({
        "model": "MODEL", "clip": "CLIP?", "lora_name": FILE, "strength_model": STRENGTH, "strength_clip": STRENGTH,
    }, ("MODEL", "CLIP")),
    "LoraLoaderModelOnly": Node({"model": "MODEL", "lora_name": FILE, "strength_model": STRENGTH}, ("MODEL",)),
    "CLIPTextEncode": Node({"clip": "CLIP", "text": TEXT}, ("CONDITIONING",)),
    "VAELoader": Node({"vae_name": FILE}, ("VAE",)),
    "VAEDecode": Node({"samples": "LATENT", "vae": "VAE"}, ("IMAGE",)),
    "VAEEncode": Node({"pixels": "IMAGE", "vae": "VAE"}, ("LATENT",)),
    "LoadImage": Node({"image": FILE}, ("IMAGE", "MASK")),
    "ImageScale": Node({
        "image": "IMAGE", "upscale_method": Widget(choices=("bicubic", "bilinear", "lanczos")), **SIZES, "crop": CUT,
    }, ("IMAGE",)),
    "LatentUpscale": Node({
        "samples": "LATENT", "upscale_method": METHOD, "width": ANY_SIZE, "height": ANY_SIZE, "crop": CUT,
    }, ("LATENT",)),
    "LatentUpscaleBy": Node(
        {"samples": "LATENT", "upscale_method": METHOD, "scale_by": Widget(float, 1.5, 0.01, 8)}, ("LATENT",)
    ),
    "SaveImage": Node({"images": "IMAGE", "filename_prefix": Widget(str, "ComfyUI")}),
    "PreviewImage": Node({"images": "IMAGE"}),
}
# fmt: on
