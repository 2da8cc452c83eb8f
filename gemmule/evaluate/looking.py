"""What a model, and its teacher beside it, expect at every token: looked at a chunk of tokens at a time.

No logits of all tokens exist, as in training's fused head (`losses/fused_head.py`): the product with the head makes a
chunk of them, in memory that is used again, and the rest is done while a block of rows is in the processor's cache.

N tokens, n of a chunk, k of a block, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gemmule.base.chunks import block_rows, chunk_rows
from gemmule.base.errors import RequestError
from gemmule.losses.head import token_losses
from gemmule.losses.logits import log_mixture, raw_logits
from gemmule.losses.targets import DenseTeacher, Mixture, SparseDistributions
from gemmule.teach.teachers.teacher import Expected

PIECE = 256  # logits among which the largest is looked for one by one
LEAST = -1e30  # a logit of -inf, of a token that a teacher rules out: 0 * -inf is no number


@dataclass(frozen=True)
class Looks:
    """What was seen at each of N tokens, [N] each; the last three are None without a teacher."""

    loss: Tensor  # of the next token, nats
    confidence: Tensor  # the probability of the likeliest token
    hit: Tensor  # bool: whether that is the next token
    divergence: Tensor | None = None  # KL(teacher || model), nats
    entropy: Tensor | None = None  # of the teacher's distribution, nats
    same: Tensor | None = None  # bool: whether both put the same token first


class Looking:
    """Looks at what models expect. Its memory serves one batch after the other."""

    def __init__(self, vocabulary_size: int, device: torch.device) -> None:
        self._rows = chunk_rows(vocabulary_size, device.type)  # of a chunk
        self._block = block_rows(vocabulary_size, device.type)
        self._shape, self._device = (self._rows, vocabulary_size), device
        self._buffers: list[Tensor] = []

    def look(self, expected: Expected, targets: Tensor, teacher: Expected | None = None) -> Looks:
        """What the model and its teacher expect at N tokens, of which `targets` [N] are the next ones.

        Raises RequestError if the model gives no whole distributions.
        """
        if isinstance(expected, SparseDistributions):
            raise RequestError("a model that provides only its top k can't be evaluated")
        model = _Logits(expected)
        dense = _Logits(teacher) if isinstance(teacher, DenseTeacher | Mixture) else None
        sides = [model] if dense is None else [model, dense]
        looks = []
        for start in range(0, len(targets), self._rows):
            stop = min(start + self._rows, len(targets))
            buffers = iter(self._enough_buffers(sum(len(side.members) for side in sides)))
            for side in sides:
                side.multiply(slice(start, stop), [next(buffers) for _ in side.members])
            for first in range(start, stop, self._block):
                rows = slice(first, min(first + self._block, stop))
                block = slice(rows.start - start, rows.stop - start)
                beside = None if dense is None else dense.block(block)
                top = teacher[rows] if isinstance(teacher, SparseDistributions) else None
                looks.append(_look(model.block(block), targets[rows], beside if top is None else top))
        return Looks(*(torch.cat(column) for column in zip(*looks, strict=True)))

    def _enough_buffers(self, count: int) -> list[Tensor]:
        while len(self._buffers) < count:
            self._buffers.append(torch.empty(self._shape, device=self._device))
        return self._buffers


class _Logits:
    """The logits of a model or a mixture: multiplied a chunk of rows at a time, and finished a block at a time."""

    def __init__(self, expected: DenseTeacher | Mixture) -> None:
        self.members = expected.members if isinstance(expected, Mixture) else ((1.0, expected),)
        self._products: list[Tensor] = []

    def multiply(self, rows: slice, buffers: list[Tensor]) -> None:
        self._products = [
            raw_logits(member.hidden[rows], member.weight, member.cap, member.bias, buffer)
            for (_, member), buffer in zip(self.members, buffers, strict=True)
        ]

    def block(self, rows: slice) -> Tensor:
        """Of some rows of the chunk, [k, V]. To be asked for once."""
        logits = [
            (share, raw[rows] if member.cap is None else raw[rows].tanh_().mul_(member.cap))
            for (share, member), raw in zip(self.members, self._products, strict=True)
        ]
        return logits[0][1] if len(logits) == 1 else log_mixture(logits)


Columns = tuple[Tensor, ...]  # in the order of `Looks`


def _look(logits: Tensor, targets: Tensor, teacher: Tensor | SparseDistributions | None) -> Columns:
    """By logits [k, V] of the model and of its teacher, which are changed; or by the teacher's top k."""
    first, _, sums = _lowered(logits)
    log_sums = sums.log()
    loss, confidence, hit = log_sums - _at(logits, targets), sums.reciprocal(), first == targets
    if teacher is None:
        return loss, confidence, hit
    if isinstance(teacher, SparseDistributions):
        divergence = token_losses(logits, teacher)
        return loss, confidence, hit, divergence, teacher.known_entropy(), first == likeliest(teacher)
    their_first, p, their_sums = _lowered(teacher)
    their_log_sums = their_sums.log()
    entropy = their_log_sums - torch.linalg.vecdot(p, teacher) / their_sums
    divergence = torch.linalg.vecdot(p, teacher.sub_(logits)) / their_sums + log_sums - their_log_sums
    return loss, confidence, hit, divergence, entropy, first == their_first


def _lowered(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Takes the largest of each row off its logits; gives its place, what is proportional to p [k, V], and its sum.

    So the logarithm of the sum is a small number, and exact to the last digit whatever the logits are.
    """
    first = argmax(logits)
    logits.sub_(_at(logits, first)[:, None]).clamp_(min=LEAST)
    p = logits.exp()
    return first, p, p.sum(-1)


def _at(logits: Tensor, ids: Tensor) -> Tensor:
    return logits.gather(1, ids[:, None]).squeeze(1)


def argmax(logits: Tensor) -> Tensor:
    """The place of each row's largest number, the first of equal ones: [k].

    A CPU finds the largest ten times as fast as its place: so a piece of the row is found first, then the place in it.
    """
    V = logits.shape[1]
    if logits.device.type != "cpu" or V <= PIECE:
        return logits.argmax(-1)
    whole = V // PIECE * PIECE
    pieces = logits[:, :whole].unflatten(-1, (-1, PIECE)).amax(-1)
    pieces = torch.cat([pieces, logits[:, V - PIECE :].amax(-1, keepdim=True)], -1)  # the last one may overlap
    start = (pieces.argmax(-1, keepdim=True) * PIECE).clamp_(max=V - PIECE)  # [k, 1]
    piece = logits.gather(1, start + torch.arange(PIECE))
    return start[:, 0] + piece.argmax(-1)


def likeliest(top: SparseDistributions) -> Tensor:
    """The id of each distribution's likeliest token, [N]; -1 where none is known."""
    nothing = top.probabilities.new_zeros(len(top))
    largest = nothing.scatter_reduce(0, top.rows, top.probabilities, "amax")
    is_largest = top.probabilities == largest[top.rows]
    found = top.offsets.new_full((len(top),), -1)
    found[top.rows[is_largest]] = top.ids[is_largest]
    return found
