"""What benchmarks/long_range.py measures: all is right of who copies from anywhere, nothing of who looks less far."""

from __future__ import annotations

import importlib
from pathlib import Path
from random import Random

import pytest
from copying import Copying

from gemmule.tokenize.training import train


@pytest.fixture(scope="module")
def benchmark():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
        yield importlib.import_module("long_range")


@pytest.fixture(scope="module")
def tokenizer(benchmark):
    return train(benchmark.documents(Random(0), 600_000, benchmark.SHORT), benchmark.VOCABULARY)


@pytest.mark.parametrize("sees", [None, 64])
def test_numbers_count_by_how_far_back_they_stood(benchmark, tokenizer, sees):
    model = Copying(tokenizer.vocabulary_size, sees)
    found = benchmark.recall(lambda ids: model.expect(ids).logits()[None], tokenizer, 2)
    assert len(found) > 2 * 200
    assert all(one.right for one in found if sees is None or one.distance < sees - benchmark.PAIR)
    far = [one.right for one in found if one.distance >= 64]
    assert len(far) > 100
    assert sum(far) / len(far) == (1 if sees is None else pytest.approx(0, abs=0.02))


def test_documents_are_made_of_whole_tokens(benchmark, tokenizer):
    pairs = benchmark.naming(Random(0), benchmark.LENGTH)
    assert {len(tokenizer.encode(pair)) for pair in pairs} == {benchmark.PAIR}
    texts = list(benchmark.documents(Random(1), 100_000, benchmark.LENGTH))
    lengths = [len(tokenizer.encode(text)) for text in texts]
    assert 80_000 < sum(lengths) < 120_000
    assert max(lengths) <= benchmark.LENGTH
    assert any("What is the pass key?" in text for text in texts)
