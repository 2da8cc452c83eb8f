"""Distillation losses on plain logits, for use in anyone's own loop.

The model's own forward, `model(ids, targets=..., divergence=...)`, computes the same numbers with the head and the loss
in one; these take logits from anywhere.

Let N be any leading shape, V the vocabulary. Each takes

    student_logits   [*N, V] float
    teacher          the teacher's logits [*N, V], at temperature 1
    temperature      greater than 0: both are softened by it, and the loss is multiplied by its square, so that its
                     gradients keep their size (Hinton et al. 2015, arXiv 1503.02531)
    mask             [*N] bool, True where a position counts; all when left out

and gives the mean over the counted positions, in nats: a scalar float32.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gemmule.losses.head import Divergence, row_divergences, token_losses
from gemmule.losses.targets import SparseDistributions


def forward_kl(
    student_logits: Tensor,
    teacher: Tensor | SparseDistributions,
    *,
    temperature: float = 1.0,
    mask: Tensor | None = None,
) -> Tensor:
    """KL(teacher || student): what Gemma 2 trains its students on (arXiv 2408.00118, section 3).

    `teacher` may be a SparseDistributions too, with one row for each of the N positions, taken at `temperature`.
    """
    return _mean(student_logits, teacher, temperature, mask, "forward_kl")


def reverse_kl(
    student_logits: Tensor, teacher: Tensor, *, temperature: float = 1.0, mask: Tensor | None = None
) -> Tensor:
    """KL(student || teacher): it punishes a student for what its teacher would not say (MiniLLM, arXiv 2306.08543)."""
    return _mean(student_logits, teacher, temperature, mask, "reverse_kl")


def jsd(
    student_logits: Tensor,
    teacher: Tensor,
    *,
    beta: float = 0.5,
    temperature: float = 1.0,
    mask: Tensor | None = None,
) -> Tensor:
    """The generalised Jensen-Shannon divergence (GKD, arXiv 2306.13649, equation 1).

    beta KL(teacher || m) + (1 - beta) KL(student || m), with m = beta teacher + (1 - beta) student. That vanishes as
    beta nears 0 or 1, so within 0.001 of them its limits stand in, the forward and the reverse KL.
    """
    return _mean(student_logits, teacher, temperature, mask, "jsd", beta)


def _mean(
    student_logits: Tensor,
    teacher: Tensor | SparseDistributions,
    temperature: float,
    mask: Tensor | None,
    divergence: Divergence,
    beta: float = 0.5,
) -> Tensor:
    logits = student_logits.reshape(-1, student_logits.shape[-1])
    if isinstance(teacher, SparseDistributions):
        losses = token_losses(logits, teacher, temperature, divergence, beta)  # [N]
    else:
        if teacher.shape != student_logits.shape:
            raise ValueError(f"teacher logits {tuple(teacher.shape)}, student logits {tuple(student_logits.shape)}")
        log_p = torch.log_softmax(teacher.reshape(logits.shape).float() / temperature, -1)
        log_q = torch.log_softmax(logits.float() / temperature, -1)
        losses = row_divergences(log_p, log_q, divergence, beta) * temperature**2
    if mask is None:
        return losses.mean()
    counted = mask.reshape(-1)
    return torch.where(counted, losses, 0.0).sum() / counted.sum()
