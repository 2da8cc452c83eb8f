"""What a model makes of each document of a text: its loss there, and the entropy of what it expected.

Kept in one file, a row a document in their order; made by `scoring.py`. Imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gemmule.base.errors import WorkError

FILE = "scores.parquet"
WINDOW = 1024  # tokens that a model reads at once
COLUMNS = [("digest", "<i8"), ("tokens", "<i8"), ("bytes", "<i8"), ("loss", "<f8"), ("entropy", "<f8")]
ROW = np.dtype(COLUMNS)
PRIOR = 64  # bytes (benchmarks/RESULTS.md: of noise made of real words, 26% of the bytes go at 0, 71% at 64)
GROUP = 2**16  # rows of a row group


@dataclass(frozen=True, eq=False)
class Scores:
    """Of each of U documents: its tokens that were predicted, its bytes, and the sums over these tokens, nats."""

    digest: NDArray[np.int64]  # of its text
    tokens: NDArray[np.int64]
    bytes: NDArray[np.int64]
    loss: NDArray[np.float64]
    entropy: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def bits_per_byte(self) -> NDArray[np.float64]:
        """[U]"""
        return self.loss / math.log(2) / self.bytes

    def judged(self, prior: int = PRIOR) -> NDArray[np.float64]:
        """[U]: bits per byte, of a short document drawn towards the middle: as if `prior` bytes more had that.

        Without, the extremes would all be short ones. One in which nothing was predicted is in the middle.
        """
        drawn = (self.loss / math.log(2) + prior * self.middle) / (self.bytes + prior)
        return np.where(self.tokens > 0, drawn, self.middle)

    @property
    def middle(self) -> float:
        """Bits per byte that half of the text is in documents below of: no noise moves it far, nor do short documents,
        whose first tokens have nothing before them."""
        bits, size = self.bits_per_byte[self.tokens > 0], self.bytes[self.tokens > 0]
        if not len(bits):
            return 0.0
        order = np.argsort(bits)
        return float(bits[order][np.searchsorted(np.cumsum(size[order]), size.sum() / 2)])

    @property
    def overall(self) -> float:
        """Bits per byte of all documents."""
        return float(self.loss.sum() / math.log(2) / self.bytes.sum())

    @staticmethod
    def read(folder: Path) -> Scores:
        """Raises WorkError for a missing or damaged file."""
        import pyarrow
        from pyarrow import parquet

        try:
            table = parquet.read_table(folder / FILE, page_checksum_verification=True)
            return Scores(*(table[name].to_numpy() for name in ROW.names or ()))
        except (pyarrow.ArrowException, OSError, KeyError) as error:
            raise WorkError(f"{folder / FILE}: missing or damaged ({error}); make the scores again") from None


@dataclass(frozen=True, eq=False)
class Verdicts:
    """Which documents go by their scores: at most these shares of them, the easiest and the noisiest to a model."""

    model: str
    scores: Scores
    easiest: float
    noisiest: float

    @cached_property
    def _judged(self) -> NDArray[np.float64]:
        return self.scores.judged()

    @cached_property
    def limits(self) -> tuple[float, float]:
        """Below the first and above the second a document goes, bits per byte."""
        return limits(self._judged, self.easiest, self.noisiest)

    def reason(self, number: int) -> str:
        """For which a document goes; empty: it stays."""
        judged, (low, high) = float(self._judged[number]), self.limits
        if judged > high:
            return (
                f"noisy to {self.model}: {judged:.2f} bits per byte, "
                f"the noisiest {self.noisiest:.0%} are above {high:.2f}"
            )
        if judged < low:
            return (
                f"easy to {self.model}: {judged:.2f} bits per byte, the easiest {self.easiest:.0%} are below {low:.2f}"
            )
        return ""

    def figures(self, number: int) -> dict[str, float]:
        """What was measured of a document."""
        scores, bits = self.scores, math.log(2)
        return {
            "judged by": float(self._judged[number]),
            "bits per byte": float(scores.bits_per_byte[number]),
            "entropy per byte": float(scores.entropy[number] / bits / scores.bytes[number]),
            "tokens": int(scores.tokens[number]),
        }

    def facts(self) -> dict[str, float | str]:
        """For the report."""
        low, high = self.limits
        deciles = np.quantile(self._judged, np.linspace(0, 1, 11))
        return {
            "model": self.model,
            "bits per byte": self.scores.overall,
            "easy below": low,
            "noisy above": high,
            "deciles": " ".join(f"{decile:.2f}" for decile in deciles),
        }


def limits(judged: NDArray[np.float64], easiest: float, noisiest: float) -> tuple[float, float]:
    """Below the first and above the second lies at most this share of the documents each; equal ones stay together."""
    ordered = np.sort(judged)
    below, above = (int(share * len(judged) + 1e-9) for share in (easiest, noisiest))
    return float(ordered[below]), float(ordered[-1 - above])


def digests(texts: Iterable[str]) -> NDArray[np.int64]:
    """By which a text's score is found again."""
    hashes = (sha256(text.encode()).digest() for text in texts)
    return np.array([int.from_bytes(found[:8], "big", signed=True) for found in hashes], np.int64)


class Known:
    """Scores that are there already, by the texts that they are of."""

    def __init__(self, scores: Scores | None = None) -> None:
        self._rows = np.zeros(len(scores) if scores is not None else 0, ROW)
        if scores is not None:
            order = np.argsort(scores.digest, kind="stable")
            for name in ROW.names or ():
                self._rows[name] = getattr(scores, name)[order]

    def find(self, wanted: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.void]]:
        """Which of the digests are known, and a row for each, which is another document's where it is not known."""
        if not len(self._rows):
            return np.zeros(len(wanted), bool), np.zeros(len(wanted), ROW)
        places = np.minimum(np.searchsorted(self._rows["digest"], wanted), len(self._rows) - 1)
        rows = self._rows[places]
        return rows["digest"] == wanted, rows


def write(chunks: Iterable[NDArray[np.void]], folder: Path) -> None:
    """Rows, in order, into `folder`: a row group at a time in memory."""
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    schema = pyarrow.schema([(name, pyarrow.from_numpy_dtype(ROW[name])) for name in ROW.names or ()])
    with ParquetWriter(folder / FILE, schema, compression="zstd", write_page_checksum=True) as writer:
        for rows in _groups(chunks):
            writer.write_table(pyarrow.table([rows[name] for name in schema.names], schema=schema))


def _groups(chunks: Iterable[NDArray[np.void]]) -> Iterable[NDArray[np.void]]:
    group: list[NDArray[np.void]] = []
    count = 0
    for rows in chunks:
        group.append(rows)
        count += len(rows)
        if count >= GROUP:
            yield np.concatenate(group)
            group, count = [], 0
    if group:
        yield np.concatenate(group)
