"""`transformer.rotate`, for pieces that `transformer.py` itself imports."""

from __future__ import annotations

from typing import TypeAlias

from torch import Tensor

Angles: TypeAlias = tuple[Tensor, Tensor]  # cosines and signed sines, each [T, C]


def rotate(x: Tensor, angles: Angles) -> Tensor:
    """Turns the channel pairs (i, i + C/2) of x [B, H, T, C]."""
    cosines, signed_sines = angles
    return x * cosines + x.roll(x.shape[-1] // 2, dims=-1) * signed_sines
