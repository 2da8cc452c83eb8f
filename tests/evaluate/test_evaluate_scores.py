"""Which documents go by their scores."""

import math

import numpy as np
import pytest

from gemmule.base.errors import WorkError
from gemmule.evaluate import scores
from gemmule.evaluate.scores import PRIOR, ROW, Scores, Verdicts, limits


def made(bits, bytes, tokens=None):
    """Scores of documents of so many bits in all."""
    loss = np.array(bits, np.float64) * math.log(2)
    zeros = np.zeros(len(loss), np.int64)
    return Scores(zeros, zeros + 9 if tokens is None else np.array(tokens), np.array(bytes), loss, loss / 2)


def test_a_short_document_is_drawn_towards_the_middle_and_a_long_one_hardly():
    """3 bits a byte in 5,000, more than a half together with 2 in 4,000; 6 in 6 and in 6,000; 9 in three of 10."""
    found = made([8000, 36, 36_000, 15_000, 90, 90, 90], [4000, 6, 6000, 5000, 10, 10, 10])
    assert found.bits_per_byte.tolist() == pytest.approx([2, 6, 6, 3, 9, 9, 9])
    assert found.overall == pytest.approx(59_306 / 15_036)
    assert found.middle == pytest.approx(3)
    assert PRIOR == 64
    short = (90 + 192) / 74
    expected = [(8000 + 192) / 4064, (36 + 192) / 70, (36_000 + 192) / 6064, 3, short, short, short]
    assert found.judged().tolist() == pytest.approx(expected)


def test_a_document_of_which_nothing_was_predicted_is_in_the_middle():
    """Its only token opened it."""
    found = made([200, 0, 600, 300], [100, 1, 100, 100], tokens=[20, 0, 20, 20])
    assert found.judged()[1] == pytest.approx(3)
    assert made([0, 0], [1, 1], tokens=[0, 0]).judged().tolist() == [0, 0]


@pytest.mark.parametrize(
    ("easiest", "noisiest", "expected"), [(0.05, 0.1, (1, 2)), (0, 0, (0, 0)), (0.29, 0.7, (5, 14))]
)
def test_so_many_go_at_each_end(easiest, noisiest, expected):
    judged = np.random.default_rng(0).permutation(20).astype(float)
    low, high = limits(judged, easiest, noisiest)
    assert ((judged < low).sum(), (judged > high).sum()) == expected


def test_equal_documents_stay_together():
    judged = np.array([1.0, 2, 2, 2, 2, 2, 2, 2, 3, 3])
    low, high = limits(judged, 0.3, 0.1)
    assert (judged < low).tolist() == [True] + [False] * 9
    assert not (judged > high).any()  # one of two threes would be a tenth


def test_reasons_have_the_figure_and_the_limit():
    found = made([100 * bits for bits in range(1, 11)], [100] * 10)
    verdicts = Verdicts("gemma", found, 0.1, 0.2)
    judged = [(100 * bits + 64 * 5) / 164 for bits in range(1, 11)]
    assert [bool(verdicts.reason(number)) for number in range(10)] == [True] + [False] * 7 + [True] * 2
    assert verdicts.reason(9) == (
        f"noisy to gemma: {judged[9]:.2f} bits per byte, the noisiest 20% are above {judged[7]:.2f}"
    )
    assert verdicts.reason(0) == (
        f"easy to gemma: {judged[0]:.2f} bits per byte, the easiest 10% are below {judged[1]:.2f}"
    )
    facts = verdicts.facts()
    assert facts["easy below"] == pytest.approx(judged[1])
    assert facts["noisy above"] == pytest.approx(judged[7])
    assert facts["deciles"].split()[0] == f"{judged[0]:.2f}"


def test_what_is_damaged_is_said(tmp_path):
    scores.write([np.zeros(5, ROW)], tmp_path)
    assert len(Scores.read(tmp_path)) == 5
    content = bytearray((tmp_path / scores.FILE).read_bytes())
    content[40] ^= 255
    (tmp_path / scores.FILE).write_bytes(content)
    with pytest.raises(WorkError, match="make the scores again"):
        Scores.read(tmp_path)
