"""A teacher's trial: losses by hand, and who is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gemmule import tokenize
from gemmule.losses.targets import DenseTeacher, Mixture, SparseDistributions
from gemmule.teach.teachers import trial
from gemmule.teach.teachers.alm import ByteAligned
from gemmule.teach.teachers.teacher import Teacher
from gemmule.teach.teachers.trial import Trial, try_out
from gemmule.tokenize.shards import write_shards
from gemmule.tokenize.windows import Windows

V, CPU = 300, torch.device("cpu")


@pytest.fixture(scope="module")
def words(texts):
    return tokenize.train(texts, V)


@pytest.fixture(scope="module")
def shards(texts, words, tmp_path_factory):
    return write_shards(texts, words, tmp_path_factory.mktemp("tokens"))


@pytest.fixture
def windows(shards, words):
    return Windows(shards, 16, words.bos_id, words.pad_id)


class Fixed(Teacher):
    """A teacher that gives the same distribution everywhere, in one of the forms that teachers have."""

    vocabulary_size, device = V, CPU

    def __init__(self, p, form="dense"):
        self.log_p, self.form, self.asked = torch.as_tensor(p, dtype=torch.float32).log(), form, 0

    def expect(self, ids, documents=None):
        self.asked += ids.numel()
        n = ids.numel()
        dense = DenseTeacher(self.log_p.expand(n, -1), None)
        if self.form == "dense":
            return dense
        if self.form == "mixture":
            return Mixture(((0.5, dense), (0.5, dense)))
        top = self.log_p.exp().topk(5)
        order = top.indices.argsort()
        return SparseDistributions(
            torch.arange(n + 1) * 5, top.indices[order].repeat(n), top.values[order].repeat(n), rest=True
        )


def frequencies(shards):
    counts = np.bincount(shards[:], minlength=V)
    return np.maximum(counts, 1) / (len(shards) - 1 + V)


@pytest.mark.parametrize("form", ["dense", "mixture"])
def test_both_losses_are_those_by_hand(shards, windows, form):
    p = np.arange(1, V + 1) / (V * (V + 1) / 2)
    teacher = Fixed(p, form)
    found = try_out(teacher, windows)
    numbers = np.unique(np.linspace(0, len(windows) - 1, 20).astype(int))
    ids = np.concatenate([shards[16 * number : 16 * (number + 1)] for number in numbers])
    assert found.windows == len(numbers) == 20
    assert found.teacher == pytest.approx(-np.log(p[ids]).mean(), rel=1e-5)
    assert found.unigram == pytest.approx(-np.log(frequencies(shards)[ids]).mean(), rel=1e-5)
    assert teacher.asked <= 20 * 16
    assert found.failed


def test_of_a_top_k_both_are_asked_which_of_these_or_another(shards, windows):
    p = np.arange(1, V + 1) ** 4.0
    p /= p.sum()
    found = try_out(Fixed(p, "top k"), windows)
    numbers = np.linspace(0, len(windows) - 1, 20).astype(int)
    ids = np.concatenate([shards[16 * number : 16 * (number + 1)] for number in numbers])
    q = frequencies(shards)
    named = ids >= V - 5
    for side, expected in ((p, found.teacher), (q, found.unigram)):
        losses = np.where(named, -np.log(side[ids]), -np.log(1 - side[-5:].sum()))
        assert expected == pytest.approx(losses.mean(), rel=1e-4)


@pytest.mark.parametrize("form", ["dense", "top k"])
def test_a_teacher_as_good_as_a_unigram_is_not_refused(shards, windows, form):
    q = frequencies(shards)
    for seed in range(20):  # nor a little worse by chance
        noise = np.exp(0.1 * np.random.default_rng(seed).normal(size=V))
        assert not try_out(Fixed(q * noise / (q * noise).sum(), form), windows).failed
    wrong = np.random.default_rng(0).permutation(q)  # another tokenizer's ids
    assert try_out(Fixed(wrong / wrong.sum(), form), windows).failed
    uniform = np.full(V, 1 / V)
    assert form == "top k" or try_out(Fixed(uniform), windows).failed


def test_a_small_text_is_not_known_by_heart(texts, words, tmp_path):
    """A unigram that had counted the very tokens it is asked about would be hard to beat: it leaves each out."""
    few = write_shards(["to be"], words, tmp_path)
    unigram = trial._unigram(few)
    once = int(few[0])
    assert unigram[once] == pytest.approx(1 / (len(few) - 1 + V))
    one = try_out(Fixed(np.full(V, 1 / V)), Windows(few, 64, words.bos_id, words.pad_id))
    assert one.windows == 1
    assert not one.failed  # a single window shows no scatter


def test_a_long_text_is_counted_in_part(shards, monkeypatch):
    whole = trial._unigram(shards)
    monkeypatch.setattr(trial, "PIECE", 64)
    monkeypatch.setattr(trial, "COUNTED", len(shards) // 4)
    part = trial._unigram(shards)
    assert part.sum() == pytest.approx(1, abs=0.3)
    assert torch.corrcoef(torch.stack([whole, part]))[0, 1] > 0.95


def test_long_windows_are_fewer(shards, words):
    teacher = Fixed(np.full(V, 1 / V))
    assert try_out(teacher, Windows(shards, 1000, words.bos_id, words.pad_id)).windows == -(-len(shards) // 1000)
    assert min(trial.WINDOWS, max(2, trial.TOKENS // 8192)) == 2


def test_a_teacher_with_other_tokens_is_tried_on_the_stretches_that_both_have(texts, words, windows, shards):
    theirs = tokenize.train(texts, 320)
    counts = np.bincount(np.concatenate([theirs.encode(text) for text in texts]), minlength=320) + 1
    good, bad = Fixed(counts / counts.sum()), Fixed(np.random.default_rng(0).permutation(counts) / counts.sum())
    found = try_out(ByteAligned(good, theirs, words), windows)
    assert 2 < found.unigram < math.log(V)
    assert not found.failed
    assert -1 < found.teacher - found.unigram < 0.5  # a unigram too, of tokens that are a little longer
    assert try_out(ByteAligned(bad, theirs, words), windows).failed


def test_no_number_fails():
    assert Trial(math.nan, 3.0, 20, 0.1).failed
    assert Trial(3.2, 3.0, 20, 0.1).failed
    assert not Trial(3.2, 3.0, 20, 0.3).failed
    assert not Trial(2.0, 3.0, 20, 0.1).failed
