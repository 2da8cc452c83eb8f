"""A teacher's logits at positions of the stream, a few rows at a time: there may be 262,144 of them in each."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gemmule.data.loader import Windows
from gemmule.distill.teachers import Teacher

LOGITS_AT_ONCE = 2**25


def expect(
    teacher: Teacher,
    windows: Windows,
    numbers: Sequence[int] | NDArray[np.int64] | range,
    temperature: float = 1.0,
    rows: NDArray[np.int64] | None = None,
) -> Iterator[tuple[Tensor, NDArray[np.int64]]]:
    """What the teacher expects in the windows of these numbers, in all of their rows or some.

    Gives logits [N, V] float32, divided by the temperature (arXiv 1503.02531), and the positions [N] that they are for.
    """
    batch = windows.window_batch(numbers)
    expected = teacher.expect(**batch.model_inputs(teacher.device))
    hidden = expected.hidden.reshape(-1, expected.hidden.shape[-1])  # [B * T, D]
    positions = (batch.starts[:, None] + np.arange(batch.inputs.shape[1])).ravel()
    wanted = (
        np.flatnonzero(positions < len(windows.shards)) if rows is None else rows[positions[rows] < len(windows.shards)]
    )
    for some in np.array_split(wanted, -(-len(wanted) * teacher.vocabulary_size // LOGITS_AT_ONCE) or 1):
        part = dataclasses.replace(expected, hidden=hidden[torch.from_numpy(some).to(hidden.device)])
        logits = part.logits().cpu()
        yield (logits if temperature == 1.0 else logits.div_(temperature)), positions[some]
