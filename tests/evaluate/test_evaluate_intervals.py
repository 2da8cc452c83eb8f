"""Intervals hold the true value as often as they say, p-values of equal models are uniform; cases worked by hand."""

import math

import numpy as np
import pytest

from gemmule.evaluate import intervals
from gemmule.evaluate.intervals import compare, interval, over_trainings, t_quantile


def documents(chance, n):
    """Nats and tokens of n documents: log-normal lengths, skewed losses that depend on the length; the true mean."""
    logarithm = chance.normal(5, 0.8, n)
    tokens = np.ceil(np.exp(logarithm))
    return tokens * (3 + 0.05 * (logarithm - 5) + chance.gamma(2, 0.25, n) - 0.5), tokens, 3 + 0.05 * 0.8**2


def alike(chance, n):
    """As long as each other, with log-normal losses."""
    tokens = np.full(n, 100.0)
    return tokens * chance.lognormal(1, 0.4, n), tokens, math.exp(1 + 0.4**2 / 2)


@pytest.mark.parametrize("draw", [documents, alike])
@pytest.mark.parametrize("n", [10, 20, 50, 200])
def test_intervals_hold_the_true_value(draw, n):
    chance, held, repeats = np.random.default_rng(n), 0, 250
    for _ in range(repeats):
        sums, counts, true = draw(chance, n)
        low, high = interval(sums, counts)
        held += low <= true <= high
    assert 0.92 <= held / repeats <= 0.98


@pytest.mark.parametrize("n", [10, 30, 100])
def test_p_values_of_equal_models_are_uniform(n):
    """Two models of equal loss on the same documents, whose noise differs in size and shape."""
    chance, repeats = np.random.default_rng(n), 200
    found, held = [], 0
    for _ in range(repeats):
        sums, counts, _ = documents(chance, n)
        ours = sums + counts * chance.normal(0, 0.1, n)
        theirs = sums + counts * (chance.gamma(4, 0.1, n) - 0.4)
        result = compare(ours, counts, theirs, counts)
        found.append(result.p_value)
        held += result.interval[0] <= 0 <= result.interval[1]
    distance = np.abs(np.sort(found) - (np.arange(repeats) + 0.5) / repeats).max()
    assert distance < 1.63 / repeats**0.5  # Kolmogorov and Smirnov's, of 1 in 100
    assert 0.92 <= held / repeats <= 0.99


def test_a_difference_that_is_there_is_found():
    sums, counts, _ = documents(np.random.default_rng(0), 100)
    result = compare(0.98 * sums, counts, sums, counts)
    assert result.difference == pytest.approx(-0.02 * sums.sum() / counts.sum())
    assert result.interval[0] < result.difference < result.interval[1] < 0
    assert result.p_value == 1 / (1 + intervals.FLIPS)  # no flip reaches it, and it is not 0


def test_sign_flips_worked_by_hand():
    """Differences 3, 2, 1 and -1: of the 16 sums of +-3 +-2 +-1 +-1 those of size 5 or more are 7, 5, 5, -5, -5, -7."""
    ours, theirs, counts = [13.0, 12.0, 11.0, 9.0], [10.0] * 4, [1.0] * 4
    result = compare(ours, counts, theirs, counts)
    assert result.difference == pytest.approx(5 / 4)
    assert result.p_value == 6 / 16


def test_two_documents_worked_by_hand():
    """Losses 1 and 3 of equal lengths. Left out, either moves the mean by 1: the jackknife's error is sqrt(2), with one
    degree of freedom, whose quantile is 12.706."""
    low, high = interval([100, 300], [100, 100])
    assert (low, high) == pytest.approx((2 - 12.7062 * math.sqrt(2), 2 + 12.7062 * math.sqrt(2)), rel=1e-5)


def test_degrees_of_freedom_are_those_of_the_whole_matrix():
    shares = np.random.default_rng(0).lognormal(size=9)
    shares /= shares.sum()
    w = shares / (1 - shares)
    G = np.outer(w, w) * (np.eye(9) - shares[:, None] - shares + (shares**2).sum())
    assert intervals._degrees(shares) == pytest.approx(np.trace(G) ** 2 / np.trace(G @ G))
    assert intervals._degrees(np.full(9, 1 / 9)) == pytest.approx(8)


@pytest.mark.parametrize("n", [1, 2, 3, 40, 3000])
def test_a_model_against_itself(n):
    sums, counts, _ = documents(np.random.default_rng(n), n)
    result = compare(sums, counts, sums, counts)
    assert (result.difference, result.p_value) == (0.0, 1.0)
    assert result.interval == (None if n == 1 else (0.0, 0.0))


def test_a_single_document_has_no_interval():
    assert interval([300], [100]) is None
    result = compare([300], [100], [310], [100])
    assert result.difference == pytest.approx(-0.1)
    assert (result.interval, result.p_value) == (None, 1.0)
    assert interval([300, 0], [100, 0]) is None  # a document of which nothing was counted is none


def test_nothing_counted_is_refused():
    with pytest.raises(ValueError, match="no unit of which anything was counted"):
        interval([0.0], [0])


def test_equal_documents_leave_nothing_uncertain():
    assert interval([200, 400, 600], [100, 200, 300]) == (2.0, 2.0)


def test_units_may_be_counted_differently():
    """Two tokenizers: nats by tokens of each. The second model is the first one at two tokens for one."""
    sums, counts, _ = documents(np.random.default_rng(1), 60)
    result = compare(sums, counts, sums, 2 * counts)
    low, high = interval(sums, counts)
    assert result.difference == pytest.approx(sums.sum() / counts.sum() / 2)
    assert result.interval == pytest.approx((low / 2, high / 2), rel=0.05)


def test_many_documents_are_summed_in_groups():
    """A million give what their own spread says, twice the same."""
    chance = np.random.default_rng(2)
    sums, counts, true = documents(chance, 1_000_000)
    low, high = interval(sums, counts)
    residuals = sums - sums.sum() / counts.sum() * counts
    expected = 2 * 1.96 * math.sqrt((residuals**2).sum()) / counts.sum()
    assert high - low == pytest.approx(expected, rel=0.15)
    assert low < true < high
    assert interval(sums, counts) == (low, high)


def test_quantiles_of_students_t():
    """As printed in tables (NIST/SEMATECH e-Handbook 1.3.6.7.2)."""
    printed = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 10: 2.228, 30: 2.042, 100: 1.984}
    assert {n: round(t_quantile(n, 0.95), 3) for n in printed} == printed
    assert t_quantile(5, 0.99) == pytest.approx(4.032, abs=5e-4)
    assert t_quantile(1e6, 0.95) == pytest.approx(1.960, abs=5e-4)


def test_over_trainings():
    """Mean 3, deviation 1, of three: 4.303 / sqrt(3) to either side."""
    assert over_trainings([2.0, 3.0, 4.0]) == pytest.approx((3 - 4.3027 / 3**0.5, 3 + 4.3027 / 3**0.5), abs=1e-3)
    assert over_trainings([3.0]) is None
    assert over_trainings([3.0, 3.0]) == (3.0, 3.0)
