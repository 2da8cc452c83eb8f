"""Noise is planted in the amounts asked for, in an order where copies come later, and nothing else is touched."""

from __future__ import annotations

from collections import Counter

import ftfy
import pytest

from gemmule.studies.noise import KINDS, each, plant, speeches, works

DOCUMENTS = [text for name in ("hamlet", "macbeth", "kinglear", "othello")
             for text in speeches(works()[f"gemmule:shakespeare/{name}.txt"])]  # fmt: skip
ITEMS = ["A farmer has twelve hens and sells four of them. How many hens does the farmer have then?"]


@pytest.fixture(scope="module")
def planted():
    return plant(DOCUMENTS, each(3), seed=0, items=ITEMS)


def test_amounts_are_those_asked_for(planted):
    counts = Counter((noisy.kind, noisy.variant) for noisy in planted if noisy.kind)
    assert counts == {(kind, variant): 3 for kind, variants in KINDS.items() for variant in variants}


def test_it_follows_from_the_seed(planted):
    assert plant(DOCUMENTS, each(3), seed=0, items=ITEMS) == planted
    assert plant(DOCUMENTS, each(3), seed=1, items=ITEMS) != planted


def test_real_text_stays_as_it_stands(planted):
    real = [noisy for noisy in planted if not noisy.kind]
    assert {noisy.text for noisy in real} <= set(DOCUMENTS)
    assert all(noisy.clean == noisy.text for noisy in real)
    changed = sum(len(variants) * 3 for kind, variants in KINDS.items() if kind not in (
        "exact duplicate", "near duplicate", "gibberish", "language"))  # fmt: skip
    assert len(real) == len(DOCUMENTS) - changed


def test_a_copy_comes_after_what_it_copies(planted):
    for place, noisy in enumerate(planted):
        if noisy.like is not None:
            assert noisy.like < place
            original = planted[noisy.like]
            assert not original.kind
            if noisy.kind == "exact duplicate":
                assert original.text == noisy.text
            if noisy.kind == "passage":
                assert " ".join(noisy.planted[0].split()) in " ".join(original.text.split())


def test_what_is_planted_is_there_and_what_is_clean_is_without(planted):
    for noisy in planted:
        for found in noisy.planted:
            assert found in noisy.text
        if noisy.kind in ("boilerplate", "passage"):
            assert noisy.clean is not None
            assert not any(found in noisy.clean for found in noisy.planted)


def test_mojibake_is_what_ftfy_takes_for_it(planted):
    """An independent reader of it: but for quotation marks, which it straightens."""
    for noisy in planted:
        if noisy.kind == "mojibake":
            assert noisy.text != noisy.clean
            assert ftfy.fix_text(noisy.text, uncurl_quotes=False) == ftfy.fix_text(noisy.clean, uncurl_quotes=False)


def test_more_noise_than_documents_is_refused():
    with pytest.raises(ValueError, match="more noise"):
        plant(DOCUMENTS[:5], each(10, "boilerplate"), seed=0)
