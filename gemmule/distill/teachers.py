"""Teachers: what a larger model expects at every token.

A teacher is asked about windows of token ids, a micro-batch at a time, and answers with distributions over the
vocabulary. It runs beside its student ("live") or once beforehand (`targets.py`); either way it sees exactly the
windows that its student sees, `<bos>` first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from gemmule.model import weights
from gemmule.model.head import DenseTeacher
from gemmule.model.transformer import Gemma2


class Teacher(Protocol):
    """What a student learns from."""

    vocabulary_size: int  # of the ids that it reads and of its distributions
    device: torch.device  # where it wants its ids

    def expect(self, ids: Tensor, documents: Tensor | None = None) -> DenseTeacher:
        """What the teacher expects after each token of `ids` [B, T] (int64): N = B * T distributions.

        `documents` [B, T] are the numbers of the tokens' documents, where these are kept apart. No gradient flows.
        """
        ...


class Gemma2Teacher:
    """A model of gemmule's own: hidden states and head, so that no logits need exist."""

    def __init__(self, model: Gemma2) -> None:
        self.model = model
        self.vocabulary_size = model.config.vocabulary_size
        self.device = model.model.embed_tokens.weight.device

    @torch.no_grad()
    def expect(self, ids: Tensor, documents: Tensor | None = None) -> DenseTeacher:
        hidden = self.model.model(ids, documents=documents).flatten(0, 1)  # [N, D]
        return DenseTeacher(hidden, self.model.model.embed_tokens.weight.detach(), self.model.config.final_cap)


def load_teacher(folder: Path, device: torch.device) -> Teacher:
    """The teacher in a model folder."""
    return Gemma2Teacher(weights.load(folder).to(device))


def probabilities(expected: DenseTeacher, temperature: float = 1.0) -> Tensor:
    """Whole distributions [N, V] (float32). The temperature divides the logits (arXiv 1503.02531)."""
    return torch.softmax(expected.logits() / temperature, dim=-1)
