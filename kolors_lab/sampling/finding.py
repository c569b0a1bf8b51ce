"""Finding faces and hands: boxes of what is to be repaired or compared.

A finder is OpenCV's cascade (.xml), or any object-detection model of transformers whose labels name what is sought.
The picture world has a probe of its own (face_probe.py). Without one, faces of photographs are found by the cascade
that OpenCV brings; it does not know drawn faces.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kolors_lab.core.errors import ModelError, SettingError
from kolors_lab.core.files import data_dir
from kolors_lab.models.loading import quietly
from kolors_lab.models.presets import local_path
from kolors_lab.sampling.face_probe import Found, find_faces, is_probe

if TYPE_CHECKING:
    from PIL import Image

    from kolors_lab.models.presets import Preset
    from kolors_lab.sampling.masks import Box

KINDS = ("face", "hand")
SURE = 0.5  # of an object-detection model's probabilities


def find(image: Image.Image, preset: Preset, kind: str = "face", finder: str | Path | None = None) -> list[Found]:
    """What is found, the largest first; nothing where nothing is.

    `finder` None: the preset's own. Raises SettingError where there is none for this kind, FetchError, ModelError.
    """
    name = str(finder or _own(preset, kind))
    if kind == "face" and is_probe(name):
        return find_faces([image], name)[0]
    boxes = (_by_cascade if name.endswith(".xml") else _by_model)(image, name, kind)
    return sorted(map(Found, boxes), key=lambda one: -one.box[2] * one.box[3])


def _own(preset: Preset, kind: str) -> str:
    """The preset's finder: of the picture world data/tiny-face-probe, else OpenCV's for photographed faces."""
    probe = data_dir() / "tiny-face-probe"
    if preset.practice and kind == "face" and probe.is_dir():
        return str(probe)
    if kind != "face":
        raise SettingError(
            "find = {kind}: nothing here finds one; give a box, or a model that does as finder", kind=kind
        )
    import cv2

    return cv2.data.haarcascades + "haarcascade_frontalface_default.xml"


def _by_cascade(image: Image.Image, file: str, kind: str) -> list[Box]:
    import numpy as np

    grey = np.asarray(image.convert("L"))
    found = _cascade(file).detectMultiScale(grey, 1.1, 5, minSize=(max(12, min(image.size) // 20),) * 2)
    return [tuple(int(side) for side in box) for box in found]


@lru_cache(maxsize=2)
def _cascade(file: str) -> Any:
    import cv2

    try:
        cascade = cv2.CascadeClassifier(file)
        empty = cascade.empty()
    except (cv2.error, SystemError):
        empty = True
    if empty:
        raise ModelError("finder {file}: holds no cascade of OpenCV", file=file)
    return cascade


def _by_model(image: Image.Image, name: str, kind: str) -> list[Box]:
    import torch

    model, processor = _model(name)
    sought = {number for number, label in model.config.id2label.items() if kind in str(label).lower()}
    if not sought:
        raise ModelError("finder {name}: none of its labels names a {kind}", name=name, kind=kind)
    with torch.no_grad():
        output = model(**processor(images=image.convert("RGB"), return_tensors="pt"))
    (found,) = processor.post_process_object_detection(output, SURE, target_sizes=[image.size[::-1]])
    pairs = zip(found["labels"].tolist(), found["boxes"].tolist(), strict=True)
    boxes = [_within(box, image.size) for label, box in pairs if label in sought]
    return [box for box in boxes if box[2] > 0 and box[3] > 0]


@lru_cache(maxsize=1)
def _model(name: str) -> tuple[Any, Any]:
    folder = local_path(name)
    try:
        with quietly():
            from transformers import AutoImageProcessor, AutoModelForObjectDetection  # it warns

            model = AutoModelForObjectDetection.from_pretrained(folder).float().eval()
            return model, AutoImageProcessor.from_pretrained(folder)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(
            "finder {name}: no object-detection model can be loaded from it ({error})", name=name, error=error
        ) from error


def _within(box: list[float], size: tuple[int, int]) -> Box:
    """(left, top, right, bottom) → x, y, w, h of the part that lies in the picture."""
    left, top, right, bottom = (round(side) for side in box)
    left, top, right, bottom = max(left, 0), max(top, 0), min(right, size[0]), min(bottom, size[1])
    return left, top, right - left, bottom - top
