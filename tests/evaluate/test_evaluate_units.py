"""Models compared by what they lose in each unit of a text, by hand."""

import math

import numpy as np
import pytest

from gemmule.base.errors import WorkError
from gemmule.evaluate.units import FILE, Units, ratio


def units(loss, tokens=None, size=None) -> Units:
    loss = np.array(loss, float)
    tokens = np.full(len(loss), 10) if tokens is None else np.array(tokens)
    return Units(tokens, np.full(len(loss), 40.0) if size is None else np.array(size, float), loss)


def test_figures_by_hand():
    figures = units([20, 30, 10, 40], [10, 10, 10, 20], [40, 40, 40, 80]).figures()
    assert figures["perplexity"] == pytest.approx(math.exp(100 / 50))
    assert figures["bits_per_byte"] == pytest.approx(100 / math.log(2) / 200)
    assert figures["tokens"] == 50
    for name in ("perplexity", "bits_per_byte"):
        low, high = figures[f"{name}_interval"]
        assert 0 <= low < figures[name] < high


def test_of_a_single_unit_there_is_no_interval():
    figures = units([20]).figures()
    assert figures["perplexity_interval"] is figures["bits_per_byte_interval"] is None


def test_a_loss_is_never_below_nothing():
    figures = units([0.001, 30]).figures()
    assert figures["bits_per_byte_interval"][0] == 0
    assert figures["perplexity_interval"][0] == 1


def test_units_that_were_not_read_are_left_out():
    kept = Units.of(np.array([3, 0, 4]), np.array([12.0, 0.0, 16.0, 0.0]), np.array([1.0, 0.0, 2.0]))
    assert (kept.tokens.tolist(), kept.loss.tolist()) == ([3, 4], [1.0, 2.0])
    without_tokens = Units.of(np.array([3]), np.array([12.0, 1.0]), np.array([1.0]))
    assert without_tokens.tokens.tolist() == [3, 0]
    with_room = Units.of(np.array([3, 0, 0]), np.array([12.0]), np.array([1.0, 0.0, 0.0]))
    assert with_room.tokens.tolist() == [3]


def test_the_same_model_twice():
    same = ratio(units([20, 30, 25]), units([20, 30, 25]), same_tokens=True)
    assert (same.of, same.value, same.interval, same.p_value) == ("perplexity", 1.0, (1.0, 1.0), 1.0)


def test_a_ratio_is_of_perplexities_where_the_tokens_are_the_same():
    found = ratio(units([18, 27, 21, 30]), units([20, 30, 25, 35]), same_tokens=True)
    assert found.value == pytest.approx(math.exp((96 - 110) / 40))
    assert found.interval[0] < found.value < found.interval[1] < 1
    assert found.p_value == 2 / 16  # all four on one side, of 2^4 signs


def test_and_of_bits_per_byte_where_they_are_not():
    found = ratio(units([18, 27, 21, 30], [5, 6, 7, 8]), units([20, 30, 25, 35], [9, 9, 9, 9]), same_tokens=False)
    assert found.of == "bits_per_byte"
    assert found.value == pytest.approx(96 / 110)
    assert found.interval[0] < found.value < found.interval[1]


def test_models_measured_on_other_text_are_not_compared():
    assert ratio(units([1, 2]), units([1, 2, 3]), same_tokens=True) is None
    assert ratio(units([1, 2], [10, 10]), units([1, 2], [10, 11]), same_tokens=True) is None


def test_written_and_read(tmp_path):
    assert Units.read(tmp_path) is None
    written = units([1.5, 2.25], [3, 4], [12.5, 16])
    written.write(tmp_path)
    read = Units.read(tmp_path)
    assert [column.tolist() for column in (read.tokens, read.bytes, read.loss)] == [[3, 4], [12.5, 16], [1.5, 2.25]]
    (tmp_path / FILE).write_bytes(b"damaged")
    with pytest.raises(WorkError, match=r"units\.parquet: damaged"):
        Units.read(tmp_path)
