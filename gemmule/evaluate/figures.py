"""What finished models are worth on a text: every token of it once, all models in one pass.

- Perplexity: exp of the mean next-token loss. Bits per byte: the whole loss in bits by the bytes of the text, so that
  models of different tokenizers can be compared. Both with a bootstrap interval over documents (`intervals.py`).
- Expected calibration error: top-1 confidence against accuracy in 15 equal bins (Guo et al. 2017, arXiv 1706.04599);
  and the mean entropy of what the model expects, beside its teacher's.
- KL to the teacher, and how often both put the same token first, in all and by the teacher's entropy (`agreement.py`).
- Acceptance: the sum over the vocabulary of min(p, q), in the mean over tokens: how likely a teacher takes the token
  that the model drafts for it (Leviathan et al. 2023, arXiv 2211.17192, theorem 3.5).
- Loss by position: the mean loss at places in a window.

Memory is a chunk's, whatever the text and the vocabulary (`looking.py`), and a few numbers for each unit of the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gemmule.base.errors import RequestError
from gemmule.base.progress import Meter
from gemmule.evaluate.agreement import Agreement
from gemmule.evaluate.amounts import tokens_at_once
from gemmule.evaluate.looking import Looking, Looks
from gemmule.evaluate.passages import Passages
from gemmule.evaluate.units import Units
from gemmule.losses.targets import DenseTeacher, Mixture
from gemmule.teach.teachers.teacher import Ensemble, Expected, Teacher
from gemmule.tokenize.windows import Batch

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


class Places:
    """The mean loss at places in a window, in ranges that double: 0, 1, 2 to 3, 4 to 7, ..."""

    def __init__(self) -> None:
        self.sums = torch.zeros(2, 64, dtype=torch.float64)

    def add(self, loss: Tensor, places: Tensor) -> None:
        """Of N tokens the loss, and their places in their windows (int64), from 0."""
        ranges = torch.frexp(places.double()).exponent.long()  # 0 for 0, 1 for 1, 2 for 2 and 3, ...
        self.sums.index_add_(1, ranges.cpu(), torch.stack([loss, torch.ones_like(loss)]).double().cpu())

    def ranges(self) -> list[dict[str, Any]]:
        """Those with any token: its places [from, to), mean loss and count."""
        return [
            {"from": 2 ** (place - 1) if place else 0, "to": 2**place, "loss": loss / count, "count": int(count)}
            for place, (loss, count) in enumerate(self.sums.T.tolist())
            if count
        ]


@dataclass(eq=False)
class Subject:
    """A model to be measured, and its teacher, if there is one: of the same vocabulary. What was seen of it."""

    model: Teacher  # gives whole distributions, as any but a served one does
    teacher: Teacher | None = None
    tokens: int = 0
    hits: int = 0
    sums: dict[str, float] = field(default_factory=dict)  # of entropies and acceptances
    calibration: Calibration = field(default_factory=Calibration)
    agreement: Agreement = field(default_factory=Agreement)
    places: Places = field(default_factory=Places)
    by_unit: NDArray[np.float64] = field(default_factory=lambda: np.zeros((2, 0)))  # tokens, loss; room at the end
    units: Units = field(init=False)  # once all is read

    def add(self, looks: Looks, counted: Tensor, units: NDArray[np.int64], places: Tensor) -> None:
        """What was seen at N tokens, of which `counted` [N] bool count; the units [n] and places [n] of those."""
        loss = looks.loss[counted].double()
        self.tokens += len(loss)
        self.hits += int(looks.hit[counted].sum())
        self.calibration.add(looks.confidence[counted], looks.hit[counted])
        self.places.add(loss, places)
        known = {"entropy": looks.entropy, "teacher_entropy": looks.teacher_entropy, "acceptance": looks.acceptance}
        for name, column in known.items():
            if column is not None:
                self.sums[name] = self.sums.get(name, 0.0) + float(column[counted].double().sum())
        if looks.divergence is not None and looks.teacher_entropy is not None and looks.same is not None:
            self.agreement.add(looks.teacher_entropy[counted], looks.divergence[counted], looks.same[counted])
        if len(units):
            first, end = int(units.min()), int(units.max()) + 1
            if (there := self.by_unit.shape[1]) < end:
                self.by_unit = np.pad(self.by_unit, ((0, 0), (0, max(there, end - there))))
            self.by_unit[0, first:end] += np.bincount(units - first)
            self.by_unit[1, first:end] += np.bincount(units - first, loss.cpu().numpy())

    def figures(self, passages: Passages) -> dict[str, Any]:
        """Once all is read. Raises RequestError if there was no token to predict."""
        if not self.tokens:
            raise RequestError("the text has no token to evaluate: all of it is masked, or it is a single token")
        tokens, loss = self.by_unit
        self.units = Units.of(tokens.astype(np.int64), passages.bytes_of_units(tokens.astype(np.int64)), loss)
        taught = self.teacher is not None
        return {
            **self.units.figures(),
            "ece": self.calibration.error,
            "accuracy": self.hits / self.tokens,
            "entropy": self.sums["entropy"] / self.tokens,
            "kl_to_teacher": self.agreement.divergence if taught else None,
            "agreement": self.agreement.agreement if taught else None,
            "acceptance": self._mean("acceptance"),
            "teacher_entropy": self._mean("teacher_entropy"),
            "documents": passages.documents,
            "units": passages.over,
            "calibration": self.calibration.bins(),
            "agreement_by_entropy": self.agreement.buckets() if taught else [],
            "by_position": self.places.ranges(),
        }

    def _mean(self, name: str) -> float | None:
        return self.sums[name] / self.tokens if name in self.sums else None


@torch.no_grad()
def measure(subjects: Sequence[Subject], passages: Passages, title: str) -> list[dict[str, Any]]:
    """Runs all models and teachers over a text, each of them once however many it stands beside.

    Gives the figures of each subject, and leaves its `units`. `title` is for the progress line.

    Raises RequestError if the text has no token to predict.
    """
    vocabulary_size, device = subjects[0].model.vocabulary_size, subjects[0].model.device
    looking = Looking(vocabulary_size, device)
    with Meter(title, passages.total, unit=passages.unit) as meter:
        for passage in passages.read(tokens_at_once(vocabulary_size)):
            batch = passage.batch
            expected = _Answers(batch)
            sides = [
                (expected.of(subject.model), None if subject.teacher is None else expected.of(subject.teacher))
                for subject in subjects
            ]
            targets = torch.from_numpy(batch.targets).to(device).flatten()
            counted = torch.from_numpy(batch.mask).to(device).flatten()
            places = torch.arange(batch.targets.shape[1], device=device).repeat(len(batch.targets))[counted]
            units = passage.units[batch.mask]
            for subject, looks in zip(subjects, looking.look_at_all(sides, targets), strict=True):
                subject.add(looks, counted, units, places)
            meter.update(passage.done)
    return [subject.figures(passages) for subject in subjects]


class _Answers:
    """What models expect in a batch: each is asked once, and an ensemble's members as if they stood alone."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._known: dict[int, Expected] = {}

    def of(self, model: Teacher) -> Expected:
        if id(model) not in self._known:
            self._known[id(model)] = self._mixture(model) if isinstance(model, Ensemble) else model.targets(self._batch)
        return self._known[id(model)]

    def _mixture(self, ensemble: Ensemble) -> Mixture:
        parts = [(share, self.of(member)) for share, member in ensemble.members]
        if not all(isinstance(part, DenseTeacher) for _, part in parts):
            return ensemble.expect(**self._batch.model_inputs(ensemble.device))  # which says why not
        return Mixture(tuple((share, part) for share, part in parts if isinstance(part, DenseTeacher)))


def measure_one(model: Teacher, passages: Passages, teacher: Teacher | None, title: str) -> dict[str, Any]:
    """`measure` of one model, and its teacher beside it if there is one."""
    return measure([Subject(model, teacher)], passages, title)[0]
