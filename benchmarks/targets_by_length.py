"""What stored targets cost a student, by bytes a token and by the length of its training.

    python benchmarks/targets_by_length.py [--run runs/demo] [--tokens 200k 400k 800k] [--bytes 30 18 9] [--seeds 3]

The demo's student, with the defaults of its budget, beside its live teacher and from the same teacher's targets, drawn,
coded and decoded as they are stored. All students of a seed start alike and take the same batches in one loop, so that
the teacher runs once for all of them. Prints one table: perplexity on the validation text, and against the live
teacher's student of the same seed, mean with a 95% interval over the seeds.
"""

from __future__ import annotations

import argparse
import copy
import math
import statistics
from pathlib import Path
from typing import TypeAlias

import common  # before torch
import numpy as np
import torch
from rich.table import Table

from gemmule.losses.targets import DenseTeacher, SparseDistributions
from gemmule.model.transformer import Gemma2
from gemmule.plan.steps.model import ModelStep
from gemmule.recipe import parse_count
from gemmule.run.runner import Family
from gemmule.teach.targets import solving
from gemmule.teach.targets.packing import Coding
from gemmule.teach.teachers.gemma2 import Gemma2Teacher, load
from gemmule.tokenize.windows import Batch
from gemmule.train import parallel
from gemmule.train.job import Job
from gemmule.train.loop import validate
from gemmule.train.objective import accumulate
from gemmule.train.optimizer import Optimizer
from gemmule.train.schedule import learning_rate

CPU = torch.device("cpu")
Signal: TypeAlias = DenseTeacher | SparseDistributions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/demo"), help="where the demo's teacher is, or goes")
    parser.add_argument("--tokens", nargs="+", type=parse_count, default=[200_000, 400_000, 800_000])
    parser.add_argument("--bytes", nargs="+", type=float, default=[30, 18, 9])
    parser.add_argument("--seeds", type=int, default=3)
    wishes = parser.parse_args()
    family, student, folder = common.student_and_teacher(common.DEMO, wishes.run)
    teacher = load(folder, CPU)
    table = Table("tokens", "live", *(f"{size:g} bytes" for size in wishes.bytes))
    for tokens in wishes.tokens:
        perplexities = [learn(family, student, teacher, tokens, seed, wishes.bytes) for seed in range(wishes.seeds)]
        live, *others = zip(*perplexities, strict=True)
        costs = [[mine / theirs - 1 for mine, theirs in zip(other, live, strict=True)] for other in others]
        row = [
            f"{statistics.mean(other):.1f}, {common.interval(cost)}" for other, cost in zip(others, costs, strict=True)
        ]
        table.add_row(f"{tokens:,}", f"{statistics.mean(live):.1f}", *row)
        print(tokens, perplexities, flush=True)
    common.show(table)


def learn(
    family: Family, student: str, teacher: Gemma2Teacher, tokens: int, seed: int, sizes: list[float]
) -> list[float]:
    """The perplexity of a student of the live teacher, then of those of its targets at each size."""
    raw = copy.deepcopy(family.raw) | {"seed": seed}
    for model in raw["models"].values():
        model.get("train", {}).update(tokens=tokens)
    plan = Family(raw, family.origin, family.out).plan
    job = next(step for step in plan.of(ModelStep) if step.name == student).job()
    windows = job.windows
    sample = solving.sample(teacher, windows, seed=seed)
    codings = [solving.solve(sample, "threshold", size, len(windows.shards)) for size in sizes]
    models = [Gemma2(job.config).initialise(seed).train() for _ in range(1 + len(codings))]
    optimizers = [Optimizer(model, job.train) for model in models]
    for step in range(job.steps):
        batch = windows.batch(step, job.windows_per_batch)
        dense = teacher.expect(torch.from_numpy(batch.inputs))
        signals: list[Signal] = [dense, *(through(coding, dense, batch, seed) for coding in codings)]
        for model, optimizer, targets in zip(models, optimizers, signals, strict=True):
            update(job, model, optimizer, batch, targets, learning_rate(step, job.steps, job.train))
    return [math.exp(validate(model.eval(), job.validation, CPU, len(job.validation))) for model in models]


def through(coding: Coding, dense: DenseTeacher, batch: Batch, seed: int) -> SparseDistributions:
    """The teacher's distributions, drawn, coded and decoded as they would be stored."""
    positions = (batch.starts[:, None] + np.arange(batch.inputs.shape[1])).ravel()
    block = coding.encode(coding.scheme.draw(dense.logits(), seed, positions), positions, seed)
    return coding.decode(block, len(positions))


def update(job: Job, model: Gemma2, optimizer: Optimizer, batch: Batch, targets: Signal, rate: float) -> None:
    optimizer.zero_grad()
    accumulate(model, batch, lambda _: targets, windows_per_micro_batch=len(batch.starts), distill=job.distill)
    parallel.clip(model, job.train.clip)
    optimizer.step(rate)


if __name__ == "__main__":
    main()
