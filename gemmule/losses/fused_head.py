"""The head and the loss in one, a chunk of tokens at a time: no [tokens, vocabulary] tensor ever exists.

- A chunk's logits are turned in place into the loss's gradient and used up at once in those of the hidden states and of
  the embedding, all in the forward pass: nothing is kept or made again for the backward one (the idea of Liger's
  chunked losses, arXiv 2410.10989; "Cut Your Losses", arXiv 2411.09009, makes the logits again).
- The soft-cap is part of it: logit = cap · tanh(raw / cap), so d logit / d raw = 1 - tanh².
- Between the matrix products a chunk goes through the processor's cache in blocks of rows.
- Targets and losses are those of `head.token_losses`, the plain formulas, against which this is tested; a loss's
  gradient is in its own file. A dense teacher comes as hidden states and head; its logits too exist only a chunk at a
  time.

N flattened tokens, n of a chunk, k of a block; V vocabulary, D width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from gemmule.base.chunks import block_rows, chunk_rows
from gemmule.base.torch_compat import graph_is_kept
from gemmule.losses.head import log_probabilities
from gemmule.losses.logits import log_mixture, raw_logits
from gemmule.losses.loss import BatchLoss, Student, TokenLoss, find
from gemmule.losses.next_token import gradient as next_token_gradient
from gemmule.losses.targets import DenseTeacher, Mixture, OneTarget, SparseDistributions, Targets


@dataclass(frozen=True)
class _Objective:
    """The targets at N positions, how much each position counts, and the loss."""

    parts: tuple[tuple[float, OneTarget], ...]  # weighted; each of N rows
    coefficients: Tensor  # [N]: the losses are multiplied by these and added up
    cap: float | None
    temperature: float
    loss: TokenLoss
    parameters: Mapping[str, float]  # of the loss


def fused_loss(
    hidden: Tensor,
    weight: Tensor,
    cap: float | None,
    targets: Targets,
    *,
    mask: Tensor | None = None,
    temperature: float = 1.0,
    denominator: float | Tensor | None = None,
    divergence: str = "forward_kl",
    **parameters: float,
) -> Tensor:
    """The sum of `head.token_losses` over the learned positions, divided by `denominator`; a scalar in nats.

    Args:
        hidden: [B, T, D], what the backbone gives.
        weight: [V, D], the embedding, which is the head.
        targets: int64 [B, T], float [B, T, V], sparse or dense of N rows, or weighted pairs of these.
        mask: [B, T], True where a position counts in the loss; None: everywhere.
        denominator: the number of learned positions by default. A trainer that splits a batch into parts gives each
            part the whole batch's number, so that losses and gradients add up to those of the whole.
        divergence: the name of a loss of this folder; `parameters` are those of losses, and others than its own are not
            looked at.

    Raises ValueError and TypeError as `head.token_losses` does. Its gradients have none of their own.
    """
    loss, parameters = find(divergence, parameters)
    if isinstance(loss, BatchLoss):
        return loss.fused(hidden, weight, cap, targets, mask=mask, denominator=denominator, **parameters)
    hidden = hidden.flatten(0, 1)  # [N, D]
    parts = targets if isinstance(targets, tuple) else ((1.0, targets),)
    parts = tuple((share, _flattened(part)) for share, part in parts)
    for _, part in parts:
        loss.check(part, len(hidden))
    learned = hidden.new_ones(len(hidden), dtype=torch.float32) if mask is None else mask.flatten().float()
    if denominator is None:
        denominator = learned.sum().clamp(min=1)  # a batch with nothing to learn costs 0, not NaN
    objective = _Objective(parts, learned / denominator, cap, temperature, loss, parameters)
    if torch.is_grad_enabled() and (hidden.requires_grad or weight.requires_grad):
        return _FusedLoss.apply(hidden, weight, objective)
    return _run(hidden, weight, objective, None, None)


class _FusedLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, objective: _Objective) -> Tensor:
        wide = torch.promote_types(hidden.dtype, torch.float32)  # narrow gradients would lose what chunks add
        gradients = [
            torch.zeros_like(tensor, dtype=wide) if needed else None
            for tensor, needed in zip((hidden, weight), ctx.needs_input_grad[:2], strict=True)
        ]
        total = _run(hidden, weight, objective, *gradients)
        ctx.gradients, ctx.dtypes = gradients, (hidden.dtype, weight.dtype)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        gradients = ctx.gradients
        if graph_is_kept():  # there will be another backward pass
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
    hidden: Tensor,
    weight: Tensor,
    objective: _Objective,
    hidden_gradient: Tensor | None,
    weight_gradient: Tensor | None,
) -> Tensor:
    """The loss. Fills the gradients that are given."""
    N, V = len(hidden), len(weight)
    wide = torch.promote_types(hidden.dtype, torch.float32)
    n = max(1, min(N, chunk_rows(V, hidden.device.type)))
    teachers = [member for _, target in objective.parts for _, member in _members(target)]
    buffers = [torch.empty(n, V, dtype=wide, device=hidden.device) for _ in range(1 + len(teachers))]
    total = torch.zeros((), dtype=wide, device=hidden.device)
    with torch.autocast(hidden.device.type, enabled=False):
        for chunk in _slices(0, N, n):
            logits = raw_logits(hidden[chunk], weight, objective.cap, None, buffers[0])
            expected = [
                raw_logits(teacher.hidden[chunk], teacher.weight, teacher.cap, teacher.bias, buffer)
                for teacher, buffer in zip(teachers, buffers[1:], strict=True)
            ]
            for block in _slices(0, len(logits), block_rows(V, hidden.device.type)):
                rows = slice(chunk.start + block.start, chunk.start + block.stop)
                total += _differentiate(logits[block], objective, rows, [raw[block] for raw in expected])
            if hidden_gradient is not None:
                hidden_gradient[chunk] = logits.to(weight.dtype) @ weight
            if weight_gradient is not None:
                _add_product(weight_gradient, logits, hidden[chunk])
    return total


def _differentiate(logits: Tensor, objective: _Objective, rows: slice, expected: list[Tensor]) -> Tensor:
    """Turns raw logits [k, V], already divided by the cap, into the gradient of the weighted sum of their losses.

    In place; gives that sum. `rows` are the block's among the N; `expected` are the teachers' raw logits.
    """
    squashed = logits if objective.cap is None else logits.tanh_()  # [k, V]
    coefficients = objective.coefficients[rows, None].to(logits.dtype)  # [k, 1]
    total, gradient = logits.new_zeros(()), None
    teachers = iter(expected)
    for weight, target in objective.parts:
        if isinstance(target, Tensor) and not target.is_floating_point():
            temperature = 1.0
            losses, part = next_token_gradient(target[rows], Student(squashed, objective.cap, temperature))
        else:
            temperature = objective.temperature
            student = Student(squashed, objective.cap, temperature)
            p = _in_a_block(target, rows, temperature, logits.dtype, teachers)
            losses, part = objective.loss.gradient(p, student, **objective.parameters)
        scale = coefficients * weight * temperature  # the loss has temperature², the logits 1 / temperature
        total += (losses * scale).sum() * temperature
        part.mul_(scale)
        gradient = part if gradient is None else gradient.add_(part)
    assert gradient is not None
    if objective.cap is None:
        logits.copy_(gradient)
    else:
        torch.addcmul(gradient, gradient, squashed.square_(), value=-1, out=logits)
    return total


def _in_a_block(
    target: OneTarget, rows: slice, temperature: float, dtype: torch.dtype, teachers: Iterator[Tensor]
) -> Tensor | SparseDistributions:
    """What a loss is asked about: a sample, or log-probabilities [k, V], of a dense target from its raw logits."""
    if isinstance(target, SparseDistributions):
        return target[rows]
    if isinstance(target, Tensor):
        return log_probabilities(target[rows].to(dtype))
    scores = [
        (share, raw if member.cap is None else raw.tanh_().mul_(member.cap))
        for (share, member), raw in zip(_members(target), teachers, strict=False)
    ]
    whole = log_mixture(scores) if isinstance(target, Mixture) else scores[0][1]
    return torch.log_softmax(whole / temperature, -1)


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
