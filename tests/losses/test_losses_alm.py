"""Approximate likelihood matching: its formula against the paper's, its fused gradient against the formula's."""

from __future__ import annotations

import pytest
import torch

from gemmule.losses.alm import Chunks, formula, fused
from gemmule.losses.fused_head import fused_loss
from gemmule.losses.logits import capped_logits

B, T, V, D = 2, 6, 11, 5


def test_a_chunks_loss_is_the_limit_of_large_temperatures() -> None:
    """t KL(p^(1/t) || q^(1/t)) of two events, in double precision."""
    a, b = torch.tensor([0.3, 2.0, 9.0, 4.0]).double(), torch.tensor([1.0, 0.5, 9.5, 4.0]).double()
    t = 1e6
    p, q = (-a / t).exp(), (-b / t).exp()
    expected = t * (p * (p / q).log() - torch.expm1(-a / t) * (torch.expm1(-a / t) / torch.expm1(-b / t)).log())
    losses = formula(Chunks(torch.zeros(1, 4), torch.arange(4), a), b)
    torch.testing.assert_close(losses, expected, rtol=1e-4, atol=1e-5)
    assert losses[3] == 0


def tensors() -> tuple[torch.Tensor, torch.Tensor, Chunks]:
    random = torch.Generator().manual_seed(0)
    hidden, weight = torch.randn(B, T, D, generator=random), torch.randn(V, D, generator=random) * 3
    of_token = torch.tensor([0, 0, 1, 1, 1, 4, 4, 2, 3, 3, 3, 4])  # 4: in none
    chunks = Chunks(torch.randint(V, (B, T), generator=random), of_token, torch.tensor([0.5, 9.0, 1.0, 20.0]))
    return hidden.requires_grad_(), weight.requires_grad_(), chunks


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_the_fused_gradient_is_that_of_the_formula(share: float) -> None:
    hidden, weight, chunks = tensors()
    mask = torch.arange(B * T).view(B, T) % 4 > 0
    log_q = capped_logits(hidden.flatten(0, 1), weight, 30.0).log_softmax(-1)
    losses = -log_q.gather(1, chunks.tokens.flatten()[:, None])[:, 0]
    expected = ((1 - share) * formula(chunks, losses).sum() + share * losses[mask.flatten()].sum()) / 7
    value = fused(hidden, weight, 30.0, ((1 - share, chunks), (share, chunks.tokens)), mask=mask, denominator=7)
    torch.testing.assert_close(value, expected)
    right = torch.autograd.grad(expected, (hidden, weight))
    for own, exact in zip(torch.autograd.grad(value, (hidden, weight)), right, strict=True):
        torch.testing.assert_close(own, exact, rtol=1e-4, atol=1e-5)


def test_next_tokens_alone_have_their_own_loss() -> None:
    """A control has its student's settings, and no teacher."""
    hidden, weight, chunks = tensors()
    control = fused_loss(hidden, weight, 30.0, chunks.tokens, divergence="alm")
    assert torch.equal(control, fused_loss(hidden, weight, 30.0, chunks.tokens))
    whole = fused_loss(hidden, weight, 30.0, chunks, divergence="alm")
    torch.testing.assert_close(fused_loss(hidden, weight, 30.0, ((1.0, chunks),), divergence="alm"), whole)
