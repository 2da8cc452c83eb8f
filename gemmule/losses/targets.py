"""What can be learned at a token: the next token itself, a teacher's distribution, a sparse sample of it, or a mix.

- A teacher's whole distribution (Hinton et al. 2015, arXiv 1503.02531) comes as probabilities, or as the hidden states
  and the head that make its logits (`DenseTeacher`; of several teachers a `Mixture`).
- A sample of it, or its top k, comes as `SparseDistributions`.

N flattened tokens (B · T, row-major), V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from gemmule.losses.logits import capped_logits, log_mixture, raw_logits


@dataclass(frozen=True, eq=False)
class SparseDistributions:
    """N distributions of which only some entries are stored: those of row i lie at offsets[i] to offsets[i + 1].

    Their mass need not be exactly 1: an unbiased sample of a distribution has that mass only in the mean. `entropy`
    is that of the whole distribution, in nats; None where nobody knows it, and then a loss is a plain cross-entropy.

    With `rest` the entries are exact and the mass that they lack lies elsewhere, nobody knows where (a teacher that
    gives only its top k): a loss is then the KL over {entries, everything else as one}, which needs no entropy.
    """

    offsets: Tensor  # [N + 1] int64, from 0
    ids: Tensor  # [entries] int64
    probabilities: Tensor  # [entries] float32
    entropy: Tensor | None = None  # [N] float32
    rest: bool = False  # whether the mass not stored is one bucket

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def rows(self) -> Tensor:
        """The row of each entry, [entries] int64."""
        numbers = torch.arange(len(self), device=self.offsets.device)
        return numbers.repeat_interleave(self.offsets.diff(), output_size=len(self.ids))

    @property
    def mass(self) -> Tensor:
        """[N]: the sum of each one's entries."""
        return self.probabilities.new_zeros(len(self)).index_add(0, self.rows, self.probabilities)

    def known_entropy(self) -> Tensor:
        """[N], nats: of the entries, and of the rest as one token more where it is one bucket."""
        terms = torch.special.entr(self.probabilities)
        entries = terms.new_zeros(len(self)).index_add(0, self.rows, terms)
        return entries + torch.special.entr((1 - self.mass).clamp(min=0)) if self.rest else entries

    def __getitem__(self, rows: slice) -> SparseDistributions:
        """The distributions of a range of rows, without copying entries."""
        start, stop, step = rows.indices(len(self))
        if step != 1:
            raise ValueError("sparse distributions are sliced in steps of 1")
        offsets = self.offsets[start : max(start, stop) + 1]
        entries = slice(int(offsets[0]), int(offsets[-1]))
        entropy = None if self.entropy is None else self.entropy[rows]
        probabilities = self.probabilities[entries]
        return SparseDistributions(offsets - offsets[0], self.ids[entries], probabilities, entropy, self.rest)

    @classmethod
    def concatenate(cls, parts: Sequence[SparseDistributions]) -> SparseDistributions:
        """One after the other. The entropy is kept where every part has one."""
        counts = torch.cat([part.offsets.diff() for part in parts])
        entropies = [part.entropy for part in parts if part.entropy is not None]
        return cls(
            offsets=F.pad(counts.cumsum(0), (1, 0)),
            ids=torch.cat([part.ids for part in parts]),
            probabilities=torch.cat([part.probabilities for part in parts]),
            entropy=torch.cat(entropies) if len(entropies) == len(parts) else None,
            rest=any(part.rest for part in parts),
        )

    def to(self, device: torch.device | str) -> Self:
        entropy = None if self.entropy is None else self.entropy.to(device)
        return type(self)(
            self.offsets.to(device), self.ids.to(device), self.probabilities.to(device), entropy, self.rest
        )


@dataclass(frozen=True, eq=False)
class DenseTeacher:
    """A teacher's whole distributions, as what makes its logits: for these need not exist all at once.

    Without a `weight` the hidden states are the logits themselves, of a model whose head is no such product.
    """

    hidden: Tensor  # [B, T, D'] or [N, D']: what its backbone gives
    weight: Tensor | None  # [V, D']: its head
    cap: float | None = None
    bias: Tensor | None = None  # [V]: its head's

    def __len__(self) -> int:
        return len(self.hidden)

    def __getitem__(self, rows: Tensor | slice) -> DenseTeacher:
        """Those of N rows."""
        return replace(self, hidden=self.hidden[rows])

    def flatten(self) -> DenseTeacher:
        """[B, T, D'] as [N, D']."""
        return replace(self, hidden=self.hidden.flatten(0, -2))

    def logits(self, buffer: Tensor | None = None) -> Tensor:
        """[..., V] float32; of N rows in the first of `buffer`, if that is given: new memory takes time."""
        if buffer is not None:
            raw = raw_logits(self.hidden, self.weight, self.cap, self.bias, buffer)
            return raw if self.cap is None else raw.tanh_().mul_(self.cap)
        if self.weight is None:
            return self.hidden.float()
        return capped_logits(self.hidden, self.weight, self.cap, self.bias)


@dataclass(frozen=True, eq=False)
class Mixture:
    """An ensemble: the mixture of its members' probabilities, sum of weight · p, weights of sum 1.

    It is softened as one teacher is: its logits are the logarithm of the mixture, and the temperature divides these.
    """

    members: tuple[tuple[float, DenseTeacher], ...]

    def __len__(self) -> int:
        return len(self.members[0][1])

    def __getitem__(self, rows: Tensor | slice) -> Mixture:
        """Those of N rows."""
        return Mixture(tuple((weight, member[rows]) for weight, member in self.members))

    def flatten(self) -> Mixture:
        """[B, T, D'] as [N, D'], in each member."""
        return Mixture(tuple((weight, member.flatten()) for weight, member in self.members))

    def logits(self) -> Tensor:
        """[..., V] float32."""
        return log_mixture([(weight, member.logits()) for weight, member in self.members])


# int64 [B, T]: next tokens. float [B, T, V]: a teacher's probabilities. A tuple: weighted parts of these.
OneTarget: TypeAlias = Tensor | SparseDistributions | DenseTeacher | Mixture
Targets: TypeAlias = OneTarget | tuple[tuple[float, OneTarget], ...]
