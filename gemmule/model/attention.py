"""Attention of Gemma 2: rotary positions, masks, and soft-capped scores over grouped heads.

- Rotary position embeddings turn pairs of channels by an angle that grows with the position (arXiv 2104.09864).
- A global layer sees every token before; a local one the last `window`, itself included (arXiv 2004.05150).
- Scores are capped, cap · tanh(score / cap), before masking (Gemma 2, arXiv 2408.00118, section 2).
- Several query heads share one key and value head (GQA, arXiv 2305.13245).

`attention` is the training path, over a whole sequence, and chooses how; `reference` is the formulas, with any mask.
"""

from __future__ import annotations

import torch
from torch import Tensor


def rotary_angles(positions: Tensor, head_dim: int, base: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosines and signed sines [T, C] of the angles of `positions` [T], for `rotate`.

    Channels i and i + C/2 make a pair, which turns by position · base^(-2i / C): Hugging Face's order, where the
    original pairs neighbours. Angles are computed in float32 whatever the dtype: bfloat16 can't hold a position
    above 256.
    """
    exponents = torch.arange(0, head_dim, 2, device=positions.device, dtype=torch.float32) / head_dim
    angles = positions.float()[:, None] * (1.0 / base**exponents)  # [T, C/2]
    cosines, sines = angles.cos(), angles.sin()
    return torch.cat((cosines, cosines), -1).to(dtype), torch.cat((-sines, sines), -1).to(dtype)


def rotate(x: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
    """Turns the channel pairs (a, b) of x [B, H, T, C] to (a cos - b sin, b cos + a sin)."""
    cosines, signed_sines = angles
    swapped = x.roll(x.shape[-1] // 2, dims=-1)  # (b, a); the minus is in the sines
    return x * cosines + swapped * signed_sines


def causal_mask(queries: Tensor, keys: Tensor, window: int | None, dtype: torch.dtype) -> Tensor:
    """What to add to the scores: 0 where a query sees a key, minus infinity where not; [T, S].

    `queries` [T] and `keys` [S] are positions. `window` counts the keys seen, the query's own included; None: all.
    """
    distance = queries[:, None] - keys[None, :]
    hidden = distance < 0
    if window is not None:
        hidden |= distance >= window
    return torch.zeros(distance.shape, dtype=dtype, device=queries.device).masked_fill_(hidden, -torch.inf)


def attention(
    query: Tensor, key: Tensor, value: Tensor, *, window: int | None, scale: float, cap: float | None
) -> Tensor:
    """Causal attention over a whole sequence: [B, H, T, C].

    query [B, H, T, C]; key and value [B, K, T, C]. `window` counts the keys that a query sees, its own included; None:
    all before it.
    """
    positions = torch.arange(query.shape[2], device=query.device)
    mask = causal_mask(positions, positions, window, query.dtype)
    return reference(query, key, value, mask=mask, scale=scale, cap=cap)


def reference(query: Tensor, key: Tensor, value: Tensor, *, mask: Tensor, scale: float, cap: float | None) -> Tensor:
    """softmax(capped(query · key · scale) + mask) · value, of shape [B, H, T, C].

    query [B, H, T, C]; key and value [B, K, S, C], each serving H / K query heads in a row; mask [T, S], or any shape
    that broadcasts to [B, H, T, S], is added. The softmax is computed in float32.
    """
    B, H, T, C = query.shape
    K, S = key.shape[1:3]
    # The query heads that share a key head become more rows of one product, so that no key is repeated in memory;
    # scale and cap go to the small query and not to the scores.
    query = (query * (scale if cap is None else scale / cap)).reshape(B, K, H // K * T, C)
    scores = (query @ key.mT).view(B, H, T, S)
    scores = scores + mask if cap is None else torch.add(mask, scores.tanh(), alpha=cap)
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(value.dtype)
    return (weights.view(B, K, H // K * T, S) @ value).view(B, H, T, C)
