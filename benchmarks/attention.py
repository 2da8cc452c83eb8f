"""Attention on the CPU, forward and backward: in blocks of several sizes beside the plain formulas, milliseconds.

    python benchmarks/attention.py [--only demo a c] [--repeats 5]

Eager, float32, cap 50, rotary positions included. All sides by turns in one process; medians. Local and global layers
of the shapes that benchmarks/training_step.py trains, and of the demo's models.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from functools import partial

import common  # before torch
import torch
from rich.table import Table
from torch import Tensor

from gemmule.model.fast.attention import masked, sequence_mask
from gemmule.model.transformer import rotary_angles, rotate

blocks = importlib.import_module("gemmule.model.fast.attention.blocked")  # the module; the package has its function

SHAPES = {  # B, T, heads, kv heads, head dim, window
    "demo teacher": (8, 256, 4, 2, 64, 128),
    "demo student": (8, 256, 4, 2, 32, 128),
    "a": (8, 512, 6, 3, 64, 256),
    "c": (1, 4096, 6, 3, 64, 512),
}
SIZES = (32, 64, 128, 256)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--repeats", type=int, default=5)
    wishes = parser.parse_args()
    table = Table("shape", "layer", "plain", *(f"blocks of {size}" for size in SIZES))
    for name in wishes.only:
        *_, window = SHAPES[name]
        for layer, seen in ((f"local, {window}", window), ("global", None)):
            milliseconds = measure(name, seen, wishes.repeats)
            table.add_row(name, layer, *(f"{taken:,.1f}" for taken in milliseconds))
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    common.show(table)


def measure(name: str, window: int | None, repeats: int) -> list[float]:
    """Of the plain formulas and of each size of block, the median of `repeats` runs after one more."""
    B, T, H, K, C, _ = SHAPES[name]
    query, key, value = (torch.randn(B, T, heads, C).transpose(1, 2).requires_grad_() for heads in (H, K, K))
    outer = torch.randn(B, H, T, C)
    angles = rotary_angles(torch.arange(T), C, 10000.0, torch.float32)

    def plain() -> Tensor:
        mask = sequence_mask(T, window, query.dtype, query.device)
        turned = rotate(query, angles), rotate(key, angles)
        return masked(*turned, value, mask=mask, scale=C**-0.5, cap=50.0)

    def in_blocks(size: int) -> Callable[[], Tensor]:
        def run() -> Tensor:
            blocks.BLOCK = size
            return blocks.blocked(query, key, value, angles, window=window, scale=C**-0.5, cap=50.0)

        return run

    def gradients(side: Callable[[], Tensor]) -> None:
        torch.autograd.grad(side(), (query, key, value), outer)

    sides = (partial(gradients, side) for side in (plain, *map(in_blocks, SIZES)))
    return [1000 * seconds for seconds in common.medians(repeats, *sides)]


if __name__ == "__main__":
    main()
