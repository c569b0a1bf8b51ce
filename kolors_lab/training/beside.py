"""Pictures that lie beside those that are learned from: controls, and masks that say what of a picture counts.

They are cut, turned and mirrored exactly as the picture is, so that each stays on its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from kolors_lab.core.errors import DataError, SettingError
from kolors_lab.core.images import open_image
from kolors_lab.dataset.folder import read_sources
from kolors_lab.sampling.control import KINDS, pixels
from kolors_lab.sampling.masks import file_beside
from kolors_lab.training.latent_cache import Encoded, cut

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from kolors_lab.dataset.folder import Example
    from kolors_lab.training.config import TrainConfig


@dataclass(frozen=True)
class Beside(Encoded):
    """An encoded set with a control (3, H, W) from 0 to 1, or a mask (1, h, w) of latents, beside each picture."""

    images: Sequence[Path] = ()  # per picture
    size: int = 0  # px
    config: TrainConfig | None = None
    kind: str = ""  # of the controls; "" where there are none
    controls: Sequence[Path | None] = ()  # per picture; None: made of the picture
    masks: Sequence[Path] = ()  # per picture; none at all where all of a picture counts

    def _entry(self, number: int) -> dict[str, torch.Tensor]:
        row = super()._entry(number)
        entry = number % len(self)
        picture, version = divmod(entry, self.variants)
        image = open_image(self.images[picture])

        def same(file: Path | None) -> Image.Image:
            """The file's picture, or the picture itself, cut as this version is; a file keeps its colours."""
            other = open_image(file).resize(image.size) if file else image
            config = replace(self.config, color_jitter=0.0) if file else self.config
            return cut(other, self.size, config, version, self.pictures[entry].stem)[0]

        if self.kind:
            row["control"] = pixels(KINDS[self.kind](same(self.controls[picture])))
        if self.masks:
            row["mask"] = self._mask(same(self.masks[picture]), self.masks[picture])
        return row

    @staticmethod
    def _mask(part: Image.Image, file: Path) -> torch.Tensor:
        mask = pixels(part.convert("L").reduce(8))[:1]
        if not mask.any():
            raise DataError(
                "mask {file} is all black where the picture is learned from: nothing would count", file=file
            )
        return mask


def beside(data: Encoded, examples: Sequence[Example], size: int, config: TrainConfig) -> Encoded:
    """The encoded set with what lies beside it. DataError for a control or mask that is missing or of another shape."""
    controlled = config.method == "controlnet"
    if not controlled and not config.masks:
        return data
    images = [example.image for example in examples]
    controls = _controls(images, config) if controlled else []
    masks = [file_beside(image, config.masks) for image in images] if config.masks else []
    for image, *others in zip(images, *(side for side in (controls, masks) if side), strict=True):
        for other in filter(None, others):
            _same_shape(image, other)
    kind = config.control_kind if controlled else ""
    return Beside(**vars(data), images=images, size=size, config=config, kind=kind, controls=controls, masks=masks)


def _controls(images: Sequence[Path], config: TrainConfig) -> list[Path | None]:
    """Each picture's control; None where it is made of the picture."""
    if config.controls:
        return [file_beside(image, config.controls) for image in images]
    sources = {}
    for folder in (config.data, *(text.partition("=")[0] for text in config.more_data)):
        sources |= read_sources(folder)
    found = [sources.get(image) for image in images]
    if config.control_kind == "none" and None in found:
        raise SettingError(
            "control_kind = none: {image} has no control; give a folder of them as controls",
            image=images[found.index(None)],
        )
    return found


def _same_shape(image: Path, other: Path) -> None:
    one, two = open_image(image).size, open_image(other).size
    if abs(one[0] * two[1] - one[1] * two[0]) > 0.02 * one[0] * two[1]:
        raise DataError(
            "{other} has {there} px, {image} {here}: both must be of one shape",
            other=other,
            there=f"{two[0]} x {two[1]}",
            image=image,
            here=f"{one[0]} x {one[1]}",
        )
