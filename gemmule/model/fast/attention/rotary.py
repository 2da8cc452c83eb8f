"""Rotary position embeddings: pairs of channels turn by an angle that grows with the position (arXiv 2104.09864)."""

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
