"""What compiling a training costs and gains: a step of the demo's teacher and student, eager and compiled.

    python benchmarks/compiling.py [--steps 20] [--models teacher student]

A step is forward, backward, clipping and update on a batch of the demo's size, with next-token targets. Eager and
compiled steps of the same model by turns; medians. "Compile" is the first compiled step with cold caches, less a
warm one; the last column is how much training it takes to win that time back. Prints one table.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time

import common
import torch
from rich.table import Table

from gemmule.model.fast import compiling
from gemmule.model.transformer import Gemma2
from gemmule.recipe import Train
from gemmule.train.optimizer import Optimizer

WINDOWS, LENGTH = 8, 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20, help="of each kind")
    parser.add_argument("--models", nargs="+", default=["teacher", "student"], help="of the demo")
    wishes = parser.parse_args()

    tokens = WINDOWS * LENGTH
    columns = ("eager, tokens/s", "compiled, tokens/s", "GFLOP/s", "compiled/eager", "compile", "won back after")
    table = Table("model", "parameters", *columns)
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache  # cold
        for name in wishes.models:
            model = Gemma2(common.demo_config(name)).initialise(0)
            eager, compiled, cold = measure(model, wishes.steps)
            flops = 3 * tokens * model.config.flops_per_token(LENGTH)
            table.add_row(
                name,
                f"{model.config.parameters:,}",
                f"{tokens / eager:,.0f}",
                f"{tokens / compiled:,.0f}",
                f"{flops / eager / 1e9:.0f} and {flops / compiled / 1e9:.0f}",
                f"{eager / compiled:.0%}",
                f"{cold:.0f} s",
                f"{flops * cold / (eager - compiled) / 1e12:,.0f} TFLOP" if compiled < eager else "never",
            )
    common.show(table)
    print(f"{torch.get_num_threads()} threads")


def measure(model: Gemma2, steps: int) -> tuple[float, float, float]:
    """Seconds of an eager step, of a compiled one, and of compiling."""
    optimizer = Optimizer(model, Train(tokens=1, learning_rate=1e-3))
    ids = torch.randint(0, model.config.vocabulary_size, (WINDOWS, LENGTH), generator=torch.Generator().manual_seed(0))

    def step() -> float:
        started = time.perf_counter()
        optimizer.zero_grad()
        model(ids, ids).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step(1e-3)
        return time.perf_counter() - started

    def eager_step() -> float:
        with compiling.eager():
            return step()

    model.model.compile()
    eager_step()  # makes the optimizer's state
    first = step()
    step()
    times = [(eager_step(), step()) for _ in range(steps)]
    eager, compiled = (statistics.median(side) for side in zip(*times, strict=True))
    return eager, compiled, first - compiled


if __name__ == "__main__":
    main()
