"""Teachers: what a larger model expects at every token.

A teacher is a function from windows of token ids to distributions over the vocabulary, a micro-batch at a time. Here it
is a Gemma 2 run beside its student ("live") or once beforehand (`targets.py`); either way it sees exactly the windows
that its student sees, `<bos>` first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gemmule.errors import RequestError
from gemmule.model.head import DenseTeacher

if TYPE_CHECKING:
    from gemmule.model.transformer import Gemma2


@torch.no_grad()
def dense(teacher: Gemma2, ids: Tensor, *, documents: Tensor | None = None) -> DenseTeacher:
    """What the teacher expects after each token of `ids`, as hidden states and head: whole, and nearly for nothing.

    Arguments are those of `probabilities`; the temperature is the loss's.
    """
    hidden = teacher.model(ids, documents=documents)
    return DenseTeacher(hidden, teacher.model.embed_tokens.weight.detach(), teacher.config.final_cap)


@torch.no_grad()
def probabilities(teacher: Gemma2, ids: Tensor, temperature: float = 1.0, *, documents: Tensor | None = None) -> Tensor:
    """What the teacher expects after each token of `ids`.

    Args:
        teacher: a model in eval mode.
        ids: [B, T] int64 token ids, each window with its `<bos>`.
        temperature: divides the logits before the softmax (Hinton et al. 2015, arXiv 1503.02531).
        documents: [B, T] the number of each token's document, where they are kept apart.

    Returns:
        [B, T, V] float32, each row a distribution.
    """
    logits = teacher(ids, documents=documents)
    if temperature != 1.0:
        logits = logits / temperature
    return torch.softmax(logits, dim=-1)


def check_same_vocabulary(teacher: str, teacher_hash: str, teacher_rows: int, hash: str, vocabulary_size: int) -> None:
    """Refuses a teacher whose tokenizer is not, by content, the one that the tokens were made with.

    Raises RequestError naming the teacher.
    """
    if teacher_hash != hash:
        raise RequestError(
            f"teacher {teacher}: its tokenizer is not the recipe's (their contents differ); "
            "set tokenizer.from to the teacher's folder, or choose a teacher trained with this tokenizer"
        )
    if teacher_rows != vocabulary_size:
        raise RequestError(
            f"teacher {teacher}: its table has {teacher_rows} rows and the tokenizer {vocabulary_size} tokens; "
            "they must be equal to learn from it"
        )
