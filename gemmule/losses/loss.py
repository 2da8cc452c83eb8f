"""What a loss is: a formula, and beside it the same with its gradient in place, in a file of this folder of its name.

The plain head (`head.py`) takes the formula, the fused one (`fused_head.py`) the gradient. `LOSSES` has every loss by
the name that a recipe calls it (`distill.loss`): `gemmule/losses/__init__.py` fills it from the files.

N tokens, k of a block, V vocabulary. p is the teacher's distribution, q the student's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from gemmule.losses.targets import OneTarget, SparseDistributions

SAFE_EXPONENT = 60.0  # float32 holds exp of numbers within this, and their sum: no maximum need be subtracted first


class Student:
    """A block's distributions q [k, V], at one temperature: scores = gain · squashed, q = exp(scores - log_sum)."""

    def __init__(self, squashed: Tensor, cap: float | None, temperature: float) -> None:
        """`squashed` [k, V] are the logits, divided by the cap where there is one."""
        self.squashed, self.gain = squashed, (1.0 if cap is None else cap) / temperature
        scores = squashed * self.gain
        if cap is not None and self.gain <= SAFE_EXPONENT:
            self.q = scores.exp_()
            sums = self.q.sum(-1, keepdim=True)
            self.log_sum = sums.log()  # [k, 1]
        else:
            largest = scores.amax(-1, keepdim=True)
            self.q = scores.sub_(largest).exp_()
            sums = self.q.sum(-1, keepdim=True)
            self.log_sum = sums.log() + largest
        self.q.mul_(sums.reciprocal_())

    def log_q(self) -> Tensor:
        return (self.squashed * self.gain).sub_(self.log_sum)


@dataclass(frozen=True)
class TokenLoss:
    """A loss of each token, of a teacher's distribution p and the student's q.

    formula   (log_p [N, V], log_q [N, V], **parameters) -> losses [N] in nats
    gradient  (log_p [k, V], student, **parameters) -> losses [k, 1], and their gradient by the scores [k, V], which may
              take the place of `student.q`

    With `samples`, SparseDistributions serve in the place of log_p: only for a loss that is linear in p is the gradient
    from a sample unbiased.
    """

    name: str
    formula: Callable[..., Tensor]
    gradient: Callable[..., tuple[Tensor, Tensor]]
    samples: bool = False
    parameters: tuple[str, ...] = ()  # of the formula, by name; a recipe's `distill` has keys of these names

    def check(self, target: OneTarget, tokens: int) -> None:
        """Raises ValueError where `target` is not one of `tokens` positions, or can't serve this loss."""
        if len(target) != tokens:
            raise ValueError(f"targets of {len(target)} positions for logits of {tokens}")
        if isinstance(target, SparseDistributions) and not self.samples:
            raise ValueError(
                f"{self.name} needs whole distributions: sampled targets are unbiased for the forward KL only"
            )

    def mean(
        self,
        student_logits: Tensor,
        teacher: Tensor | SparseDistributions,
        temperature: float,
        mask: Tensor | None,
        **parameters: float,
    ) -> Tensor:
        """The mean over positions, as `gemmule.losses` describes it."""
        logits = student_logits.reshape(-1, student_logits.shape[-1])
        if isinstance(teacher, SparseDistributions):
            self.check(teacher, len(logits))
            target: Tensor | SparseDistributions = teacher
        elif teacher.shape != student_logits.shape:
            raise ValueError(f"teacher logits {tuple(teacher.shape)}, student logits {tuple(student_logits.shape)}")
        else:
            target = torch.log_softmax(teacher.reshape(logits.shape).float() / temperature, -1)
        log_q = torch.log_softmax(logits.float() / temperature, -1)
        return masked_mean(self.formula(target, log_q, **parameters) * temperature**2, mask)


@dataclass(frozen=True)
class BatchLoss:
    """A loss that is no sum over tokens: `fused` has the arguments of `fused_head.fused_loss`, and gives its scalar."""

    name: str
    fused: Callable[..., Tensor]
    parameters: tuple[str, ...] = ()


Loss: TypeAlias = TokenLoss | BatchLoss
LOSSES: dict[str, Loss] = {}


def find(name: str, given: Mapping[str, float]) -> tuple[Loss, dict[str, float]]:
    """The loss of this name, and those of the parameters that are its own.

    Raises ValueError where there is no such loss, TypeError for parameters that none has.
    """
    if name not in LOSSES:
        raise ValueError(f"divergence {name!r}: must be one of {', '.join(LOSSES)}")
    known = {parameter for loss in LOSSES.values() for parameter in loss.parameters}
    if unknown := sorted(set(given) - known):
        raise TypeError(f"no loss has a parameter {unknown[0]!r}")
    loss = LOSSES[name]
    return loss, {parameter: given[parameter] for parameter in loss.parameters if parameter in given}


def kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p || q) = sum of p (log p - log q), [N], of log-probabilities [N, V]."""
    return torch.linalg.vecdot(log_p.exp(), log_p - log_q)


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Of each row, [k, 1]."""
    return torch.linalg.vecdot(a, b)[:, None]


def masked_mean(losses: Tensor, mask: Tensor | None) -> Tensor:
    """The mean of losses [N] over the positions of `mask` [*N]; all, if that is None."""
    if mask is None:
        return losses.mean()
    counted = mask.reshape(-1)
    return torch.where(counted, losses, 0.0).sum() / counted.sum()
