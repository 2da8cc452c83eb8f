"""A teacher that knows one thing: where the last tokens stood before, and what followed there."""

from __future__ import annotations

import torch

from gemmule.losses.targets import DenseTeacher
from gemmule.teach.teachers.teacher import Teacher

LONGEST = 8  # tokens in a row that are compared


class Copying(Teacher):
    """Expects what followed the last place where most of the last tokens stood before; of places that it sees.

    `sees` is how many tokens back it looks, the last one included; None: all. Where nothing is like it, and for all
    tokens but the one that it expects, it has a taste of its own that no text changes.
    """

    device = torch.device("cpu")

    def __init__(self, vocabulary_size: int, sees: int | None = None, window: int | None = None) -> None:
        self.vocabulary_size, self.sees, self.window = vocabulary_size, sees, window
        self.taste = torch.randn(vocabulary_size, generator=torch.Generator().manual_seed(0))

    def expect(self, ids, documents=None):
        return DenseTeacher(torch.cat([self._logits(row) for row in ids]), None)

    def _logits(self, row):
        T = len(row)
        equal = row[:, None] == row[None, :]
        run = matches = torch.tril(equal, -1)  # [T, T]: whether the tokens up to here equal those up to there
        length = run.long()
        for back in range(1, LONGEST):
            matches = matches.roll((1, 1), (0, 1))
            matches[:back], matches[:, :back] = False, False
            run = run & matches
            length += run
        place = torch.arange(T)
        if self.sees is not None:
            first = place[None, :] - length + 1  # of the tokens that are compared
            length[(place[:, None] - first) >= self.sees] = 0
        score = length * T + place[None, :]  # of places of equal length the last one
        score[length == 0] = -1
        best, where = score.max(1)
        logits = self.taste.repeat(T, 1)
        found = (best >= 0).nonzero()[:, 0]
        logits[found, row[where[found] + 1]] += 20
        return logits
