"""The head's logits, what a student can learn at a token, and the losses as plain formulas.

- Logits are capped: cap · tanh(logit / cap) (Gemma 2, arXiv 2408.00118, section 2).
- A target is the next token itself, a teacher's whole distribution (arXiv 1503.02531), a sparse sample of it, or a
  weighted mix of these.
- The forward KL, KL(target || student), is the cross-entropy less the target's entropy: what the student can't change
  is gone from the number, which ends at 0. Against a whole distribution there are the reverse KL and, between the two,
  the generalised Jensen-Shannon divergence (arXiv 2306.13649).

`fused_head.py` computes the same for training, without ever holding all logits.
N flattened tokens (B · T, row-major), V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Literal, Self, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from gemmule.base.linear import linear, multiply_into


@dataclass(frozen=True, eq=False)
class SparseDistributions:
    """N distributions of which only some entries are stored: those of row i lie at offsets[i] to offsets[i + 1].

    Their mass need not be exactly 1: an unbiased sample of a distribution has that mass only in the mean. `entropy`
    is that of the whole distribution, in nats; None where nobody knows it, and then a loss is a plain cross-entropy.

    With `rest` the entries are exact and the mass that they lack lies elsewhere, nobody knows where (a teacher that
    gives only its top k): a loss is then the KL over {entries, everything else as one}, which needs no entropy.
    """

    offsets: Tensor  # [N + 1] int64, from 0
    ids: Tensor  # [entries] int64
    probabilities: Tensor  # [entries] float32
    entropy: Tensor | None = None  # [N] float32
    rest: bool = False  # whether the mass not stored is one bucket

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def rows(self) -> Tensor:
        """The row of each entry, [entries] int64."""
        numbers = torch.arange(len(self), device=self.offsets.device)
        return numbers.repeat_interleave(self.offsets.diff(), output_size=len(self.ids))

    @property
    def mass(self) -> Tensor:
        """[N]: the sum of each one's entries."""
        return self.probabilities.new_zeros(len(self)).index_add(0, self.rows, self.probabilities)

    def known_entropy(self) -> Tensor:
        """[N], nats: of the entries, and of the rest as one token more where it is one bucket."""
        terms = torch.special.entr(self.probabilities)
        entries = terms.new_zeros(len(self)).index_add(0, self.rows, terms)
        return entries + torch.special.entr((1 - self.mass).clamp(min=0)) if self.rest else entries

    def __getitem__(self, rows: slice) -> SparseDistributions:
        """The distributions of a range of rows, without copying entries."""
        start, stop, step = rows.indices(len(self))
        if step != 1:
            raise ValueError("sparse distributions are sliced in steps of 1")
        offsets = self.offsets[start : max(start, stop) + 1]
        entries = slice(int(offsets[0]), int(offsets[-1]))
        entropy = None if self.entropy is None else self.entropy[rows]
        probabilities = self.probabilities[entries]
        return SparseDistributions(offsets - offsets[0], self.ids[entries], probabilities, entropy, self.rest)

    @classmethod
    def concatenate(cls, parts: Sequence[SparseDistributions]) -> SparseDistributions:
        """One after the other. The entropy is kept where every part has one."""
        counts = torch.cat([part.offsets.diff() for part in parts])
        entropies = [part.entropy for part in parts if part.entropy is not None]
        return cls(
            offsets=F.pad(counts.cumsum(0), (1, 0)),
            ids=torch.cat([part.ids for part in parts]),
            probabilities=torch.cat([part.probabilities for part in parts]),
            entropy=torch.cat(entropies) if len(entropies) == len(parts) else None,
            rest=any(part.rest for part in parts),
        )

    def to(self, device: torch.device | str) -> Self:
        entropy = None if self.entropy is None else self.entropy.to(device)
        return type(self)(
            self.offsets.to(device), self.ids.to(device), self.probabilities.to(device), entropy, self.rest
        )


@dataclass(frozen=True, eq=False)
class DenseTeacher:
    """A teacher's whole distributions, as what makes its logits: for these need not exist all at once.

    Without a `weight` the hidden states are the logits themselves, of a model whose head is no such product.
    """

    hidden: Tensor  # [B, T, D'] or [N, D']: what its backbone gives
    weight: Tensor | None  # [V, D']: its head
    cap: float | None = None
    bias: Tensor | None = None  # [V]: its head's

    def __len__(self) -> int:
        return len(self.hidden)

    def __getitem__(self, rows: Tensor | slice) -> DenseTeacher:
        """Those of N rows."""
        return replace(self, hidden=self.hidden[rows])

    def flatten(self) -> DenseTeacher:
        """[B, T, D'] as [N, D']."""
        return replace(self, hidden=self.hidden.flatten(0, -2))

    def logits(self, buffer: Tensor | None = None) -> Tensor:
        """[..., V] float32; of N rows in the first of `buffer`, if that is given: new memory takes time."""
        if buffer is not None:
            raw = raw_logits(self.hidden, self.weight, self.cap, self.bias, buffer)
            return raw if self.cap is None else raw.tanh_().mul_(self.cap)
        if self.weight is None:
            return self.hidden.float()
        return capped_logits(self.hidden, self.weight, self.cap, self.bias)


@dataclass(frozen=True, eq=False)
class Mixture:
    """An ensemble: the mixture of its members' probabilities, sum of weight · p, weights of sum 1.

    It is softened as one teacher is: its logits are the logarithm of the mixture, and the temperature divides these.
    """

    members: tuple[tuple[float, DenseTeacher], ...]

    def __len__(self) -> int:
        return len(self.members[0][1])

    def __getitem__(self, rows: Tensor | slice) -> Mixture:
        """Those of N rows."""
        return Mixture(tuple((weight, member[rows]) for weight, member in self.members))

    def flatten(self) -> Mixture:
        """[B, T, D'] as [N, D'], in each member."""
        return Mixture(tuple((weight, member.flatten()) for weight, member in self.members))

    def logits(self) -> Tensor:
        """[..., V] float32."""
        return log_mixture([(weight, member.logits()) for weight, member in self.members])


# int64 [B, T]: next tokens. float [B, T, V]: a teacher's probabilities. A tuple: weighted parts of these.
OneTarget: TypeAlias = Tensor | SparseDistributions | DenseTeacher | Mixture
Divergence: TypeAlias = Literal["forward_kl", "reverse_kl", "jsd"]
Targets: TypeAlias = OneTarget | tuple[tuple[float, OneTarget], ...]


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
