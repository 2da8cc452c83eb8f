"""Threshold sampling: inclusion probabilities by enumeration of the offset, and the stored mass."""

import numpy as np
import pytest
import torch

from gemmule.distill import sampling


def random_rows(rows, vocabulary, seed=0, sharpness=2.0):
    generator = torch.Generator().manual_seed(seed)
    return torch.softmax(sharpness * torch.randn(rows, vocabulary, generator=generator), dim=-1)


def dense(draw, tau, vocabulary):
    """A draw as the distributions that it stands for, [N, V] float64."""
    rows = torch.arange(len(draw.counts))
    estimate = torch.zeros(len(draw.counts), vocabulary, dtype=torch.float64)
    estimate[rows.repeat_interleave(draw.counts[:, 0]), draw.exact_ids] = draw.exact_probabilities.double()
    estimate[rows.repeat_interleave(draw.counts[:, 1]), draw.drawn_ids] += tau
    return estimate


@pytest.mark.parametrize("tau", [1.0, 0.3, 0.1, 0.02])
def test_every_token_is_kept_in_proportion_to_its_probability(tau):
    """Over a fine grid of offsets the mean estimate is the distribution, token by token: no randomness involved."""
    grid = 2000
    row = random_rows(1, 40)
    offsets = (torch.arange(grid, dtype=torch.float64) + 0.5) / grid
    drawn = sampling.draw(row.log().expand(grid, -1), tau, offsets)
    mean = dense(drawn, tau, 40).mean(0)
    assert torch.allclose(mean, row[0].double(), atol=2 * tau / grid, rtol=0)


@pytest.mark.parametrize("tau", [0.3, 0.05, 0.01])
def test_the_stored_mass_stays_within_tau_of_one(tau):
    rows = random_rows(500, 64)
    drawn = sampling.draw(rows.log(), tau, torch.from_numpy(sampling.offsets(0, np.arange(500))))
    mass = dense(drawn, tau, 64).sum(-1)
    assert (mass - 1).abs().max() <= tau + 1e-6
    assert (mass - 1).abs().max() > tau / 10


def test_what_is_at_least_tau_is_exact():
    row = torch.tensor([[0.5, 0.25, 0.125, 0.0625, 0.0625]])
    drawn = sampling.draw(row.log(), 0.125, torch.tensor([0.5], dtype=torch.float64))
    assert drawn.exact_ids.tolist() == [0, 1, 2]
    assert drawn.exact_probabilities.tolist() == [0.5, 0.25, 0.125]
    # the tail's stretches are [0, 0.5) and [0.5, 1) in units of tau: a point at 0.5 falls on the second
    assert drawn.drawn_ids.tolist() == [4]
    assert drawn.counts.tolist() == [[3, 1]]


def test_entropy_is_that_of_the_whole_distribution():
    row = torch.tensor([[0.5, 0.25, 0.25, 0.0]])
    drawn = sampling.draw(row.log(), 1.0, torch.zeros(1, dtype=torch.float64))
    assert drawn.entropy.item() == pytest.approx(1.5 * np.log(2))


def test_offsets_are_uniform_independent_of_order_and_differ_by_seed():
    positions = np.arange(100_000)
    offsets = sampling.offsets(7, positions)
    assert 0 <= offsets.min() < offsets.max() < 1
    histogram = np.histogram(offsets, 20, (0, 1))[0]
    assert np.abs(histogram - 5000).max() < 350  # five standard deviations
    assert abs(np.corrcoef(offsets[:-1], offsets[1:])[0, 1]) < 0.02
    assert (sampling.offsets(7, positions[::-1]) == offsets[::-1]).all()
    assert (sampling.offsets(8, positions) != offsets).all()
