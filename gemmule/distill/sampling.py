"""Threshold sampling of a teacher's distributions: small and unbiased.

- At each position every token with p >= tau is kept exactly.
- Each of the others is kept with probability p / tau and given the weight tau, so that its expectation is p
  (Duffield, Lund, Thorup 2007, "Priority sampling for estimation of arbitrary subset sums", section on threshold
  sampling).
- The others are drawn systematically: one uniform offset a position, so that the stored mass stays within tau of 1
  (Madow 1949, systematic sampling with probability proportional to size).
- The offset is a hash of the seed and the position in the stream: the same draw whoever makes it, in whatever order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Draw:
    """The kept tokens of N positions. Rows lie one after the other; within a row, ids ascend."""

    counts: Tensor  # [N, 2] int64: how many tokens of each row are exact, and how many are drawn
    exact_ids: Tensor  # [E] int64
    exact_probabilities: Tensor  # [E] float32
    drawn_ids: Tensor  # [S] int64; each weighs tau
    entropy: Tensor  # [N] float32, nats: of the whole distribution

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, rows: slice) -> Draw:
        """Some of the rows, in a row."""
        start, stop, _ = rows.indices(len(self))
        skipped, taken = self.counts[:start].sum(0).tolist(), self.counts[start:stop].sum(0).tolist()
        exact, drawn = (slice(first, first + count) for first, count in zip(skipped, taken, strict=True))
        return Draw(
            self.counts[rows],
            self.exact_ids[exact],
            self.exact_probabilities[exact],
            self.drawn_ids[drawn],
            self.entropy[rows],
        )


def join(draws: Sequence[Draw]) -> Draw:
    """The rows of all, one after the other."""
    return Draw(*(torch.cat([getattr(draw, field.name) for draw in draws]) for field in fields(Draw)))


def draw(probabilities: Tensor, tau: float, offsets: Tensor) -> Draw:
    """Samples N distributions at threshold tau.

    Args:
        probabilities: [N, V] float32, each row a distribution.
        tau: in (0, 1].
        offsets: [N] float64 in [0, 1): one uniform number for each row.
    """
    exact = probabilities >= tau  # [N, V]
    tail = probabilities.masked_fill(exact, 0.0)
    # Points lie at offset + 0, 1, 2, ... on the tail's cumulative mass in units of tau. A token's stretch p / tau is
    # shorter than 1, so at most one point falls on it, with just that probability.
    points = torch.cumsum(tail, dim=-1, dtype=torch.float64).div_(tau).sub_(offsets[:, None]).ceil_()
    drawn = tail > 0  # with points strictly before the stretch's end and none more before its beginning
    drawn[:, 1:] &= points[:, 1:] > points[:, :-1]
    drawn[:, 0] &= points[:, 0] > torch.ceil(-offsets)
    counts = torch.stack([exact.sum(-1), drawn.sum(-1)], dim=1)
    return Draw(
        counts=counts,
        exact_ids=exact.nonzero()[:, 1],
        exact_probabilities=probabilities[exact],
        drawn_ids=drawn.nonzero()[:, 1],
        entropy=torch.special.entr(probabilities).sum(-1),
    )


def offsets(seed: int, positions: np.ndarray) -> np.ndarray:
    """Uniform numbers in [0, 1) for stream positions [N] (any integer type): float64 [N]."""
    return uniform(seed, positions, stream=0)


def uniform(seed: int, counters: np.ndarray, stream: int) -> np.ndarray:
    """A hash of (seed, stream, counter) as a number in [0, 1): SplitMix64 (Steele, Lea, Flood 2014)."""
    key = np.uint64((seed * 0x9E3779B97F4A7C15 + stream * 0xD1B54A32D192ED03) % 2**64)
    state = _mix(counters.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + _mix(np.array([key], np.uint64)))
    return (state >> np.uint64(11)) * 2.0**-53


def _mix(state: np.ndarray) -> np.ndarray:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
