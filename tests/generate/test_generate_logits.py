"""From logits to a token: every filter against transformers', the draw by counting."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from gemmule.generate.logits import draw, filtered, penalise
from gemmule.recipe.generation import Sampling

SETTINGS = [
    {},
    {"temperature": 0.5},
    {"temperature": 3.0},
    {"top_k": 1},
    {"top_k": 7},
    {"top_k": 5000},
    {"top_p": 0.5},
    {"top_p": 0.95},
    {"top_p": 1e-9},
    {"top_p": 1.0},
    {"min_p": 0.02},
    {"min_p": 0.5},
    {"min_p": 1.0},
    {"min_p": 0.0},
    {"top_k": 40, "top_p": 0.7},
    {"temperature": 1.7, "top_k": 50, "top_p": 0.9, "min_p": 0.05},
]


def random_logits(rows=6, words=1000):
    return torch.randn(rows, words, generator=torch.Generator().manual_seed(0)) * 3


def theirs(settings):
    warpers = LogitsProcessorList([TemperatureLogitsWarper(float(settings.get("temperature", 1.0)))])
    if "top_k" in settings:
        warpers.append(TopKLogitsWarper(settings["top_k"]))
    if "top_p" in settings:
        warpers.append(TopPLogitsWarper(settings["top_p"]))
    if "min_p" in settings:
        warpers.append(MinPLogitsWarper(settings["min_p"]))
    return warpers


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_filters_equal_those_of_transformers(settings):
    logits = random_logits()
    ours = filtered(logits, Sampling(**settings)).softmax(-1)
    expected = theirs(settings)(None, logits.clone()).softmax(-1)
    assert torch.equal(ours > 0, expected > 0)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("penalty", [1.3, 0.7])
def test_repetition_penalty_equals_that_of_transformers(penalty):
    logits = random_logits()
    ids = torch.randint(1000, (6, 50), generator=torch.Generator().manual_seed(1))
    seen = torch.zeros(6, 1000, dtype=torch.bool).scatter(1, ids, True)
    expected = RepetitionPenaltyLogitsProcessor(penalty)(ids, logits.clone())
    torch.testing.assert_close(penalise(logits, seen, penalty), expected, rtol=1e-6, atol=0)
    assert torch.equal(penalise(logits, seen, penalty)[~seen], logits[~seen])


def test_what_is_barred_stays_barred():
    logits = random_logits()
    logits[:, ::2] = -torch.inf
    for settings in SETTINGS:
        kept = filtered(logits, Sampling(**settings))
        assert not kept.isnan().any()
        assert (kept[:, ::2] == -torch.inf).all()


LOGITS = torch.tensor([0.1, 2.0, -1.0, 1.5, 0.6, 1.0])


# Probabilities at temperature 1: .062 .413 .021 .251 .102 .152, the likeliest first: 1, 3, 5, 4, 0, 2.
@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({}, range(6)),
        ({"temperature": 0.5}, range(6)),
        ({"temperature": 3.0}, range(6)),
        ({"top_k": 2}, [1, 3]),
        ({"top_p": 0.5}, [1, 3]),  # .41 is not enough, .66 is
        ({"top_p": 0.4}, [1]),
        ({"top_k": 3, "top_p": 0.7}, [1, 3]),  # of the three .51 and .82
        ({"temperature": 3.0, "top_p": 0.5}, [1, 3, 5]),  # flatter: .26, .48, .67
        ({"min_p": 0.3}, [1, 3, 5]),  # .12 or more
    ],
)
def test_frequencies(settings, kept):
    """Evenly spaced numbers instead of random ones: each token's share is its probability, to one draw."""
    draws = 4000
    uniform = (torch.arange(draws, dtype=torch.float64)[:, None] + 0.5) / draws
    counts = draw(LOGITS.expand(draws, -1), Sampling(**settings), uniform).bincount(minlength=6)
    weights = [math.exp(LOGITS[number] / settings.get("temperature", 1.0)) * (number in kept) for number in range(6)]
    for count, weight in zip(counts.tolist(), weights, strict=True):
        assert count / draws == pytest.approx(weight / sum(weights), abs=2 / draws)


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-53])
def test_the_ends_of_the_unit_interval_draw_only_what_is_kept(uniform):
    drawn = draw(random_logits(), Sampling(top_k=2), torch.full((6, 1), uniform, dtype=torch.float64))
    strongest = random_logits().topk(2).indices
    assert (strongest == drawn[:, None]).any(-1).all()


@pytest.mark.parametrize("temperature", [0, 1e-4, 1e-3])
def test_no_temperature_takes_the_likeliest(temperature):
    uniform = torch.rand(6, 1, dtype=torch.float64)
    assert torch.equal(draw(random_logits(), Sampling(temperature=temperature), uniform), random_logits().argmax(-1))
