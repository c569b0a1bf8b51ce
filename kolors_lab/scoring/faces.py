"""Are the faces of a picture of the little world whole: the face probe's answer per picture.

It has learned from drawn, damaged and reconstructed pictures alone and never from generated ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kolors_lab.core.files import data_dir
from kolors_lab.sampling.face_probe import Face, find_faces

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Face", "face_intact", "find_faces", "intact_of", "probe_folder"]


def probe_folder() -> Path:
    """The embedded probe's folder."""
    return data_dir() / "tiny-face-probe"


def face_intact(images: Sequence[Image.Image], folder: str | Path | None = None, people: int = 1) -> list[float]:
    """Per picture 0..1: how sure the probe is that all its faces are intact; 0 where it finds fewer than `people`."""
    return [intact_of(faces, people) for faces in find_faces(images, folder or probe_folder())]


def intact_of(faces: Sequence[Face], people: int = 1) -> float:
    """What the worst of the faces says; 0 for fewer than `people` faces."""
    return min(face.intact for face in faces) if len(faces) >= people and faces else 0.0
