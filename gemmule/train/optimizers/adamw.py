"""AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101): `torch.optim.AdamW(fused=True)` to the bit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gemmule.recipe import Train

if TYPE_CHECKING:
    from gemmule.train.optimizers.rule import Weight

MOMENTS = ("exp_avg", "exp_avg_sq")


def takes(name: str, shape: Sequence[int]) -> bool:
    return True


def update(weights: Sequence[Weight], train: Train, rate: float) -> None:
    import torch

    from gemmule.base.torch_compat import fused_adamw

    groups: dict[tuple[float, float, int], list[Weight]] = {}
    for weight in weights:
        groups.setdefault((weight.decay, weight.rate_factor, weight.updates), []).append(weight)
    for (decay, factor, updates), group in groups.items():
        averages, squares = ([weight.moments[name] for weight in group] for name in MOMENTS)
        steps = torch.full((len(group),), float(updates), device=group[0].value.device).unbind()
        values, gradients = [weight.value for weight in group], [weight.gradient for weight in group]
        fused_adamw(values, gradients, averages, squares, steps, betas=train.betas, rate=rate * factor, decay=decay)
