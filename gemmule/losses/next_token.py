"""The next-token loss, -log q of the token that comes: what a language model is trained on without a teacher.

By the scores, of which q is the softmax, the gradient is q less 1 at that token. No divergence or temperature touches
it; mixed with a teacher's loss it is a target like others, next ids (`head.py`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from gemmule.losses.loss import Student, masked_mean


def next_token(student_logits: Tensor, next_ids: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """The cross-entropy of `next_ids` [*N] (int64); see `gemmule.losses`."""
    log_q = torch.log_softmax(student_logits.float(), -1)
    return masked_mean(formula(next_ids.reshape(-1), log_q.reshape(-1, log_q.shape[-1])), mask)


def formula(ids: Tensor, log_q: Tensor) -> Tensor:
    return -log_q.gather(-1, ids[:, None]).squeeze(-1)


def gradient(ids: Tensor, student: Student) -> tuple[Tensor, Tensor]:
    ids = ids[:, None]
    losses = student.log_sum - student.gain * student.squashed.gather(1, ids)
    return losses, student.q.scatter_add_(1, ids, torch.full_like(losses, -1.0))
