"""What a finished model is worth, on the validation text: every token of it once, in the windows of training.

- Perplexity: exp of the mean next-token loss. Bits per byte: the whole loss in bits by the bytes of the text, so that
  models of different tokenizers can be compared.
- Expected calibration error: top-1 confidence against accuracy in 15 equal bins (Guo et al. 2017, arXiv 1706.04599).
- KL to the teacher, and how often both put the same token first, in all and by the teacher's entropy (`agreement.py`).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from gemmule.data.loader import Windows
from gemmule.distill.teachers import Expected, Teacher, probabilities
from gemmule.errors import RequestError
from gemmule.evaluate.agreement import Agreement
from gemmule.model.head import SparseDistributions, token_losses
from gemmule.progress import Meter

BINS = 15
LARGEST_LOGITS = 2**24  # numbers in a batch's logits: 64 MB, and as much again for the teacher's


class Calibration:
    """Counts, confidences and hits of top-1 predictions, by confidence in equal bins."""

    def __init__(self, bins: int = BINS) -> None:
        self.counts = torch.zeros(bins, dtype=torch.float64)
        self.confidence = torch.zeros(bins, dtype=torch.float64)
        self.hits = torch.zeros(bins, dtype=torch.float64)

    def add(self, confidence: Tensor, hit: Tensor) -> None:
        """confidence [N] in (0, 1]; hit [N] bool. A bin holds its upper edge, as in the paper."""
        confidence, hit = confidence.double().cpu(), hit.double().cpu()
        bins = (torch.ceil(confidence * len(self.counts)) - 1).clamp(0, len(self.counts) - 1).long()
        self.counts.index_add_(0, bins, torch.ones_like(confidence))
        self.confidence.index_add_(0, bins, confidence)
        self.hits.index_add_(0, bins, hit)

    @property
    def error(self) -> float:
        """The expected calibration error: |accuracy - confidence| in the mean over predictions."""
        return float((self.hits - self.confidence).abs().sum() / self.counts.sum())

    def bins(self) -> list[dict[str, Any]]:
        """For each bin its mean confidence and accuracy (None where it is empty) and its count."""
        return [
            {
                "confidence": float(confidence / count) if count else None,
                "accuracy": float(hits / count) if count else None,
                "count": int(count),
            }
            for count, confidence, hits in zip(self.counts, self.confidence, self.hits, strict=True)
        ]


@torch.no_grad()
def measure(model: Teacher, windows: Windows, text_bytes: int, teacher: Teacher | None, title: str) -> dict[str, Any]:
    """Runs the model, and the teacher beside it if there is one, over all windows.

    Args:
        model: gives whole distributions, as any but a served one does.
        text_bytes: the bytes of the text that the windows hold, for bits per byte.
        teacher: its vocabulary must be the model's.
        title: for the progress line.

    Returns:
        perplexity, bits_per_byte, ece, accuracy, kl_to_teacher and agreement (None without a teacher), the
        calibration's bins, and the agreement's buckets (none without a teacher).

    Raises RequestError if the validation text has no token to predict.
    """
    calibration, agreement = Calibration(), Agreement()
    tokens, loss, hits = 0, 0.0, 0
    per_batch = max(1, LARGEST_LOGITS // model.vocabulary_size // windows.sequence_length)
    total = len(windows) * windows.sequence_length
    with Meter(title, total) as meter:
        for first in range(0, len(windows), per_batch):
            batch = windows.window_batch(range(first, min(first + per_batch, len(windows))))
            counted = torch.from_numpy(batch.mask).to(model.device).flatten()
            targets = torch.from_numpy(batch.targets).to(model.device).flatten()[counted]  # [N]
            logits = _logits(model.expect(**batch.model_inputs(model.device)))  # of all positions
            all_logits, logits = logits, logits[counted]  # [N, V]
            loss += float(token_losses(logits, targets).double().sum())
            top = torch.softmax(logits, dim=-1).max(dim=-1)
            calibration.add(top.values, top.indices == targets)
            hits += int((top.indices == targets).sum())
            tokens += len(targets)
            if teacher is not None:
                expected = teacher.expect(**batch.model_inputs(teacher.device))
                known = expected if isinstance(expected, SparseDistributions) else probabilities(expected)
                divergences = token_losses(all_logits, known)[counted]
                agreement.add(entropy(known)[counted], divergences, likeliest(known)[counted] == top.indices)
            meter.update(min(total, (first + per_batch) * windows.sequence_length))
    if not tokens:
        raise RequestError("the validation text has no token to predict: all of it is masked")
    return {
        "perplexity": math.exp(min(loss / tokens, 700)),  # exp overflows above
        "bits_per_byte": loss / math.log(2) / max(1, text_bytes),
        "ece": calibration.error,
        "accuracy": hits / tokens,
        "kl_to_teacher": agreement.divergence if teacher is not None else None,
        "agreement": agreement.agreement if teacher is not None else None,
        "calibration": calibration.bins(),
        "agreement_by_entropy": agreement.buckets() if teacher is not None else [],
    }


def likeliest(expected: Tensor | SparseDistributions) -> Tensor:
    """The id of each distribution's likeliest token, [N]; -1 where none is known."""
    if isinstance(expected, Tensor):
        return expected.argmax(-1)
    nothing = expected.probabilities.new_zeros(len(expected))
    largest = nothing.scatter_reduce(0, expected.rows, expected.probabilities, "amax")
    is_largest = expected.probabilities == largest[expected.rows]
    found = expected.offsets.new_full((len(expected),), -1)
    found[expected.rows[is_largest]] = expected.ids[is_largest]
    return found


def entropy(expected: Tensor | SparseDistributions) -> Tensor:
    """Of each distribution, [N], in nats. Where only the top k is known, the rest counts as one token."""
    return torch.special.entr(expected).sum(-1) if isinstance(expected, Tensor) else expected.known_entropy()


def _logits(expected: Expected) -> Tensor:
    if isinstance(expected, SparseDistributions):
        raise RequestError("a model that gives only its top k can't be measured")
    return expected.logits()
