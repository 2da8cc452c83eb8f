"""Exact duplicates: the first copy stays, and is named."""

from pathlib import Path

import pytest
from corpora import corpus_of, decided

from gemmule.refine.steps.exact_duplicates import ExactDuplicates


@pytest.mark.parametrize("part", [1, 2, 100])
def test_the_first_copy_stays(tmp_path: Path, part: int) -> None:
    texts = ["one", "two", " one\n", "One", "two", "three", "one"]
    corpus = corpus_of(texts, tmp_path, part)
    assert decided(ExactDuplicates(), corpus) == [(2, "a:0"), (4, "a:1"), (6, "a:0")]


@pytest.mark.parametrize("texts", [[], ["alone"], ["日本", "日本語"]])
def test_nothing_goes(tmp_path: Path, texts: list[str]) -> None:
    assert decided(ExactDuplicates(), corpus_of(texts, tmp_path)) == []
