"""The reverse KL, KL(q || p) = sum of q log(q / p): it punishes a student for what its teacher would not say
(MiniLLM, arXiv 2306.08543). By the scores, of which q is the softmax, the gradient is q (log(q / p) - KL).
"""

from __future__ import annotations

from torch import Tensor

from gemmule.losses.loss import Student, TokenLoss, dot, kl


def reverse_kl(
    student_logits: Tensor, teacher: Tensor, *, temperature: float = 1.0, mask: Tensor | None = None
) -> Tensor:
    """KL(student || teacher); see `gemmule.losses`."""
    return LOSS.mean(student_logits, teacher, temperature, mask)


def formula(log_p: Tensor, log_q: Tensor) -> Tensor:
    return kl(log_q, log_p)


def gradient(log_p: Tensor, student: Student) -> tuple[Tensor, Tensor]:
    ratio = student.log_q().sub_(log_p)
    losses = dot(student.q, ratio)
    return losses, student.q.mul_(ratio.sub_(losses))


LOSS = TokenLoss("reverse_kl", formula, gradient)
