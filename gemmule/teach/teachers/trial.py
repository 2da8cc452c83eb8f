"""A teacher from outside is tried before it teaches: on some windows of the text, against the tokens' frequencies.

A teacher that predicts the text worse than a unigram, which knows how often each token occurs and nothing else, has
another tokenizer than its file says, lacks its `<bos>`, or is damaged; a student would learn nonsense from it, without
an error. What such a teacher costs is hours, the trial a few seconds.

The difference is taken window by window, and has to be clear of their scatter: a weak teacher is not refused by chance.
Of a teacher that gives only its top k both are asked the same question: which of these tokens comes, or another one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gemmule.losses.alm import Chunks
from gemmule.losses.head import next_token_losses, token_losses
from gemmule.losses.targets import DenseTeacher, SparseDistributions
from gemmule.teach.teachers.teacher import LiveTeacher
from gemmule.tokenize.shards import TokenShards
from gemmule.tokenize.windows import Batch, Windows

WINDOWS, TOKENS = 20, 2**14  # as many windows, as long as they have no more tokens together
COUNTED, PIECE = 2**22, 2**14  # tokens of the text that are counted, and how many of them in a row
CLEAR = 3.0  # standard errors


@dataclass(frozen=True)
class Trial:
    """How a teacher and a unigram predict the same text, nats a token."""

    teacher: float
    unigram: float
    windows: int
    clear: float  # by how much they must differ

    @property
    def failed(self) -> bool:
        """Whether the teacher is clearly the worse; never of a single window, which shows no scatter."""
        return self.windows > 1 and not self.teacher - self.unigram <= self.clear


def try_out(teacher: LiveTeacher, windows: Windows) -> Trial:
    """Asks the teacher about up to 20 windows spread over the text, one at a time."""
    frequencies = _unigram(windows.shards)
    number = min(WINDOWS, max(2, TOKENS // windows.sequence_length))
    spread = np.unique(np.linspace(0, len(windows) - 1, number).astype(np.int64))
    sums = np.array([_losses(teacher, windows.window_batch([window]), frequencies) for window in spread])
    teacher_sums, unigram_sums, counts = sums[sums[:, 2] > 0].T  # those with a token that is trained on
    if not len(counts):
        return Trial(0.0, 0.0, 0, 0.0)
    differences = (teacher_sums - unigram_sums) / counts
    scatter = float(differences.std(ddof=1)) / math.sqrt(len(counts)) if len(counts) > 1 else math.inf
    total = counts.sum()
    return Trial(float(teacher_sums.sum() / total), float(unigram_sums.sum() / total), len(counts), CLEAR * scatter)


def _unigram(shards: TokenShards) -> Tensor:
    """The probability of each token by how often it occurs, [V] float32.

    Each token counts once more than it occurs (Laplace); a token of the text that is asked about is left out of the
    count, or a unigram would know a small text by heart: together, occurrences / (all - 1 + V), or the least of one.
    """
    starts = range(0, len(shards), PIECE * max(1, len(shards) // COUNTED))
    counts = np.zeros(shards.vocabulary_size, np.int64)
    for start in starts:
        counts += np.bincount(shards[start : start + PIECE], minlength=len(counts))
    smoothed = np.maximum(counts, 1) / (counts.sum() - 1 + len(counts))
    return torch.from_numpy(smoothed.astype(np.float32))


@torch.no_grad()
def _losses(teacher: LiveTeacher, batch: Batch, unigram: Tensor) -> tuple[float, float, int]:
    """Of one window: the sums of the teacher's and the unigram's losses, nats, over so many tokens."""
    targets, counted = torch.from_numpy(batch.targets).flatten(), torch.from_numpy(batch.mask).flatten()
    plain = -unigram[targets].log()
    expected = teacher.targets(batch)
    if isinstance(expected, Chunks):  # of other tokens: over the stretches that both have
        shared = counted & (expected.of_token < len(expected.losses)).cpu()
        return float(expected.losses.sum()), float(plain[shared].sum()), int(shared.sum())
    if isinstance(expected, SparseDistributions):
        own, plain = _known_losses(expected, targets, unigram)
    elif isinstance(expected, DenseTeacher):
        own = next_token_losses(expected, targets.to(teacher.device)).cpu()
    else:
        own = token_losses(expected.logits(), targets.to(teacher.device)).cpu()
    return float(own[counted].sum()), float(plain[counted].sum()), int(counted.sum())


def _known_losses(expected: SparseDistributions, targets: Tensor, unigram: Tensor) -> tuple[Tensor, Tensor]:
    """Both sides' losses, [N] each, where a token that the teacher does not name is "another one"."""
    rows, ids, p = expected.rows.cpu(), expected.ids.cpu(), expected.probabilities.cpu()
    named = ids == targets[rows]
    sides = []
    for entries in (p, unigram[ids]):
        mass = torch.zeros(len(targets)).index_add(0, rows, entries)
        hit = torch.zeros(len(targets)).index_add(0, rows[named], entries[named])
        known = torch.zeros(len(targets)).index_add(0, rows[named], torch.ones(int(named.sum()))) > 0
        sides.append(-torch.where(known, hit, 1 - mass).clamp(min=1e-9).log())
    return sides[0], sides[1]
