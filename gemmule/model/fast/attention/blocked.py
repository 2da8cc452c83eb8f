"""Soft-capped attention a block of queries at a time: the CPU's path, for long sequences and for training.

- A block of queries meets only the keys that some query of it sees: none after it, none before its window. So the
  work and memory of a local layer grow linearly with the sequence.
- Nothing of size [queries, keys] outlives its block: the backward pass computes the weights again from query and key,
  as FlashAttention does (arXiv 2205.14135). A block's scores stay in the processor's cache.
- cap · tanh(s / cap) = 2 cap · sigmoid(2 s / cap) - cap, and a softmax does not feel the last term: the cap costs a
  sigmoid, a third of a tanh on a CPU.
- Forward and backward are each one operator to `torch.compile`, which goes around them without a graph break: it has
  nothing to fuse inside, and a block's scores are in the cache anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from gemmule.base import torch_compat
from gemmule.model.fast.attention.masked import causal_mask, separate

BLOCK = 64  # queries: from 256 tokens to 4,096 the best or within a tenth of it (benchmarks/attention.py)


def _operator(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Makes a function an operator of PyTorch's, gemmule::name.

    As `torch.library.custom_op` does, whose operators import the whole compiler when first called: a second or more.
    """

    def define(function: Callable[..., Any]) -> Callable[..., Any]:
        torch.library.define(f"gemmule::{name}", torch.library.infer_schema(function, mutates_args=()))
        torch.library.impl(f"gemmule::{name}", "default", function)
        operator: Callable[..., Any] = getattr(torch.ops.gemmule, name)
        return operator

    return define


def blocked(
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

    query [B, H, T, C]; key and value [B, K, T, C]; `documents` [B, T] keeps packed documents apart. Products are in the
    value's dtype: under autocast that is lower than the rotated query's and key's. Scores and softmax are computed in
    float32 at least.
    """
    query, key = query.to(value.dtype), key.to(value.dtype)
    attended: Tensor = _attend(query, key, value, documents, window, scale, cap)
    return attended


@_operator("blocked_attention")
def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    documents: Tensor | None,
    window: int | None,
    scale: float,
    cap: float | None,
) -> Tensor:
    B, K, T = key.shape[:3]
    queries, keys, values = _rows(query * _inner_scale(scale, cap), K), _rows(key, K), _rows(value, K)
    attended = torch.empty_like(queries)
    for rows, seen, mask in _blocks(query, documents, window, K):
        _, weights = _weights(queries[:, rows], keys[:, seen], mask, cap)
        attended[:, rows] = weights.to(value.dtype) @ values[:, seen]
    return _heads(attended, B, T)


@torch.library.register_fake("gemmule::blocked_attention")
def _(query: Tensor, key: Tensor, value: Tensor, documents: Any, window: Any, scale: Any, cap: Any) -> Tensor:
    return _like(query)


@_operator("blocked_attention_backward")
def _gradients(
    gradient: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    documents: Tensor | None,
    window: int | None,
    scale: float,
    cap: float | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Of the loss by query, key and value, from its `gradient` [B, H, T, C] by what was attended."""
    B, K, T = key.shape[:3]
    gradients = _rows(gradient, K)
    queries, keys, values = _rows(query * _inner_scale(scale, cap), K), _rows(key, K), _rows(value, K)
    by_query, by_key, by_value = torch.empty_like(queries), torch.zeros_like(keys), torch.zeros_like(values)
    for rows, seen, mask in _blocks(query, documents, window, K):
        capped, weights = _weights(queries[:, rows], keys[:, seen], mask, cap)
        by_value[:, seen].baddbmm_(weights.to(value.dtype).mT, gradients[:, rows])
        by_weights = (gradients[:, rows] @ values[:, seen].mT).to(weights.dtype)
        by_scores = torch_compat.softmax_backward(by_weights, weights)
        if cap is not None:
            by_scores = torch_compat.sigmoid_backward(by_scores, capped)
        by_scores = by_scores.to(query.dtype)
        by_query[:, rows] = by_scores @ keys[:, seen]
        by_key[:, seen].baddbmm_(by_scores.mT, queries[:, rows])
    outer_scale = 1 if cap is None else 2 * cap
    by_query *= outer_scale * _inner_scale(scale, cap)
    by_key *= outer_scale
    return _heads(by_query, B, T), _heads(by_key, B, T), _heads(by_value, B, T)


@torch.library.register_fake("gemmule::blocked_attention_backward")
def _(gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    return _like(query), _like(key), _like(value)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, window, scale, cap = inputs
    ctx.save_for_backward(*tensors)
    ctx.how = window, scale, cap


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    return *_gradients(gradient, *ctx.saved_tensors, *ctx.how), None, None, None, None


torch.library.register_autograd("gemmule::blocked_attention", _backward, setup_context=_keep)


def _blocks(
    query: Tensor, documents: Tensor | None, window: int | None, K: int
) -> Iterator[tuple[slice, slice, Tensor]]:
    """Each block's rows of the queries, the keys that it sees, and the mask between them."""
    B, H, T, _ = query.shape
    G = H // K
    reach = T if window is None else min(window, T)
    # All blocks are cut from one mask: a block against the keys from reach - 1 before it to its end.
    queries = torch.arange(min(BLOCK, T), device=query.device)
    keys = torch.arange(1 - reach, min(BLOCK, T), device=query.device)
    band = causal_mask(queries, keys, window, torch.promote_types(query.dtype, torch.float32))
    for start in range(0, T, BLOCK):
        stop, first = min(start + BLOCK, T), max(0, start - reach + 1)
        mask = band[: stop - start, first - start + reach - 1 : stop - start + reach - 1]  # [R, S]
        if documents is not None:
            mask = separate(mask, documents[:, start:stop], documents[:, first:stop])  # [B, 1, R, S]
            mask = mask.expand(B, K, -1, -1).flatten(0, 1)  # [B K, R, S]
        yield slice(start * G, stop * G), slice(first, stop), mask.unsqueeze(-2)


def _weights(query: Tensor, key: Tensor, mask: Tensor, cap: float | None) -> tuple[Tensor, Tensor]:
    """What the cap's gradient needs, and the softmax weights: both [B K, R G, S].

    query [B K, R G, C], scaled; key [B K, S, C]; mask [R, 1, S] or [B K, R, 1, S].
    """
    scores = (query @ key.mT).to(mask.dtype)
    shape = (len(scores), mask.shape[-3], -1, scores.shape[-1])  # [B K, R, G, S]
    if cap is not None:
        scores.sigmoid_()
    masked = torch.add(mask, scores.view(shape), alpha=1 if cap is None else 2 * cap)
    return scores, torch.softmax(masked, dim=-1).view_as(scores)


def _inner_scale(scale: float, cap: float | None) -> float:
    """What queries are multiplied by, so that their products with keys are the sigmoid's arguments."""
    return scale if cap is None else 2 * scale / cap


def _rows(x: Tensor, K: int) -> Tensor:
    """[B, K G, T, C] as [B K, T G, C]: the query heads that share a key head, token by token, as rows of one matrix."""
    return x.unflatten(1, (K, -1)).transpose(2, 3).reshape(len(x) * K, -1, x.shape[-1])


def _heads(rows: Tensor, B: int, T: int) -> Tensor:
    """The other way; in memory [B, T, H, C], as the linear maps around attention read it."""
    C = rows.shape[-1]
    by_token = rows.view(B, -1, T, rows.shape[1] // T, C).transpose(1, 2).contiguous()  # [B, T, K, G, C]
    return by_token.view(B, T, -1, C).transpose(1, 2)


def _like(x: Tensor) -> Tensor:
    B, H, T, C = x.shape
    return x.new_empty(B, T, H, C).transpose(1, 2)
