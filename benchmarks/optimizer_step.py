"""What an update costs beside the step that it belongs to: AdamW, Muon, and Muon as it is elsewhere.

    python benchmarks/optimizer_step.py [--repeats 9]

The demo's teacher and student, batches of 2,048 tokens, float32, all by turns in one process; medians. "PyTorch's Muon"
is `torch.optim.Muon`, which iterates in bfloat16, on the same matrices; "five steps" is its iteration in float32, one
matrix at a time. These two leave out what AdamW has to do for the rest, a few percent of an update.
"""

from __future__ import annotations

import argparse

import common  # before torch
import torch
from rich.table import Table
from torch import Tensor

from gemmule.model.transformer import Gemma2
from gemmule.recipe import Train
from gemmule.train.optimizer import Optimizer
from gemmule.train.optimizers import muon

WINDOWS, LENGTH = 8, 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    repeats = parser.parse_args().repeats
    table = Table(
        "model", "forward, backward", "AdamW", "Muon", "five steps", "PyTorch's Muon", "Muon's share of a step"
    )
    for name in ("teacher", "student"):
        step, adamw, ours, five, theirs = measure(name, repeats)
        milliseconds = [f"{seconds * 1e3:.1f} ms" for seconds in (step, adamw, ours, five, theirs)]
        table.add_row(name, *milliseconds, f"{ours / (step + ours):.0%}")
    common.show(table)


def measure(name: str, repeats: int) -> list[float]:
    config = common.demo_config(name)
    model = Gemma2(config)
    ids = torch.randint(config.vocabulary_size, (WINDOWS, LENGTH))
    optimizers = [
        Optimizer(model, Train(tokens=1, learning_rate=1e-9, optimizer=optimizer)) for optimizer in ("adamw", "muon")
    ]
    matrices = [
        weight for name, weight in model.named_parameters() if muon.takes(name, weight.shape)
    ]  # of the layers, as ours has them
    reference = torch.optim.Muon(matrices, lr=1e-9, adjust_lr_fn="match_rms_adamw")

    def step() -> None:
        for weight in model.parameters():
            weight.grad = None
        model(ids, ids).backward()

    @torch.no_grad()
    def five() -> list[Tensor]:
        return [newton_schulz(weight.grad) for weight in matrices if weight.grad is not None]

    updates = [lambda optimizer=optimizer: optimizer.step(1e-9) for optimizer in optimizers]
    return common.medians(repeats, step, *updates, five, reference.step)


def newton_schulz(matrix: Tensor) -> Tensor:
    """Five steps of one polynomial (Jordan et al. 2024)."""
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / x.norm()
    for _ in range(5):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
    return x.T if tall else x


if __name__ == "__main__":
    main()
