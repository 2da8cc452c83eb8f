"""Teachers: what a larger model expects at every token.

A teacher is asked about windows of token ids, a micro-batch at a time, and answers with distributions over the
vocabulary. It runs beside its student ("live") or once beforehand (`targets.py`); either way it sees exactly the
windows that its student sees.

Here stand the interface, gemmule's own models and ensembles. Other models of Hugging Face's are in `huggingface.py`,
those behind a server in `served.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from gemmule.base.errors import RequestError
from gemmule.losses.targets import DenseTeacher, Mixture, SparseDistributions
from gemmule.model import weights
from gemmule.model.transformer import Gemma2

Expected: TypeAlias = DenseTeacher | Mixture | SparseDistributions


class Teacher(Protocol):
    """What a student learns from."""

    vocabulary_size: int  # of the ids that it reads and of its distributions
    device: torch.device  # where it wants its ids

    def expect(self, ids: Tensor, documents: Tensor | None = None) -> Expected:
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


class Ensemble:
    """Several teachers of one vocabulary: the mixture of their probabilities, by weights of sum 1."""

    def __init__(self, members: Sequence[tuple[float, Teacher]]) -> None:
        self.members = members
        self.vocabulary_size = members[0][1].vocabulary_size
        self.device = members[0][1].device

    def expect(self, ids: Tensor, documents: Tensor | None = None) -> Mixture:
        parts = []
        for weight, teacher in self.members:
            expected = teacher.expect(ids, documents)
            if not isinstance(expected, DenseTeacher):
                raise RequestError(
                    "an ensemble needs the whole distributions of its members; a served one has its top k"
                )
            parts.append((weight, expected))
        return Mixture(tuple(parts))


def load_teacher(folder: Path, device: torch.device) -> Teacher:
    """The teacher in a Gemma 2 folder."""
    return Gemma2Teacher(weights.load(folder).to(device))


def probabilities(expected: Expected, temperature: float = 1.0) -> Tensor:
    """Whole distributions [N, V] (float32). The temperature divides the logits (arXiv 1503.02531)."""
    if isinstance(expected, SparseDistributions):
        raise RequestError("this teacher provides its top k only, not whole distributions")
    return torch.softmax(expected.logits() / temperature, dim=-1)
