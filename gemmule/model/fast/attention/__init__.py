"""Attention of Gemma 2: rotary positions, masks, and soft-capped scores over grouped heads.

- Rotary position embeddings turn pairs of channels by an angle that grows with the position (arXiv 2104.09864).
- A global layer sees every token before; a local one the last `window`, itself included (arXiv 2004.05150).
- Scores are capped, cap · tanh(score / cap), before masking (Gemma 2, arXiv 2408.00118, section 2).
- Several query heads share one key and value head (GQA, arXiv 2305.13245).

    rotary      angles of positions, and turning by them
    reference   the formulas, with any mask
    blocked     the CPU's path: a block of queries at a time, backward recomputes
    flex        CUDA's path: FlexAttention

`attention`, over a whole sequence, chooses between them; each gives what `reference` gives.
"""

from __future__ import annotations

from torch import Tensor

from gemmule.model.fast.attention.blocked import BLOCK, blocked
from gemmule.model.fast.attention.reference import causal_mask, reference, sequence_mask
from gemmule.model.fast.attention.rotary import rotary_angles, rotate

__all__ = ["attention", "causal_mask", "reference", "rotary_angles", "rotate"]


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    window: int | None,
    scale: float,
    cap: float | None,
    documents: Tensor | None = None,
) -> Tensor:
    """Causal attention over a whole sequence: [B, H, T, C].

    query [B, H, T, C]; key and value [B, K, T, C]. `window` counts the keys that a query sees, its own included; None:
    all before it. With `documents` [B, T], a query sees only keys of its own number.
    """
    device, tokens = query.device.type, query.shape[2]
    if device == "cuda":
        from gemmule.model.fast.attention import flex  # here, for it takes seconds to import

        if flex.works(query.shape[-1], query.dtype, query.device.index or 0):
            return flex.flex(query, key, value, window=window, scale=scale, cap=cap, documents=documents)
    if device == "cpu" and tokens > BLOCK:
        return blocked(query, key, value, window=window, scale=scale, cap=cap, documents=documents)
    mask = sequence_mask(tokens, window, query.dtype, query.device, documents)
    return reference(query, key, value, mask=mask, scale=scale, cap=cap)
