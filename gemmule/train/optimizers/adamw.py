"""AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101): `torch.optim.AdamW(fused=True)` to the bit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gemmule.recipe import Train

if TYPE_CHECKING:
    from gemmule.train.optimizers import Weight

MOMENTS = ("exp_avg", "exp_avg_sq")


def takes(name: str, shape: Sequence[int]) -> bool:
    return True


def update(weights: Sequence[Weight], train: Train, rate: float) -> None:
    """By PyTorch's functional form: the class imports the whole compiler, more than a second of every start."""
    import torch
    from torch.optim.adamw import adamw

    for decay, updates in {(weight.decay, weight.updates) for weight in weights}:
        group = [weight for weight in weights if (weight.decay, weight.updates) == (decay, updates)]
        averages, squares = ([weight.moments[name] for weight in group] for name in MOMENTS)
        steps = torch.full((len(group),), float(updates), device=group[0].value.device)
        adamw(
            [weight.value for weight in group], [weight.gradient for weight in group], averages, squares, [],
            list(steps.unbind()), fused=True, amsgrad=False, beta1=train.betas[0], beta2=train.betas[1], lr=rate,
            weight_decay=decay, eps=1e-8, maximize=False,
        )  # fmt: skip
