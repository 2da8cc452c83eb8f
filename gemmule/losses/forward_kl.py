"""The forward KL, KL(p || q) = sum of p log(p / q): what Gemma 2 trains its students on (arXiv 2408.00118, section 3).

It is the cross-entropy -sum p log q less the teacher's entropy: what the student can't change is gone from the number,
which ends at 0. By the scores z, of which q is the softmax, the gradient is q - p.

As it is linear in p, part of p serves in its place:

- an unbiased sample, whose mass may be other than 1: then -sum p log q is mass · logsumexp(z) - sum p z;
- the top k, and the rest as one bucket: sum p log(p / q) + (1 - P) log((1 - P) / (1 - Q)), P and Q being the entries'
  mass in both. A renormalised top k would have the wrong distribution as its optimum.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gemmule.losses.loss import Student, TokenLoss, dot, kl
from gemmule.losses.targets import SparseDistributions


def forward_kl(
    student_logits: Tensor,
    teacher: Tensor | SparseDistributions,
    *,
    temperature: float = 1.0,
    mask: Tensor | None = None,
) -> Tensor:
    """KL(teacher || student); see `gemmule.losses`.

    `teacher` may be a SparseDistributions too, with one row for each of the N positions, taken at `temperature`.
    """
    return LOSS.mean(student_logits, teacher, temperature, mask)


def formula(target: Tensor | SparseDistributions, log_q: Tensor) -> Tensor:
    if isinstance(target, SparseDistributions):
        return _of_top_k(target, log_q) if target.rest else _of_sample(target, log_q)
    return kl(target, log_q)


def gradient(target: Tensor | SparseDistributions, student: Student) -> tuple[Tensor, Tensor]:
    if isinstance(target, SparseDistributions):
        return _gradient_of_top_k(target, student) if target.rest else _gradient_of_sample(target, student)
    p = target.exp()
    return dot(p, target - student.log_q()), student.q.mul_(p.sum(-1, keepdim=True)).sub_(p)


LOSS = TokenLoss("forward_kl", formula, gradient, samples=True)


def _of_sample(sample: SparseDistributions, log_q: Tensor) -> Tensor:
    rows = sample.rows
    terms = sample.probabilities * log_q[rows, sample.ids]
    cross_entropy = -log_q.new_zeros(len(sample)).index_add(0, rows, terms)
    return cross_entropy if sample.entropy is None else cross_entropy - sample.entropy


def _gradient_of_sample(sample: SparseDistributions, student: Student) -> tuple[Tensor, Tensor]:
    rows = sample.rows
    entries, probabilities = (rows, sample.ids), sample.probabilities.to(student.q.dtype)
    empty = student.log_sum.new_zeros(len(sample))
    mass = empty.index_add(0, rows, probabilities)[:, None]
    hit = empty.index_add(0, rows, probabilities * student.squashed[entries])[:, None]
    losses = mass * student.log_sum - student.gain * hit
    if sample.entropy is not None:
        losses = losses - sample.entropy[:, None]
    return losses, student.q.mul_(mass).index_put_(entries, -probabilities, accumulate=True)


def _of_top_k(top: SparseDistributions, log_q: Tensor) -> Tensor:
    rows, empty = top.rows, log_q.new_zeros(len(top))
    entries, p = (rows, top.ids), top.probabilities.to(log_q.dtype)
    known = empty.index_add(0, rows, torch.xlogy(p, p) - p * log_q[entries])
    left = (1 - empty.index_add(0, rows, p)).clamp(min=0)  # [N], the teacher's mass elsewhere, and the student's:
    log_left = log_q.index_put(entries, log_q.new_tensor(-math.inf)).logsumexp(-1)
    return known + torch.xlogy(left, left) - left * log_left.clamp(min=math.log(torch.finfo(log_q.dtype).tiny))


def _gradient_of_top_k(top: SparseDistributions, student: Student) -> tuple[Tensor, Tensor]:
    """The mass that the student gives everything else is summed, not subtracted: near 0 a difference is noise."""
    rows, p = top.rows, top.probabilities.to(student.q.dtype)
    entries, empty = (rows, top.ids), student.log_sum.new_zeros(len(top))
    scores = student.gain * student.squashed[entries] - student.log_sum[rows, 0]
    known = empty.index_add(0, rows, torch.xlogy(p, p) - p * scores)[:, None]
    mass = empty.index_add(0, rows, p)[:, None]
    left = (1 - mass).clamp_(min=0)  # [k, 1], the teacher's mass elsewhere, and the student's:
    hit = student.q[entries]
    student.q[entries] = 0.0
    student_left = student.q.sum(-1, keepdim=True).clamp_(min=torch.finfo(p.dtype).tiny)
    losses = known + torch.xlogy(left, left) - left * student_left.log()
    mass += left
    by_scores = student.q.mul_(mass - left / student_left)
    return losses, by_scores.index_put_(entries, mass[rows, 0] * hit - p, accumulate=True)
