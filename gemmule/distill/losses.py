"""Distillation losses on plain logits, for use in anyone's own loop.

The model's own forward, `model(ids, targets=...)`, computes the same numbers with the head and the loss in one; these
take logits from anywhere.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gemmule.model.head import SparseDistributions, token_losses


def forward_kl(
    student_logits: Tensor,
    teacher: Tensor | SparseDistributions,
    *,
    temperature: float = 1.0,
    mask: Tensor | None = None,
) -> Tensor:
    """KL(teacher || student): what Gemma 2 trains its students on (arXiv 2408.00118, section 3).

    With temperature t both are softened and the loss is multiplied by t^2, so that its gradients keep their size
    (Hinton et al. 2015, arXiv 1503.02531).

    Let N be any leading shape, V the vocabulary.

    Args:
        student_logits: [*N, V] float.
        teacher: the teacher's logits [*N, V], at temperature 1; or a SparseDistributions with one row for each of
            the N positions, taken at `temperature`.
        temperature: greater than 0.
        mask: [*N] bool, True where a position counts; all when left out.

    Returns:
        The mean over the counted positions, in nats: a scalar float32.
    """
    logits = student_logits.reshape(-1, student_logits.shape[-1])
    if isinstance(teacher, Tensor):
        if teacher.shape != student_logits.shape:
            raise ValueError(f"teacher logits {tuple(teacher.shape)}, student logits {tuple(student_logits.shape)}")
        targets: Tensor | SparseDistributions = torch.softmax(teacher.reshape(logits.shape).float() / temperature, -1)
    else:
        targets = teacher
    losses = token_losses(logits, targets, temperature)  # [N]
    if mask is None:
        return losses.mean()
    counted = mask.reshape(-1)
    return torch.where(counted, losses, 0.0).sum() / counted.sum()
