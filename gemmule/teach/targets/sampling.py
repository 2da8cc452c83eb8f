"""What is kept of a teacher's distributions: threshold sampling, and what others do, to compare.

**Threshold sampling** (Duffield, Lund, Thorup 2007, "Priority sampling for estimation of arbitrary subset sums",
section on threshold sampling): every token with p >= tau is kept exactly, each other with probability p / tau, and then
with the weight tau, so that its expectation is p. The others are drawn systematically, by one uniform offset a
position, so that the mass kept stays within tau of 1 (Madow 1949, systematic sampling with probability proportional to
size). Rounding for storage then moves it further, unbiased (`packing.py`).

**RS-KD** (Anshumann et al., ACL 2025, "Sparse Logit Sampling", arXiv 2503.16870): `draws` tokens with replacement; a
token weighs the share of the draws that fell on it. Unbiased. **Top-k**: the k likeliest tokens. Biased.

Every random number is a hash of the seed and the position in the stream: the same draw whoever makes it, in whatever
order. N positions, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gemmule.base.chunks import block_rows
from gemmule.base.splitmix import GOLDEN, mix

Kind = Literal["threshold", "top-k", "rs-kd"]
SMALLEST_TOP_K = 2.0**-20  # a probability of the top k below this counts as this
FAR_BELOW = -1e4  # a logit whose exponential is 0


@dataclass(frozen=True)
class Draw:
    """The kept tokens of N positions. Rows lie one after the other; within a row, ids ascend.

    "Exact" tokens come with a value of their own; the drawn ones all have the scheme's weight.
    """

    counts: Tensor  # [N, 2] int64: how many tokens of each row are exact, and how many are drawn
    exact_ids: Tensor  # [E] int64
    exact_probabilities: Tensor  # [E] float32
    drawn_ids: Tensor  # [S] int64
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

    def spread(self, rows: int, places: Tensor) -> Draw:
        """As `rows` rows, of which those at `places` [N], ascending, are these; the others are empty."""
        counts, entropy = self.counts.new_zeros(rows, 2), self.entropy.new_zeros(rows)
        counts[places], entropy[places] = self.counts, self.entropy
        return replace(self, counts=counts, entropy=entropy)


def join(draws: Sequence[Draw]) -> Draw:
    """The rows of all, one after the other."""
    return Draw(*(torch.cat([getattr(draw, field.name) for draw in draws]) for field in fields(Draw)))


@dataclass(frozen=True)
class Scheme:
    """What is kept, and how much: `setting` is tau in (0, 1], k, or the number of draws."""

    kind: Kind
    setting: float

    @classmethod
    def of_size(cls, kind: Kind, size: float) -> Scheme:
        """The scheme that keeps about `size` tokens of an uncertain position."""
        return cls(kind, 1 / size if kind == "threshold" else int(size))

    @property
    def size(self) -> float:
        return 1 / self.setting if self.kind == "threshold" else self.setting

    @property
    def weight(self) -> float:
        """Of a token that is stored without a value."""
        return {"threshold": self.setting, "rs-kd": 1 / self.setting, "top-k": SMALLEST_TOP_K}[self.kind]

    @property
    def most(self) -> int:
        """Tokens that a row can have: with a threshold each weighs tau at least, and all together at most 1 + tau."""
        return int(self.size) + 1

    def draw(self, logits: Tensor, seed: int, positions: NDArray[np.int64], known: bool = False) -> Draw:
        """What is kept of N distributions, given as logits [N, V] float32, at these positions [N] of the stream.

        `known`: of a top-k, whether these are the log probabilities of the tokens that a teacher names.
        """
        if self.kind == "threshold":
            return draw(logits, self.setting, torch.from_numpy(offsets(seed, positions)))
        if self.kind == "top-k":
            return top_k(logits, int(self.setting), known)
        draws = int(self.setting)
        counters = positions[:, None] * draws + np.arange(draws)
        return multinomial(logits, torch.from_numpy(uniform(seed, counters, stream=0)))


def draw(logits: Tensor, tau: float, offsets: Tensor) -> Draw:
    """Threshold sampling of N distributions.

    A row's tokens are taken in blocks, and only those blocks are looked into that hold an exact or a drawn token: a few
    passes over a row in cache, where a teacher's head does hundreds of multiplications for each logit.

    Args:
        logits: [N, V] float32.
        tau: in (0, 1].
        offsets: [N] float64 in [0, 1): one uniform number for each row.
    """
    view = _Blocks(logits)
    at_least = tau * (1 - 1e-6)  # so that a drawn token's stretch, below, has no room for two points, rounded or not
    rows, blocks = (view.largest >= at_least * (1 - 1e-6)).nonzero(as_tuple=True)
    ids, p = view.tokens(rows, blocks)
    block, place = (p >= at_least).nonzero(as_tuple=True)
    exact_rows, exact_ids, exact_probabilities = rows[block], ids[block, place], p[block, place]
    mass = view.mass  # [N, blocks]: from here on of the tail alone
    mass[rows, blocks] = (p * (p < at_least)).sum(-1, dtype=torch.float64)

    # Points lie at offset + 0, 1, 2, ... on the tail's cumulative mass in units of tau. A token's stretch p / tau is
    # shorter than 1, so at most one point falls on it, with just that probability. First: on which block.
    ends = mass.div_(tau).cumsum(-1)
    starts = torch.nn.functional.pad(ends[:, :-1], (1, 0))
    first = (starts - offsets[:, None]).ceil_().clamp_(min=0)  # the first point at or after the start
    points = ((ends - offsets[:, None]).ceil_() - first).long().clamp_(min=0)
    rows, blocks = points.nonzero(as_tuple=True)
    several = points[rows, blocks]
    nth = torch.arange(int(several.sum())) - (several.cumsum(0) - several).repeat_interleave(several)
    rows, blocks = rows.repeat_interleave(several), blocks.repeat_interleave(several)
    # Then: on which of its tokens. Their sum, in another order, may differ from the block's in the last bit.
    along = (first[rows, blocks] + nth + offsets[rows] - starts[rows, blocks]) / mass[rows, blocks]
    ids, p = view.tokens(rows, blocks)
    inner = (p * (p < at_least)).cumsum(-1, dtype=torch.float64)
    last = inner[:, -1:]
    place = torch.searchsorted(inner, torch.minimum(along[:, None] * last, last * (1 - 1e-15)), right=True)
    drawn_ids = ids.gather(1, place).squeeze(1)
    counts = torch.stack([torch.bincount(of, minlength=len(logits)) for of in (exact_rows, rows)], dim=1)
    return Draw(counts, exact_ids, exact_probabilities, drawn_ids, view.entropy)


class _Blocks:
    """N distributions by blocks of tokens, from their logits [N, V].

    entropy: [N], nats; largest: [N, blocks] float32, each block's largest probability; mass: [N, blocks] float64.
    """

    def __init__(self, logits: Tensor) -> None:
        self.vocabulary_size = logits.shape[1]
        self.width = max(16, math.isqrt(self.vocabulary_size) // 2)
        parts = zip(*_by_blocks(logits, self.width), strict=True)
        self.top, self.total, self.entropy, largest, mass = (torch.cat(part) for part in parts)
        self.largest = (largest - self.top[:, None]).exp_() / self.total[:, None]
        self.mass = mass.double() / self.total[:, None]
        flat = logits.reshape(-1)
        if len(flat) < self.width:
            flat = torch.nn.functional.pad(flat, (0, self.width - len(flat)), value=FAR_BELOW)
        self._stretches = flat.unfold(0, self.width, 1)

    def tokens(self, rows: Tensor, blocks: Tensor) -> tuple[Tensor, Tensor]:
        """Of K blocks: the ids and the probabilities of their tokens, [K, width]; 0 for what is in another block."""
        first = blocks * self.width
        begin = (rows * self.vocabulary_size + first).clamp(max=len(self._stretches) - 1)
        ids = (begin - rows * self.vocabulary_size)[:, None] + torch.arange(self.width)
        p = (self._stretches[begin] - self.top[rows, None]).exp_() / self.total[rows, None]
        return ids, p * ((ids >= first[:, None]) & (ids < self.vocabulary_size))


def top_k(logits: Tensor, k: int, known: bool = False) -> Draw:
    """The k likeliest tokens of N distributions [N, V]; fewer where fewer can come.

    `known`: the logits are the log probabilities of the tokens that a teacher names, and FAR_BELOW elsewhere: they stay
    what they are, no other token is taken, and the entropy counts the rest of the mass as one token.
    """
    ids = logits.topk(min(k, logits.shape[1])).indices.sort(-1).values
    if known:
        p = logits.exp()
        entropy = torch.special.entr(p).sum(-1) + torch.special.entr((1 - p.sum(-1)).clamp(min=0))
        p = p.gather(1, ids)
    else:
        top, total, entropy = _whole(logits)
        p = (logits.gather(1, ids) - top[:, None]).exp_() / total[:, None]
    exact, small = p > SMALLEST_TOP_K, (p > 0) & (p <= SMALLEST_TOP_K)
    return Draw(torch.stack([exact.sum(-1), small.sum(-1)], dim=1), ids[exact], p[exact], ids[small], entropy)


def multinomial(logits: Tensor, uniforms: Tensor) -> Draw:
    """Draws with replacement from N distributions [N, V], by uniform numbers [N, draws] float64 in [0, 1).

    "Exact" are the tokens drawn more than once, with the share of the draws that fell on them.
    """
    rows, draws = uniforms.shape
    cumulative = logits.double().softmax(-1).cumsum(-1)
    ids = torch.searchsorted(cumulative, uniforms * cumulative[:, -1:], right=True).clamp_(max=logits.shape[1] - 1)
    keys, times = (ids + torch.arange(rows)[:, None] * logits.shape[1]).unique(return_counts=True)
    row, ids, more = keys // logits.shape[1], keys % logits.shape[1], times > 1
    counts = torch.stack([torch.bincount(row[of], minlength=rows) for of in (more, ~more)], dim=1)
    return Draw(counts, ids[more], times[more] / draws, ids[~more], _whole(logits)[2])


def _whole(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Each row's largest logit, sum of exp(logit - largest), and entropy: [N] each."""
    parts = list(zip(*_by_blocks(logits, logits.shape[1]), strict=True))
    return torch.cat(parts[0]), torch.cat(parts[1]), torch.cat(parts[2])


def _by_blocks(logits: Tensor, width: int) -> Iterator[tuple[Tensor, ...]]:
    """Some rows at a time: as `_whole`, and each block's largest logit and share of the sum [rows, blocks]."""
    vocabulary_size = logits.shape[1]
    blocks = -(-vocabulary_size // width)
    rows = block_rows(vocabulary_size, logits.device.type)  # that stay in a core's cache
    shifted = torch.full((min(rows, len(logits)), blocks * width), FAR_BELOW)  # and so it stays beyond the vocabulary
    for some in logits.split(rows):
        top = some.amax(-1)
        below = shifted[: len(some)]
        torch.sub(some, top[:, None], out=below[:, :vocabulary_size])
        weights = below.exp()
        mass = weights.view(len(some), blocks, width).sum(-1)
        total = mass.sum(-1)
        mean = (weights[:, None] @ below[:, :, None]).view(-1) / total  # of log p + log total: no logarithms needed
        if mean.isnan().any():  # where a logit is -inf, and its share 0
            below.clamp_(min=FAR_BELOW)
            mean = (weights[:, None] @ below[:, :, None]).view(-1) / total
        largest = below.view(len(some), blocks, width).amax(-1) + top[:, None]
        yield top, total, total.log() - mean, largest, mass


def offsets(seed: int, positions: NDArray[np.int64]) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1) for stream positions [N]: float64 [N]."""
    return uniform(seed, positions, stream=0)


def uniform(seed: int, counters: NDArray[np.int64], stream: int) -> NDArray[np.float64]:
    """A hash of (seed, stream, counter) as a number in [0, 1): SplitMix64 (Steele, Lea, Flood 2014)."""
    key = np.uint64((seed * int(GOLDEN) + stream * 0xD1B54A32D192ED03) % 2**64)
    state = mix(counters.astype(np.uint64) * GOLDEN + mix(np.array([key], np.uint64)))
    return np.asarray((state >> np.uint64(11)) * 2.0**-53)
