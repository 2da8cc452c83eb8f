"""Near-duplicates have the similarity that they are made for, by the formula of shingles written out here."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from gemmule.studies.noise import speeches, works
from gemmule.studies.noise.duplicates import jaccard, near_duplicate

HAMLET = list(speeches(works()["gemmule:shakespeare/hamlet.txt"]))


def similarity(one: str, other: str) -> float:
    """Of word 5-grams, words being what stands between spaces: another rule than the module's."""

    def grams(text: str) -> set[str]:
        words = text.split()
        return {" ".join(words[start : start + 5]) for start in range(len(words) - 4)}

    return len(grams(one) & grams(other)) / len(grams(one) | grams(other))


WANTED = [0.65, 0.7, 0.75, 0.78, 0.82, 0.85, 0.9, 0.95]


@pytest.mark.parametrize("wanted", WANTED)
def test_a_near_duplicate_is_so_similar(wanted):
    random = Random(0)
    copies = [near_duplicate(text, wanted, random) for text in HAMLET[:40]]
    exact = [jaccard(text, copy) for text, copy in zip(HAMLET, copies, strict=False)]
    assert max(abs(each - wanted) for each in exact) < 0.015
    assert abs(sum(exact) / len(exact) - wanted) < 0.005
    found = [similarity(text, copy) for text, copy in zip(HAMLET, copies, strict=False)]
    assert abs(sum(found) / len(found) - wanted) < 0.02


def test_real_pages_are_not_like_each_other():
    assert max(similarity(*pair) for pair in pairwise(HAMLET)) < 0.05
