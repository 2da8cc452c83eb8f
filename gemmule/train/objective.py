"""What is trained on at each token, and its gradients: the next token itself, a live teacher, or its cached targets.

A share of the next-token loss may be mixed in. Gradients are those of the mean over a whole batch's unmasked tokens,
however it is cut.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gemmule.losses.loss import LOSSES
from gemmule.losses.targets import SparseDistributions
from gemmule.model.transformer import Gemma2
from gemmule.recipe import Distill
from gemmule.teach.teachers.vocabulary import say_lost_mass
from gemmule.tokenize.windows import Batch
from gemmule.train import parallel
from gemmule.train.job import Job
from gemmule.train.memory import Precision

Signal = Callable[[Batch], Any]  # a micro-batch -> the targets that `model(ids, targets=...)` takes
Weights = Callable[[Batch], NDArray[np.float32] | None]  # a batch -> what each of its positions counts, [B, T]


def make_signal(job: Job, device: torch.device) -> Signal:
    """The targets of each token of a micro-batch."""
    if job.targets is not None:
        return lambda batch: stored_targets(batch).to(device)
    if job.teacher is None:
        return lambda batch: torch.from_numpy(batch.targets).to(device)
    teacher = parallel.load_teacher(job.teacher, device)
    say_lost_mass(f"{job.name}'s teacher", teacher, job.windows)
    return teacher.targets


def make_weights(job: Job) -> Weights:
    """What each position of a batch counts; None where all count alike."""
    if job.targets is None or job.distill.token_weights == "equal":
        return lambda batch: None
    return token_weights


def stored_targets(batch: Batch) -> SparseDistributions:
    assert batch.stored is not None  # `reading.py` read it with its targets
    return batch.stored


def token_weights(batch: Batch) -> NDArray[np.float32]:
    """What each position of the batch counts, [B, T]: the teacher's entropy there, over the mean of those learned.

    That is the mean over all ranks' batches.
    """
    entropy = stored_targets(batch).entropy
    assert entropy is not None  # whatever is stored has it
    weights: NDArray[np.float32] = entropy.numpy().reshape(batch.mask.shape) * batch.mask
    learned, total = parallel.add_up(float(batch.mask.sum()), float(weights.sum()))
    return weights * (np.float32(learned) / np.float32(total)) if total else batch.mask.astype(np.float32)


def accumulate(
    model: Gemma2,
    batch: Batch,
    targets_of: Signal,
    *,
    windows_per_micro_batch: int,
    distill: Distill | None = None,
    next_token_weight: float = 0.0,
    weights: NDArray[np.float32] | None = None,
    device: torch.device | str = "cpu",
    precision: Precision = nullcontext,
) -> float:
    """Adds to the gradients those of the mean loss over the batch's unmasked tokens, a micro-batch at a time.

    Each micro-batch is divided by the count of unmasked tokens in the whole batch, over all ranks, so its size changes
    nothing.

    Args:
        next_token_weight: the next-token loss's share, where there is a teacher.
        weights: [B, T], what each position counts; None: unmasked ones count 1.
        precision: the context of the models' forward passes.

    Returns:
        The loss, nats per unmasked token.
    """
    distill = distill or Distill()
    learned = max(1, int(parallel.add_up(float(batch.mask.sum()))[0]))
    total = 0.0
    for start in range(0, len(batch.starts), windows_per_micro_batch):
        part = batch[start : start + windows_per_micro_batch]
        rows = slice(start, start + windows_per_micro_batch)
        mask = torch.from_numpy(part.mask if weights is None else weights[rows]).to(device)
        with precision():
            targets = targets_of(part)
        next_tokens = torch.from_numpy(part.targets).to(device)
        if next_token_weight and not isinstance(targets, Tensor):
            targets = ((1 - next_token_weight, targets), (next_token_weight, next_tokens))
        with precision():
            loss = model(
                **part.model_inputs(device),
                targets=targets,
                mask=mask,
                denominator=learned,
                temperature=distill.temperature,
                divergence=distill.loss,
                **{key: getattr(distill, key) for key in LOSSES[distill.loss].parameters},
            )
        loss.backward()
        total += loss.item()
    return parallel.add_up(total)[0]
