"""Soft-capped attention with any mask: the path of short sequences and of the cache.

As `transformer.attention`, with less memory moved: no key is repeated, and scale and cap go to the query. Over T tokens
it keeps [T, T] scores for each head.
"""

from __future__ import annotations

import torch
from torch import Tensor


def causal_mask(queries: Tensor, keys: Tensor, window: int | None, dtype: torch.dtype) -> Tensor:
    """What to add to the scores: 0 where a query sees a key, minus infinity where not; [T, S]. As `visible` has it."""
    seen = visible(queries, keys, window)
    return torch.zeros(seen.shape, dtype=dtype, device=queries.device).masked_fill_(~seen, -torch.inf)


def visible(queries: Tensor, keys: Tensor, window: int | None) -> Tensor:
    """Whether a query sees a key, [T, S].

    `queries` [T] and `keys` [S] are positions. `window` counts the keys seen, the query's own included; None: all.
    """
    distance = queries[:, None] - keys[None, :]
    seen = distance >= 0
    return seen if window is None else seen & (distance < window)


def separate(mask: Tensor, queries: Tensor, keys: Tensor) -> Tensor:
    """`mask` [T, S] with keys of other documents hidden too: [B, 1, T, S].

    `queries` [B, T] and `keys` [B, S] are the documents' numbers.
    """
    others = queries[:, None, :, None] != keys[:, None, None, :]
    return mask.masked_fill(others, -torch.inf)


def sequence_mask(
    tokens: int, window: int | None, dtype: torch.dtype, device: torch.device, documents: Tensor | None = None
) -> Tensor:
    """The mask of a whole sequence: [T, T], or [B, 1, T, T] where `documents` [B, T] are kept apart."""
    positions = torch.arange(tokens, device=device)
    mask = causal_mask(positions, positions, window, dtype)
    return mask if documents is None else separate(mask, documents, documents)


def masked(query: Tensor, key: Tensor, value: Tensor, *, mask: Tensor, scale: float, cap: float | None) -> Tensor:
    """softmax(capped(query · key · scale) + mask) · value, of shape [B, H, T, C].

    query [B, H, T, C]; key and value [B, K, S, C], each serving H / K query heads in a row; mask [T, S], or any shape
    that broadcasts to [B, H, T, S], is added. The softmax is computed in float32.
    """
    B, H, T, C = query.shape
    K, S = key.shape[1:3]
    # The query heads that share a key head become more rows of one product, so that no key is repeated in memory.
    query = (query * (scale if cap is None else scale / cap)).reshape(B, K, H // K * T, C)
    scores = (query @ key.mT).view(B, H, T, S)
    scores = scores + mask if cap is None else torch.add(mask, scores.tanh(), alpha=cap)
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(value.dtype)
    return (weights.view(B, K, H // K * T, S) @ value).view(B, H, T, C)
