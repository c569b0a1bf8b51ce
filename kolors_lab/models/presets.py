"""Presets (which model, which sizes) and loading a KolorsPipeline where it fits.

Nothing in the library asks for a preset's name: `tiny`, `kolors` and a folder of one's own differ in fields only.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from kolors_lab.core.errors import FetchError, SettingError, check_number
from kolors_lab.core.files import data_dir
from kolors_lab.models.hub import find

if TYPE_CHECKING:
    from diffusers import KolorsPipeline

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
EVERY_BLOCK = (*ATTENTION, "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out", "conv1", "conv2")
GIB = 2**30
MAX_TOKENS, PREFIX = 256, 2  # of a Kolors prompt in all; of them [gMASK] and sop, which stand before the text


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
            raise SettingError("size = {size}: must be a multiple of 8", size=self.size)
        for field in ("steps", "train_steps", "batch_size", "min_size"):
            check_number(field, getattr(self, field), 1, whole=True)
        for field in ("cfg", "learning_rate", "min_sharpness", "min_ratio"):
            check_number(field, getattr(self, field), 0)
        check_number("max_ratio", self.max_ratio, self.min_ratio)

    @property
    def base_model(self) -> str:
        """What a file made with the model says of it: its id, or the preset's name where it is a folder here."""
        return self.name if Path(self.model).is_dir() else self.model


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
        raise SettingError("preset = {name!r}: must be tiny, kolors or a folder that holds a KolorsPipeline", name=name)
    try:
        pipeline = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))["_class_name"]
        unet = json.loads((folder / "unet/config.json").read_text(encoding="utf-8"))
        size = unet["sample_size"] * 8
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SettingError(
            "preset = {name!r}: its configuration cannot be read ({error!r})", name=name, error=error
        ) from error
    if pipeline != "KolorsPipeline" and unet.get("encoder_hid_dim_type") == "text_proj":
        raise SettingError(
            "preset = {name!r}: is laid out as Kwai's own code has it ({kind}), not as diffusers': put its unet folder "
            "in the place of the one in a copy of Kolors-diffusers, and give that",
            name=name,
            kind=pipeline,
        )
    if pipeline != "KolorsPipeline":
        raise SettingError("preset = {name!r}: holds a {kind}, must be a KolorsPipeline", name=name, kind=pipeline)
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
    if Path(id_or_folder).is_absolute() or id_or_folder.count("/") != 1:
        raise FetchError("the folder {folder} does not exist", folder=id_or_folder)
    if folder := find(id_or_folder):
        return folder
    raise FetchError(
        "{repo} is not on this machine: run `kolors-lab fetch {part}` for this preset, or give a folder",
        repo=id_or_folder,
        part=part,
    )


def pipeline_path(preset: Preset) -> Path:
    """The folder of the preset's pipeline: its first id that is on this machine. FetchError if none is."""
    for candidate in (preset.model, *preset.model_fallbacks):
        try:
            return local_path(candidate)
        except FetchError as error:
            last = error
    raise last
