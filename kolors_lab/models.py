"""Presets (which model, which sizes) and loading a KolorsPipeline where it fits.

Nothing in the library asks for a preset's name: `tiny`, `kolors` and a folder of one's own differ in fields only.
"""

from __future__ import annotations

import contextlib
import json
import warnings
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import FetchError, ModelError, SettingError, check_number
from .hub import find

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from diffusers import KolorsPipeline

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
EVERY_BLOCK = (
    *ATTENTION,
    "ff.net.0.proj",
    "ff.net.2",
    "proj_in",
    "proj_out",
    "conv1",
    "conv2",
)  # feed-forward, resnets
GIB = 2**30


@dataclass(frozen=True)
class Preset:
    """Everything that differs between the small practice model and Kolors. Folders or ModelScope ids; sizes in px."""

    name: str
    model: str
    scorer: str
    clip: str
    dataset: str
    size: int
    steps: int
    train_steps: int
    batch_size: int
    learning_rate: float
    gradient_checkpointing: bool
    min_size: int
    min_sharpness: float  # variance of the Laplacian of the grey picture
    practice: bool  # True: the score is a practice score (练习分) that knows nothing of taste
    model_fallbacks: tuple[str, ...] = ()
    vae: str | None = None  # takes the place of the model's own VAE
    classifier: str | None = None
    cfg: float = 4.0
    target_modules: tuple[str, ...] = ATTENTION
    min_ratio: float = 0.5  # width / height
    max_ratio: float = 2.0

    def __post_init__(self):
        check_number("size", self.size, 8, whole=True)
        if self.size % 8:
            raise SettingError(f"size = {self.size}: must be a multiple of 8")
        for field in ("steps", "train_steps", "batch_size", "min_size"):
            check_number(field, getattr(self, field), 1, whole=True)
        for field in ("cfg", "learning_rate", "min_sharpness", "min_ratio"):
            check_number(field, getattr(self, field), 0)
        check_number("max_ratio", self.max_ratio, self.min_ratio)


def data_dir() -> Path:
    """The folder of the embedded models and sets: beside the package in a checkout, inside it in an installed wheel."""
    package = Path(__file__).resolve().parent
    inside = package / "data"
    return inside if inside.is_dir() else package.parent / "data"


def _tiny() -> Preset:
    data = data_dir()
    return Preset(
        name="tiny",
        model=str(data / "tiny-kolors"),
        scorer=str(data / "tiny-aesthetics"),
        clip=str(data / "tiny-clip"),
        classifier=str(data / "tiny-classifier"),
        dataset=str(data / "anime_raw"),
        size=128,
        steps=20,
        train_steps=400,
        batch_size=4,
        learning_rate=2e-3,
        gradient_checkpointing=False,
        target_modules=EVERY_BLOCK,  # attention alone is too little of a small UNet to carry a style
        min_size=128,
        min_sharpness=100.0,
        practice=True,
    )


def _kolors() -> Preset:
    return Preset(
        name="kolors",
        model="Kwai-Kolors/Kolors-diffusers",
        model_fallbacks=("AI-ModelScope/Kolors-diffusers",),
        vae="AI-ModelScope/sdxl-vae-fp16-fix",  # the model's own overflows in fp16: black pictures
        scorer="AI-ModelScope/aesthetics-predictor-v2-sac-logos-ava1-l14-linearMSE",
        clip="AI-ModelScope/chinese-clip-vit-base-patch16",
        dataset="AI-ModelScope/lowres_anime",
        size=1024,
        steps=50,
        train_steps=500,
        batch_size=1,
        learning_rate=1e-4,
        gradient_checkpointing=True,
        min_size=1024,
        min_sharpness=100.0,
        practice=False,
    )


PRESETS = {"tiny": _tiny, "kolors": _kolors}


def get_preset(name: str) -> Preset:
    """The preset `tiny` or `kolors`, or one made for a folder that holds a KolorsPipeline.

    A folder takes picture size from its own UNet and everything else from the embedded preset nearest in size.
    Raises SettingError for anything else.
    """
    if name in PRESETS:
        return PRESETS[name]()
    folder = Path(name)
    if not (folder / "model_index.json").is_file():
        raise SettingError(f"preset = {name!r}: must be tiny, kolors or a folder that holds a KolorsPipeline")
    try:
        pipeline = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))["_class_name"]
        size = json.loads((folder / "unet/config.json").read_text(encoding="utf-8"))["sample_size"] * 8
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SettingError(f"preset = {name!r}: its configuration cannot be read ({error!r})") from error
    if pipeline != "KolorsPipeline":
        raise SettingError(f"preset = {name!r}: holds a {pipeline}, must be a KolorsPipeline")
    base = _nearest(size)
    return replace(
        base, name=folder.resolve().name, model=str(folder), model_fallbacks=(), vae=None, size=size, min_size=size
    )


def preset_of(pipe: KolorsPipeline) -> Preset:
    """Steps, cfg and size for a pipeline at hand: its own size, everything else as for a folder."""
    size = pipe.unet.config.sample_size * 8
    return replace(_nearest(size), size=size)


def _nearest(size: int) -> Preset:
    return _tiny() if size < 512 else _kolors()


def local_path(id_or_folder: str, part: str = "model") -> Path:
    """A folder as it is; for a ModelScope id the folder it was downloaded to.

    FetchError if it is not there, naming the `part` (model, data, scorer, clip) to fetch.
    """
    if Path(id_or_folder).is_dir():
        return Path(id_or_folder)
    missing = f"{id_or_folder} is not on this machine: run `kolors-lab fetch {part}` for this preset, or give a folder"
    if Path(id_or_folder).is_absolute() or id_or_folder.count("/") != 1:
        raise FetchError(f"the folder {missing.split(' is ')[0]} does not exist")
    if folder := find(id_or_folder):
        return folder
    raise FetchError(missing)


def pipeline_path(preset: Preset) -> Path:
    """The folder of the preset's pipeline: its first id that is on this machine. FetchError if none is."""
    for candidate in (preset.model, *preset.model_fallbacks):
        try:
            return local_path(candidate)
        except FetchError as error:
            last = error
    raise last


def pick_device() -> torch.device:
    """CUDA where a real operation works on it, else the CPU.

    An old card (a P100) calls itself available and fails only when used.
    """
    import torch

    if torch.cuda.is_available():
        try:
            ones = torch.ones(8, 8, device="cuda")
            if (ones @ ones).sum().item() == 512:
                return torch.device("cuda")
        except RuntimeError:
            pass
    return torch.device("cpu")


def pick_dtype(device: torch.device | str) -> torch.dtype:
    """float32 on a CPU; bfloat16 on a card that computes in it (a T4 only pretends to), else float16."""
    import torch

    if torch.device(device).type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.get_device_capability(device)[0] >= 8 else torch.float16


def load_pipeline(
    preset: Preset,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    text_encoder_bits: int | None = None,
) -> KolorsPipeline:
    """Load the preset's pipeline and place it on `device` (None: the best one), offloading parts that do not fit.

    `text_encoder_bits`, 4 or 8, keeps the text encoder's linear layers in so many bits, on a CUDA card.
    Raises FetchError where the weights are not on this machine, ModelError where they cannot be read or quantized.
    """
    import torch
    from safetensors import SafetensorError

    need_quantization("text_encoder_bits", text_encoder_bits)

    device = torch.device(device) if device else pick_device()
    dtype = dtype or pick_dtype(device)
    folder = pipeline_path(preset)
    vae = local_path(preset.vae) if preset.vae else None
    try:
        with quietly():
            pipe = _from_pretrained(folder, vae, dtype, text_encoder_bits)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"the pipeline in {folder} cannot be loaded ({error}); fetch it again") from error
    for part in _parts(pipe):
        part.requires_grad_(False)  # only a LoRA is trained; CPU kernels round otherwise where gradients are asked for
    pipe.set_progress_bar_config(disable=True)
    place(pipe, device)
    return pipe


def _from_pretrained(folder: Path, vae: Path | None, dtype: torch.dtype, text_encoder_bits: int | None) -> Any:
    from diffusers import AutoencoderKL, KolorsPipeline
    from diffusers.pipelines.kolors import ChatGLMModel

    # transformers 5 would otherwise keep whatever type the files hold; use_safetensors: no pickle is ever opened
    options = {"torch_dtype": dtype, "use_safetensors": True, "local_files_only": True}
    parts = {"vae": AutoencoderKL.from_pretrained(vae, **options)} if vae else {}
    options["variant"] = weights_variant(folder)
    if text_encoder_bits:
        few = quantization(text_encoder_bits, dtype, "transformers")
        parts["text_encoder"] = ChatGLMModel.from_pretrained(
            folder, subfolder="text_encoder", quantization_config=few, **options
        )
    return KolorsPipeline.from_pretrained(folder, **options, **parts)


def check_bits(field: str, bits: int | None) -> None:
    """Raise SettingError unless weights can be kept in so many bits."""
    if bits not in (None, 4, 8):
        raise SettingError(f"{field} = {bits!r}: must be 4, 8 or none")


def need_quantization(field: str, bits: int | None) -> None:
    """Raise ModelError where weights are to be kept in 4 or 8 bits and CUDA or the package bitsandbytes is missing."""
    from importlib.util import find_spec

    if bits and pick_device().type != "cuda":
        raise ModelError(f"{field} = {bits}: needs a CUDA card; there is none here that works")
    if bits and find_spec("bitsandbytes") is None:
        raise ModelError(f"{field} = {bits}: needs the package bitsandbytes; install it: pip install bitsandbytes")


def quantization(bits: int, dtype: torch.dtype, package: str) -> Any:
    """What `package`, diffusers or transformers, takes to load linear layers in 4 or 8 bits that compute in `dtype`."""
    config = import_module(package).BitsAndBytesConfig
    if bits == 4:
        return config(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)
    return config(load_in_8bit=True)


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Without the libraries' notes and bars on loading, which are not for the learner."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    diffusers_logging.disable_progress_bar()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # one of the two supported lines calls torch_dtype deprecated
        yield


def weights_variant(folder: Path) -> str | None:
    """`fp16` where the folder holds the weights under that name only, as Kolors-diffusers does."""
    names = [file.name for file in (folder / "unet").glob("*.safetensors")]
    return "fp16" if names and all(".fp16" in name for name in names) else None


def _parts(pipe: KolorsPipeline) -> list[torch.nn.Module]:
    return [part for part in (pipe.text_encoder, pipe.unet, pipe.vae) if part is not None]


def place(pipe: KolorsPipeline, device: torch.device | str) -> None:
    """Put the pipeline on `device` for sampling: whole if it fits, else each part only while it works."""
    import torch

    device = torch.device(device)
    pipe.remove_all_hooks()
    size = sum(parameter.nbytes for part in _parts(pipe) for parameter in part.parameters())
    if device.type == "cuda" and _must_offload(size, pipe.unet.config.sample_size * 8, device):
        pipe.to("cpu")
        pipe.enable_model_cpu_offload(device=device)
        pipe.vae.enable_slicing()  # batches picture by picture, and what is larger than the VAE was made for in tiles
        pipe.vae.enable_tiling()
    else:
        pipe.to(device)


def _must_offload(weights: int, size: int, device: torch.device) -> bool:
    """Whether `weights` bytes and what sampling at `size` px needs besides exceed the card's free memory."""
    import torch

    torch.cuda.empty_cache()
    return weights + _working_memory(size) > torch.cuda.mem_get_info(device)[0]


def _working_memory(size: int) -> int:
    """Bytes that sampling takes beside the weights: about 4 GiB at 1024 px, most of it decoding."""
    return int(4 * GIB * (size / 1024) ** 2)


PLANS = {  # how a pipeline lies on a card, the roomiest first
    "whole": "all of it stays on the card",
    "parts": "each part goes to the card only while it works",
    "encode": "prompts are encoded in main memory, then the text encoder goes (or take text_encoder_bits 4)",
    "turns": "prompts are encoded in main memory, UNet and VAE then take turns: tight, so draw smaller where it fails",
    "none": "too small for pictures of this size: draw smaller ones",
}


def card_plan(encoder: int, rest: int, size: int, card: int) -> str:
    """Which of PLANS to draw by at `size` px with `card` bytes: text encoder and the rest of the weights in bytes."""
    working, room = _working_memory(size), int(GIB / 4 * (size / 1024) ** 2)
    if encoder + rest + working <= card:
        return "whole"
    if rest + working <= card:
        return "parts" if encoder + room <= card else "encode"
    return "turns" if rest + 4 * room <= card else "none"


def card_plan_here(preset: Preset, device: torch.device, dtype: torch.dtype | None = None) -> str:
    """`card_plan` by what is free on the device now; main memory takes all. FetchError if the model is not here."""
    import torch

    if device.type != "cuda":
        return "whole"
    encoder, rest = _weights(preset, (dtype or pick_dtype(device)).itemsize)
    torch.cuda.empty_cache()
    return card_plan(encoder, rest, preset.size, torch.cuda.mem_get_info(device)[0])


def _weights(preset: Preset, itemsize: int) -> tuple[int, int]:
    """Bytes of the text encoder, and of all else. FetchError if the model is not on this machine."""
    folder = pipeline_path(preset)
    encoder = itemsize * parameter_count(folder, "text_encoder")
    return encoder, itemsize * parameter_count(folder) - encoder


def memory_plan(preset: Preset, device: torch.device | str, dtype: torch.dtype) -> str:
    """One line that says how the preset's pipeline will lie in memory. FetchError if it is not on this machine."""
    import torch

    device = torch.device(device)
    need = f"{sum(_weights(preset, dtype.itemsize)) / GIB:.1f} GiB of weights in {str(dtype).removeprefix('torch.')}"
    if device.type != "cuda":
        return f"{need}, all in main memory ({device.type})"
    free = f"{torch.cuda.mem_get_info(device)[0] / GIB:.1f} GiB are free"
    return f"{need}, {free} on the card: {PLANS[card_plan_here(preset, device, dtype)]}"


def card_plans(preset: Preset) -> str:
    """The plan for the preset, in 16 bit, on cards of 24, 15 (a T4) and 8 GB. FetchError if it is not here."""
    encoder, rest = _weights(preset, 2)
    free = {card: int(0.95 * card * GIB) for card in (24, 15, 8)}  # the driver keeps some
    return "; ".join(f"{card} GB: {PLANS[card_plan(encoder, rest, preset.size, room)]}" for card, room in free.items())


def parameter_count(folder: Path, part: str = "*") -> int:
    """How many parameters the safetensors files of a pipeline folder, or of one part, hold: read from their headers."""
    from math import prod

    from safetensors import safe_open

    variant = weights_variant(folder)
    total = 0
    for file in folder.glob(f"{part}/*.safetensors"):
        if variant and variant not in file.name:
            continue
        with safe_open(file, framework="pt") as tensors:
            total += sum(prod(tensors.get_slice(key).get_shape()) for key in tensors.keys())  # noqa: SIM118
    return total
