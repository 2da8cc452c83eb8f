"""A teacher's logits at positions of the stream, a few rows at a time: there may be 262,144 of them in each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gemmule.losses.targets import DenseTeacher, SparseDistributions
from gemmule.teach.targets.amounts import LOGITS_AT_ONCE
from gemmule.teach.targets.sampling import FAR_BELOW
from gemmule.teach.teachers.teacher import Expected, Teacher
from gemmule.tokenize.windows import Windows


def expect(
    teacher: Teacher,
    windows: Windows,
    numbers: Sequence[int] | NDArray[np.int64] | range,
    temperature: float = 1.0,
    rows: NDArray[np.int64] | None = None,
) -> Iterator[tuple[Tensor, NDArray[np.int64], bool]]:
    """What the teacher expects in the windows of these numbers, in all of their rows or some.

    Gives logits [N, V] float32, divided by the temperature (arXiv 1503.02531), and the positions [N] that they are for.
    The next ones may take the place of the last. And whether they are known in part only: of a teacher that gives its
    top k they are log probabilities, and FAR_BELOW for every token that it does not name.
    """
    batch = windows.window_batch(numbers)
    expected = teacher.expect(**batch.model_inputs(teacher.device))
    positions = (batch.starts[:, None] + np.arange(batch.inputs.shape[1])).ravel()  # [B * T]
    wanted = np.arange(len(positions)) if rows is None else rows[rows < len(positions)]
    wanted = wanted[positions[wanted] < len(windows.shards)]
    chunks = np.array_split(wanted, -(-len(wanted) * teacher.vocabulary_size // LOGITS_AT_ONCE) or 1)
    buffer = torch.empty(len(chunks[0]), teacher.vocabulary_size)
    for some in chunks:
        logits = _logits(expected, torch.from_numpy(some), buffer)
        known = isinstance(expected, SparseDistributions)
        yield (logits if temperature == 1.0 else logits.div_(temperature)), positions[some], known


def _logits(expected: Expected, rows: Tensor, buffer: Tensor) -> Tensor:
    """The logits [N, V] of some of the rows, on the CPU; in the buffer, if that saves anything."""
    if isinstance(expected, SparseDistributions):
        return _spread(expected.to("cpu"), rows, buffer.shape[1])
    some = expected[rows]
    if isinstance(some, DenseTeacher) and some.hidden.device.type == "cpu":
        return some.logits(buffer)
    return some.logits().cpu()


def _spread(top: SparseDistributions, rows: Tensor, vocabulary_size: int) -> Tensor:
    """The log probabilities of the tokens that a teacher names, and FAR_BELOW for the others."""
    place = torch.full((len(top),), -1)
    place[rows] = torch.arange(len(rows))
    entries = place[top.rows] >= 0
    logits = torch.full((len(rows), vocabulary_size), FAR_BELOW)
    logits[place[top.rows][entries], top.ids[entries]] = top.probabilities[entries].log().clamp(min=FAR_BELOW)
    return logits
