"""MinHash signatures (Broder 1997), of which the share that agree estimates the Jaccard similarity of two sets.

Permutations are h -> a * h + b modulo 2**32 with odd a, as datasketch 2 has them ("affine32"), over all documents of a
batch at once. Bands of the signature (Indyk, Motwani 1998) find which documents to compare: two that agree in all rows
of one band. Kept of a document: a hash of 4 bytes a band, a byte a permutation (b-bit MinHash: Li, König 2010), and how
many shingles it is of; 334 bytes at a threshold of 0.8.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from gemmule.base.splitmix import GOLDEN, mix
from gemmule.refine.corpus import Part
from gemmule.refine.words import Hashes, shingle_runs

RECALL = 0.999  # of pairs at the threshold: the probability that a band agrees
MOST = 256  # permutations
BATCH = 2**14  # shingles, which stay in the processor's cache
SIGMAS = 4.0


@dataclass(frozen=True)
class Bands:
    """How a signature is cut: `count` bands of `rows` permutations."""

    count: int
    rows: int

    @property
    def permutations(self) -> int:
        return self.count * self.rows

    @property
    def row_type(self) -> np.dtype[Any]:
        """What is kept of a document."""
        return np.dtype([("bands", "u4", self.count), ("sketch", "u1", self.permutations), ("shingles", "u4")])


def bands_for(threshold: float) -> Bands:
    """The longest bands, and as many, as find a pair at the threshold with the probability RECALL.

    At 0.8: 30 bands of 7 rows. A pair of Jaccard similarity s agrees in one with the probability 1 - (1 - s^7)^30.
    """
    found = Bands(MOST, 1)
    for rows in range(1, MOST + 1):
        count = math.ceil(math.log(1 - RECALL) / math.log1p(-(threshold**rows)))
        if count * rows > MOST:
            break
        found = Bands(count, rows)
    return found


def least_estimate(threshold: float, bands: Bands) -> float:
    """An estimate that a pair at the threshold is under with a probability of 3 in 100,000."""
    return threshold - SIGMAS * math.sqrt(threshold * (1 - threshold) / bands.permutations)


def sign(part: Part, bands: Bands) -> Path:
    """Writes the signatures of a part's documents beside it, unless they are there: [documents] of `row_type`."""
    which = "all" if part.rows is None else f"{crc32(part.rows.tobytes()):08x}"
    file = part.file.with_suffix(f".{bands.count}x{bands.rows}.{which}.npy")
    if not file.exists():
        rows = np.zeros(part.documents, bands.row_type)
        for start, sets in _batches(part):
            signatures = minhash(sets, bands.permutations)
            batch = rows[start : start + len(sets)]
            batch["shingles"] = [len(each) for each in sets]
            batch["sketch"] = signatures.astype(np.uint8)
            batch["bands"] = _band_hashes(signatures.reshape(-1, bands.count, bands.rows))
        temporary = file.with_suffix(".tmp")
        with temporary.open("wb") as stream:
            np.save(stream, rows)
        os.replace(temporary, file)
    return file


def _batches(part: Part) -> Iterator[tuple[int, list[Hashes]]]:
    """Shingles of about BATCH words at a time, with the number of the first document."""
    batch: list[Hashes] = []
    start, size = 0, 0
    for row, document in enumerate(part, start=1):
        batch.append(shingle_runs(document.text))
        size += len(batch[-1])
        if size >= BATCH or row == part.documents:
            yield start, batch
            batch, start, size = [], row, 0


class Permutations(NamedTuple):
    a: NDArray[np.uint32]  # odd
    b: NDArray[np.uint32]


def permutations(count: int) -> Permutations:
    draws = mix(np.arange(1, 2 * count + 1, dtype=np.uint64) * GOLDEN) >> np.uint64(32)
    a, b = draws.astype(np.uint32).reshape(2, count)
    return Permutations(a | np.uint32(1), b)


def minhash(sets: Sequence[Hashes], count: int) -> NDArray[np.uint32]:
    """The signatures of some sets of hashes: [sets, count]; an empty set's is as that of a set of its own."""
    lengths = np.array([max(1, len(each)) for each in sets])
    starts = np.cumsum(lengths) - lengths
    filled = [each if len(each) else np.zeros(1, np.uint64) for each in sets]
    hashes = (np.concatenate(filled) >> np.uint64(32)).astype(np.uint32)
    signatures = np.empty((len(sets), count), np.uint32)
    permuted = np.empty_like(hashes)
    for place, (a, b) in enumerate(zip(*permutations(count), strict=True)):
        np.multiply(hashes, a, out=permuted)
        np.add(permuted, b, out=permuted)
        signatures[:, place] = np.minimum.reduceat(permuted, starts)
    return signatures


def _band_hashes(signatures: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """[documents, bands, rows] to [documents, bands]."""
    hashes = np.zeros(signatures.shape[:2], np.uint64)
    for row in range(signatures.shape[2]):
        hashes = hashes * GOLDEN + signatures[:, :, row]
    return (mix(hashes) >> np.uint64(32)).astype(np.uint32)
