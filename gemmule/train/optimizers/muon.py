"""Muon (Jordan et al. 2024; Liu et al. 2025, arXiv 2502.16982), for the matrices inside the layers.

An update is the gradient's average with all of its singular values near 1, in the size of an update of AdamW's, so that
one learning rate serves both. The average forgets soon, by `betas[0]` as AdamW's does: 0.8 beats 0.9 in trainings
of 200 and of 600 steps. Three things make an update cheap:

- Three steps of Newton and Schulz instead of five, each with the polynomial that is best for what the one before left
  (Amsel et al. 2025, arXiv 2505.16932); that five or two end no better or worse was measured (docs/log.md).
- They run on the Gram matrix, which is the smaller square: X' = p(X X^T) X, so X itself is read twice.
- The Gram matrix's norm bounds the largest singular value more closely than the matrix's own: nothing is lost to
  scaling.

In float32 everywhere: in bfloat16 the Gram matrix loses what is small, and a sum in another order changes an update by
a thousandth.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from functools import reduce
from typing import TYPE_CHECKING, cast

from gemmule.base import ranks
from gemmule.recipe import Train

if TYPE_CHECKING:
    from torch import Tensor

    from gemmule.train.optimizers.rule import Weight

MOMENTS = ("momentum_buffer",)
# a x + b x^3 + c x^5: minimax for singular values from 0.01 to 1, then for what each leaves; in the end 1 ± 0.27
POLYNOMIALS = ((8.09337, -23.6204, 17.4462), (3.63659, -2.72193, 0.536546), (2.6613, -1.97715, 0.452616))
ELEMENTS = 2**24  # of matrices that are worked on at once


def takes(name: str, shape: Sequence[int]) -> bool:
    return len(shape) >= 2 and ".layers." in name


def update(weights: Sequence[Weight], train: Train, rate: float) -> None:
    momentum = train.betas[0]
    directions = []
    for weight in weights:
        average = weight.moments["momentum_buffer"].lerp_(weight.gradient, 1 - momentum)
        directions.append(weight.gradient.lerp(average, momentum))  # Nesterov's
    for weight, step in zip(weights, orthogonal(directions), strict=True):
        own = rate * weight.rate_factor
        scaled = own * 0.2 * math.sqrt(max(weight.value.shape))  # an update as large as AdamW's
        weight.value.mul_(1 - own * weight.decay).add_(step.to(weight.value.dtype), alpha=-scaled)


def orthogonal(matrices: Sequence[Tensor]) -> list[Tensor]:
    """Each of the matrices, [rows, columns], with its singular values brought near 1; those of one shape at once.

    Where ranks hold a piece of each (DTensor), each matrix is worked on by one of them.
    """
    by_shape: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for number, matrix in enumerate(matrices):
        by_shape[tuple(sorted(matrix.shape))].append(number)
    iterate = _batch if ranks.size() == 1 else _batch_by_ranks
    made: dict[int, Tensor] = {}
    for shape, numbers in by_shape.items():
        at_once = max(ranks.size(), ELEMENTS // math.prod(shape))
        for first in range(0, len(numbers), at_once):
            some = numbers[first : first + at_once]
            made |= zip(some, iterate([matrices[number] for number in some]), strict=True)
    return [made[number] for number in range(len(matrices))]


def _batch(matrices: Sequence[Tensor]) -> list[Tensor]:
    import torch

    wide = torch.stack([matrix.T if _is_tall(matrix) else matrix for matrix in matrices]).float()
    tiny = torch.finfo(wide.dtype).tiny
    wide = wide / wide.abs().amax((1, 2), keepdim=True).clamp(min=tiny)  # else small squares end at 0
    gram = wide @ wide.mT
    norm = torch.linalg.matrix_norm(gram, keepdim=True).clamp(min=tiny)  # at least the largest singular value squared
    gram = gram / norm
    factors: list[Tensor] = []
    for a, b, c in POLYNOMIALS:
        if factors:
            gram = gram @ factors[-1] @ factors[-1]  # they commute: all are polynomials of the first
        factors.append(torch.baddbmm(gram, gram, gram, beta=b, alpha=c))
        factors[-1].diagonal(dim1=-2, dim2=-1).add_(a)
    made = reduce(torch.matmul, factors) @ wide * norm.rsqrt()
    return [step.T if _is_tall(matrix) else step for matrix, step in zip(matrices, made.unbind(), strict=True)]


def _batch_by_ranks(matrices: Sequence[Tensor]) -> list[Tensor]:
    import torch
    from torch.distributed.tensor import DTensor, distribute_tensor

    pieces = [cast(DTensor, matrix) for matrix in matrices]
    mine = []
    for number, piece in enumerate(pieces):
        whole = piece.full_tensor()
        if number % ranks.size() == ranks.rank():
            mine.append(whole)
    made = iter(_batch(mine) if mine else [])
    steps: list[Tensor] = []
    for number, piece in enumerate(pieces):
        owner = number % ranks.size()
        local = piece.to_local()
        step = next(made) if owner == ranks.rank() else torch.empty(piece.shape, device=local.device)
        steps.append(distribute_tensor(step, piece.device_mesh, piece.placements, src_data_rank=owner))
    return steps


def _is_tall(matrix: Tensor) -> bool:
    return matrix.shape[0] > matrix.shape[1]
