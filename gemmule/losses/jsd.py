"""The generalised Jensen-Shannon divergence, between the forward and the reverse KL (GKD, arXiv 2306.13649).

beta KL(p || m) + (1 - beta) KL(q || m), with m = beta p + (1 - beta) q (equation 1 there). It vanishes as beta nears 0
or 1: so within 0.001 of them the limits of JSD / beta and JSD / (1 - beta) stand in, the forward and the reverse KL. By
the scores, of which q is the softmax, the gradient is (1 - beta) q (log(q / m) - KL(q || m)).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gemmule.losses.forward_kl import LOSS as FORWARD_KL
from gemmule.losses.loss import Student, TokenLoss, dot, kl
from gemmule.losses.reverse_kl import LOSS as REVERSE_KL


def jsd(
    student_logits: Tensor,
    teacher: Tensor,
    *,
    beta: float = 0.5,
    temperature: float = 1.0,
    mask: Tensor | None = None,
) -> Tensor:
    """The divergence of the student from the teacher; see `gemmule.losses`. `beta` is from 0 to 1."""
    return LOSS.mean(student_logits, teacher, temperature, mask, beta=beta)


def formula(log_p: Tensor, log_q: Tensor, beta: float = 0.5) -> Tensor:
    if (limit := _limit(beta)) is not None:
        return limit.formula(log_p, log_q)
    log_m = torch.logaddexp(log_p + math.log(beta), log_q + math.log1p(-beta))
    return beta * kl(log_p, log_m) + (1 - beta) * kl(log_q, log_m)


def gradient(log_p: Tensor, student: Student, beta: float = 0.5) -> tuple[Tensor, Tensor]:
    if (limit := _limit(beta)) is not None:
        return limit.gradient(log_p, student)
    log_q = student.log_q()
    log_m = torch.logaddexp(log_p + math.log(beta), log_q + math.log1p(-beta))
    from_teacher = dot(log_p.exp(), log_p - log_m)
    ratio = log_q.sub_(log_m)
    from_student = dot(student.q, ratio)
    losses = beta * from_teacher + (1 - beta) * from_student
    return losses, student.q.mul_(ratio.sub_(from_student)).mul_(1 - beta)


LOSS = TokenLoss("jsd", formula, gradient, parameters=("beta",))


def _limit(beta: float) -> TokenLoss | None:
    """The KL that stands in at an end of beta's range. Raises ValueError outside of it."""
    if not 0 <= beta <= 1:
        raise ValueError(f"beta = {beta}: must be from 0 to 1")
    if 0.001 <= beta <= 0.999:
        return None
    return FORWARD_KL if beta < 0.5 else REVERSE_KL
