"""Logits from hidden states and a head's weight, capped: cap · tanh(logit / cap) (arXiv 2408.00118, section 2).

V vocabulary, D width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor
from torch.nn import functional as F

from gemmule.base.linear import linear, multiply_into


def capped_logits(hidden: Tensor, weight: Tensor, cap: float | None, bias: Tensor | None = None) -> Tensor:
    """Logits [..., V] in float32 of hidden states [..., D] and the embedding [V, D], capped where `cap` is given."""
    if cap is None:
        raw = linear(hidden, weight)
        return raw.float() if bias is None else (raw + bias).float()
    # hidden / cap is V / D times smaller than logits / cap
    raw = linear(hidden / cap, weight)
    return (raw if bias is None else raw + bias / cap).float().tanh() * cap


def raw_logits(hidden: Tensor, weight: Tensor | None, cap: float | None, bias: Tensor | None, buffer: Tensor) -> Tensor:
    """hidden [n, D] · weight [V, D] + bias [V], divided by the cap if there is one: [n, V], the first of the buffer's.

    Without a weight, hidden are the logits. No gradient flows.
    """
    raw = buffer[: len(hidden)]
    scaled = hidden if cap is None else hidden / cap
    if weight is None:
        return raw.copy_(scaled)
    if scaled.dtype == weight.dtype == raw.dtype:
        multiply_into(scaled, weight, raw)
    else:
        raw.copy_(scaled.to(weight.dtype) @ weight.mT)
    return raw if bias is None else raw.add_(bias if cap is None else bias / cap)


def log_mixture(members: Sequence[tuple[float, Tensor]]) -> Tensor:
    """log of the sum of weight · softmax(logits) over (weight, logits [..., V]) pairs."""
    logs = [F.log_softmax(logits, dim=-1) + math.log(weight) for weight, logits in members]
    return reduce(torch.logaddexp, logs)
