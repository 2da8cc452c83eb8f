"""Muon: which parameters it has, its iteration, and its steps against PyTorch's own class."""

from __future__ import annotations

import pytest
import torch
from small_job import LENGTH, SMALL, weights_of

from gemmule.model.transformer import Gemma2
from gemmule.recipe import Train
from gemmule.train.optimizer import Optimizer
from gemmule.train.optimizers import adamw, muon
from gemmule.train.optimizers.muon import orthogonal
from gemmule.train.optimizers.rule import Weight


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


def test_its_steps_are_pytorchs_where_the_iterations_agree():
    """Momentum, decay and rate: of a gradient that is orthogonal already but for its size, both make the same."""
    ours, theirs = (torch.nn.Parameter(torch.randn(24, 40, generator=torch.manual_seed(0))) for _ in range(2))
    train = Train(tokens=1, learning_rate=1.0, betas=[0.95, 0.0])
    weight = Weight("matrix", ours, 0.1, moments={"momentum_buffer": torch.zeros(24, 40)})
    reference = torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    before, direction = ours.detach().clone(), torch.linalg.qr(torch.randn(40, 24))[0].T
    for step in range(4):
        ours.grad = theirs.grad = direction * (1 + step)
        with torch.no_grad():
            muon.update([weight], train, 0.02)
        reference.step()
    torch.testing.assert_close(weight.moments["momentum_buffer"], reference.state[theirs]["momentum_buffer"])
    decayed = before * (1 - 0.02 * 0.1) ** 4
    moved, others = ours.detach() - decayed, theirs.detach() - decayed
    assert torch.cosine_similarity(moved.flatten(), others.flatten(), dim=0) > 0.999
    assert 0.73 / 1.21 < moved.norm() / others.norm() < 1.27 / 0.68  # ours ends at 0.73 to 1.27, theirs at 0.68 to 1.21


@pytest.mark.parametrize("shape", [(24, 40), (40, 24), (16, 16), (1, 30), (200, 70)])
def test_the_iteration_keeps_singular_vectors_and_brings_singular_values_near_one(shape):
    """Those of a hundredth of the Gram matrix's norm or more; smaller ones grow and stay below."""
    torch.manual_seed(0)
    u, _, v = torch.linalg.svd(torch.randn(*shape), full_matrices=False)
    given = torch.logspace(0, -5, min(shape))
    (made,) = orthogonal([u @ torch.diag(given) @ v])
    values = torch.diagonal(u.T @ made @ v.T)
    torch.testing.assert_close(u @ torch.diag(values) @ v, made, rtol=0, atol=2e-4)
    large = given >= 0.01 * given.pow(2).norm().sqrt()
    assert ((values - 1).abs()[large] <= 0.275).all()
    assert (values[~large] <= 1.275).all()
    assert (values[~large] > -1e-3).all()


def test_matrices_are_worked_on_each_by_itself(monkeypatch):
    """Whatever shapes lie beside one, however many are worked on at once, and whatever size a gradient has."""
    torch.manual_seed(0)
    matrices = [torch.randn(*shape) for shape in [(8, 20), (20, 8), (8, 20), (6, 6), (20, 8)]]
    together = orthogonal([*matrices, torch.zeros(3, 5)])
    assert not together[-1].any()
    monkeypatch.setattr(muon, "ELEMENTS", 1)
    for matrix, made in zip(matrices, together, strict=False):
        assert made.shape == matrix.shape
        torch.testing.assert_close(orthogonal([matrix])[0], made)
        for size in (1e-30, 1e-12, 1e30):
            torch.testing.assert_close(orthogonal([matrix * size])[0], made)
