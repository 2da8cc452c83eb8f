"""What holds attention and logits when the learning rate is too high.

The same model with the soft-caps and without, trained at learning rates that are too high. Gemma 2 caps attention
scores at 50 and logits at 30 (arXiv 2408.00118, section 2). The text is learned at once (every token has one
successor), so that the loss goes on rewarding larger logits for ever. Recorded is the largest score that a query gave a
key, and the largest logit, over the whole training.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from rich.table import Table
from torch import Tensor

from gemmule.model.config import Gemma2Config
from gemmule.model.transformer import Attention, Gemma2

VOCABULARY = 64
CAPS = {"capped": (50.0, 30.0), "uncapped": (None, None)}


@dataclass(frozen=True)
class Extremes:
    """The largest numbers seen in training, and the loss at its end."""

    score: float
    logit: float
    loss: float


def train(attention_cap: float | None, final_cap: float | None, learning_rate: float, steps: int = 60) -> Extremes:
    """Trains a model of two layers of width 32."""
    config = Gemma2Config(VOCABULARY, 2, 32, 2, 1, 16, 64, 16, attention_cap=attention_cap, final_cap=final_cap)
    model = Gemma2(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.95))
    random = torch.Generator().manual_seed(0)
    successor = torch.randperm(VOCABULARY, generator=random)
    score = logit = 0.0

    def record(layer: Attention, inputs: tuple[Tensor, ...], _: Tensor) -> None:
        nonlocal score
        score = max(score, _largest_score(layer, inputs[0]))

    for layer in model.model.layers:
        layer.self_attn.register_forward_hook(record)  # type: ignore[union-attr]
    for _ in range(steps):
        tokens = [torch.randint(VOCABULARY, (16,), generator=random)]
        for _ in range(32):
            tokens.append(successor[tokens[-1]])
        ids = torch.stack(tokens, dim=1)  # [16, 33]
        optimizer.zero_grad()
        loss = model(ids[:, :-1], ids[:, 1:])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            logit = max(logit, model(ids[:, :-1]).abs().max().item())
    return Extremes(score, logit, loss.item())


@torch.no_grad()
def _largest_score(layer: Attention, x: Tensor) -> float:
    """The largest score of any query with any key in x [B, T, D], capped as the model caps it.

    Rotary positions are left out: they turn queries and keys and stretch neither.
    """
    config, shape = layer.config, (*x.shape[:2], -1, layer.config.head_dim)
    query, key = layer.q_proj(x).view(shape).transpose(1, 2), layer.k_proj(x).view(shape).transpose(1, 2)
    key = key.repeat_interleave(config.heads // config.kv_heads, dim=1)
    scores = query @ key.mT * config.score_scale
    if config.attention_cap is not None:
        scores = torch.tanh(scores / config.attention_cap) * config.attention_cap
    return float(scores.abs().max())


def run() -> Table:
    table = Table("learning rate", "", "largest score", "largest logit", "loss at the end")
    for rate in (0.01, 0.1, 0.3):
        for name, caps in CAPS.items():
            seen = train(*caps, rate)
            table.add_row(f"{rate:g}", name, f"{seen.score:,.0f}", f"{seen.logit:,.1f}", f"{seen.loss:.3f}")
    return table
