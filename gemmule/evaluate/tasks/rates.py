"""How certain a share of yes-or-no outcomes is: Wilson's score interval (1927, doi 10.1080/01621459.1927.10502953).

It stays within 0 and 1 and has a width where all outcomes are alike, for which an interval over units has none. The
outcomes count as independent of each other.
"""

from __future__ import annotations

import math
from statistics import NormalDist


def wilson(hits: int, count: int, confidence: float = 0.95) -> tuple[float, float]:
    """Where the share behind `hits` of `count` (above 0) lies."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, weight = hits / count, z * z / count
    middle = (share + weight / 2) / (1 + weight)
    half = z / (1 + weight) * math.sqrt(share * (1 - share) / count + weight / (4 * count))
    # the ends are 0 and 1 where nothing or everything is a hit, but for rounding
    return (middle - half if hits else 0.0), (middle + half if hits < count else 1.0)
