"""Many known hashes, in files that all processes map into memory: which of a document's are among them, and where.

They lie sorted. A table of their first bits spares most others the search. 12 to 16 bytes each.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gemmule.refine.words import Hashes


class Found(NamedTuple):
    """The hashes that are known."""

    where: NDArray[np.int64]  # [found]: in what was asked
    low: NDArray[np.int64]  # [found]: where such hashes begin among the known
    high: NDArray[np.int64]  # [found]: and end


class Lookup(NamedTuple):
    hashes: Hashes  # [known], sorted, some more than once
    begin: NDArray[np.bool_]  # [4 to 8 times known, a power of 2]: whether one begins with these bits

    @classmethod
    def write(cls, hashes: Hashes, folder: Path, name: str) -> None:
        """Of sorted hashes."""
        begin = np.zeros(4 << len(hashes).bit_length(), bool)
        begin[_first_bits(hashes, len(begin))] = True
        for which, values in cls(hashes, begin)._asdict().items():
            np.save(folder / f"{name}.{which}.npy", values)

    @classmethod
    def read(cls, folder: Path, name: str) -> Lookup:
        return cls(*(np.load(folder / f"{name}.{which}.npy", mmap_mode="r") for which in cls._fields))

    def find(self, hashes: Hashes) -> Found:
        where = np.flatnonzero(self.begin[_first_bits(hashes, len(self.begin))])
        low = np.searchsorted(self.hashes, hashes[where])
        high = np.searchsorted(self.hashes, hashes[where], side="right")
        known = low < high
        return Found(where[known], low[known], high[known])


def _first_bits(hashes: Hashes, size: int) -> NDArray[np.intp]:
    """As a number below `size`, a power of 2."""
    return (hashes >> np.uint64(65 - size.bit_length())).astype(np.intp)
