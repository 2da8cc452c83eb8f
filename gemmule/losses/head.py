"""The losses of tokens from whole logits, by their plain formulas: what `fused_head.py` gives without all logits.

N flattened tokens (B · T, row-major), V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from gemmule.base.chunks import chunk_rows
from gemmule.losses.loss import TokenLoss, find
from gemmule.losses.next_token import formula as next_token
from gemmule.losses.targets import DenseTeacher, Mixture, SparseDistributions, Targets


def token_losses(
    logits: Tensor,
    targets: Targets,
    temperature: float = 1.0,
    divergence: str = "forward_kl",
    **parameters: float,
) -> Tensor:
    """The loss of every position, [N], in nats, of logits [N, V] (float32).

    By the form of `targets`:
    - int64 [N]: the cross-entropy of the next token; temperature and divergence do not touch it.
    - float [N, V]: the divergence from a teacher's probabilities p.
    - DenseTeacher or Mixture of N rows: the same from the teacher's logits.
    - SparseDistributions of N rows: the forward KL from the entries stored, less the entropy stored.
    - (weight, targets) pairs: the weighted sum.

    `divergence` is the name of a loss of this folder. Of `parameters` each loss takes its own: the JSD `beta`.

    Against a distribution the student's logits are divided by the temperature (as the teacher's must be, except where
    its logits are given) and the loss is multiplied by its square, which keeps the gradient's size (Hinton et al.,
    arXiv 1503.02531, section 2).

    Raises ValueError for targets of another length, and for sparse ones with another loss than the forward KL: a
    sample is unbiased only for what is linear in p. Raises TypeError for a parameter that no loss has.
    """
    if isinstance(targets, tuple):
        parts = [weight * token_losses(logits, part, temperature, divergence, **parameters) for weight, part in targets]
        return torch.stack(parts).sum(0)
    loss, parameters = find(divergence, parameters)
    if not isinstance(loss, TokenLoss):
        raise ValueError(f"{divergence} is not the sum of a loss of each token")
    loss.check(targets, len(logits))
    if isinstance(targets, Tensor) and not targets.is_floating_point():
        return next_token(targets, F.log_softmax(logits, dim=-1))
    log_q = F.log_softmax(logits if temperature == 1.0 else logits / temperature, dim=-1)
    if isinstance(targets, SparseDistributions):
        losses = loss.formula(targets, log_q, **parameters)
    else:
        if isinstance(targets, DenseTeacher | Mixture):
            log_p = F.log_softmax(targets.logits() / temperature, dim=-1)
        else:
            log_p = log_probabilities(targets.to(log_q.dtype))
        losses = loss.formula(log_p, log_q, **parameters)
    return losses if temperature == 1.0 else losses * temperature**2


def log_probabilities(p: Tensor) -> Tensor:
    """Of p; finite where p is 0, for 0 log 0 is 0."""
    return p.clamp(min=torch.finfo(p.dtype).tiny).log()


def next_token_losses(expected: DenseTeacher, targets: Tensor) -> Tensor:
    """The loss of each target, [N], of which the logits are made some rows at a time."""
    rows = chunk_rows(expected.hidden.shape[-1] if expected.weight is None else len(expected.weight))
    parts = (slice(first, first + rows) for first in range(0, len(expected), rows))
    return torch.cat([token_losses(expected[part].logits(), targets[part]) for part in parts])
