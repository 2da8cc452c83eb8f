"""Gemma 2, top to bottom, to read beside the paper (arXiv 2408.00118).

- Layers alternate: the first sees a sliding window, the second everything before, and so on.
- Normalised before and after both attention and feed-forward; the scale of a norm is 1 + weight.
- Attention scores and final logits are soft-capped; query heads share key and value heads.
- GeGLU feed-forward; the embedding is scaled by the root of the width on its way in, and is the head on the way out.

The formulas stand first, then the modules. `fast/` computes four of the formulas faster: `FAST` puts these in their
place, and each is tested against the formula here. Within `plain_formulas()` the model computes by this file alone,
as long as it has no cache.

Parameters have Hugging Face's names, so that a checkpoint needs no mapping.
B batch, T tokens, V vocabulary, D width, H heads, K kv heads, C head_dim.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gemmule.base.linear import linear
from gemmule.losses.fused_head import fused_loss
from gemmule.losses.logits import capped_logits
from gemmule.model.config import Gemma2Config
from gemmule.model.fast import attention as fast_attention
from gemmule.model.fast import norm as fast_norm
from gemmule.model.fast.rotary import Angles

if TYPE_CHECKING:
    from gemmule.losses.targets import Targets
    from gemmule.model.cache import Cache

# query [B, H, T, C], key and value [B, K, T, C], and angles, which turn query and key
# -> what the queries gather, [B, H, T, C]
Attend: TypeAlias = Callable[[Tensor, Tensor, Tensor, Angles], Tensor]
RunLayer: TypeAlias = Callable[..., Tensor]  # (layer, x, angles, attend) -> what the layer makes of x
Loss: TypeAlias = Callable[..., Tensor]  # (hidden [B, T, D], head [V, D], cap, targets, **settings) -> a scalar


def rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """x [..., D] / root-mean-square(x) * (1 + weight [D]), computed in float32 (arXiv 1910.07467)."""
    wide = x.float()
    normalised = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + epsilon)
    return (normalised * (1.0 + weight.float())).to(x.dtype)


def rotary_angles(positions: Tensor, head_dim: int, base: float, dtype: torch.dtype) -> Angles:
    """Cosines and signed sines [T, C] of the angles of `positions` [T], for `rotate` (RoPE, arXiv 2104.09864).

    Channels i and i + C/2 make a pair, which turns by position · base^(-2i / C): Hugging Face's order, where the
    original pairs neighbours. Angles are computed in float32 whatever the dtype: bfloat16 can't hold a position
    above 256.
    """
    exponents = torch.arange(0, head_dim, 2, device=positions.device, dtype=torch.float32) / head_dim
    angles = positions.float()[:, None] * (1.0 / base**exponents)  # [T, C/2]
    cosines, sines = angles.cos(), angles.sin()
    return torch.cat((cosines, cosines), -1).to(dtype), torch.cat((-sines, sines), -1).to(dtype)


def rotate(x: Tensor, angles: Angles) -> Tensor:
    """Turns the channel pairs (a, b) of x [B, H, T, C] to (a cos - b sin, b cos + a sin)."""
    cosines, signed_sines = angles
    swapped = x.roll(x.shape[-1] // 2, dims=-1)  # (b, a); the minus is in the sines
    return x * cosines + swapped * signed_sines


def soft_cap(x: Tensor, cap: float | None) -> Tensor:
    """cap · tanh(x / cap): between -cap and cap, and x itself near 0."""
    return x if cap is None else cap * torch.tanh(x / cap)


def visible(positions: Tensor, window: int | None, documents: Tensor | None = None) -> Tensor:
    """Whether a query (row) sees a key (column), [T, T]; [B, 1, T, T] with `documents` [B, T].

    It sees itself and what comes before, of a window (arXiv 2004.05150) the last `window` keys, itself included. With
    the documents' numbers, only keys of its own document.
    """
    distance = positions[:, None] - positions[None, :]
    seen = distance >= 0
    if window is not None:
        seen = seen & (distance < window)
    if documents is not None:
        seen = seen & (documents[:, None, :, None] == documents[:, None, None, :])
    return seen


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
    """Causal attention over a whole sequence: softmax(soft_cap(query · key · scale)) · value, [B, H, T, C].

    query [B, H, T, C]; key and value [B, K, T, C], each serving H / K query heads in a row (GQA, arXiv 2305.13245).
    """
    shared = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(shared, dim=1), value.repeat_interleave(shared, dim=1)
    scores = soft_cap(query @ key.mT * scale, cap)  # [B, H, T, T]
    seen = visible(torch.arange(query.shape[2], device=query.device), window, documents)
    weights = torch.softmax(scores.masked_fill(~seen, -torch.inf), dim=-1, dtype=torch.float32)
    return weights.to(value.dtype) @ value


def rotated_attention(query: Tensor, key: Tensor, value: Tensor, angles: Angles, **how: Any) -> Tensor:
    """The same of query and key that are yet to be turned by their positions."""
    return attention(rotate(query, angles), rotate(key, angles), value, **how)


def logits(hidden: Tensor, embedding: Tensor, cap: float | None) -> Tensor:
    """What follows hidden states [..., D], by the embedding [V, D], which is the head: [..., V] in float32."""
    return soft_cap((hidden @ embedding.mT).float(), cap)


@dataclass(frozen=True)
class Formulas:
    """What the modules below compute with, where there is a faster way than the formula."""

    linear: Callable[[Tensor, Tensor], Tensor]  # x [..., I], weight [O, I] -> [..., O]
    rms_norm: Callable[[Tensor, Tensor, float], Tensor]
    attention: Callable[..., Tensor]
    logits: Callable[[Tensor, Tensor, float | None], Tensor]


PLAIN = Formulas(F.linear, rms_norm, rotated_attention, logits)
FAST = Formulas(linear, fast_norm.rms_norm, fast_attention.attention, capped_logits)
compute = FAST


@contextmanager
def plain_formulas() -> Iterator[None]:
    """Within this, models compute by the formulas of this file alone. They are slower, and hold every score."""
    global compute
    before, compute = compute, PLAIN
    try:
        yield
    finally:
        compute = before


class Gemma2(nn.Module):
    """The language model: ids in, logits or a loss out. New weights are those of `initialise(0)`."""

    def __init__(self, config: Gemma2Config) -> None:
        super().__init__()
        self.config = config
        self.model = Backbone(config)
        self.initialise(seed=0)

    def forward(
        self,
        ids: Tensor,
        targets: Targets | None = None,
        *,
        loss: Loss = fused_loss,
        cache: Cache | None = None,
        documents: Tensor | None = None,
        **settings: Any,
    ) -> Tensor:
        """Reads ids [B, T] (int64). Gives logits [B, T, V] (float32), or, with `targets`, the mean loss in nats.

        `loss` gets the hidden states, the head's weight, the cap, the targets, and `settings`: `fused_loss` says what
        these may be. With `cache`, ids go on where the cached tokens end. With `documents` [B, T], a token sees only
        tokens of its own document: those with the same number.
        """
        hidden = self.model(ids, cache, documents)
        if targets is not None:
            return loss(hidden, self.model.embed_tokens.weight, self.config.final_cap, targets, **settings)
        if settings:
            raise TypeError(f"{', '.join(settings)}: without targets there is no loss")
        return self.logits(hidden)

    def logits(self, hidden: Tensor) -> Tensor:
        """Soft-capped logits [..., V] (float32) of the backbone's output [..., D]."""
        return compute.logits(hidden, self.model.embed_tokens.weight, self.config.final_cap)

    def kv_cache_bytes(self, batch: int, context: int) -> int:
        """What the cache of `batch` sequences of `context` tokens takes, in the model's dtype."""
        return self.config.kv_cache_bytes(batch, context, self.model.embed_tokens.weight.element_size())

    @torch.no_grad()
    def initialise(self, seed: int) -> Self:
        """Draws new weights, which follow from the seed and the shapes alone. Gives the model itself.

        Embeddings get a standard deviation of width^-0.5, so that scaled embeddings and first logits have variance
        1; matrices fan_in^-0.5. Norms start at a scale of 1, those after attention and feed-forward too: smaller ones
        were measured and end behind (benchmarks/RESULTS.md).
        """
        generator = torch.Generator().manual_seed(seed)  # on the CPU: every device gets the same weights
        for weight in self.parameters():
            if weight.is_meta:
                continue
            if weight.dim() == 1:
                weight.zero_()  # the scale is 1 + weight
            else:  # [V, D] and [outputs, inputs]: the deviation follows from the last dimension in both
                weight.copy_(torch.randn(weight.shape, generator=generator) * weight.shape[-1] ** -0.5)
        return self


class Backbone(nn.Module):
    """Everything below the head: ids [B, T] to hidden states [B, T, D]. It compiles into one graph."""

    def __init__(self, config: Gemma2Config) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = Embedding(config.vocabulary_size, config.width)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.width, config.norm_epsilon)

    def forward(
        self,
        ids: Tensor,
        cache: Cache | None = None,
        documents: Tensor | None = None,
        run_layer: RunLayer = nn.Module.__call__,
    ) -> Tensor:
        """`run_layer` calls a layer with its arguments: as it is, or compiled."""
        if cache is not None and documents is not None:
            raise ValueError("documents can be kept apart in whole sequences only, without a cache")
        config, tokens = self.config, ids.shape[1]
        embedding = self.embed_tokens(ids)
        dtype = embedding.dtype
        hidden = embedding * torch.tensor(config.width**0.5, dtype=dtype)  # Gemma rounds the factor to the dtype

        # Documents keep the positions of the window that they lie in: attention feels only the distance between two.
        positions = torch.arange(tokens, device=ids.device) if cache is None else cache.start(tokens, embedding)
        angles = rotary_angles(positions, config.head_dim, config.rope_base, dtype)

        def attend(layer: int) -> Attend:
            if cache is not None:
                return cache.attend(layer)
            window = config.window if config.is_local(layer) else None
            scale, cap = config.score_scale, config.attention_cap
            return partial(compute.attention, window=window, scale=scale, cap=cap, documents=documents)

        for index, layer in enumerate(self.layers):
            hidden = run_layer(layer, hidden, angles, attend(index))
        if cache is not None:
            cache.advance(tokens)
        return self.norm(hidden)


class Layer(nn.Module):
    """One layer: attention, then feed-forward, each between two norms and added to what came in."""

    def __init__(self, config: Gemma2Config) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.width, config.norm_epsilon)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RMSNorm(config.width, config.norm_epsilon)
        self.pre_feedforward_layernorm = RMSNorm(config.width, config.norm_epsilon)
        self.mlp = FeedForward(config)
        self.post_feedforward_layernorm = RMSNorm(config.width, config.norm_epsilon)

    def forward(self, x: Tensor, angles: Angles, attend: Attend) -> Tensor:
        x = x + self.post_attention_layernorm(self.self_attn(self.input_layernorm(x), angles, attend))
        return x + self.post_feedforward_layernorm(self.mlp(self.pre_feedforward_layernorm(x)))


class Attention(nn.Module):
    """Queries, keys and values of x [B, T, D], attention between them, and the projection back to [B, T, D]."""

    def __init__(self, config: Gemma2Config) -> None:
        super().__init__()
        self.config = config
        self.q_proj = Linear(config.width, config.heads * config.head_dim)
        self.k_proj = Linear(config.width, config.kv_heads * config.head_dim)
        self.v_proj = Linear(config.width, config.kv_heads * config.head_dim)
        self.o_proj = Linear(config.heads * config.head_dim, config.width)

    def forward(self, x: Tensor, angles: Angles, attend: Attend) -> Tensor:
        shape = (*x.shape[:2], -1, self.config.head_dim)
        query = self.q_proj(x).view(shape).transpose(1, 2)  # [B, H, T, C]
        key, value = (of(x).view(shape).transpose(1, 2) for of in (self.k_proj, self.v_proj))  # [B, K, T, C]
        mixed = attend(query, key, value, angles)  # [B, H, T, C]
        return self.o_proj(mixed.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """GeGLU (arXiv 2002.05202): down(gelu(gate(x)) * up(x)), with GELU by its tanh approximation."""

    def __init__(self, config: Gemma2Config) -> None:
        super().__init__()
        self.gate_proj = Linear(config.width, config.ffn_width)
        self.up_proj = Linear(config.width, config.ffn_width)
        self.down_proj = Linear(config.ffn_width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.gelu(self.gate_proj(x), approximate="tanh") * self.up_proj(x))


class RMSNorm(nn.Module):
    """Normalises the last dimension of x, of `width` channels."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.weight = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return compute.rms_norm(x, self.weight, self.epsilon)


class Linear(nn.Linear):
    """A matrix without bias, and without PyTorch's own initial weights: they come from `initialise` or a file."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return compute.linear(x, self.weight)

    def reset_parameters(self) -> None:
        pass


class Embedding(nn.Embedding):
    """A table of vectors, likewise."""

    def reset_parameters(self) -> None:
        pass
