"""SplitMix64 (Steele, Lea, Flood 2014, doi 10.1145/2660193.2660195): draws that are functions of a counter."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # what the state grows by


def mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The number that a state gives: a hash of 64 bits to 64 bits. Overflow is meant: arithmetic modulo 2**64."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def following(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The number that the next state gives."""
    return mix(state + GOLDEN)
