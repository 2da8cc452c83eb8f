"""Approximate likelihood matching: of a teacher with another tokenizer (Minixhofer et al., arXiv 2503.20083; tokenkit).

Two tokenizers cut the same text differently, but every so often both end a token at the same byte. Between two such
ends lies a chunk, and of a chunk both models say how likely it is: the product over their tokens of it. The student is
to find each chunk as likely as its teacher does.

Chunk by chunk that is the KL between two events, "this chunk" and "any other", with probabilities p^(1/t) and q^(1/t),
times t, in the limit of a large t (the paper takes 100; "binary_kl_temp_limit" in tokenkit). With the chunk's losses
a = -log p and b = -log q in nats this is

    a log(a / b) + b - a,      derivative in b:  1 - a / b

so the next-token loss of a chunk counts the less the closer the student is to its teacher, and nothing where both
agree.

N tokens, C chunks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gemmule.losses.fused_head import fused_loss
from gemmule.losses.head import next_token_losses
from gemmule.losses.loss import BatchLoss
from gemmule.losses.targets import DenseTeacher

SMALLEST_LOSS = 1e-4  # nats: of a chunk that a model is sure of


@dataclass(frozen=True, eq=False)
class Chunks:
    """A target: the next tokens of a batch, in chunks, and what the teacher thinks of these."""

    tokens: Tensor  # [B, T] int64: the student's next tokens
    of_token: Tensor  # [N] int64: the chunk of each of them; C where it is in none
    losses: Tensor  # [C] float32: the teacher's, nats


def formula(chunks: Chunks, losses: Tensor) -> Tensor:
    """a log(a / b) + b - a of each chunk, [C], in nats; `losses` [N] are the student's, of the next tokens."""
    count = len(chunks.losses)
    sums = losses.new_zeros(count + 1).index_add(0, chunks.of_token, losses)[:count]
    a, b = chunks.losses.clamp(min=SMALLEST_LOSS), sums.clamp(min=SMALLEST_LOSS)
    return a * (a / b).log() + b - a


def fused(
    hidden: Tensor,
    weight: Tensor,
    cap: float | None,
    targets: Tensor | Chunks | tuple[tuple[float, Tensor | Chunks], ...],
    *,
    mask: Tensor | None = None,
    denominator: float | Tensor | None = None,
) -> Tensor:
    """The sum of the chunks' losses over `denominator`; a scalar.

    The chunks' losses depend on the model only through its tokens' losses, so their gradient is that of a weighted sum
    of these: the fused head takes it, and no logits are kept.

    Args:
        hidden: [B, T, D], what the backbone gives.
        weight: [V, D], the embedding, which is the head.
        targets: chunks, next tokens, which have their plain loss, or weighted pairs of these.
        mask: [B, T], True where a next token counts in the loss; None: everywhere.
        denominator: the number of these tokens by default.
    """
    if isinstance(targets, Tensor):
        return fused_loss(hidden, weight, cap, targets, mask=mask, denominator=denominator)
    parts = targets if isinstance(targets, tuple) else ((1.0, targets),)
    tokens = next(part.tokens for _, part in parts if isinstance(part, Chunks))
    counted = torch.ones_like(tokens, dtype=torch.bool) if mask is None else mask
    denominator = counted.sum() if denominator is None else denominator
    with torch.no_grad():
        losses = next_token_losses(DenseTeacher(hidden.flatten(0, 1), weight, cap), tokens.flatten())  # [N]
    with torch.enable_grad():
        leaf = losses.requires_grad_()
        total = leaf.new_zeros(())
        for share, part in parts:
            total = total + share * (formula(part, leaf) if isinstance(part, Chunks) else leaf[counted.flatten()]).sum()
        (counts,) = torch.autograd.grad(total, leaf)  # [N]: what a nat of each token's loss counts
    surrogate = fused_loss(hidden, weight, cap, tokens, mask=counts.view_as(tokens), denominator=denominator)
    return surrogate + (total.detach() / denominator - surrogate.detach())


LOSS = BatchLoss("alm", fused)
