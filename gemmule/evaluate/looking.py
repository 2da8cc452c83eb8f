"""What models, and teachers beside them, expect at every token: looked at a chunk of tokens at a time.

No logits of all tokens exist, as in training's fused head (`losses/fused_head.py`): the product with the head makes a
chunk of them, in memory that is used again, and the rest is done while a block of rows is in the processor's cache.
Whoever stands beside several others, as a teacher does, is multiplied once.

N tokens, n of a chunk, k of a block, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from gemmule.base.chunks import block_rows, chunk_rows
from gemmule.base.errors import RequestError
from gemmule.evaluate.amounts import FEWEST_ROWS
from gemmule.losses.head import token_losses
from gemmule.losses.logits import log_mixture, raw_logits
from gemmule.losses.targets import DenseTeacher, Mixture, SparseDistributions
from gemmule.teach.teachers.teacher import Expected

PIECE = 256  # logits among which the largest is looked for one by one
LEAST = -1e30  # a logit of -inf, of a token that a teacher rules out: 0 * -inf is no number


@dataclass(frozen=True)
class Looks:
    """What was seen at each of N tokens, [N] each; what is of a teacher is None without one."""

    loss: Tensor  # of the next token, nats
    confidence: Tensor  # the probability of the likeliest token
    hit: Tensor  # bool: whether that is the next token
    entropy: Tensor  # of the model's distribution, nats
    divergence: Tensor | None = None  # KL(teacher || model), nats
    teacher_entropy: Tensor | None = None  # nats
    same: Tensor | None = None  # bool: whether both put the same token first
    acceptance: Tensor | None = None  # the sum of min(p, q); None too of a teacher that names its top k only


class Looking:
    """Looks at what models expect. Its memory serves one batch after the other."""

    def __init__(self, vocabulary_size: int, device: torch.device) -> None:
        self._rows = chunk_rows(vocabulary_size, device.type)  # of a chunk
        self._block = block_rows(vocabulary_size, device.type)
        self._vocabulary_size, self._device = vocabulary_size, device
        self._memory = torch.empty(0, 0, vocabulary_size, device=device)
        self._scratch = torch.empty(0, vocabulary_size, device=device)  # a block, where there are teachers

    def look(self, expected: Expected, targets: Tensor, teacher: Expected | None = None) -> Looks:
        """What a model and its teacher expect at N tokens, of which `targets` [N] are the next ones."""
        return self.look_at_all([(expected, teacher)], targets)[0]

    def look_at_all(self, sides: Sequence[tuple[Expected, Expected | None]], targets: Tensor) -> list[Looks]:
        """The same of several models, each with its teacher or None. One that stands on several sides is one object.

        Raises RequestError if a model gives no whole distributions.
        """
        if any(isinstance(expected, SparseDistributions) for expected, _ in sides):
            raise RequestError("a model that provides only its top k can't be evaluated")
        members = {id(member): member for side in sides for each in side for member in _members(each)}
        size = max(min(FEWEST_ROWS, self._rows), self._rows // len(members))
        if not len(self._scratch) and any(teacher is not None for _, teacher in sides):
            self._scratch = torch.empty(self._block, self._vocabulary_size, device=self._device)
        buffers = self._enough_memory(len(members), min(size, len(targets)))
        columns: list[list[Looks]] = [[] for _ in sides]
        for start in range(0, len(targets), size):
            rows = slice(start, min(start + size, len(targets)))
            raw = {
                key: raw_logits(member.hidden[rows], member.weight, member.cap, member.bias, buffer)
                for (key, member), buffer in zip(members.items(), buffers, strict=False)
            }
            for first in range(rows.start, rows.stop, self._block):
                block = slice(first, min(first + self._block, rows.stop))
                inside = slice(block.start - start, block.stop - start)
                seen = _Block({key: logits[inside] for key, logits in raw.items()}, members, block)
                scratch = self._scratch[: block.stop - block.start]
                for found, (expected, teacher) in zip(columns, sides, strict=True):
                    found.append(seen.compare(expected, teacher, targets[block], scratch))
        return [_joined(found) for found in columns]

    def _enough_memory(self, members: int, rows: int) -> Tensor:
        """[members, rows, V], or more of either."""
        there = self._memory.shape
        if there[0] < members or there[1] < rows:
            self._memory = torch.empty(0, 0, self._vocabulary_size, device=self._device)  # gives the old one back first
            self._memory = torch.empty(max(members, there[0]), max(rows, there[1]), there[2], device=self._device)
        return self._memory


def _joined(blocks: list[Looks]) -> Looks:
    parts: dict[str, list[Any]] = {
        column.name: [getattr(block, column.name) for block in blocks] for column in fields(Looks)
    }
    joined: dict[str, Any] = {name: None if column[0] is None else torch.cat(column) for name, column in parts.items()}
    return Looks(**joined)


def _members(expected: Expected | None) -> list[DenseTeacher]:
    if isinstance(expected, Mixture):
        return [member for _, member in expected.members]
    return [expected] if isinstance(expected, DenseTeacher) else []


class _Distribution:
    """One side at the rows of a block, by its logits [k, V], from which the largest of each row is taken off.

    So the logarithm of the sum is a small number, and exact to the last digit whatever the logits are.
    """

    def __init__(self, logits: Tensor) -> None:
        self.first = argmax(logits)
        self.logits = logits.sub_(_at(logits, self.first)[:, None]).clamp_(min=LEAST)
        self._p = self.logits.exp()
        self.sums = self._p.sum(-1)
        self.log_sums = self.sums.log()
        self.entropy = self.log_sums - torch.linalg.vecdot(self._p, self.logits) / self.sums

    @cached_property
    def p(self) -> Tensor:
        """[k, V]"""
        return self._p.div_(self.sums[:, None])


class _Block:
    """Some rows of a chunk. What of them is seen on several sides is computed once."""

    def __init__(self, raw: dict[int, Tensor], members: dict[int, DenseTeacher], rows: slice) -> None:
        self._raw, self._members, self._rows = raw, members, rows
        self._finished: dict[int, Tensor] = {}
        self._distributions: dict[int, _Distribution] = {}

    def compare(self, expected: Expected, teacher: Expected | None, targets: Tensor, scratch: Tensor) -> Looks:
        model = self._distribution(expected)
        loss = model.log_sums - _at(model.logits, targets)
        own = Looks(loss, model.sums.reciprocal(), model.first == targets, model.entropy)
        if teacher is None:
            return own
        if isinstance(teacher, SparseDistributions):
            top = teacher[self._rows]
            divergence = token_losses(model.logits, top)
            same = model.first == likeliest(top)
            return replace(own, divergence=divergence, teacher_entropy=top.known_entropy(), same=same)
        theirs = self._distribution(teacher)
        differences = torch.sub(theirs.logits, model.logits, out=scratch)
        divergence = torch.linalg.vecdot(theirs.p, differences) + model.log_sums - theirs.log_sums
        acceptance = torch.minimum(theirs.p, model.p, out=scratch).sum(-1)
        return replace(
            own,
            divergence=divergence,
            teacher_entropy=theirs.entropy,
            same=model.first == theirs.first,
            acceptance=acceptance,
        )

    def _distribution(self, expected: Expected) -> _Distribution:
        if id(expected) not in self._distributions:
            assert not isinstance(expected, SparseDistributions)
            logits = (
                log_mixture([(share, self._logits(member)) for share, member in expected.members])
                if isinstance(expected, Mixture)
                else self._logits(expected)
            )
            self._distributions[id(expected)] = _Distribution(logits)
        return self._distributions[id(expected)]

    def _logits(self, member: DenseTeacher) -> Tensor:
        """Of a member, [k, V]: as far from its own as one number a row, where its distribution was asked for before."""
        if id(member) not in self._finished:
            raw = self._raw[id(member)]
            self._finished[id(member)] = raw if member.cap is None else raw.tanh_().mul_(member.cap)
        return self._finished[id(member)]


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
