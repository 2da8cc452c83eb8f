"""The head and the loss in one, a chunk of tokens at a time: no [tokens, vocabulary] tensor ever exists.

- A chunk's logits are turned in place into the loss's gradient and used up at once in those of the hidden states and of
  the embedding, all in the forward pass: nothing is kept or made again for the backward one (the idea of Liger's
  chunked losses, arXiv 2410.10989; "Cut Your Losses", arXiv 2411.09009, makes the logits again).
- The soft-cap is part of it: logit = cap · tanh(raw / cap), so d logit / d raw = 1 - tanh².
- Between the matrix products a chunk goes through the processor's cache in blocks of rows.
- Targets and losses are those of `head.token_losses`, the plain formulas, against which this is tested. A dense
  teacher comes as hidden states and head; its logits too exist only a chunk at a time.

N flattened tokens, n of a chunk, k of a block; V vocabulary, D width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from gemmule.losses.head import Divergence, check_target, limit, log_probabilities
from gemmule.losses.logits import log_mixture, raw_logits
from gemmule.losses.targets import DenseTeacher, Mixture, OneTarget, SparseDistributions, Targets

CHUNK = {"cpu": 2**24}  # numbers in a chunk's logits: 64 MB
CHUNK_ELSEWHERE = 2**27  # an accelerator wants larger products
BLOCK = {"cpu": 2**18}  # numbers in a block: 1 MB, as the second-level cache; an accelerator takes a chunk at once
SAFE_EXPONENT = 60.0  # float32 holds exp of numbers within this, and their sum: no maximum need be subtracted first


@dataclass(frozen=True)
class _Loss:
    """The targets at N positions, and how much each position counts."""

    parts: tuple[tuple[float, OneTarget], ...]  # weighted; each of N rows
    coefficients: Tensor  # [N]: the losses are multiplied by these and added up
    cap: float | None
    temperature: float
    divergence: Divergence
    beta: float


def fused_loss(
    hidden: Tensor,
    weight: Tensor,
    cap: float | None,
    targets: Targets,
    *,
    mask: Tensor | None = None,
    temperature: float = 1.0,
    denominator: float | Tensor | None = None,
    divergence: Divergence = "forward_kl",
    beta: float = 0.5,
) -> Tensor:
    """The sum of `head.token_losses` over the learned positions, divided by `denominator`; a scalar in nats.

    Args:
        hidden: [B, T, D], what the backbone gives.
        weight: [V, D], the embedding, which is the head.
        targets: int64 [B, T], float [B, T, V], sparse or dense of N rows, or weighted pairs of these.
        mask: [B, T], True where a position counts in the loss; None: everywhere.
        denominator: the number of learned positions by default. A trainer that splits a batch into parts gives each
            part the whole batch's number, so that losses and gradients add up to those of the whole.

    Raises ValueError as `head.token_losses` does. Its gradients have none of their own.
    """
    hidden = hidden.flatten(0, 1)  # [N, D]
    parts = targets if isinstance(targets, tuple) else ((1.0, targets),)
    parts = tuple((share, _flattened(part)) for share, part in parts)
    for _, part in parts:
        check_target(part, len(hidden), divergence, beta)
    learned = hidden.new_ones(len(hidden), dtype=torch.float32) if mask is None else mask.flatten().float()
    if denominator is None:
        denominator = learned.sum().clamp(min=1)  # a batch with nothing to learn costs 0, not NaN
    loss = _Loss(parts, learned / denominator, cap, temperature, divergence, beta)
    if torch.is_grad_enabled() and (hidden.requires_grad or weight.requires_grad):
        return _FusedLoss.apply(hidden, weight, loss)
    return _run(hidden, weight, loss, None, None)


class _FusedLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, loss: _Loss) -> Tensor:
        wide = torch.promote_types(hidden.dtype, torch.float32)  # narrow gradients would lose what chunks add
        gradients = [
            torch.zeros_like(tensor, dtype=wide) if needed else None
            for tensor, needed in zip((hidden, weight), ctx.needs_input_grad[:2], strict=True)
        ]
        total = _run(hidden, weight, loss, *gradients)
        ctx.gradients, ctx.dtypes = gradients, (hidden.dtype, weight.dtype)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        gradients = ctx.gradients
        if torch._C._autograd._get_current_graph_task_keep_graph():  # there will be another backward pass
            gradients = [None if gradient is None else gradient.clone() for gradient in gradients]
        else:
            ctx.gradients = [None, None]
        scaled = [  # in place: [V, D] may be large
            None if gradient is None else gradient.mul_(outer).to(dtype)
            for gradient, dtype in zip(gradients, ctx.dtypes, strict=True)
        ]
        return *scaled, None


@torch.no_grad()
def _run(
    hidden: Tensor, weight: Tensor, loss: _Loss, hidden_gradient: Tensor | None, weight_gradient: Tensor | None
) -> Tensor:
    """The loss. Fills the gradients that are given."""
    N, V = len(hidden), len(weight)
    wide = torch.promote_types(hidden.dtype, torch.float32)
    n = max(1, min(N, CHUNK.get(hidden.device.type, CHUNK_ELSEWHERE) // V))
    teachers = [member for _, target in loss.parts for _, member in _members(target)]
    buffers = [torch.empty(n, V, dtype=wide, device=hidden.device) for _ in range(1 + len(teachers))]
    total = torch.zeros((), dtype=wide, device=hidden.device)
    with torch.autocast(hidden.device.type, enabled=False):
        for chunk in _slices(0, N, n):
            logits = raw_logits(hidden[chunk], weight, loss.cap, None, buffers[0])
            expected = [
                raw_logits(teacher.hidden[chunk], teacher.weight, teacher.cap, teacher.bias, buffer)
                for teacher, buffer in zip(teachers, buffers[1:], strict=True)
            ]
            for block in _slices(0, len(logits), max(1, BLOCK.get(hidden.device.type, CHUNK_ELSEWHERE) // V)):
                rows = slice(chunk.start + block.start, chunk.start + block.stop)
                total += _differentiate(logits[block], loss, rows, [raw[block] for raw in expected])
            if hidden_gradient is not None:
                hidden_gradient[chunk] = logits.to(weight.dtype) @ weight
            if weight_gradient is not None:
                _add_product(weight_gradient, logits, hidden[chunk])
    return total


def _differentiate(logits: Tensor, loss: _Loss, rows: slice, expected: list[Tensor]) -> Tensor:
    """Turns raw logits [k, V], already divided by the cap, into the gradient of the weighted sum of their losses.

    In place; gives that sum. `rows` are the block's among the N; `expected` are the teachers' raw logits.
    """
    squashed = logits if loss.cap is None else logits.tanh_()  # [k, V]
    coefficients = loss.coefficients[rows, None].to(logits.dtype)  # [k, 1]
    total, gradient = logits.new_zeros(()), None
    teachers = iter(expected)
    for weight, target in loss.parts:
        hard = isinstance(target, Tensor) and not target.is_floating_point()
        temperature = 1.0 if hard else loss.temperature
        student = _Student(squashed, loss.cap, temperature)
        if isinstance(target, SparseDistributions):
            against = _against_bucketed if target.rest else _against_sparse
            losses, part = against(student, target[rows])
        elif isinstance(target, DenseTeacher | Mixture):
            scores = [
                (share, raw if member.cap is None else raw.tanh_().mul_(member.cap))
                for (share, member), raw in zip(_members(target), teachers, strict=False)
            ]
            whole = log_mixture(scores) if isinstance(target, Mixture) else scores[0][1]
            log_p = torch.log_softmax(whole / temperature, -1)
            losses, part = _against_distributions(student, log_p, loss.divergence, loss.beta)
        elif hard:
            losses, part = _against_tokens(student, target[rows, None])
        else:
            log_p = log_probabilities(target[rows].to(logits.dtype))
            losses, part = _against_distributions(student, log_p, loss.divergence, loss.beta)
        scale = coefficients * weight * temperature  # the loss has temperature², the logits 1 / temperature
        total += (losses * scale).sum() * temperature
        part.mul_(scale)
        gradient = part if gradient is None else gradient.add_(part)
    assert gradient is not None
    if loss.cap is None:
        logits.copy_(gradient)
    else:
        torch.addcmul(gradient, gradient, squashed.square_(), value=-1, out=logits)
    return total


class _Student:
    """A block's distributions q, at one temperature: scores = gain · squashed, q = exp(scores - log_sum)."""

    def __init__(self, squashed: Tensor, cap: float | None, temperature: float) -> None:
        self.squashed, self.gain = squashed, (1.0 if cap is None else cap) / temperature
        scores = squashed * self.gain  # [k, V]
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


# Each gives the losses [k, 1] and their gradient with respect to the scores [k, V], which takes the place of q.


def _against_tokens(student: _Student, ids: Tensor) -> tuple[Tensor, Tensor]:
    losses = student.log_sum - student.gain * student.squashed.gather(1, ids)
    return losses, student.q.scatter_add_(1, ids, torch.full_like(losses, -1.0))


def _against_sparse(student: _Student, targets: SparseDistributions) -> tuple[Tensor, Tensor]:
    rows = targets.rows
    entries, probabilities = (rows, targets.ids), targets.probabilities.to(student.q.dtype)
    empty = student.log_sum.new_zeros(len(targets))
    mass = empty.index_add(0, rows, probabilities)[:, None]
    hit = empty.index_add(0, rows, probabilities * student.squashed[entries])[:, None]
    losses = mass * student.log_sum - student.gain * hit
    if targets.entropy is not None:
        losses = losses - targets.entropy[:, None]
    return losses, student.q.mul_(mass).index_put_(entries, -probabilities, accumulate=True)


def _against_bucketed(student: _Student, targets: SparseDistributions) -> tuple[Tensor, Tensor]:
    """The entries and everything else as one: the mass that the student gives the latter is summed, not subtracted."""
    rows, p = targets.rows, targets.probabilities.to(student.q.dtype)
    entries, empty = (rows, targets.ids), student.log_sum.new_zeros(len(targets))
    scores = student.gain * student.squashed[entries] - student.log_sum[rows, 0]
    known = empty.index_add(0, rows, torch.xlogy(p, p) - p * scores)[:, None]
    mass = empty.index_add(0, rows, p)[:, None]
    left = (1 - mass).clamp_(min=0)  # [k, 1], the teacher's mass elsewhere, and the student's:
    hit = student.q[entries]
    student.q[entries] = 0.0
    student_left = student.q.sum(-1, keepdim=True).clamp_(min=torch.finfo(p.dtype).tiny)
    losses = known + torch.xlogy(left, left) - left * student_left.log()
    mass += left
    gradient = student.q.mul_(mass - left / student_left)
    return losses, gradient.index_put_(entries, mass[rows, 0] * hit - p, accumulate=True)


def _against_distributions(
    student: _Student, log_p: Tensor, divergence: Divergence, beta: float
) -> tuple[Tensor, Tensor]:
    log_q, q = student.log_q(), student.q
    divergence = limit(divergence, beta)
    if divergence == "forward_kl":
        p = log_p.exp()
        return _dot(p, log_p - log_q), q.mul_(p.sum(-1, keepdim=True)).sub_(p)
    if divergence == "reverse_kl":
        ratio = log_q.sub_(log_p)
        losses = _dot(q, ratio)
        return losses, q.mul_(ratio.sub_(losses))
    log_mix = torch.logaddexp(log_p + math.log(beta), log_q + math.log1p(-beta))
    from_teacher = _dot(log_p.exp(), log_p - log_mix)
    ratio = log_q.sub_(log_mix)
    from_student = _dot(q, ratio)
    losses = beta * from_teacher + (1 - beta) * from_student
    return losses, q.mul_(ratio.sub_(from_student)).mul_(1 - beta)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return torch.linalg.vecdot(a, b)[:, None]  # [k, 1]


def _members(target: OneTarget) -> tuple[tuple[float, DenseTeacher], ...]:
    """The weighted teachers of which a target is made whose logits are still to be computed."""
    if isinstance(target, Mixture):
        return target.members
    return ((1.0, target),) if isinstance(target, DenseTeacher) else ()


def _add_product(weight_gradient: Tensor, gradient: Tensor, hidden: Tensor) -> None:
    """weight_gradient [V, D] += gradient [n, V] transposed · hidden [n, D]."""
    if hidden.dtype == weight_gradient.dtype:
        weight_gradient.addmm_(gradient.mT, hidden)
    else:
        weight_gradient.add_(gradient.to(hidden.dtype).mT @ hidden)


def _flattened(target: OneTarget) -> OneTarget:
    """[B, T, ...] as [N, ...]."""
    if isinstance(target, SparseDistributions):
        return target
    if isinstance(target, DenseTeacher | Mixture):
        return target.flatten()
    return target.flatten(0, 1) if target.is_floating_point() else target.flatten()


def _slices(start: int, stop: int, size: int) -> Iterator[slice]:
    for first in range(start, stop, size):
        yield slice(first, min(first + size, stop))
