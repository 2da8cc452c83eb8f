"""Models that recite, that nearly do, and that do not; the edit distance, the places and the interval by hand."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from oracles import BOS, Oracle, asked, byte_tokenizer

from gemmule.base.errors import RequestError
from gemmule.evaluate.tasks.continuing import spread
from gemmule.evaluate.tasks.memorisation import edit_distance, run
from gemmule.evaluate.tasks.rates import wilson

ALPHABET = byte_tokenizer().encode("".join(map(chr, range(33, 127))))  # 94 ids: each follows the one before
PLACE = {number: place for place, number in enumerate(ALPHABET)}


def text(length: int, start: int = 0) -> str:
    return byte_tokenizer().decode(ALPHABET[(start + place) % 94] for place in range(length))


TEXTS = [text(1230), text(99), text(450, start=50), text(100)]


def reciting(wrong: tuple[int, ...] = (), skipped: int = 50, half: int = 50) -> Oracle:
    """Goes on as the text does, but for the `wrong` tokens, and leaves one out at `skipped`."""

    def following(ids: list[int]) -> int:
        assert ids[0] == BOS
        place = len(ids) - 1 - half  # in the continuation
        right = PLACE[ids[1]] + half + place + (place >= skipped)
        return ALPHABET[(right + 40 * (place in wrong)) % 94]

    return Oracle(following)


@pytest.mark.parametrize(
    ("model", "exact", "approximate"),
    [
        (reciting(), 1, 1),
        (reciting(wrong=(3, 17, 30, 49)), 0, 1),
        (reciting(wrong=(0, 3, 17, 30, 49)), 0, 1),  # 10% of 50
        (reciting(wrong=(0, 3, 17, 30, 31, 49)), 0, 0),
        (reciting(skipped=2), 0, 1),  # one left out, one more at the end: two edits, though 48 tokens stand elsewhere
        (reciting(wrong=tuple(range(50))), 0, 0),
    ],
)
def test_who_recites_has_memorised(model, exact, approximate):
    figures = run(asked(model, TEXTS))
    assert figures["count"] == 12 + 4 + 1
    assert (figures["exact"], figures["approximate"]) == (exact, approximate)
    assert figures["exact_interval"] == list(wilson(17 * exact, 17))
    assert figures["approximate_interval"] == list(wilson(17 * approximate, 17))
    assert (figures["prompt_tokens"], figures["continuation_tokens"]) == (50, 50)
    assert (figures["documents"], figures["documents_too_short"]) == (3, 1)
    assert model.longest == 100  # <bos>, and all but the last token
    json.dumps(figures, allow_nan=False)


def test_a_model_that_reads_little_is_asked_for_less():
    """40 tokens: <bos>, a prompt of 19 and its continuation; 10% of 19 is one token."""
    for wrong, near in (((), 1), ((7,), 1), ((7, 8), 0)):
        model = reciting(wrong, half=19)
        figures = run(asked(model, TEXTS, context=40))
        assert (figures["prompt_tokens"], figures["continuation_tokens"]) == (19, 19)
        assert (figures["exact"], figures["approximate"]) == (not wrong, near)
        assert figures["documents_too_short"] == 0
        assert model.longest <= 40


def test_at_most_500_places_of_which_none_overlap():
    model = Oracle(lambda ids: ALPHABET[0])
    texts = [text(1000, start) for start in range(60)]
    figures = run(asked(model, texts, context=41, seed=3))  # prompts of 20
    assert figures["count"] == len(model.prompts) == 500
    assert figures["documents"] == 60
    again = Oracle(lambda ids: ALPHABET[0])
    assert run(asked(again, texts, context=41, seed=3)) == figures
    assert again.prompts == model.prompts
    run(asked(again, texts, context=41, seed=4))
    assert again.prompts[500:] != model.prompts
    starts = Counter(PLACE[prompt[1]] for prompt in model.prompts)
    assert len(starts) > 80  # anywhere in the text, not at its beginnings


@pytest.mark.parametrize(
    ("texts", "context", "words"),
    [
        ((), 1000, "needs the text that the model was trained on"),
        (["short", "also short"], 1000, "a document of 100 tokens or more, and the longest of the 2 given has 10"),
        (TEXTS, 2, "reads 2 tokens"),
    ],
)
def test_what_can_not_be_asked(texts, context, words):
    with pytest.raises(RequestError, match=words):
        run(asked(reciting(), texts, context))


def test_edit_distance_by_hand():
    cases = (("kitten", "sitting", 3), ("flaw", "lawn", 2), ("", "abc", 3), ("abc", "", 3), ("same", "same", 0))
    for a, b, distance in (*cases, ("abcdef", "bcdefa", 2)):
        assert edit_distance(a.encode(), b.encode()) == distance


def test_every_place_is_as_likely():
    """Of 3 + 0 + 5 places four are taken, in 4,000 seeds each half the time; all where that is few enough."""
    taken = Counter(place for seed in range(4000) for place in spread([3, 0, 5], 4, np.random.default_rng(seed)))
    assert set(taken) == {(0, 0), (0, 1), (0, 2), (2, 0), (2, 1), (2, 2), (2, 3), (2, 4)}
    assert all(abs(count - 2000) < 5 * 4000**0.5 / 2 for count in taken.values())
    assert spread([3, 0, 5], 9, np.random.default_rng(0)) == sorted(taken)
    assert spread([], 9, np.random.default_rng(0)) == spread([0], 9, np.random.default_rng(0)) == []


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilsons_interval_as_published(hits, count, low, high):
    """Newcombe 1998 (Statistics in Medicine 17), table I, method 3."""
    assert wilson(hits, count) == pytest.approx((low, high), abs=5e-5)
    assert wilson(count - hits, count) == pytest.approx((1 - high, 1 - low), abs=5e-5)
