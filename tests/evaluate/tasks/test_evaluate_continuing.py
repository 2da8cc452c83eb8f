"""Continuations in batches: of bounded size, within the model's context, and back in the order of the prompts."""

from __future__ import annotations

import pytest
from oracles import EOS, Oracle, asked, byte_tokenizer

from gemmule.evaluate.tasks import continuing
from gemmule.evaluate.tasks.continuing import continuations, documents

A = byte_tokenizer().encode("a")[0]


class Noting(Oracle):
    """Notes what it is asked: of each batch the prompts' lengths, and how many tokens it is to write."""

    def __init__(self, following) -> None:
        super().__init__(following)
        self.batches: list[tuple[list[int], int]] = []

    def continuations(self, prompts, max_new_tokens, *arguments):
        self.batches.append((list(map(len, prompts)), max_new_tokens))
        return super().continuations(prompts, max_new_tokens, *arguments)


@pytest.fixture
def model():
    return Noting(lambda ids: A + len(ids))  # what is written tells how much stands before it


def test_each_gets_what_its_prompt_has_room_for(model):
    prompts = [[A] * length for length in (5, 18, 20, 1, 5, 25, 12)]
    written = continuations(asked(model, context=20), prompts, 8, "test")
    assert written == [[A + length + n for n in range(min(8, 20 - length))] for length in map(len, prompts)]
    assert model.batches == [([18], 2), ([1, 5, 5, 12], 8)]
    assert model.longest == 19


@pytest.mark.parametrize(
    ("tokens", "rows", "sizes"), [(48, 99, [4, 4, 1]), (8, 99, [1] * 9), (4096, 2, [2, 2, 2, 2, 1])]
)
def test_batches_are_bounded(monkeypatch, model, tokens, rows, sizes):
    """By tokens, 12 of each row, and by rows of logits; one row is always read."""
    monkeypatch.setattr(continuing, "LARGEST_READ", tokens)
    monkeypatch.setattr(continuing, "chunk_rows", lambda vocabulary_size: rows)
    written = continuations(asked(model), [[A] * 4] * 9, 8, "test")
    assert [len(lengths) for lengths, _ in model.batches] == sizes
    assert written == [[A + 4 + n for n in range(8)]] * 9


def test_what_ends_a_continuation(model):
    prompts = [[A] * 3, [A] * 5]
    assert continuations(asked(model), prompts, 9, "test", [A + 6]) == [[A + 3, A + 4, A + 5], [A + 5]]
    until = continuations(asked(model), prompts, 9, "test", ended=lambda ids: ids[-1] == A + 6)
    assert until == [[A + 3, A + 4, A + 5, A + 6], [A + 5, A + 6]]
    assert continuations(asked(Oracle(lambda ids: EOS)), prompts, 9, "test", [EOS]) == [[], []]


def test_seeds_go_with_their_prompts():
    seen = {}

    class Seeded(Oracle):
        def continuations(self, prompts, max_new_tokens, stop=(), seeds=None, ended=None):
            seen.update({len(prompt): seed for prompt, seed in zip(prompts, seeds, strict=True)})
            return [[] for _ in prompts]

    continuations(asked(Seeded(len)), [[A] * 3, [A] * 1, [A] * 2], 4, "test", seeds=[30, 10, 20])
    assert seen == {3: 30, 1: 10, 2: 20}


def test_documents_are_encoded_in_their_order(monkeypatch):
    monkeypatch.setattr(continuing, "ENCODED_AT_ONCE", 2)
    texts = ["one", "", "three", "vier", "cinq"]
    assert [byte_tokenizer().decode(ids) for ids in documents(asked(Oracle(len), texts))] == texts
