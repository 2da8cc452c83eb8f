"""What `transformer.rotated_attention` computes, faster: `attention` chooses the path for a sequence.

masked      short sequences, and the cache: with any mask
blocked     the CPU's path: a block of queries at a time, backward recomputes
flex        CUDA's path: FlexAttention
"""

from __future__ import annotations

from torch import Tensor

from gemmule.model.fast.attention.blocked import BLOCK, blocked
from gemmule.model.fast.attention.masked import causal_mask, masked, sequence_mask
from gemmule.model.fast.rotary import Angles, rotate

__all__ = ["attention", "blocked", "causal_mask", "masked", "sequence_mask"]


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    angles: Angles,
    *,
    window: int | None,
    scale: float,
    cap: float | None,
    documents: Tensor | None = None,
) -> Tensor:
    """Causal attention over a whole sequence: [B, H, T, C].

    query [B, H, T, C]; key and value [B, K, T, C]; `angles` [T, C] turn query and key. `window` counts the keys that a
    query sees, its own included; None: all before it. With `documents`
    [B, T], a query sees only keys of its own number.
    """
    device, tokens = query.device.type, query.shape[2]
    if device == "cpu" and tokens > BLOCK:
        return blocked(query, key, value, angles, window=window, scale=scale, cap=cap, documents=documents)
    query, key = rotate(query, angles), rotate(key, angles)
    if device == "cuda":
        from gemmule.model.fast.attention import flex  # here, for it takes seconds to import

        if flex.works(query.shape[-1], query.dtype, query.device.index or 0):
            return flex.flex(query, key, value, window=window, scale=scale, cap=cap, documents=documents)
    mask = sequence_mask(tokens, window, query.dtype, query.device, documents)
    return masked(query, key, value, mask=mask, scale=scale, cap=cap)
