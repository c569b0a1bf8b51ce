"""An operator of our own for Data-Juicer: the preset's score. Found by Data-Juicer as the package's entry point."""

from __future__ import annotations

from functools import cache

from data_juicer.ops.base_op import OPERATORS, Filter
from data_juicer.utils.constant import Fields

from kolors_lab.dataset.measures import open_sample
from kolors_lab.models.presets import get_preset
from kolors_lab.scoring.aesthetics import Scorer, load_scorer, score_images


@OPERATORS.register_module("image_preset_score_filter")
class ImagePresetScoreFilter(Filter):
    """Keep pictures that the preset's scorer gives at least `min_score` (0 to 10).

    Data-Juicer's image_aesthetics_filter picks model class and scale by words in the model's path (v1, v2, linear,
    aesthetics-predictor), so it cannot serve a folder of any name; this one scores as `kolors-lab score` does.
    """

    def __init__(self, preset: str = "tiny", min_score: float = 6.0, *args, **kwargs):
        # One process: the model is loaded once, and torch's threads do not survive a fork.
        super().__init__(*args, **{**kwargs, "num_proc": None})
        self.preset, self.min_score = preset, min_score

    def compute_stats_single(self, sample: dict, context: bool = False) -> dict:
        if "preset_score" not in sample[Fields.stats]:
            [score] = score_images(_scorer(self.preset), [open_sample(sample, self.image_key)])
            sample[Fields.stats]["preset_score"] = score
        return sample

    def process_single(self, sample: dict) -> bool:
        return sample[Fields.stats]["preset_score"] >= self.min_score


@cache
def _scorer(preset: str) -> Scorer:
    """The preset's scorer, loaded once: kept outside the operator, which Data-Juicer pickles."""
    return load_scorer(get_preset(preset))
