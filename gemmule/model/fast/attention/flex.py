"""Soft-capped attention by FlexAttention (arXiv 2412.05496): CUDA's path. One fused kernel skips the blocks that no
query sees, and applies the cap to each score inside.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from gemmule.base.errors import first_line
from gemmule.base.progress import say

_compiled = torch.compile(flex_attention, dynamic=False)


def flex(
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

    query [B, H, T, C]; key and value [B, K, T, C]; `documents` [B, T] keeps packed documents apart.
    """
    mask = block_mask(query.shape[2], window, query.device, documents)
    score = None if cap is None else capped_score(cap)
    attended: Tensor = _compiled(query, key, value, score_mod=score, block_mask=mask, scale=scale, enable_gqa=True)
    return attended


@functools.cache
def capped_score(cap: float) -> Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]:
    """The function of one score that FlexAttention builds into its kernel."""

    def capped(score: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return cap * torch.tanh(score / cap)

    return capped


@functools.lru_cache(maxsize=8)  # layers share masks; a tensor of documents is recognised by its identity
def block_mask(tokens: int, window: int | None, device: torch.device, documents: Tensor | None = None) -> BlockMask:
    """Which keys each query sees, and which blocks of them no query of a block sees."""

    def visible(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        seen = query >= key
        if window is not None:
            seen = seen & (query - key < window)
        if documents is not None:
            seen = seen & (documents[batch, query] == documents[batch, key])
        return seen

    batch = None if documents is None else len(documents)
    return create_block_mask(visible, batch, None, tokens, tokens, device=device)


@torch.compiler.assume_constant_result
@functools.cache
def works(head_dim: int, dtype: torch.dtype, device: int) -> bool:
    """Whether FlexAttention compiles and runs forward and backward on this GPU; if not, says why, once."""
    try:
        x = torch.randn(1, 2, 128, head_dim, dtype=dtype, device=f"cuda:{device}", requires_grad=True)
        with torch.enable_grad():
            flex(x, x, x, window=64, scale=1.0, cap=50.0).sum().backward()
    except Exception as error:  # no Triton, an old GPU, an unsupported shape: each has an error of its own
        say(
            f"FlexAttention does not work here ({first_line(error)}); "
            "falling back to the plain formulas, which are slower"
        )
        return False
    return True
