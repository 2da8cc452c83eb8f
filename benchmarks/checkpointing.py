"""What a checkpoint costs: the time in which training waits for it, and that in which a thread writes it.

    python benchmarks/checkpointing.py [--run runs/demo] [--models teacher student] [--repeats 5]

The demo's teacher and student (next tokens only) over the run's tokens, in one process: steps, then checkpoints, then
taking the last one up, found, verified, and weights and moments in place. "Cost" is the time that training waits and
its part of the processors that the writing thread takes (`train/pace.py`); "of the time" what that is of training's
time at the default: a checkpoint every 200 steps or 5 minutes, whichever comes first. Prints one table, of medians.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import common
from rich.table import Table

from gemmule.recipe import Distill, Machine, Train
from gemmule.tokenize.shards import TokenShards
from gemmule.tokenize.tokenizer import load_tokenizer
from gemmule.tokenize.windows import Windows
from gemmule.train import pace
from gemmule.train.job import Job
from gemmule.train.loop import Trainer

BATCH, LENGTH, STEPS = 4096, 256, 10**6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/demo"), help="a run of the demo, for its tokens")
    parser.add_argument("--models", nargs="+", default=["teacher", "student"])
    parser.add_argument("--repeats", type=int, default=5)
    wishes = parser.parse_args()

    table = Table("model", "a step, s", "waiting, s", "writing, s", "cost, s", "of the time", "taken up, s")
    for name in wishes.models:
        with tempfile.TemporaryDirectory() as folder:
            job = make_job(name, wishes.run, Path(folder))
            step, waiting, writing, cost = measure(job, wishes.repeats)
            taken_up = timed(lambda job=job: Trainer(job).checkpoints.close())
        seconds = (f"{value:.3f}" for value in (step, waiting, writing, cost))
        share = cost / min(pace.EVERY * step, 60 * job.train.checkpoint_minutes)
        table.add_row(name, *seconds, f"{share:.2%}", f"{taken_up:.2f}")
    common.show(table)


def measure(job: Job, repeats: int) -> tuple[float, float, float, float]:
    """Seconds of a step, of what a checkpoint keeps it waiting, of writing that checkpoint, and of what it costs."""
    trainer = Trainer(job)
    times: list[tuple[float, float, float, float]] = []
    with trainer.batch_of:
        for _ in range(repeats):
            step = timed(trainer.advance)
            waiting = timed(lambda: trainer.checkpoints.save(trainer.model, trainer.optimizer, trainer.state))
            times.append((step, waiting, timed(trainer.checkpoints.finish), trainer.checkpoints.pace.cost))
    trainer.checkpoints.close()
    step, waiting, writing, cost = (statistics.median(column) for column in zip(*times, strict=True))
    return step, waiting, writing, cost


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def make_job(name: str, run: Path, folder: Path) -> Job:
    words = load_tokenizer(run / "tokenizer")
    splits = (TokenShards(run / "tokens" / split) for split in ("train", "validation"))
    windows, validation = (Windows(shards, LENGTH, words.bos_id, words.pad_id) for shards in splits)
    train = Train(tokens=STEPS * BATCH, learning_rate=4e-3, batch_tokens=BATCH)
    return Job(name=name, folder=folder, config=common.demo_config(name), train=train, distill=Distill(),
               machine=Machine(device="cpu"), seed=0, windows=windows, validation=validation, settings={},
               inputs={})  # fmt: skip


if __name__ == "__main__":
    main()
