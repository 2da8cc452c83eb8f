"""What checkpoints cost: the same training with one every 50 steps, and with one at the end alone.

    python benchmarks/checkpointing.py [--run runs/demo] [--models teacher student] [--steps 100] [--repeats 3]

The demo's teacher and student (next tokens only) over the run's tokens, by the whole trainer: metrics, validation and
all. Both sides take turns in one process. Also how long it takes to take up the last checkpoint: found, verified,
and weights and moments in place. Prints one table, of medians.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import common
from rich.table import Table

from gemmule.data.loader import Windows
from gemmule.data.shards import TokenShards
from gemmule.recipe import Distill, Machine, Train
from gemmule.tokenizer.load import load_tokenizer
from gemmule.train import loop
from gemmule.train.job import Job

EVERY, BATCH, LENGTH = 50, 4096, 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/demo"), help="a run of the demo, for its tokens")
    parser.add_argument("--models", nargs="+", default=["teacher", "student"])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    wishes = parser.parse_args()

    table = Table("model", "tokens/s, checkpoint at the end", f"every {EVERY} steps", "ratio", "taken up, s")
    for name in wishes.models:
        seconds: dict[int, list[float]] = {wishes.steps: [], EVERY: []}
        taken_up = []
        for _ in range(wishes.repeats):
            for every, taken in seconds.items():
                with tempfile.TemporaryDirectory() as folder:
                    job = make_job(name, wishes.run, Path(folder), wishes.steps, every)
                    started = time.perf_counter()
                    loop.train(job)
                    taken.append(time.perf_counter() - started)
                    started = time.perf_counter()
                    loop.Trainer(job).checkpoints.close()
                    taken_up.append(time.perf_counter() - started)
        rare, often = (wishes.steps * BATCH / statistics.median(taken) for taken in seconds.values())
        table.add_row(
            name, f"{rare:,.0f}", f"{often:,.0f}", f"{often / rare:.3f}", f"{statistics.median(taken_up):.2f}"
        )
    common.show(table)


def make_job(name: str, run: Path, folder: Path, steps: int, every: int) -> Job:
    words = load_tokenizer(run / "tokenizer")
    splits = (TokenShards(run / "tokens" / split) for split in ("train", "validation"))
    windows, validation = (Windows(shards, LENGTH, words.bos_id, words.pad_id) for shards in splits)
    train = Train(tokens=steps * BATCH, learning_rate=4e-3, batch_tokens=BATCH, checkpoint_every=every)
    return Job(name=name, folder=folder, config=common.demo_config(name), train=train, distill=Distill(),
               machine=Machine(device="cpu"), seed=0, windows=windows, validation=validation, settings={},
               inputs={})  # fmt: skip


if __name__ == "__main__":
    main()
