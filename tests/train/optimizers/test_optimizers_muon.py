"""Muon: which parameters it has, its iteration, and its steps against PyTorch's own class."""

from __future__ import annotations

import pytest
import torch
from small_job import LENGTH, SMALL, weights_of

from gemmule.model.transformer import Gemma2
from gemmule.recipe import Train
from gemmule.train.optimizer import Optimizer
from gemmule.train.optimizers import Weight, adamw, muon
from gemmule.train.optimizers.muon import orthogonal


def test_it_has_the_matrices_of_the_layers_and_makes_their_updates_orthogonal():
    """Its update is near an orthogonal matrix, scaled to AdamW's size: 0.2 sqrt(max(rows, columns)) (2502.16982)."""
    model = Gemma2(SMALL).initialise(0)
    before = weights_of(model)
    optimizer = Optimizer(model, Train(tokens=1, learning_rate=1.0, weight_decay=0.0, optimizer="muon"))
    model(torch.arange(LENGTH)[None], torch.arange(LENGTH)[None]).backward()
    optimizer.step(1e-3)
    by_muon = {weight.name for weight in optimizer.parts[muon]}
    assert {weight.name for weight in optimizer.parts[adamw]} == dict(model.named_parameters()).keys() - by_muon
    for name, weight in model.named_parameters():
        assert (name in by_muon) == (weight.dim() == 2 and ".layers." in name)
        if name in by_muon:
            values = torch.linalg.svdvals((weight - before[name]) / 1e-3) / (0.2 * max(weight.shape) ** 0.5)
            assert 0.5 < values.max() < 1.5


def test_its_steps_are_pytorchs_but_for_what_bfloat16_rounds():
    """Momentum, decay and rate are to the bit PyTorch's: where its iteration is ours, the weights are the same."""
    ours, theirs = (torch.nn.Parameter(torch.randn(24, 40, generator=torch.manual_seed(0))) for _ in range(2))
    train = Train(tokens=1, learning_rate=1.0, betas=[0.0, 0.95])
    weight = Weight("matrix", ours, 0.1, {"momentum_buffer": torch.zeros(24, 40)})
    reference = torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    moved = ours.detach().clone()
    for step in range(4):
        ours.grad = torch.randn(24, 40, generator=torch.manual_seed(step))
        theirs.grad = ours.grad.clone()
        with torch.no_grad():
            muon.update([weight], train, 0.02)
        reference.step()
    assert (ours - theirs).norm() < 0.02 * (ours - moved).norm()
    torch.testing.assert_close(weight.moments["momentum_buffer"], reference.state[theirs]["momentum_buffer"])


@pytest.mark.parametrize("shape", [(24, 40), (40, 24), (16, 16)])
def test_the_iteration_keeps_singular_vectors_and_brings_singular_values_to_one(shape):
    matrix = torch.randn(*shape, generator=torch.manual_seed(0))
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    made = orthogonal(matrix)
    values = torch.diagonal(u.T @ made @ v.T)
    torch.testing.assert_close(u @ torch.diag(values) @ v, made, rtol=0, atol=1e-4)
    assert 0.3 < values.min() < values.max() < 1.25
    assert not orthogonal(torch.zeros(3, 5)).any()
