"""From logits to the next token: what may be drawn, and the draw.

- Repetition penalty (arXiv 1909.05858), temperature, top-k, nucleus (top-p, arXiv 1904.09751), min-p (arXiv
  2407.01082), in the order of transformers.
- All rows of a batch at once. A row draws by one uniform number from a generator of its own, so that its text
  does not depend on what else is in the batch.

B batch, V vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gemmule.errors import RequestError


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn. Raises RequestError for an impossible setting.

    `temperature` divides the logits; 0 takes the likeliest token. `top_k` keeps that many likeliest tokens, `top_p`
    the fewest likeliest whose probability reaches it, `min_p` those at least that times as likely as the likeliest.
    `repetition_penalty` above 1 makes tokens that the prompt or the text has less likely. `seed` is of the draws.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise RequestError(f"temperature = {self.temperature}: must be a number from 0 up")
        if self.top_k is not None and self.top_k < 1:
            raise RequestError(f"top_k = {self.top_k}: must be at least 1")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise RequestError(f"top_p = {self.top_p}: must be above 0 and at most 1")
        if self.min_p is not None and not 0 <= self.min_p <= 1:
            raise RequestError(f"min_p = {self.min_p}: must be from 0 to 1")
        if not 0 < self.repetition_penalty < math.inf:
            raise RequestError(f"repetition_penalty = {self.repetition_penalty}: must be a number above 0")


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


def draw(logits: Tensor, sampling: Sampling, uniform: Tensor) -> Tensor:
    """One id a row, [B] int64, by logits [B, V] and numbers [B, 1] (float64) drawn evenly from 0 to 1.

    A row gets the first token at which the summed probability passes its number.
    """
    if sampling.temperature == 0:
        return logits.argmax(-1)
    summed = filtered(logits, sampling).softmax(-1).double().cumsum(-1)
    return torch.searchsorted(summed, uniform * summed[:, -1:], right=True).squeeze(-1)
