"""Threshold sampling: inclusion probabilities by enumeration of the offset, and the stored mass."""

import numpy as np
import pytest
import torch

from gemmule.teach.targets import sampling
from gemmule.teach.targets.solving import FINEST, draw_again


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


def test_blocks_of_a_large_vocabulary_keep_every_token_in_proportion():
    """As above, where a row is many blocks, the last one short: against the whole row's cumulative sum."""
    random = torch.Generator().manual_seed(3)
    rows = torch.softmax(torch.randn(3, 5003, generator=random) * torch.tensor([[1.0], [3.0], [6.0]]), -1)
    grid, tau = 3000, 0.02
    offsets = (torch.arange(grid, dtype=torch.float64) + 0.5) / grid
    for row in rows:
        drawn = sampling.draw(row.log().expand(grid, -1).contiguous(), tau, offsets)
        assert torch.allclose(dense(drawn, tau, 5003).mean(0), row.double(), atol=2 * tau / grid, rtol=1e-5)
        for one in (drawn[:1], drawn[-1:]):  # ids ascend, none twice
            assert (one.drawn_ids.diff() > 0).all()
    whole = sampling.draw(rows.log(), tau, torch.full((3,), 0.25, dtype=torch.float64))
    tail = rows.masked_fill(rows >= tau, 0).double().cumsum(-1) / tau - 0.25
    points = torch.cat([torch.tensor([[-0.25]] * 3), tail], dim=1).ceil()
    assert whole.drawn_ids.tolist() == (points.diff(dim=1) > 0).nonzero()[:, 1].tolist()


def test_the_top_k_are_the_likeliest():
    rows = random_rows(5, 40)
    drawn = sampling.top_k(rows.log(), 7)
    top = rows.topk(7)
    found = dense(drawn, 0.0, 40)
    assert torch.allclose(found, torch.zeros(5, 40).scatter(1, top.indices, top.values).double(), atol=1e-6)
    assert torch.allclose(drawn.entropy, torch.special.entr(rows).sum(-1), atol=1e-5)
    assert sampling.top_k(rows.log(), 50).counts.sum(-1).tolist() == [40] * 5


def test_a_multinomial_draw_counts_where_the_uniform_numbers_fall():
    row = torch.tensor([[0.1, 0.2, 0.3, 0.4]])
    uniforms = torch.tensor([[0.05, 0.15, 0.25, 0.61, 0.7, 0.99, 0.62, 0.63]], dtype=torch.float64)
    drawn = sampling.multinomial(row.log(), uniforms)
    assert drawn.exact_ids.tolist() == [1, 3]
    assert drawn.exact_probabilities.tolist() == [2 / 8, 5 / 8]
    assert drawn.drawn_ids.tolist() == [0]
    assert drawn.counts.tolist() == [[2, 1]]


def test_a_threshold_sample_of_a_threshold_sample_is_one():
    """Over many draws, what a scheme keeps of a fine sample has the mean and the number of tokens of a direct draw."""
    rows = random_rows(1, 300, sharpness=2.0).log().expand(3000, -1).contiguous()
    positions = np.arange(3000)
    scheme = sampling.Scheme("threshold", 0.02)
    again = draw_again(scheme, FINEST.draw(rows, 5, positions), seed=9)
    direct = scheme.draw(rows, 9, positions)
    truth = rows[0].exp().double()
    error = (truth * 0.02 / 3000).sqrt()
    assert ((dense(again, 0.02, 300).mean(0) - truth).abs() / error).max() < 5
    assert again.counts.double().mean(0).tolist() == pytest.approx(direct.counts.double().mean(0).tolist(), abs=0.05)
