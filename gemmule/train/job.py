"""All that training one model needs, and what follows from it: steps, windows in a batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from gemmule.base.artifact import Artifact, Settings
from gemmule.model.config import Gemma2Config
from gemmule.recipe import Distill, Machine, Train
from gemmule.teach.teachers.teacher import LiveTeacher
from gemmule.tokenize.windows import Windows
from gemmule.train import metrics


@dataclass(frozen=True)
class Job:
    """All that training one model needs."""

    name: str
    folder: Path  # checkpoints, metrics and TensorBoard's files go here
    config: Gemma2Config
    train: Train
    distill: Distill
    machine: Machine
    seed: int
    windows: Windows  # of the training text
    validation: Windows
    settings: Settings  # of the artifact: training does not resume from a checkpoint of other settings
    inputs: dict[str, Artifact]
    teacher: Callable[[torch.device], LiveTeacher] | None = None  # loads a teacher, to run beside the student
    targets: Path | None = None  # a folder of stored targets
    start_from: Path | None = None  # a model folder, of the same shape or to be cut down to it
    start_rows: torch.Tensor | None = None  # [V] int64: the rows of its table that are this run's tokens, if not all
    decode: Callable[[list[int]], str] | None = None  # tokens to text, to say what was in a batch

    @property
    def windows_per_batch(self) -> int:
        return self.train.windows_per_batch(self.windows.sequence_length)

    @property
    def steps(self) -> int:
        return self.train.steps(self.windows.sequence_length)

    @property
    def windows_per_micro_batch(self) -> int:
        return self.train.windows_per_micro_batch(self.windows.sequence_length)

    @property
    def tokens(self) -> int:
        """That it reads: padding and what is masked out among them."""
        return self.steps * self.windows_per_batch * self.windows.sequence_length

    def describe_budget(self) -> str:
        """What `train.tokens` comes to, if that is another number by more than a hundredth; else empty."""
        share, batch = self.windows.learned_share, self.tokens // self.steps
        learned = round(self.tokens * share)
        if abs(learned - self.train.tokens) <= self.train.tokens / 100:
            return ""
        reasons = [f"it is rounded to whole batches of {batch:,}"] if self.tokens != self.train.tokens else []
        reasons += [f"{1 - share:.0%} of the tokens are padding or masked"] if share < 0.995 else []
        return f"trains on about {learned:,} tokens where train.tokens = {self.train.tokens:,}: {' and '.join(reasons)}"

    @property
    def objective(self) -> str:
        """What its loss is called."""
        return metrics.objective(self.distill, self.teacher is not None or self.targets is not None)
