"""What a model's loss is in each unit of a text, documents or stretches of them: what intervals and comparisons need.

Kept beside an evaluation, so that models are compared later without running them again. Imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gemmule.base.errors import WorkError
from gemmule.evaluate.intervals import Comparison, compare, interval

FILE = "units.parquet"
LARGEST_LOSS = 700.0  # nats: exp overflows above


@dataclass(frozen=True, eq=False)
class Units:
    """Of each of U units, in the order of the text: its tokens, its bytes, and the sum of the loss, nats."""

    tokens: NDArray[np.int64]
    bytes: NDArray[np.float64]
    loss: NDArray[np.float64]

    @classmethod
    def of(cls, tokens: NDArray[np.int64], bytes: NDArray[np.float64], loss: NDArray[np.float64]) -> Units:
        """Of as many units as `bytes` has; those that were passed over, which have none, are left out.

        The others may be more, or fewer where nothing of the last units counts.
        """
        missing = max(0, len(bytes) - len(tokens))
        tokens, loss = np.pad(tokens, (0, missing))[: len(bytes)], np.pad(loss, (0, missing))[: len(bytes)]
        there = bytes > 0
        return cls(tokens[there], bytes[there], loss[there])

    def figures(self) -> dict[str, Any]:
        """Perplexity and bits per byte, with their intervals; the tokens."""
        loss, tokens, size = (float(column.sum()) for column in (self.loss, self.tokens, self.bytes))
        over_tokens, over_bytes = _interval(self.loss, self.tokens), _interval(self.loss, self.bytes)
        return {
            "perplexity": perplexity(loss / tokens),
            "perplexity_interval": None if over_tokens is None else [perplexity(end) for end in over_tokens],
            "bits_per_byte": loss / math.log(2) / size,
            "bits_per_byte_interval": None if over_bytes is None else [end / math.log(2) for end in over_bytes],
            "tokens": int(tokens),
        }

    def write(self, folder: Path) -> None:
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(
            pyarrow.table({"tokens": self.tokens, "bytes": self.bytes, "loss": self.loss}),
            folder / FILE,
            write_page_checksum=True,
        )

    @staticmethod
    def read(folder: Path) -> Units | None:
        """None where an evaluation has none, as those of before there were any. Raises WorkError for a damaged file."""
        import pyarrow
        from pyarrow import parquet

        if not (folder / FILE).is_file():
            return None
        try:
            table = parquet.read_table(folder / FILE, page_checksum_verification=True)
            return Units(*(table[name].to_numpy() for name in ("tokens", "bytes", "loss")))
        except (pyarrow.ArrowException, OSError, KeyError) as error:
            raise WorkError(f"{folder / FILE}: damaged ({error}); evaluate again") from None


@dataclass(frozen=True)
class Ratio:
    """Of two models: the first one's perplexity, or bits per byte, by the other's."""

    of: str  # "perplexity", or "bits_per_byte" where they have other tokens
    value: float
    interval: tuple[float, float] | None
    p_value: float  # of there being no difference


def ratio(ours: Units, theirs: Units, same_tokens: bool) -> Ratio | None:
    """How two models compare on the same text, paired by its units; None where they were measured on other text.

    With `same_tokens` by their perplexities: exp of the difference of mean losses. Else by their bits per byte.
    """
    if len(ours.loss) != len(theirs.loss) or (same_tokens and not np.array_equal(ours.tokens, theirs.tokens)):
        return None
    if same_tokens:
        found = compare(ours.loss, ours.tokens, theirs.loss, theirs.tokens)
        return _ratio("perplexity", found, _exp)
    return _of_bits(ours, theirs)


def _of_bits(ours: Units, theirs: Units) -> Ratio:
    """The ratio of sums of losses is 1 + (difference of them) / (theirs), linear in the difference."""
    found: Comparison = compare(ours.loss, ours.bytes, theirs.loss, theirs.bytes)
    level = float(theirs.loss.sum() / theirs.bytes.sum())
    if level == 0:  # a model that was never surprised
        return Ratio("bits_per_byte", 1.0 if found.difference == 0 else math.inf, None, found.p_value)
    return _ratio("bits_per_byte", found, lambda difference: 1 + difference / level)


def _ratio(of: str, found: Comparison, by: Callable[[float], float]) -> Ratio:
    """What a comparison says, each difference in it as a ratio."""
    ends = None if found.interval is None else (by(found.interval[0]), by(found.interval[1]))
    return Ratio(of, by(found.difference), ends, found.p_value)


def _interval(loss: NDArray[np.float64], counts: NDArray[Any]) -> list[float] | None:
    """Of a mean loss, which is never below 0."""
    ends = interval(loss, counts)
    return None if ends is None else [max(0.0, end) for end in ends]


def perplexity(loss: float) -> float:
    """exp of a mean loss, nats."""
    return _exp(loss)


def _exp(value: float) -> float:
    return math.exp(min(value, LARGEST_LOSS))
