"""What a finished model is worth, on the validation text: every token of it once, in the windows of training.

- Perplexity: exp of the mean next-token loss. Bits per byte: the whole loss in bits by the bytes of the text, so that
  models of different tokenizers can be compared.
- Expected calibration error: top-1 confidence against accuracy in 15 equal bins (Guo et al. 2017, arXiv 1706.04599).
- KL to the teacher, and how often both put the same token first, in all and by the teacher's entropy (`agreement.py`).

Memory is a chunk's, whatever the windows and the vocabulary (`looking.py`).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from gemmule.base.errors import RequestError
from gemmule.base.progress import Meter
from gemmule.evaluate.agreement import Agreement
from gemmule.evaluate.amounts import tokens_at_once
from gemmule.evaluate.looking import Looking
from gemmule.teach.teachers.teacher import Teacher
from gemmule.tokenize.windows import Windows

BINS = 15


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
    looking, length = Looking(model.vocabulary_size, model.device), windows.sequence_length
    at_once = max(1, tokens_at_once(model.vocabulary_size) // length)  # windows
    with Meter(title, len(windows) * length) as meter:
        for first in range(0, len(windows), at_once):
            batch = windows.window_batch(range(first, min(first + at_once, len(windows))))
            looks = looking.look(
                model.expect(**batch.model_inputs(model.device)),
                torch.from_numpy(batch.targets).to(model.device).flatten(),
                None if teacher is None else teacher.expect(**batch.model_inputs(teacher.device)),
            )
            counted = torch.from_numpy(batch.mask).to(model.device).flatten()
            loss += float(looks.loss[counted].double().sum())
            calibration.add(looks.confidence[counted], looks.hit[counted])
            hits += int(looks.hit[counted].sum())
            tokens += int(counted.sum())
            if looks.divergence is not None and looks.entropy is not None and looks.same is not None:
                agreement.add(looks.entropy[counted], looks.divergence[counted], looks.same[counted])
            meter.update(min(len(windows), first + at_once) * length)
    if not tokens:
        raise RequestError("the validation text has no token to evaluate: all of it is masked")
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
