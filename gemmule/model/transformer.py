"""Gemma 2, top to bottom (arXiv 2408.00118).

- Layers alternate: the first sees a sliding window, the second everything before, and so on.
- Normalised before and after both attention and feed-forward; the scale of a norm is 1 + weight.
- Attention scores and final logits are soft-capped; query heads share key and value heads.
- GeGLU feed-forward; the embedding is scaled by the root of the width on its way in, and is the head on the way out.
- The loss is computed inside `forward`: nothing outside needs the head's weight, and logits need not outlive it.

Parameters have Hugging Face's names, so that a checkpoint needs no mapping.
B batch, T tokens, V vocabulary, D width, H heads, K kv heads, C head_dim, S keys.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Self, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gemmule.base.linear import linear
from gemmule.losses.fused_head import fused_loss
from gemmule.losses.logits import capped_logits
from gemmule.losses.targets import Targets
from gemmule.model.cache import Cache
from gemmule.model.config import Gemma2Config
from gemmule.model.fast.attention import attention, rotary_angles, rotate
from gemmule.model.fast.norm import RMSNorm

# query [B, H, T, C], key and value [B, K, T, C] -> what the queries gather, [B, H, T, C]
Attend: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]
RunLayer: TypeAlias = Callable[..., Tensor]  # (layer, x, angles, attend) -> what the layer makes of x
Loss: TypeAlias = Callable[..., Tensor]  # (hidden [B, T, D], head [V, D], cap, targets, **settings) -> a scalar


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
        return capped_logits(hidden, self.model.embed_tokens.weight, self.config.final_cap)

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
        self.norm = RMSNorm(config)

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
            return partial(attention, window=window, scale=scale, cap=cap, documents=documents)

        for index, layer in enumerate(self.layers):
            hidden = run_layer(layer, hidden, angles, attend(index))
        if cache is not None:
            cache.advance(tokens)
        return self.norm(hidden)


class Layer(nn.Module):
    """One layer: attention, then feed-forward, each between two norms and added to what came in."""

    def __init__(self, config: Gemma2Config) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RMSNorm(config)
        self.pre_feedforward_layernorm = RMSNorm(config)
        self.mlp = FeedForward(config)
        self.post_feedforward_layernorm = RMSNorm(config)

    def forward(self, x: Tensor, angles: tuple[Tensor, Tensor], attend: Attend) -> Tensor:
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

    def forward(self, x: Tensor, angles: tuple[Tensor, Tensor], attend: Attend) -> Tensor:
        shape = (*x.shape[:2], -1, self.config.head_dim)
        query = rotate(self.q_proj(x).view(shape).transpose(1, 2), angles)  # [B, H, T, C]
        key = rotate(self.k_proj(x).view(shape).transpose(1, 2), angles)  # [B, K, T, C]
        value = self.v_proj(x).view(shape).transpose(1, 2)
        mixed = attend(query, key, value)  # [B, H, T, C]
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


class Linear(nn.Linear):
    """A matrix without bias, and without PyTorch's own initial weights: they come from `initialise` or a file."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight)

    def reset_parameters(self) -> None:
        pass


class Embedding(nn.Embedding):
    """A table of vectors, likewise."""

    def reset_parameters(self) -> None:
        pass
