"""The model by the formulas of its own file: the fast pieces, and nothing else, stand in their place."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch

from gemmule.model import transformer
from gemmule.model.transformer import FAST, PLAIN, Formulas, logits, plain_formulas, soft_cap


def test_soft_caps_by_hand():
    x = torch.tensor([-1000.0, -0.01, 0.0, 30.0])
    assert soft_cap(x, 30.0).tolist() == pytest.approx([-30, -0.01, 0, 30 * 0.761594], rel=1e-5)
    assert soft_cap(x, None) is x


def test_logits_by_the_formula_and_fast():
    hidden, embedding = torch.randn(2, 3, 8), torch.randn(5, 8)
    for cap in (None, 2.0):
        torch.testing.assert_close(FAST.logits(hidden, embedding, cap), logits(hidden, embedding, cap))
        assert logits(hidden.bfloat16(), embedding.bfloat16(), cap).dtype == torch.float32


@pytest.mark.parametrize("tokens", [7, 150], ids=["short", "blocks"])
@pytest.mark.parametrize("apart", [False, True], ids=["packed", "separate"])
@pytest.mark.parametrize("capped", [False, True], ids=["uncapped", "capped"])
def test_the_plain_model_is_the_fast_one(make_model, tokens, apart, capped):
    """Losses, gradients and logits."""
    model = make_model(layers=2, window=5, **({} if capped else {"attention_cap": None, "final_cap": None}))
    random = torch.Generator().manual_seed(0)
    ids, targets = (torch.randint(64, (2, tokens), generator=random) for _ in range(2))
    documents = (torch.arange(tokens) > tokens // 3).long().expand(2, -1) if apart else None

    def results():
        model.zero_grad()
        loss = model(ids, targets, documents=documents)
        loss.backward()
        with torch.no_grad():
            return [loss.detach(), model(ids, documents=documents), *(weight.grad for weight in model.parameters())]

    fast = [result.clone() for result in results()]
    with plain_formulas():
        plain = results()
    for own, formula in zip(fast, plain, strict=True):
        assert (own - formula).norm() <= 1e-4 * formula.norm()


def test_within_plain_formulas_nothing_fast_is_called(make_model, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError

    monkeypatch.setattr(transformer, "compute", Formulas(*[refuse] * len(fields(Formulas))))
    model, ids = make_model(layers=2), torch.arange(8)[None]
    with pytest.raises(AssertionError):
        model(ids)
    with plain_formulas():
        model(ids)
        assert transformer.compute is PLAIN
    with pytest.raises(AssertionError):
        model(ids)


def test_settings_of_a_loss_need_targets(make_model):
    model, ids = make_model(layers=2), torch.arange(8)[None]
    with pytest.raises(TypeError, match="temperature: without targets there is no loss"):
        model(ids, temperature=2.0)


def test_a_loss_of_ones_own_gets_what_the_head_has(make_model):
    model, ids = make_model(layers=2), torch.arange(8)[None]

    def squared(hidden, weight, cap, targets, *, power):
        assert weight is model.model.embed_tokens.weight
        return (logits(hidden, weight, cap) - targets).abs().pow(power).mean()

    loss = model(ids, torch.zeros(64), loss=squared, power=2)
    torch.testing.assert_close(loss, model(ids).square().mean())
