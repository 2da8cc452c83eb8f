"""Pieces of pictures: ticks, styles of lines, names that fit."""

import pytest

from gemmule.base.page.svg import dashes, line_class, nice_ticks, shorten, text_width


@pytest.mark.parametrize(
    ("low", "high", "wanted", "ticks"),
    [
        (0, 1_000_000, 5, [0, 200_000, 400_000, 600_000, 800_000, 1_000_000]),
        (3.87, 4.95, 5, [4.0, 4.25, 4.5, 4.75]),
        (0, 1, 5, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (2, 2, 5, [2]),
    ],
)
def test_ticks_are_round(low, high, wanted, ticks):
    assert nice_ticks(low, high, wanted) == pytest.approx(ticks)


def test_thirty_models_have_thirty_styles():
    assert len({(line_class(index), dashes(index)) for index in range(30)}) == 30


def test_long_names_lose_their_middle():
    name = "student-with-seed-1-and-learning-rate-0.004-and-more-and-then-b"
    short = shorten(name, 120, 13)
    assert text_width(short, 13) <= 120
    start, end = short.split("…")
    assert name.startswith(start)
    assert name.endswith(end)
    assert shorten("student", 120, 13) == "student"
