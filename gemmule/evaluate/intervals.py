"""How certain a figure is: intervals over documents, comparisons paired by document, intervals over trainings.

A figure is a ratio of sums over units (documents): nats by tokens, bits by bytes. Documents differ in length and in
difficulty, so a few long ones settle the ratio; the tokens within one depend on each other and are no sample.

- The interval is the wider, at either end, of two. The studentised bootstrap (Efron and Tibshirani 1993, section 12.5)
  follows a skewed loss. Student's t with the jackknife's standard error and the degrees of freedom of Bell and
  McCaffrey (2002, "Bias reduction in standard errors for linear regression with multi-stage samples") knows that few
  documents of unequal length are fewer still. `benchmarks/intervals.py` has their coverage, and that of others.
- The p-value is of a sign-flip test (Fisher 1935; by documents, Noreen 1989): were the two models equal, either could
  have had each document's difference. All flips are enumerated where that is few.

n units, B of the bootstrap's samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

SAMPLES = 1000  # of the bootstrap
FLIPS = 5000  # of the signs, where not all are enumerated
ENUMERATED = 12  # units at most of which all flips are
MOST_UNITS = 1000  # more are summed in random groups first: an interval of a thousand is as good
BLOCK = 1 << 20  # numbers at a time
MOST_DEGREES = 10_000.0  # Student's t of more is the normal distribution
SEED = 0


@dataclass(frozen=True)
class Comparison:
    """Of two models on the same units: the first one's ratio less the other's."""

    difference: float
    interval: tuple[float, float] | None  # None of a single unit
    p_value: float  # two-sided, of there being no difference; never 0


def interval(sums: ArrayLike, counts: ArrayLike, confidence: float = 0.95) -> tuple[float, float] | None:
    """Of the ratio sum(sums) / sum(counts), [n] each. None of a single unit.

    Raises ValueError where nothing was counted.
    """
    return _interval(_Ratios(_rows(sums, counts)), confidence)


def compare(
    sums: ArrayLike, counts: ArrayLike, other_sums: ArrayLike, other_counts: ArrayLike, confidence: float = 0.95
) -> Comparison:
    """Two models on the same n units, in the same order: sum(sums) / sum(counts) less the other's ratio.

    Raises ValueError where nothing was counted.
    """
    ratios = _Ratios(_rows(sums, counts, other_sums, other_counts))
    return Comparison(ratios.value, _interval(ratios, confidence), _p_value(ratios.differences()))


def over_trainings(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float] | None:
    """Student's t interval of the mean of trainings that differ in their seed; None of fewer than two."""
    if len(values) < 2:
        return None
    mean, n = float(np.mean(values)), len(values)
    half = t_quantile(n - 1, confidence) * float(np.std(values, ddof=1)) / math.sqrt(n)
    return mean - half, mean + half


def t_quantile(degrees: float, confidence: float) -> float:
    """Where |t| of Student's distribution lies with this probability; the degrees may be a fraction, of 1 or more.

    With t = sqrt(degrees) tan(angle) its density is cos(angle)^(degrees - 1), which is summed up.
    """
    if degrees >= MOST_DEGREES:
        return NormalDist().inv_cdf((1 + confidence) / 2)
    angles = np.linspace(0, math.pi / 2, 20_001)
    density = np.cos(angles) ** (degrees - 1)
    below = np.concatenate([[0], np.cumsum(density[1:] + density[:-1])])
    return math.sqrt(degrees) * math.tan(float(np.interp(confidence * below[-1], below, angles)))


class _Ratios:
    """One ratio of sums, or the difference of two, over the same units. rows [n, 2 or 4]: sums, counts, and so on."""

    def __init__(self, rows: Floats) -> None:
        self.sums, self.counts = rows[:, 0::2].T.copy(), rows[:, 1::2].T.copy()  # [1 or 2, n]
        self.signs = np.array([1.0, -1.0])[: len(self.sums), None]
        self.totals = self.counts.sum(1, keepdims=True)
        self.ratios = self.sums.sum(1, keepdims=True) / self.totals
        self.value = float((self.signs * self.ratios).sum())
        self.residuals = self.sums - self.ratios * self.counts
        self.shares = self.counts / self.totals  # of each unit in the text

    def __len__(self) -> int:
        return self.sums.shape[1]

    def differences(self) -> Floats:
        """Each unit's part of the difference, [n], as it is where the two ratios are one. Their sum is the whole."""
        common = self.sums.sum() / self.totals.sum()
        return (self.signs * (self.sums - common * self.counts) / self.totals).sum(0)

    def left_out(self) -> Floats:
        """How far the value moves when a unit is left out, [n]."""
        return -(self.signs * self.residuals / self.totals / (1 - self.shares)).sum(0)

    def resampled(self, units: NDArray[np.int64]) -> tuple[Floats, Floats]:
        """How far the value moves, and its standard error, in samples [B, n] of the units: [B] each."""
        drawn = [
            _moved(residuals[units], counts[units] / total)
            for residuals, counts, total in zip(self.residuals / self.totals, self.counts, self.totals, strict=True)
        ]
        moved, parts = drawn[0]
        for other_moved, other_parts in drawn[1:]:
            moved, parts = moved - other_moved, parts - other_parts
        return moved, _linear_error(parts)

    def error(self) -> float:
        return float(_linear_error((self.signs * self.residuals / self.totals).sum(0)))


def _moved(residuals: Floats, shares: Floats) -> tuple[Floats, Floats]:
    """How far one ratio moves in samples of its units, [B], and their parts of that, [B, n] of mean 0."""
    share = shares.sum(1, keepdims=True)
    moved = residuals.sum(1, keepdims=True) / share
    return moved[:, 0], (residuals - moved * shares) / share


def _linear_error(parts: Floats) -> Floats:
    """The standard error of a sum of n parts whose mean is 0, along the last axis."""
    n = parts.shape[-1]
    error: Floats = np.sqrt(n / (n - 1) * np.einsum("...n,...n->...", parts, parts))
    return error


def _interval(ratios: _Ratios, confidence: float) -> tuple[float, float] | None:
    if len(ratios) < 2:
        return None
    error = float(np.sqrt((ratios.left_out() ** 2).sum()))
    half = t_quantile(_degrees(ratios.shares.mean(0)), confidence) * error
    below, above = _studentised(ratios, confidence)
    return ratios.value - max(half, below), ratios.value + max(half, above)


def _studentised(ratios: _Ratios, confidence: float) -> tuple[float, float]:
    """How far the bootstrap's interval reaches below the value and above it.

    Samples of one unit alone have no standard error; where they are many, as of two units, nothing is known.
    """
    n, error = len(ratios), ratios.error()
    chance = np.random.default_rng(SEED)
    step = max(1, BLOCK // n)
    blocks = [
        ratios.resampled(chance.integers(n, size=(min(step, SAMPLES - start), n))) for start in range(0, SAMPLES, step)
    ]
    moved, errors = (np.concatenate(column) for column in zip(*blocks, strict=True))
    known = errors > 1e-9 * error
    if known.mean() < confidence:
        return 0.0, 0.0
    low, high = np.quantile(moved[known] / errors[known], [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(high) * error, -float(low) * error


def _degrees(shares: Floats) -> float:
    """Degrees of freedom of the jackknife's variance (Bell and McCaffrey 2002), by the units' shares [n] of the text.

    The variance is a sum of squares of w_i (u_i - sum_j shares_j u_j), w = shares / (1 - shares); were the units' own
    means u independent and alike, it would be spread as a chi-square of tr(G)^2 / tr(G^2) degrees, with
    G_ij = w_i w_j ([i = j] - shares_i - shares_j + q) and q the sum of shares^2.
    """
    q = float((shares**2).sum())
    squares = (shares / (1 - shares)) ** 2
    zeroth, first, second = (float((squares * shares**power).sum()) for power in range(3))
    trace = (1 + q) * zeroth - 2 * first
    all_pairs = q * q * zeroth**2 - 4 * q * zeroth * first + 2 * zeroth * second + 2 * first**2
    own = float((squares**2 * (1 + 2 * q - 4 * shares)).sum())
    return max(1.0, trace**2 / (all_pairs + own))


def _p_value(differences: Floats) -> float:
    """How often the differences [n] sum to no less when each has either sign, themselves as they are among them."""
    n, reached = len(differences), abs(differences.sum()) * (1 - 1e-9)
    if n <= ENUMERATED:
        signs = 1.0 - 2 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)
        return float((abs(signs @ differences) >= reached).mean())
    chance, step = np.random.default_rng(SEED), max(1, BLOCK // n)
    no_less = 1
    for start in range(0, FLIPS, step):
        signs = 1.0 - 2 * chance.integers(2, size=(min(step, FLIPS - start), n), dtype=np.int8)
        no_less += int((abs(signs @ differences) >= reached).sum())
    return no_less / (1 + FLIPS)


def _rows(*columns: ArrayLike) -> Floats:
    """Columns [n] of sums and counts as rows of no more than MOST_UNITS units, those left out of which nothing counts.

    Raises ValueError where nothing counts.
    """
    rows = np.stack([np.asarray(column, np.float64) for column in columns], 1)
    rows = rows[(rows[:, 1::2] > 0).all(1)]
    if not len(rows):
        raise ValueError("no unit of which anything was counted")
    if len(rows) <= MOST_UNITS:
        return rows
    group = np.random.default_rng(SEED).permutation(len(rows)) % MOST_UNITS
    return np.stack([np.bincount(group, column, MOST_UNITS) for column in rows.T], 1)
