"""Which documents are likely to be near-duplicates of kept ones, by their signatures (`minhash.py`).

A bucket is of documents that share the hash of a band. Only those that are kept enter it, and no more than CROWD: so
time stays linear where 100,000 letters of one form share a bucket. The same letters twice meet in the buckets of other
bands too. In memory, at most: 8 bytes a document and band; the buckets' numbers lie on disk, 4 bytes each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from gemmule.refine.minhash import Bands, least_estimate

CROWD = 4096  # kept documents in a bucket
LIKELIEST = 64  # candidates of a document
BLOCK = 4096  # documents whose buckets are read at a time


class Signatures:
    """Those of all documents, on disk."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._parts = [np.load(file, mmap_mode="r") for file in files]
        self._starts = list(accumulate(map(len, self._parts), initial=0))

    def __len__(self) -> int:
        return self._starts[-1]

    def band(self, number: int) -> NDArray[np.uint32]:
        """The hashes of a band: [documents]."""
        return np.concatenate([np.empty(0, np.uint32), *(part["bands"][:, number] for part in self._parts)])

    def have_words(self) -> NDArray[np.bool_]:
        """Which documents do: [documents]."""
        return np.concatenate([np.empty(0, bool), *(part["shingles"] > 0 for part in self._parts)])

    def sketches(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Of some documents, in ascending order: [numbers, permutations]."""
        cuts = np.searchsorted(numbers, self._starts)
        return np.concatenate(
            [
                part["sketch"][numbers[low:high] - start]
                for part, start, low, high in zip(self._parts, self._starts, cuts, cuts[1:], strict=False)
                if low < high
            ]
        )


class Candidates:
    """The kept documents that one may be like."""

    def __init__(self, signatures: Signatures, threshold: float, bands: Bands, file: Path) -> None:
        self._signatures = signatures
        self._least = least_estimate(threshold, bands)
        self._buckets, capacities = _buckets(signatures, bands.count, file)
        self._starts = np.cumsum(capacities) - capacities  # where a bucket's documents begin
        self._members = np.zeros(int(capacities.sum()), np.uint32)
        self._filled = np.zeros(len(capacities), np.uint32)
        self._capacities = capacities

    def sharing(self) -> Iterator[tuple[int, NDArray[np.uint32]]]:
        """The documents that share a bucket with another, in order, and their buckets."""
        for start in range(0, len(self._signatures), BLOCK):
            block = np.array(self._buckets[:, start : start + BLOCK]).T
            for row in np.flatnonzero(block.any(axis=1)):
                yield start + int(row), block[row][block[row] > 0]

    def keep(self, number: int, buckets: NDArray[np.uint32]) -> None:
        """Later documents are compared with it."""
        buckets = buckets[self._filled[buckets] < self._capacities[buckets]]
        self._members[self._starts[buckets] + self._filled[buckets]] = number
        self._filled[buckets] += 1

    def likeliest(self, number: int, buckets: NDArray[np.uint32]) -> list[int]:
        """The kept documents in these buckets that may reach the threshold, the likeliest first."""
        filled = self._filled[buckets]
        places = zip(self._starts[buckets].tolist(), filled.tolist(), strict=True)
        members = [self._members[start : start + count] for start, count in places if count]
        if not members:
            return []
        others = np.unique(np.concatenate(members)).astype(np.int64)
        agree = self._signatures.sketches(others) == self._signatures.sketches(np.array([number]))
        estimates = agree.sum(axis=1, dtype=np.uint16) / agree.shape[1]
        order = np.argsort(-estimates, kind="stable")[:LIKELIEST]
        return others[order[estimates[order] >= self._least]].tolist()


def _buckets(signatures: Signatures, bands: int, file: Path) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """In which bucket a document is, by bands: [bands, documents], 0 where no other is in it; and how many each bucket
    has room for: [buckets]. Documents without words are in none."""
    have_words = signatures.have_words()
    buckets = open_memmap(file, "w+", np.uint32, (bands, max(1, len(have_words))))
    capacities = [np.zeros(1, np.int64)]
    known = 1
    for band in range(bands if len(have_words) else 0):
        _, which, counts = np.unique(signatures.band(band), return_inverse=True, return_counts=True)
        shared = counts > 1
        numbers = np.where(shared, np.cumsum(shared) + (known - 1), 0)
        buckets[band] = np.where(have_words, numbers[which], 0)
        known += int(shared.sum())
        capacities.append(np.minimum(counts[shared], CROWD))
    return buckets, np.concatenate(capacities)
