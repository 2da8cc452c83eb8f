"""Muon (Jordan et al. 2024; Liu et al. 2025, arXiv 2502.16982), for the matrices inside the layers.

`torch.optim.Muon(adjust_lr_fn="match_rms_adamw")`: its updates are scaled to the size of AdamW's, so that one learning
rate serves both. But on a CPU it iterates in float32: in bfloat16 a sum in another order changes an update by a
thousandth, so that processes, which share the work, would end elsewhere than one; and a CPU takes three times as long.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gemmule.recipe import Train

if TYPE_CHECKING:
    from torch import Tensor

    from gemmule.train.optimizers import Weight

MOMENTS = ("momentum_buffer",)


def takes(name: str, shape: Sequence[int]) -> bool:
    return len(shape) >= 2 and ".layers." in name


def update(weights: Sequence[Weight], train: Train, rate: float) -> None:
    momentum = train.betas[1]
    for weight in weights:
        average = weight.moments["momentum_buffer"].lerp_(weight.gradient, 1 - momentum)
        step = orthogonal(weight.gradient.lerp(average, momentum))  # Nesterov's
        scaled = rate * 0.2 * math.sqrt(max(weight.value.shape))  # an update as large as AdamW's
        weight.value.mul_(1 - rate * weight.decay).add_(step.to(weight.value.dtype), alpha=-scaled)


def orthogonal(matrix: Tensor) -> Tensor:
    """Five steps of a quintic Newton-Schulz iteration: singular values go to about 1 (0.7 to 1.2).

    In float32 on a CPU, else in bfloat16 (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon).
    """
    turned = matrix.shape[0] > matrix.shape[1]
    x = matrix.float() if matrix.device.type == "cpu" else matrix.bfloat16()
    x = x.T if turned else x
    x = x / x.norm().clamp(min=1e-7)  # so that no singular value is above 1
    for _ in range(5):
        gram = x @ x.T
        x = x.addmm(gram.addmm(gram, gram, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
    return x.T if turned else x
