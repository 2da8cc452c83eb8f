"""The losses of tokens as plain formulas.

The forward KL, KL(target || student), is the cross-entropy less the target's entropy: what the student can't change is
gone from the number, which ends at 0. Against a whole distribution there are the reverse KL and, between the two, the
generalised Jensen-Shannon divergence (arXiv 2306.13649).

`fused_head.py` computes the same for training, without ever holding all logits.
N flattened tokens (B · T, row-major), V vocabulary.
"""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from gemmule.losses.targets import DenseTeacher, Mixture, OneTarget, SparseDistributions, Targets

Divergence: TypeAlias = Literal["forward_kl", "reverse_kl", "jsd"]


def token_losses(
    logits: Tensor, targets: Targets, temperature: float = 1.0, divergence: Divergence = "forward_kl", beta: float = 0.5
) -> Tensor:
    """The loss of every position, [N], in nats, of logits [N, V] (float32).

    By the form of `targets`:
    - int64 [N]: the cross-entropy of the next token; temperature and divergence do not touch it.
    - float [N, V]: the divergence from a teacher's probabilities p.
    - DenseTeacher or Mixture of N rows: the same from the teacher's logits.
    - SparseDistributions of N rows: the forward KL from the entries stored, less the entropy stored; where the rest is
      one bucket, sum p log(p / q) + (1 - P) log((1 - P) / (1 - Q)) with P and Q the entries' mass in both.
    - (weight, targets) pairs: the weighted sum.

    Divergences from p to the student's q: "forward_kl" is KL(p || q), "reverse_kl" KL(q || p), "jsd"
    beta KL(p || m) + (1 - beta) KL(q || m) with m = beta p + (1 - beta) q (Agarwal et al., arXiv 2306.13649, equation
    1). That vanishes as beta nears 0 or 1, so within 0.001 of them the limits of JSD / beta and JSD / (1 - beta) stand
    in: the forward and the reverse KL.

    Against a distribution the student's logits are divided by the temperature (as the teacher's must be, except where
    its logits are given) and the loss is multiplied by its square, which keeps the gradient's size (Hinton et al.,
    arXiv 1503.02531, section 2).

    Raises ValueError for targets of another length, and for sparse ones with another loss than the forward KL: a
    sample is unbiased only for what is linear in p.
    """
    if isinstance(targets, tuple):
        parts = [weight * token_losses(logits, part, temperature, divergence, beta) for weight, part in targets]
        return torch.stack(parts).sum(0)
    check_target(targets, len(logits), divergence, beta)
    if isinstance(targets, Tensor) and not targets.is_floating_point():
        return -F.log_softmax(logits, dim=-1).gather(-1, targets[:, None]).squeeze(-1)
    log_q = F.log_softmax(logits if temperature == 1.0 else logits / temperature, dim=-1)
    if isinstance(targets, SparseDistributions):
        losses = _sparse_forward_kl(targets, log_q)
    else:
        if isinstance(targets, DenseTeacher | Mixture):
            log_p = F.log_softmax(targets.logits() / temperature, dim=-1)
        else:
            log_p = log_probabilities(targets.to(log_q.dtype))
        losses = row_divergences(log_p, log_q, divergence, beta)
    return losses if temperature == 1.0 else losses * temperature**2


def log_probabilities(p: Tensor) -> Tensor:
    """Of p; finite where p is 0, for 0 log 0 is 0."""
    return p.clamp(min=torch.finfo(p.dtype).tiny).log()


def check_target(target: OneTarget, tokens: int, divergence: Divergence, beta: float) -> None:
    """Raises ValueError where `target` is not one of `tokens` positions, or can't serve the divergence."""
    if len(target) != tokens:
        raise ValueError(f"targets of {len(target)} positions for logits of {tokens}")
    if divergence not in ("forward_kl", "reverse_kl", "jsd"):
        raise ValueError(f"divergence {divergence!r}: must be forward_kl, reverse_kl or jsd")
    if not 0 <= beta <= 1:
        raise ValueError(f"beta = {beta}: must be from 0 to 1")
    if isinstance(target, SparseDistributions) and divergence != "forward_kl":
        raise ValueError(
            f"{divergence} needs whole distributions: sampled targets are unbiased for the forward KL only"
        )


def limit(divergence: Divergence, beta: float) -> Divergence:
    """What `divergence` is at this beta: see `token_losses`."""
    if divergence != "jsd" or 0.001 <= beta <= 0.999:
        return divergence
    return "forward_kl" if beta < 0.5 else "reverse_kl"


def row_divergences(log_p: Tensor, log_q: Tensor, divergence: Divergence, beta: float) -> Tensor:
    """The divergence of each row, [N], of log-probabilities [N, V]; see `token_losses`."""
    divergence = limit(divergence, beta)
    if divergence == "forward_kl":
        return _kl(log_p, log_q)
    if divergence == "reverse_kl":
        return _kl(log_q, log_p)
    log_m = torch.logaddexp(log_p + math.log(beta), log_q + math.log1p(-beta))
    return beta * _kl(log_p, log_m) + (1 - beta) * _kl(log_q, log_m)


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """sum of p (log p - log q) over each row, [N]."""
    return torch.linalg.vecdot(log_p.exp(), log_p - log_q)


def _sparse_forward_kl(targets: SparseDistributions, log_q: Tensor) -> Tensor:
    """A stored mass other than 1 comes out right: -sum p log q is mass · logsumexp(z) - sum p z."""
    rows, empty = targets.rows, log_q.new_zeros(len(targets))
    entries = (rows, targets.ids)
    if targets.rest:
        p = targets.probabilities.to(log_q.dtype)
        known = empty.index_add(0, rows, torch.xlogy(p, p) - p * log_q[entries])
        left = (1 - empty.index_add(0, rows, p)).clamp(min=0)  # [N], the teacher's mass elsewhere, and the student's:
        log_left = log_q.index_put(entries, log_q.new_tensor(-math.inf)).logsumexp(-1)
        return known + torch.xlogy(left, left) - left * log_left.clamp(min=math.log(torch.finfo(log_q.dtype).tiny))
    terms = targets.probabilities * log_q[entries]
    cross_entropy = -empty.index_add(0, rows, terms)
    return cross_entropy if targets.entropy is None else cross_entropy - targets.entropy
