"""How much of a teacher's distributions to keep for a byte budget, found on a random sample of the stream.

The sample is itself a threshold sample, at a threshold so low that what is drawn from it is, for every threshold above,
just what is drawn from the teacher itself: some thousand positions of a large vocabulary then fit into memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from gemmule.base.errors import RequestError
from gemmule.recipe.schema import MOST_KEPT
from gemmule.teach.targets import packing, sampling
from gemmule.teach.targets.amounts import SAMPLED_POSITIONS, SAMPLED_WINDOWS, SEARCHED_POSITIONS
from gemmule.teach.targets.expectations import expect
from gemmule.teach.targets.packing import Coding, Integers
from gemmule.teach.targets.sampling import FAR_BELOW, Draw, Kind, Scheme
from gemmule.teach.targets.store import BLOCK, INDEX, bytes_held_once
from gemmule.teach.teachers.teacher import Teacher
from gemmule.tokenize.windows import Windows

FINEST = Scheme("threshold", 1 / MOST_KEPT)
ROWS_AT_ONCE = 64


@dataclass(frozen=True)
class Sample:
    """A teacher's distributions at random positions of the stream, in two halves: the order of the tokens is learned
    from one and judged on the other, or it would look better than it is."""

    kept: tuple[Draw, Draw]
    mean: tuple[Tensor, Tensor]  # [V] float64: of the whole distributions

    @property
    def vocabulary_size(self) -> int:
        return len(self.mean[0])


def sample(teacher: Teacher, windows: Windows, *, temperature: float = 1.0, seed: int = 0) -> Sample:
    """The teacher's distributions at random positions of random windows."""
    generator = np.random.default_rng(seed)
    chosen = generator.permutation(len(windows))[:SAMPLED_WINDOWS]
    rows = max(2, -(-SAMPLED_POSITIONS // len(chosen)))  # of each window
    kept: tuple[list[Draw], list[Draw]] = ([], [])
    means = tuple(torch.zeros(teacher.vocabulary_size, dtype=torch.float64) for _ in kept)
    counts = [0, 0]
    for window in chosen:
        some = generator.permutation(windows.sequence_length)[:rows]
        for logits, positions, _ in expect(teacher, windows, [window], temperature, some):
            for half in (0, 1):
                part, places = logits[half::2], positions[half::2]
                if len(places):
                    kept[half].append(FINEST.draw(part, seed + 2, places))
                    means[half].add_(torch.softmax(part, dim=-1).sum(0))
                    counts[half] += len(places)
    if not kept[1]:  # a stream of one token
        kept, means, counts = (kept[0], kept[0]), (means[0], means[0]), [counts[0]] * 2
    first, second = (sampling.join(half) for half in kept)
    return Sample((first, second), (means[0] / counts[0], means[1] / counts[1]))


def solve(sample: Sample, kind: Kind, bytes_per_token: float, positions: int, seed: int = 0) -> Coding:
    """The coding that keeps as much as the budget allows.

    Args:
        bytes_per_token: the budget, for all that is on disk.
        positions: how many there will be, to share what the folder holds once.

    Raises RequestError naming the smallest budget that would do.
    """
    once = bytes_held_once(sample.vocabulary_size) / positions + INDEX.itemsize / BLOCK
    learned, judged = sample.kept
    few = judged[:SEARCHED_POSITIONS]
    numbers = np.arange(len(few))

    def needed(size: float) -> float:
        scheme = Scheme.of_size(kind, size)
        order = order_for(scheme, learned, sample.mean[0])
        coding = packing.fit(scheme, order, draw_again(scheme, learned[: 2 * len(few)], seed))
        again = draw_again(scheme, few, seed + 1)
        return once + len(coding.encode(again, numbers, seed)) / len(few)

    smallest = needed(1)
    if smallest > bytes_per_token:
        raise RequestError(
            f"distill.targets.bytes_per_token = {bytes_per_token:g}: too small; "
            f"at least {math.ceil(smallest)} is needed"
        )
    low, high = 0.0, math.log(MOST_KEPT)  # of the size's logarithm: what is needed grows with it
    for _ in range(9):
        middle = (low + high) / 2
        low, high = (middle, high) if needed(math.exp(middle)) <= bytes_per_token else (low, middle)
    return coding_of(Scheme.of_size(kind, math.exp(low)), sample, seed)


def coding_of(scheme: Scheme, sample: Sample, seed: int = 0) -> Coding:
    """The coding of a scheme: the tokens' order by the whole sample, the rest by half and half."""
    learned, judged = sample.kept
    fitted = packing.fit(
        scheme,
        order_for(scheme, learned, sample.mean[0]),
        draw_again(scheme, judged, seed),
    )
    order = order_for(scheme, sampling.join(sample.kept), (sample.mean[0] + sample.mean[1]) / 2)
    return replace(fitted, order=order)


def order_for(scheme: Scheme, kept: Draw, mean: Tensor) -> Integers:
    """The tokens by how often they are kept: E min(p, 1 / size), the mean less what p has above that at a position.

    That is exact for a threshold, and near for the others.
    """
    excess = (kept.exact_probabilities - 1 / scheme.size).clamp(min=0).double() / len(kept)
    return torch.argsort(mean.index_add(0, kept.exact_ids, -excess), descending=True, stable=True).numpy()


def draw_again(scheme: Scheme, kept: Draw, seed: int) -> Draw:
    """What a scheme keeps of rows that are themselves a threshold sample."""
    numbers, draws = np.arange(len(kept)), []
    for start in range(0, len(kept), ROWS_AT_ONCE):
        part = kept[start : start + ROWS_AT_ONCE]
        tokens, places = torch.cat([part.exact_ids, part.drawn_ids]).unique(return_inverse=True)  # few of all
        logits = torch.full((len(part), len(tokens)), FAR_BELOW)
        rows = [torch.arange(len(part)).repeat_interleave(counts) for counts in part.counts.T]
        p = torch.cat([part.exact_probabilities, torch.full((len(part.drawn_ids),), FINEST.weight)])
        logits[torch.cat(rows), places] = p.log()
        again = scheme.draw(logits, seed, numbers[start : start + ROWS_AT_ONCE])
        draws.append(replace(again, exact_ids=tokens[again.exact_ids], drawn_ids=tokens[again.drawn_ids]))
    return sampling.join(draws)
