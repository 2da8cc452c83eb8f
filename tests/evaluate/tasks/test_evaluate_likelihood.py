"""Losses of answers in batches against each answer by itself, and what is read at once."""

from __future__ import annotations

import pytest
import torch
from random_models import make_model

from gemmule.base.errors import RequestError
from gemmule.evaluate.tasks import likelihood
from gemmule.evaluate.tasks.likelihood import losses
from gemmule.losses.targets import SparseDistributions
from gemmule.teach.teachers.gemma2 import Gemma2Teacher

__all__ = ["make_model"]
PAIRS = [([2, 5, 6], [7]), ([2], [9, 8, 7, 6, 5]), ([2, *range(10, 29)], [4, 4]), ([2, 5, 6], [8]), ([2, 3], [1, 2, 3])]


def test_batches_give_what_each_gives_alone(make_model, monkeypatch):
    model, read = make_model(), []
    monkeypatch.setattr(likelihood, "tokens_at_once", lambda vocabulary_size: 12)
    model.model.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0].shape))
    found = losses(Gemma2Teacher(model), PAIRS, "test")
    assert len(read) < len(PAIRS)
    assert all(rows * tokens <= 12 or rows == 1 for rows, tokens in read)
    for (prompt, answer), loss in zip(PAIRS, found, strict=True):
        whole = torch.tensor([[*prompt, *answer]])
        with torch.no_grad():
            each = torch.log_softmax(model(whole).double(), -1)[0, len(prompt) - 1 : -1]
        assert loss == pytest.approx(-float(each[torch.arange(len(answer)), torch.tensor(answer)].sum()), rel=1e-5)
    assert losses(Gemma2Teacher(model), [], "test") == []


def test_a_model_that_gives_its_top_k_only_is_refused(make_model):
    teacher = Gemma2Teacher(make_model())
    offsets, ids = torch.arange(3), torch.tensor([1, 2])
    teacher.expect = lambda ids_read: SparseDistributions(offsets, ids, torch.ones(2))
    with pytest.raises(RequestError, match="top k only"):
        losses(teacher, PAIRS[:1], "test")
