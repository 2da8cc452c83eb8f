"""Which tokens have their evidence far back, by hand; and what a far look is worth to a model that copies."""

from __future__ import annotations

import math

import pytest
from copying import Copying

from gemmule.base.errors import RequestError
from gemmule.evaluate.tasks import Asked, evidence
from gemmule.evaluate.tasks.evidence import Stretch, far_evidence
from gemmule.tokenize.training import train

A, B, C, D = [11, 12, 13], [21, 22, 23], [31, 32, 33], [41, 42, 43]


def some(count: int, first: int = 100) -> list[int]:
    """Tokens that are nowhere else."""
    return list(range(first, first + count))


def test_far_evidence_by_hand():
    # A again after 8 tokens (place 10 has place 2's evidence); C again too soon, 5 tokens after it
    assert far_evidence([Stretch(0, A + some(5) + A + C + some(2, 200) + C)], 8) == [(0, 10)]
    assert far_evidence([Stretch(0, A + some(5) + A + C + some(2, 200) + C)], 9) == []
    # the last time counts: A stood in between
    assert far_evidence([Stretch(0, A + some(9) + A + some(2, 200) + A)], 8) == [(0, 14)]
    # four in a row: the last two of them end three that stood before
    assert far_evidence([Stretch(0, [*A, 14, *some(5), *A, 14])], 8) == [(0, 11), (0, 12)]
    # what another document has too is not rare; another stretch of the same document does no harm, and is no evidence
    repeated = A + some(5) + A
    assert far_evidence([Stretch(0, repeated), Stretch(1, B + A)], 8) == []
    assert far_evidence([Stretch(0, repeated), Stretch(0, B + A), Stretch(1, B + D)], 8) == [(0, 10)]
    assert far_evidence([Stretch(0, A[:2])], 8) == []


TEXT = "Zebulon Quix came. " + "The rain fell on the plain and on the hill, day after day. " * 6 + "Zebulon Quix came."


@pytest.fixture(scope="module")
def tokenizer():
    return train([TEXT] * 2, 300)


@pytest.mark.parametrize("sees", [None, 16])
def test_a_far_look_is_worth_what_it_finds(tokenizer, sees):
    model = Copying(tokenizer.vocabulary_size, sees, window=8)
    found = evidence.run(Asked(model, tokenizer, 2048, [TEXT]))
    name = tokenizer.encode("Zebulon Quix came.")
    assert (found["window"], found["window_is"]) == (8, "the model's sliding window")
    assert found["tokens"] == len(tokenizer.encode(TEXT))
    # all of the name but its first two tokens; and one that the space before it makes another token
    assert len(name) - 3 <= found["found"] <= len(name) - 2
    assert found["count"] == found["found"]
    assert found["gain"] == pytest.approx(found["loss_cut"] - found["loss"])
    if sees is None:
        assert found["loss"] < 1e-3
        assert found["gain"] > math.log(tokenizer.vocabulary_size) / 2
    else:
        assert found["gain"] == pytest.approx(0, abs=1e-6)


def test_of_many_tokens_some_are_drawn_by_the_seed(tokenizer, monkeypatch):
    monkeypatch.setattr(evidence, "MOST", 5)
    model = Copying(tokenizer.vocabulary_size, window=8)
    once, again, other = (evidence.run(Asked(model, tokenizer, 2048, [TEXT], seed)) for seed in (1, 1, 2))
    assert once["count"] == 5 < once["found"]
    assert once == again != other


def test_without_a_window_a_quarter_of_the_context(tokenizer):
    found = evidence.run(Asked(Copying(tokenizer.vocabulary_size), tokenizer, 64, [TEXT]))
    assert found["window"] == 16
    assert "no window" in found["window_is"]
    assert found["found"] == 0  # no two of the same name in 64 tokens
    assert found["loss"] is found["loss_cut"] is found["gain"] is None


def test_what_it_needs(tokenizer):
    model = Copying(tokenizer.vocabulary_size, window=32)
    with pytest.raises(RequestError, match=r"evidence .* give TEXT"):
        evidence.run(Asked(model, tokenizer, 512))
    with pytest.raises(RequestError, match=r"reads 64 tokens, and two windows of 32 are 64: nothing lies further back"):
        evidence.run(Asked(model, tokenizer, 64, [TEXT]))
