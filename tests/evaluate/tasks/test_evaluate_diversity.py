"""Diversity by hand, of a model that repeats itself beside a text that does not."""

from __future__ import annotations

import json

import pytest
import torch
from oracles import BOS, EOS, Oracle, asked, byte_tokenizer

from gemmule.base.errors import RequestError
from gemmule.evaluate.tasks.diversity import measures, run
from gemmule.losses.targets import DenseTeacher

A, B, C, D = byte_tokenizer().encode("abcd")


def test_measures_by_hand():
    """abcabcab: 8 tokens, runs of four abca bcab cabc abca bcab: three of five. cd: no run of four; it ended."""
    found = measures([[A, B, C, A, B, C, A, B], [C, D]], 8)
    assert found["distinct_1"] == 4 / 10
    assert found["distinct_2"] == 4 / 8  # ab bc ca cd
    assert found["distinct_3"] == 3 / 6
    assert found["repetition"] == pytest.approx(2 / 5)
    assert found["repetition_interval"] is None  # of one continuation
    assert found["mean_length"] == 5
    assert (found["ended"], found["count"], found["tokens"]) == (0.5, 2, 10)
    nothing = measures([[]], 8)
    assert nothing["distinct_1"] is nothing["repetition"] is None
    assert nothing["ended"] == 1


def test_beside_the_text_itself():
    """The text is 40 different letters and ends; the model writes "ab" over and over."""
    texts = ["".join(map(chr, range(40, 80))), "x" * 16, "x" * 17]
    model = Oracle(lambda ids: B if ids[-1] == A else A)
    figures = run(asked(model, texts, context=161))
    assert [prompt[0] for prompt in model.prompts] == [BOS] * 2
    assert [byte_tokenizer().decode(prompt) for prompt in model.prompts] == [texts[0][:16], "x" * 16]
    assert (figures["count"], figures["tokens"], figures["mean_length"], figures["ended"]) == (2, 256, 128, 0)
    assert figures["distinct_1"] == 2 / 256
    assert figures["repetition"] == pytest.approx(1 - 2 / 125)
    text = figures["text"]
    assert (text["count"], text["tokens"], text["mean_length"], text["ended"]) == (2, 25, 12.5, 1)
    assert text["distinct_1"] == 25 / 25
    assert text["repetition"] == 0
    assert (figures["opening_tokens"], figures["max_new_tokens"]) == (16, 128)
    assert (figures["documents"], figures["documents_too_short"]) == (2, 1)
    json.dumps(figures, allow_nan=False)


def test_a_long_document_is_many_places_and_only_its_last_one_ends():
    """16 tokens are read of a context of 65, 48 written: 200 letters and <eos> make three places and nine letters."""
    model = Oracle(lambda ids: EOS)
    figures = run(asked(model, ["y" * 201, "z" * 200], context=65))
    assert figures["text"]["count"] == figures["count"] == 6  # 9 and 8 letters are no opening of 16
    assert figures["text"]["ended"] == 0
    assert (figures["ended"], figures["mean_length"], figures["tokens"]) == (1, 0, 0)
    assert run(asked(model, ["y" * 220], context=65))["text"]["ended"] == 1 / 4
    assert model.longest <= 65


class Uniform(Oracle):
    """Any of four letters is as likely."""

    def expect(self, ids, documents=None):
        logits = torch.full((ids.numel(), self.vocabulary_size), -60.0)
        logits[:, [A, B, C, D]] = 0.0
        return DenseTeacher(logits, None)


def test_from_nothing_each_draw_is_its_own():
    figures = run(asked(Uniform(len), context=33))
    assert figures["text"] is None
    assert (figures["count"], figures["tokens"], figures["opening_tokens"]) == (200, 200 * 32, 0)
    assert figures["distinct_3"] == 64 / (200 * 30)
    # 29 draws of 256 runs: 256 (1 - (1 - 1 / 256)^29) different ones, but for overlaps
    assert figures["repetition"] == pytest.approx(1 - 256 * (1 - (255 / 256) ** 29) / 29, abs=0.01)
    low, high = figures["repetition_interval"]
    assert low < figures["repetition"] < high
    assert run(asked(Uniform(len), context=33)) == figures
    assert run(asked(Uniform(len), context=33, seed=1)) != figures


def test_what_can_not_be_asked():
    with pytest.raises(RequestError, match="more than 16 tokens, and the longest of the 1 given has 5"):
        run(asked(Uniform(len), ["short"]))
    with pytest.raises(RequestError, match="reads 1 tokens"):
        run(asked(Uniform(len), context=1))
