"""SplitMix64 against the numbers of its authors' code."""

from __future__ import annotations

import numpy as np

from gemmule.base.splitmix import GOLDEN, following, mix


def test_the_first_numbers_of_seed_0():
    """Of Vigna's splitmix64.c, https://prng.di.unimi.it/splitmix64.c."""
    states = np.arange(3, dtype=np.uint64) * GOLDEN
    assert [f"{number:016X}" for number in following(states)] == [
        "E220A8397B1DCDAF", "6E789E6AA1B965F4", "06C45D188009454F"
    ]  # fmt: skip
    assert np.array_equal(following(states)[:2], mix(states[1:]))
