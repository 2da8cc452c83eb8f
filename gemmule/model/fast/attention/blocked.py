"""Soft-capped attention a block of queries at a time: the CPU's path, for long sequences and for training.

- A block of queries meets only the keys that some query of it sees: none after it, none before its window. So the
  work and memory of a local layer grow linearly with the sequence.
- Nothing of size [queries, keys] outlives its block: the backward pass computes the weights again from query and key,
  as FlashAttention does (arXiv 2205.14135).
- Some sequences of a batch at a time, so that a block's scores stay near the processor, in buffers that all blocks
  share. Rotary positions are turned there too, on the way into the layout that the products read.
- The exponential of a capped score fits a float32: no maximum need be found and subtracted first.
- Forward and backward are each one operator to `torch.compile`, which goes around them without a graph break: it has
  nothing to fuse inside, and a block's scores are in the cache anyway.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from gemmule.base import torch_compat
from gemmule.losses.loss import SAFE_EXPONENT
from gemmule.model.fast.attention.masked import visible
from gemmule.model.fast.rotary import Angles

BLOCK = 64  # queries: from 256 tokens to 4,096 the best or within a tenth of it (benchmarks/attention.py)
SCORES = (
    2**19
)  # of the blocks that are worked on at once, for each thread: more calls of PyTorch cost more than they gain

# Of a block, columns of keys and whether its queries see these: 1 or 0, [R, 1, S] or [B K, R, 1, S]
Edges: TypeAlias = list[tuple[slice, Tensor]]


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
    angles: Angles,
    *,
    window: int | None,
    scale: float,
    cap: float | None,
    documents: Tensor | None = None,
) -> Tensor:
    """Causal attention over a whole sequence: [B, H, T, C].

    query [B, H, T, C]; key and value [B, K, T, C]; `documents` [B, T] keeps packed documents apart. Products are in the
    value's dtype: under autocast that is lower than the angles'. Scores and softmax are computed in float32 at least.
    """
    attended: Tensor = _attend(query, key, value, *angles, documents, window, scale, cap)
    return attended


@_operator("blocked_attention")
def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cosines: Tensor,
    sines: Tensor,
    documents: Tensor | None,
    window: int | None,
    scale: float,
    cap: float | None,
) -> Tensor:
    attended, K, G = _like(query, value.dtype), key.shape[1], query.shape[1] // key.shape[1]
    for part, blocks, (buffer,) in _parts(query, K, documents, window, buffers=1):
        queries, keys = (_rotated_rows(x[part], K, (cosines, sines), value.dtype) for x in (query, key))
        values, out = _rows(value[part], K), _grouped(attended[part], K)
        for block, seen, edges in blocks:
            rows = slice(block.start * G, block.stop * G)
            scores = _product(queries[:, rows], keys[:, seen].mT, buffer, _inner(scale, cap))
            weights = _weights(scores, edges, cap, out=scores)
            out[:, :, block] = (weights.to(value.dtype) @ values[:, seen]).view_as(out[:, :, block])
    return attended


@torch.library.register_fake("gemmule::blocked_attention")
def _(query: Tensor, key: Tensor, value: Tensor, *_: Any) -> Tensor:
    return _like(query, value.dtype)


@_operator("blocked_attention_backward")
def _gradients(
    gradient: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cosines: Tensor,
    sines: Tensor,
    documents: Tensor | None,
    window: int | None,
    scale: float,
    cap: float | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Of the loss by query, key and value, from its `gradient` [B, H, T, C] by what was attended."""
    by_query, by_key, by_value = _like(query), _like(key), _like(value)
    K, G = key.shape[1], query.shape[1] // key.shape[1]
    back = cosines * scale, sines * -scale
    for part, blocks, buffers in _parts(query, K, documents, window, buffers=3):
        queries, keys = (_rotated_rows(x[part], K, (cosines, sines), value.dtype) for x in (query, key))
        values, gradients = _rows(value[part], K), _rows(gradient[part], K)
        by_queries, by_keys, by_values = torch.empty_like(queries), torch.zeros_like(keys), torch.zeros_like(values)
        for block, seen, edges in blocks:
            rows = slice(block.start * G, block.stop * G)
            scores = _product(queries[:, rows], keys[:, seen].mT, buffers[0], _inner(scale, cap))
            weights = _weights(scores, edges, cap, out=_shaped(buffers[1], scores.shape))
            by_values[:, seen] += weights.to(value.dtype).mT @ gradients[:, rows]
            by_scores = _product(gradients[:, rows], values[:, seen].mT, buffers[2], 1.0)
            torch_compat.softmax_backward(by_scores, weights, out=by_scores)
            if cap is not None:
                torch_compat.tanh_backward(by_scores, scores, out=by_scores)
            narrow = by_scores.to(value.dtype)
            by_queries[:, rows] = narrow @ keys[:, seen]
            by_keys[:, seen] += narrow.mT @ queries[:, rows]
        results = (by_query, _turned(by_queries, back)), (by_key, _turned(by_keys, back)), (by_value, by_values)
        for result, of_rows in results:
            into = _grouped(result[part], K)
            into.copy_(of_rows.view_as(into))
    return by_query, by_key, by_value


@torch.library.register_fake("gemmule::blocked_attention_backward")
def _(gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    return _like(query), _like(key), _like(value)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, window, scale, cap = inputs
    ctx.save_for_backward(*tensors)
    ctx.how = window, scale, cap


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    return *_gradients(gradient, *ctx.saved_tensors, *ctx.how), *[None] * 6


torch.library.register_autograd("gemmule::blocked_attention", _backward, setup_context=_keep)


def _parts(
    query: Tensor, K: int, documents: Tensor | None, window: int | None, *, buffers: int
) -> Iterator[tuple[slice, list[tuple[slice, slice, Edges]], list[Tensor]]]:
    """Some sequences of the batch, their blocks, and buffers for the scores of one of these."""
    B, H, T, _ = query.shape
    reach = T if window is None else min(window, T)
    scores = H * min(BLOCK, T) * min(BLOCK + reach - 1, T)  # of a block of one sequence
    sequences = max(1, min(B, SCORES * torch.get_num_threads() // scores))
    dtype = torch.promote_types(query.dtype, torch.float32)
    space = [query.new_empty(sequences * scores, dtype=dtype) for _ in range(buffers)]
    # All blocks are cut from one band: a block against the keys from reach - 1 before it to its end.
    queries = torch.arange(min(BLOCK, T), device=query.device)
    keys = torch.arange(1 - reach, min(BLOCK, T), device=query.device)
    band = visible(queries, keys, window).to(dtype)
    for first in range(0, B, sequences):
        part = slice(first, first + sequences)
        own = None if documents is None else documents[part].repeat_interleave(K, dim=0)
        yield part, [_block(start, T, reach, band, own) for start in range(0, T, BLOCK)], space


def _block(start: int, T: int, reach: int, band: Tensor, documents: Tensor | None) -> tuple[slice, slice, Edges]:
    """The queries of a block, the keys that it sees, and where some of its queries do not see some of these."""
    stop, first = min(start + BLOCK, T), max(0, start - reach + 1)
    seen = band[: stop - start, first - start + reach - 1 : stop - start + reach - 1].unsqueeze(-2)  # [R, 1, S]
    if documents is not None:  # [B K, T]
        same = documents[:, start:stop, None, None] == documents[:, None, None, first:stop]
        return slice(start, stop), slice(first, stop), [(slice(None), seen * same)]
    columns = [slice(max(0, stop - reach - first)), slice(start - first, None)]  # left behind, and to come
    edges = [(edge, seen[..., edge]) for edge in columns if edge.stop != 0]
    return slice(start, stop), slice(first, stop), edges


def _weights(scores: Tensor, edges: Edges, cap: float | None, out: Tensor) -> Tensor:
    """The softmax over what is seen, [B K, R G, S], in `out`. `scores` become their tanh where there is a cap."""
    if cap is not None:
        torch.mul(scores.tanh_(), cap, out=out)
    elif out is not scores:
        out.copy_(scores)
    by_query = out.view(len(out), edges[0][1].shape[-3], -1, out.shape[-1])  # [B K, R, G, S]
    if cap is not None and cap <= SAFE_EXPONENT:
        out.exp_()
        for columns, seen in edges:
            by_query[..., columns].mul_(seen)
        return out.div_(out.sum(-1, keepdim=True))
    for columns, seen in edges:
        by_query[..., columns].add_(seen.log())
    return out.copy_(out.softmax(-1))


def _inner(scale: float, cap: float | None) -> float:
    """What products of queries and keys are multiplied by, to be the tanh's arguments where there is a cap."""
    return scale if cap is None else scale / cap


def _product(a: Tensor, b: Tensor, buffer: Tensor, scale: float) -> Tensor:
    """a [P, R, C] · b [P, C, S] · scale, in the first of the buffer."""
    out = _shaped(buffer, (*a.shape[:2], b.shape[-1]))
    if a.dtype == out.dtype:
        return torch.baddbmm(out, a, b, beta=0, alpha=scale, out=out)
    return torch.mul(a @ b, scale, out=out)


def _shaped(buffer: Tensor, shape: Sequence[int]) -> Tensor:
    return buffer[: math.prod(shape)].view(shape)


def _grouped(x: Tensor, K: int) -> Tensor:
    """[B, K G, T, C] as [B, K, T, G, C], a view: token by token the query heads that share a key head."""
    return x.unflatten(1, (K, -1)).transpose(2, 3)


def _rows(x: Tensor, K: int) -> Tensor:
    """[B, K G, T, C] as [B K, T G, C]: these as rows of one matrix."""
    return _grouped(x, K).reshape(len(x) * K, -1, x.shape[-1])


def _rotated_rows(x: Tensor, K: int, angles: Angles, dtype: torch.dtype) -> Tensor:
    return _turned(_rows(x, K), angles).to(dtype)


def _turned(rows: Tensor, angles: Angles) -> Tensor:
    """`transformer.rotate` of [B K, T G, C], whose angles [T, C] serve G rows each."""
    G, half = rows.shape[1] // len(angles[0]), rows.shape[2] // 2
    cosines, signed_sines = (of.repeat_interleave(G, dim=0) for of in angles)  # [T G, C]
    turned = rows * cosines
    turned[..., :half].addcmul_(rows[..., half:], signed_sines[:, :half])
    turned[..., half:].addcmul_(rows[..., :half], signed_sines[:, half:])
    return turned


def _like(x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """New memory for [B, H, T, C], which lies as [B, T, H, C]: so the linear maps around attention read it."""
    B, H, T, C = x.shape
    return x.new_empty(B, T, H, C, dtype=dtype).transpose(1, 2)
