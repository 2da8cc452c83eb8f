"""Numbers as people read them, against hand-written strings."""

import math

import pytest

from gemmule.base import units


def plain(text: str) -> str:
    return text.replace(units.SPACE, " ")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (850, "850"),
        (12_340, "12.3k"),
        (852_992, "853k"),
        (999_499, "999k"),
        (999_600, "1M"),
        (3_712_345, "3.7M"),
        (2_614_341_888, "2.6B"),
        (27_227_128_320, "27.2B"),
        (None, "–"),
    ],
)
def test_counts_use_the_suffixes_of_recipes(value, shown):
    assert units.count(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (12.34e12, "12.3 TFLOP"),
        (3.2e12, "3.2 TFLOP"),
        (999.7e9, "1 TFLOP"),
        (1.5e21, "1.5 ZFLOP"),
        (512, "512 FLOP"),
        (None, "–"),
    ],
)
def test_flops(value, shown):
    assert plain(units.flops(value)) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.42, "0.4 s"),
        (9.97, "10 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (3599.7, "1 h 00 min"),
        (7500, "2 h 05 min"),
        (86_399, "1 d 0 h"),
        (3 * 86_400 + 4 * 3600, "3 d 4 h"),
        (None, "–"),
    ],
)
def test_durations(seconds, shown):
    assert plain(units.duration(seconds)) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (8.412, "8.41"),
        (9.996, "10.0"),
        (60.31, "60.3"),
        (999.96, "1,000"),
        (1204.4, "1,204"),
        (1.2e9, "1.2e+09"),
        (None, "–"),
    ],
)
def test_perplexities(value, shown):
    assert units.perplexity(value) == shown


def test_what_is_no_number_is_a_dash():
    for show in (units.count, units.flops, units.duration, units.perplexity, units.percent, units.size):
        assert show(math.nan) == show(math.inf) == show(None) == "–"


def test_shares_and_sizes():
    assert units.percent(0.0193) == "1.9%"
    assert [units.share(part, 10_000) for part in (0, 4, 5, 1_180, 9_994, 9_995, 10_000)] == [
        "0.0%", "<0.1%", "0.1%", "11.8%", "99.9%", ">99.9%", "100.0%"
    ]  # fmt: skip
    assert units.share(0, 0) == "–"
    assert plain(units.size(268_525)) == "269 kB"
