"""Are the faces of a picture of the little world whole: what the face probe says of them.

It has learned from drawn, damaged and reconstructed pictures alone and never from generated ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kolors_lab.core.files import data_dir
from kolors_lab.sampling.face_probe import Found, find_faces

__all__ = ["Found", "find_faces", "intact_of", "probe_folder"]


def probe_folder() -> Path:
    """The embedded probe's folder."""
    return data_dir() / "tiny-face-probe"


def intact_of(faces: Sequence[Found], people: int = 1) -> float:
    """How sure the probe is, 0..1, that all faces of a picture are intact; 0 for fewer than `people` faces."""
    return min(face.intact for face in faces) if len(faces) >= people and faces else 0.0
