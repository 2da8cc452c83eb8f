"""Two processes of one thread against one process of two, and what each rank of four holds.

    python benchmarks/parallel.py [--repeats 5] [--steps 8]

Steps of the demo's models as the trainer takes them, 16 windows of 256 random tokens a batch, gloo between the
processes, all on this machine. Each side runs in fresh processes, by turns; medians. Four processes are more than the
machine has cores for: what they hold counts, not their speed. Held: a rank's pieces of the parameters and of AdamW's
two moments. Prints a table for each model.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time

import common
from rich.table import Table

MODELS = ("teacher", "student")
WINDOWS, LENGTH = 16, 256
WARM_UP = 2  # steps
SIDES = {"1 process, 2 threads": (1, 2), "2 processes, 1 thread each": (2, 1), "4 processes": (4, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8, help="in each process")
    parser.add_argument("--measure", metavar="MODEL", help=argparse.SUPPRESS)  # what a process of one side does
    wishes = parser.parse_args()
    if wishes.measure:
        measure(wishes.measure, wishes.steps)
        return
    for model in MODELS:
        measured: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
        for repeat in range(wishes.repeats):
            for side, (processes, threads) in SIDES.items():
                if processes <= 2 or not repeat:
                    measured[side].append(run(model, processes, threads, wishes.steps if processes <= 2 else 1))
        show(model, measured)


def run(model: str, processes: int, threads: int, steps: int) -> dict[str, float]:
    """What rank 0 measures."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    ranks = []
    for rank in range(processes):
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        if processes > 1:
            environment |= {
                "RANK": str(rank),
                "WORLD_SIZE": str(processes),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": port,
            }
        command = [sys.executable, __file__, "--measure", model, "--steps", str(steps)]
        ranks.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
    said = [process.communicate()[0] for process in ranks]
    figures: dict[str, float] = json.loads(said[0])
    return figures


def measure(name: str, steps: int) -> None:
    """One rank's part: prints its figures."""
    import numpy as np
    import torch

    from gemmule.base import ranks
    from gemmule.model.transformer import Gemma2
    from gemmule.recipe import Train
    from gemmule.tokenize.windows import Batch
    from gemmule.train import parallel
    from gemmule.train.objective import accumulate
    from gemmule.train.optimizer import Optimizer

    device, config = torch.device("cpu"), common.demo_config(name)
    parallel.join(device)
    model = parallel.place(config, device, lambda: Gemma2(config))
    optimizer = Optimizer(model, Train(tokens=1, learning_rate=1e-3))
    generator = np.random.default_rng(ranks.rank())
    shape = (WINDOWS // ranks.size(), LENGTH)
    seconds = []
    for _ in range(WARM_UP + steps):
        ids = generator.integers(0, config.vocabulary_size, shape)
        batch = Batch(ids, ids, np.ones(shape, bool), np.arange(shape[0]))
        started = time.perf_counter()
        optimizer.zero_grad()
        accumulate(model, batch, lambda part: torch.from_numpy(part.targets), windows_per_micro_batch=shape[0])
        parallel.clip(model, 1.0)
        optimizer.step(1e-3)
        seconds.append(time.perf_counter() - started)
    held = parallel.local(model.state_dict() | optimizer.state())
    figures = {
        "tokens_per_second": WINDOWS * LENGTH / statistics.median(seconds[WARM_UP:]),
        "bytes": sum(piece.nbytes for piece in held.values()),
    }
    if ranks.rank() == 0:
        print(json.dumps(figures))


def show(model: str, measured: dict[str, list[dict[str, float]]]) -> None:
    table = Table("", title=f"the demo's {model}, {WINDOWS} x {LENGTH} tokens a batch")
    for heading in ("tokens/s", "of one process", "MB held a rank", "of the whole"):
        table.add_column(heading, justify="right")
    first = next(iter(measured))
    for side, figures in measured.items():
        speed = statistics.median(figure["tokens_per_second"] for figure in figures)
        ratios = [
            mine["tokens_per_second"] / one["tokens_per_second"]
            for mine, one in zip(figures, measured[first], strict=False)
        ]
        held, whole = figures[0]["bytes"], measured[first][0]["bytes"]
        speeds = (f"{speed:,.0f}", f"{statistics.median(ratios):.2f}x") if SIDES[side][0] <= 2 else ("", "")
        table.add_row(side, *speeds, f"{held / 1e6:.1f}", f"{held / whole:.2f}x")
    common.show(table)


if __name__ == "__main__":
    main()
