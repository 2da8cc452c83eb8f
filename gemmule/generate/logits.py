"""From logits to the next token: what may be drawn, and the draw.

- Repetition penalty (arXiv 1909.05858), temperature, top-k, nucleus (top-p, arXiv 1904.09751), min-p (arXiv
  2407.01082), in the order of transformers.
- All rows of a batch at once. A row draws by one uniform number from a generator of its own, so that its text
  does not depend on what else is in the batch.

B batch, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from gemmule.recipe.generation import Sampling


def penalise(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Logits [B, V], less likely where `seen` [B, V] is True: divided by the penalty, or times it if negative."""
    return torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)


def filtered(logits: Tensor, sampling: Sampling) -> Tensor:
    """Logits [B, V] divided by the temperature (above 0), and minus infinity where a token can't be drawn."""
    # less the greatest first: divided by a tiny temperature alone, they would all be infinite
    logits = (logits - logits.amax(-1, keepdim=True)) / sampling.temperature
    if sampling.top_k is not None:
        weakest = logits.topk(min(sampling.top_k, logits.shape[-1])).values[:, -1:]
        logits = logits.masked_fill(logits < weakest, -torch.inf)
    if sampling.top_p is not None and sampling.top_p < 1:
        values, order = logits.sort(descending=True, stable=True)
        probabilities = values.softmax(-1)
        before = probabilities.cumsum(-1) - probabilities  # what the likelier ones add up to
        dropped = torch.zeros_like(before, dtype=torch.bool).scatter(-1, order, before >= sampling.top_p)
        logits = logits.masked_fill(dropped, -torch.inf)
    if sampling.min_p:
        logits = logits.masked_fill(logits < math.log(sampling.min_p), -torch.inf)  # the greatest logit is 0
    return logits


def uniform_numbers(generators: Sequence[torch.Generator]) -> Tensor:
    """The next number of each generator, drawn evenly from 0 to 1: [B, 1] float64, on the CPU."""
    return torch.cat([torch.rand(1, 1, generator=one, dtype=torch.float64) for one in generators])


def draw(logits: Tensor, sampling: Sampling, uniform: Tensor) -> Tensor:
    """One id a row, [B] int64, by logits [B, V] and numbers [B, 1] (float64) drawn evenly from 0 to 1.

    A row gets the first token at which the summed probability passes its number.
    """
    if sampling.temperature == 0:
        return logits.argmax(-1)
    summed = filtered(logits, sampling).softmax(-1).double().cumsum(-1)
    return torch.searchsorted(summed, uniform * summed[:, -1:], right=True).squeeze(-1)
