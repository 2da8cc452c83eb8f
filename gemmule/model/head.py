"""The head: soft-capped logits, and the loss of a student against whatever it learns from.

- Logits are capped: cap · tanh(logit / cap) (Gemma 2, arXiv 2408.00118, section 2).
- Every loss is one formula: the cross-entropy against a target distribution, less that distribution's entropy:
  KL(target || student), the forward KL. What the student can't change is gone from the number, which ends at 0.
- The target is the next token itself, a teacher's whole distribution (arXiv 1503.02531), a sparse sample of it, or
  a weighted mix of these.

N flattened tokens (B · T, row-major), V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, eq=False)
class SparseDistributions:
    """N distributions of which only some entries are stored: those of row i lie at offsets[i] to offsets[i + 1].

    Their mass need not be exactly 1: an unbiased sample of a distribution has that mass only in the mean. `entropy`
    is that of the whole distribution, in nats; None where nobody knows it, and then a loss is a plain cross-entropy.
    """

    offsets: Tensor  # [N + 1] int64, from 0
    ids: Tensor  # [entries] int64
    probabilities: Tensor  # [entries] float32
    entropy: Tensor | None = None  # [N] float32

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, rows: slice) -> SparseDistributions:
        """The distributions of a range of rows, without copying entries."""
        start, stop, step = rows.indices(len(self))
        if step != 1:
            raise ValueError("sparse distributions are sliced in steps of 1")
        offsets = self.offsets[start : max(start, stop) + 1]
        entries = slice(int(offsets[0]), int(offsets[-1]))
        entropy = None if self.entropy is None else self.entropy[rows]
        return SparseDistributions(offsets - offsets[0], self.ids[entries], self.probabilities[entries], entropy)

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
        )

    def to(self, device: torch.device | str) -> Self:
        fields = (self.offsets, self.ids, self.probabilities, self.entropy)
        return type(self)(*(None if field is None else field.to(device) for field in fields))  # type: ignore[arg-type]


# int64 [B, T]: next tokens. float [B, T, V]: a teacher's probabilities. A tuple: weighted parts of these.
OneTarget: TypeAlias = Tensor | SparseDistributions
Targets: TypeAlias = OneTarget | tuple[tuple[float, OneTarget], ...]


def capped_logits(hidden: Tensor, weight: Tensor, cap: float | None) -> Tensor:
    """Logits [..., V] in float32 of hidden states [..., D] and the embedding [V, D], capped where `cap` is given."""
    if cap is None:
        return F.linear(hidden, weight).float()
    # hidden / cap is V / D times smaller than logits / cap
    return F.linear(hidden / cap, weight).float().tanh() * cap


def loss(
    logits: Tensor,
    targets: Targets,
    *,
    mask: Tensor | None = None,
    temperature: float = 1.0,
    denominator: float | Tensor | None = None,
) -> Tensor:
    """The sum of `token_losses` over the learned positions, divided by `denominator`; a scalar in nats.

    logits [N, V]; targets as `forward` has them, [B, T] or [B, T, V] or sparse with N rows. `mask` [B, T] is True
    where a position is learned (None: everywhere). `denominator` is their number by default; a trainer that splits a
    batch into parts gives each the number of the whole batch, so that the parts' losses and gradients add up to
    those of the whole.
    """
    losses = token_losses(logits, _flattened(targets), temperature)
    if mask is not None:
        learned = mask.flatten()
        losses = torch.where(learned, losses, 0.0)
        if denominator is None:
            denominator = learned.sum().clamp(min=1)  # a batch with nothing to learn costs 0, not NaN
    return losses.sum() / (len(losses) if denominator is None else denominator)


def token_losses(logits: Tensor, targets: Targets, temperature: float = 1.0) -> Tensor:
    """The loss of every position, [N], in nats, of logits [N, V] (float32).

    By the form of `targets`:
    - int64 [N]: the cross-entropy of the next token; the temperature does not touch it.
    - float [N, V]: KL(p || student) for a teacher's probabilities p.
    - SparseDistributions of N rows: the same from the entries stored, less the entropy stored.
    - (weight, targets) pairs: the weighted sum.

    Against a distribution the student's logits are divided by the temperature (the teacher's were, by whoever made
    the target) and the loss is multiplied by its square, which keeps the gradient's size (Hinton et al., arXiv
    1503.02531, section 2).
    """
    if isinstance(targets, tuple):
        return torch.stack([weight * token_losses(logits, part, temperature) for weight, part in targets]).sum(0)
    if len(targets) != len(logits):
        raise ValueError(f"targets of {len(targets)} positions for logits of {len(logits)}")
    if isinstance(targets, Tensor) and not targets.is_floating_point():
        return -F.log_softmax(logits, dim=-1).gather(-1, targets[:, None]).squeeze(-1)
    log_student = F.log_softmax(logits if temperature == 1.0 else logits / temperature, dim=-1)
    divergence = _divergence(log_student, targets)
    return divergence if temperature == 1.0 else divergence * temperature**2


def _divergence(log_student: Tensor, targets: OneTarget) -> Tensor:
    """sum of p log p - p log q over each row, [N]."""
    if isinstance(targets, Tensor):
        targets = targets.to(log_student.dtype)
        log_teacher = targets.clamp(min=torch.finfo(targets.dtype).tiny).log()  # finite, for 0 log 0 is 0
        return torch.linalg.vecdot(targets, log_teacher) - torch.linalg.vecdot(targets, log_student)
    # A stored mass other than 1 comes out right: -sum p log q is mass · logsumexp(z) - sum p z.
    rows = torch.arange(len(targets), device=log_student.device)
    rows = rows.repeat_interleave(targets.offsets.diff(), output_size=len(targets.ids))  # [entries]
    terms = targets.probabilities * log_student[rows, targets.ids]
    cross_entropy = -log_student.new_zeros(len(targets)).index_add(0, rows, terms)
    return cross_entropy if targets.entropy is None else cross_entropy - targets.entropy


def _flattened(targets: Targets) -> Targets:
    """[B, T] and [B, T, V] as [N] and [N, V]."""
    if isinstance(targets, tuple):
        return tuple((weight, _flattened_one(part)) for weight, part in targets)
    return _flattened_one(targets)


def _flattened_one(targets: OneTarget) -> OneTarget:
    if not isinstance(targets, Tensor):
        return targets
    return targets.flatten(0, 1) if targets.is_floating_point() else targets.flatten()
