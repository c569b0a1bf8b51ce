"""Operators of our own for Data-Juicer: sharpness, exact duplicates, near duplicates, the preset's score.

Importing this module imports Data-Juicer (seconds): juice.py does so only when it runs. As the package's entry point
`data_juicer.ops` the module is also found by Data-Juicer itself, so that `dj-process --config recipe.yaml` knows them.
Each works on samples with one picture, in any number of processes, and lets errors through.
"""

from __future__ import annotations

import hashlib

from data_juicer.ops.base_op import OPERATORS, Deduplicator, Filter
from data_juicer.ops.deduplicator.document_deduplicator import DocumentDeduplicator
from data_juicer.utils.constant import Fields, HashKeys

from kolors_lab.dataset.measures import distance, open_sample, perceptual_hash, sharpness


@OPERATORS.register_module("image_sharpness_filter")
class ImageSharpnessFilter(Filter):
    """Keep pictures with `measures.sharpness` at `size` px of at least `min_sharpness`."""

    def __init__(self, min_sharpness: float = 100.0, size: int = 1024, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.min_sharpness, self.size = min_sharpness, size

    def compute_stats_single(self, sample: dict, context: bool = False) -> dict:
        if "image_sharpness" not in sample[Fields.stats]:
            sample[Fields.stats]["image_sharpness"] = sharpness(open_sample(sample, self.image_key), self.size)
        return sample

    def process_single(self, sample: dict) -> bool:
        return sample[Fields.stats]["image_sharpness"] >= self.min_sharpness


@OPERATORS.register_module("image_exact_deduplicator")
class ImageExactDeduplicator(DocumentDeduplicator):
    """Keep the first of the pictures that are equal pixel for pixel.

    Data-Juicer's image_deduplicator calls equal perceptual hashes exact, which drops pictures that merely look alike,
    and needs imagededup, which brings torchvision. Its document_deduplicator keeps the first of equal digests: it does
    so here, for the digest of the pixels in place of the text's.
    """

    def compute_hash(self, sample: dict) -> dict:
        if HashKeys.hash not in sample:
            image = open_sample(sample, self.image_key)
            sample[HashKeys.hash] = hashlib.sha256(f"{image.size}".encode() + image.tobytes()).hexdigest()
        return sample


@OPERATORS.register_module("image_near_deduplicator")
class ImageNearDeduplicator(Deduplicator):
    """Keep pictures whose `measures.perceptual_hash` differs in more than `max_distance` bits from all kept before."""

    def __init__(self, max_distance: int = 12, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.max_distance = max_distance

    def compute_hash(self, sample: dict) -> dict:
        if HashKeys.imagehash not in sample:
            sample[HashKeys.imagehash] = perceptual_hash(open_sample(sample, self.image_key))
        return sample

    def process(self, dataset, show_num: int = 0):
        kept: dict[int, str] = {}
        for row, code in enumerate(dataset[HashKeys.imagehash]):
            if all(distance(code, other) > self.max_distance for other in kept.values()):
                kept[row] = code
        return dataset.select(list(kept)), {}
