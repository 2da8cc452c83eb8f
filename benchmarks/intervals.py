"""How often intervals over documents hold the true value, by method, and whether p-values of equal models are uniform.

    python benchmarks/intervals.py [REPEATS]

Documents are drawn whose true mean is known: lengths and losses skewed, and the loss depends on the length. A method of
95% should hold the value in 95 of 100 draws. `gemmule` is `evaluate/intervals.py`, the wider end of the two before it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from statistics import NormalDist

import common
import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from gemmule.evaluate.intervals import compare, interval, t_quantile

Floats = NDArray[np.float64]
Documents = tuple[Floats, Floats, float]  # nats and tokens of each, and the true nats per token
Bounds = tuple[float, float] | None
UNITS = (2, 3, 5, 10, 20, 50, 200)
SAMPLES = 600


def equal(chance: np.random.Generator, n: int) -> Documents:
    """Lengths alike, losses log-normal."""
    tokens = np.full(n, 200.0)
    return tokens * chance.lognormal(1, 0.5, n), tokens, math.exp(1 + 0.5**2 / 2)


def skewed(slope: float) -> Callable[[np.random.Generator, int], Documents]:
    """Log-normal lengths, and a loss of gamma noise that falls or rises by `slope` with the length's logarithm."""

    def draw(chance: np.random.Generator, n: int) -> Documents:
        logarithm = chance.normal(5, 1, n)
        tokens = np.ceil(np.exp(logarithm))
        loss = 3 + slope * (logarithm - 5) + chance.gamma(2, 0.25, n) - 0.5
        return tokens * loss, tokens, 3 + slope

    return draw


TEXTS = {
    "equal lengths": equal,
    "log-normal lengths": skewed(0.0),
    "longer is easier": skewed(-0.15),
    "longer is harder": skewed(0.2),
}


def bounds(sums: Floats, counts: Floats) -> dict[str, Bounds]:
    """Of each method, all from the same samples."""
    n, total, ratio = len(sums), counts.sum(), sums.sum() / counts.sum()
    units = np.random.default_rng(0).integers(n, size=(SAMPLES, n))
    residuals = sums - ratio * counts
    drawn, lengths = residuals[units], counts[units]
    moved = drawn.sum(1) / lengths.sum(1)
    spread = drawn - moved[:, None] * lengths
    errors = np.sqrt(n / (n - 1) * (spread**2).sum(1)) / lengths.sum(1)
    error = math.sqrt(n / (n - 1) * (residuals**2).sum()) / total
    left_out = -residuals / total / (1 - counts / total)
    half = t_quantile(n - 1, 0.95) * error
    known = errors > 1e-9 * error
    low, high = np.quantile(moved[known] / errors[known], [0.025, 0.975])
    return {
        "percentile": _around(ratio, *np.quantile(moved, [0.025, 0.975])),
        "BCa": _around(ratio, *np.quantile(moved, _bca(moved, left_out))),
        "Student's t": (ratio - half, ratio + half),
        "studentised": (ratio - high * error, ratio - low * error),
        "gemmule": interval(sums, counts),
    }


def _around(ratio: float, low: float, high: float) -> Bounds:
    return ratio + low, ratio + high


def _bca(moved: Floats, left_out: Floats) -> list[float]:
    """The quantiles that the bias-corrected and accelerated interval takes (Efron 1987)."""
    normal = NormalDist()
    bias = normal.inv_cdf(min(max(float((moved < 0).mean() + (moved == 0).mean() / 2), 1 / SAMPLES), 1 - 1 / SAMPLES))
    influence = left_out.mean() - left_out
    acceleration = (influence**3).sum() / (6 * (influence**2).sum() ** 1.5)
    shifted = [bias + sign * 1.96 for sign in (-1, 1)]
    return [normal.cdf(bias + each / (1 - acceleration * each)) for each in shifted]


def coverage(repeats: int) -> Table:
    table = Table("text", "documents", title=f"Intervals of 95% that hold the true value, % of {repeats} draws")
    for name, draw in TEXTS.items():
        for n in UNITS:
            chance, held = np.random.default_rng(n), dict[str, int]()
            for _ in range(repeats):
                sums, counts, true = draw(chance, n)
                for method, found in bounds(sums, counts).items():
                    held[method] = held.get(method, 0) + (found is not None and found[0] <= true <= found[1])
            if len(table.columns) == 2:
                for method in held:
                    table.add_column(method, justify="right")
            table.add_row(name, str(n), *(f"{100 * count / repeats:.1f}" for count in held.values()))
    return table


def uniformity(repeats: int) -> Table:
    """Two models of equal loss on the same documents, the second one's noise twice as large."""
    table = Table("documents", title=f"p-values of equal models: % of {repeats} below, and mean; intervals that hold 0")
    for column in ("1%", "5%", "10%", "50%", "mean", "t: 5%", "intervals"):
        table.add_column(column, justify="right")
    for n in (5, 10, 30, 100, 200):
        chance = np.random.default_rng(n)
        found, of_t, held = [], 0, 0
        for _ in range(repeats):
            sums, counts, _ = TEXTS["longer is harder"](chance, n)
            ours = sums + counts * (chance.gamma(2, 0.1, n) - 0.2)
            theirs = sums + counts * chance.normal(0, 0.2 * math.sqrt(2), n)
            result = compare(ours, counts, theirs, counts)
            found.append(result.p_value)
            held += result.interval is not None and result.interval[0] <= 0 <= result.interval[1]
            difference = ours - theirs
            residuals = difference - difference.sum() / counts.sum() * counts
            t = abs(difference.sum()) / math.sqrt(n / (n - 1) * (residuals**2).sum())
            of_t += t > t_quantile(n - 1, 0.95)
        shares = [f"{100 * np.mean(np.array(found) <= level):.1f}" for level in (0.01, 0.05, 0.1, 0.5)]
        others = (f"{np.mean(found):.3f}", f"{100 * of_t / repeats:.1f}", f"{100 * held / repeats:.1f}")
        table.add_row(str(n), *shares, *others)
    return table


if __name__ == "__main__":
    asked = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    common.show(coverage(asked))
    common.show(uniformity(asked))
