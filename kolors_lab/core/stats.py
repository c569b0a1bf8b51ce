"""Statistics that every room speaks of in the same way."""

from __future__ import annotations

import math
from collections.abc import Sequence


def interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % bootstrap interval of the mean (percentiles of 9,999 resamplings); NaN for fewer than two or with NaN."""
    import numpy as np
    from scipy.stats import bootstrap

    if len(values) < 2 or not np.isfinite(values).all():
        return math.nan, math.nan
    few = max(1, 10**6 // len(values))  # resamplings in memory at a time
    found = bootstrap((values,), np.mean, method="percentile", batch=few, random_state=0).confidence_interval
    return float(found.low), float(found.high)
