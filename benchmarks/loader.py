"""Whether the trainer ever waits for data, what it costs around the bare model step, how soon it goes on after a stop.

    python benchmarks/loader.py [--run runs/demo | --teacher FOLDER] [--out benchmarks/work/loader] [--text ...]

The demo's student, once with stored targets and once without a teacher, in the demo's batches.

- Waiting: the share of a step's time that goes by until its batch (and targets) are there, with a thread that reads
  ahead and without; the sides take turns of some steps each on one model.
- Speed: the trainer whole (reading, metrics, checkpoints; its validations apart) against the bare step on batches that
  are there already: forward, backward, clipping, AdamW. The sides take turns; medians of their ratios.
- Going on: seconds from the command to the first step, from checkpoints of an early and of a late step.
"""

from __future__ import annotations

import argparse
import copy
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import common  # before torch
import tomli_w
import torch
from rich.table import Table
from torch import nn

from gemmule import recipe as recipes
from gemmule.run.runner import Family
from gemmule.tokenize.windows import Batch
from gemmule.train import loop, metrics
from gemmule.train.guards import State
from gemmule.train.job import Job
from gemmule.train.objective import accumulate
from gemmule.train.reading import ReadAhead, batch_reader

PARTS = ("waiting", "speed", "going-on")
SIGNALS = {"stored targets": "student", "no teacher": "control"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/demo"), help="where the demo's teacher is, or goes")
    parser.add_argument("--teacher", type=Path, help="another model folder with a tokenizer")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/work/loader"))
    parser.add_argument("--steps", type=int, default=40, help="of a side's turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--text", nargs="+", help="less text than the demo's, so that teaching takes less time")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    wishes = parser.parse_args()

    teacher = wishes.teacher or common.student_and_teacher(common.DEMO, wishes.run)[2]
    family = prepare(teacher.resolve(), wishes.out, wishes.text)
    waiting = Table("learning from", "waiting, reading ahead", "reading at the step", "tokens/s, × at the step")
    speed = Table("learning from", "tokens/s, bare step", "trainer, × bare", "with its validations, × bare")
    going_on = Table("going on from step", "of steps", "seconds to the first step", "of the processor")
    with tempfile.TemporaryDirectory(dir=wishes.out) as folder:
        work = Path(folder)
        for title, name in SIGNALS.items():
            job = family.plan.trained(name).job()
            if "waiting" in wishes.only:
                waiting.add_row(title, *measure_waiting(job, work, wishes.steps, wishes.rounds))
            if "speed" in wishes.only:
                speed.add_row(title, *measure_speed(job, work, wishes.steps, wishes.rounds))
        for step in (10, 1_000, 100_000) if "going-on" in wishes.only else ():
            going_on.add_row(f"{step:,}", "200,000", *(f"{s:.1f}" for s in seconds_to_go_on(family, work, step)))
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    for table in (waiting, speed, going_on):
        if table.row_count:
            common.show(table)


def prepare(teacher: Path, out: Path, text: list[str] | None) -> Family:
    """The demo's family with a teacher from outside and stored targets, taught and ready to train."""
    raw = recipes.read(common.DEMO)
    raw["tokenizer"] = {"from": str(teacher)}
    raw["models"]["teacher"] = {"from": str(teacher)}
    raw["models"]["student"]["distill"] = {"targets": {"bytes_per_token": 30}}
    if text:
        raw["data"]["sources"] = [str(Path(each).resolve()) for each in text]
    family = Family(raw, common.DEMO, out / "run")
    family.run("teach")
    family.run("tokenize")  # the validation text too
    return family


class Bench:
    """A model that takes steps as the trainer's does, and nothing else."""

    def __init__(self, job: Job, folder: Path) -> None:
        self.job, self.trainer = job, loop.Trainer(replace(job, folder=folder))

    def step(self, batch: Batch) -> None:
        trainer, job = self.trainer, self.job
        trainer.optimizer.zero_grad()
        accumulate(
            trainer.model, batch, trainer.targets_of, windows_per_micro_batch=job.windows_per_micro_batch,
            distill=job.distill, precision=trainer.precision,
        )  # fmt: skip
        nn.utils.clip_grad_norm_(trainer.model.parameters(), job.train.clip)
        trainer.optimizer.step(job.train.learning_rate)

    def turn(self, batch_of: Callable[[int], Batch], first: int, count: int) -> tuple[float, float]:
        """Seconds of waiting, and in all, for some steps."""
        waited, began = 0.0, time.perf_counter()
        for step in range(first, first + count):
            asked = time.perf_counter()
            batch = batch_of(step)
            waited += time.perf_counter() - asked
            self.step(batch)
        return waited, time.perf_counter() - began


def measure_waiting(job: Job, out: Path, count: int, rounds: int) -> tuple[str, ...]:
    bench, read = Bench(job, out / f"waiting-{job.name}"), batch_reader(job)
    bench.turn(read, 0, 3)
    ahead, at_step = [], []
    for number in range(rounds):
        first = number * count
        with ReadAhead(read, first + count + 1) as batch_of:
            batch_of(first)  # it is running
            ahead.append(bench.turn(batch_of, first + 1, count))
        at_step.append(bench.turn(read, first + 1, count))
    shares = [statistics.median(waited / spent for waited, spent in side) for side in (ahead, at_step)]
    ratio = statistics.median(theirs / ours for (_, ours), (_, theirs) in zip(ahead, at_step, strict=True))
    return *(f"{share:.2%}" for share in shares), f"{ratio:.3f}"


def measure_speed(job: Job, out: Path, count: int, rounds: int) -> tuple[str, ...]:
    """Tokens/s of the bare step; of the trainer as a share of that, without its validations and with them."""
    train = job.train.model_copy(update={"tokens": count * tokens_of(job)})
    bench, read = Bench(job, out / f"speed-{job.name}"), batch_reader(job)
    batches = [read(step) for step in range(count)]
    bench.turn(batches.__getitem__, 0, 3)
    bare: list[float] = []
    whole: dict[str, list[float]] = {"apart": [], "with": []}
    validate = loop.validate
    for number in range(rounds):
        for side, taken in whole.items():
            trainer = loop.Trainer(replace(job, train=train, folder=out / f"{side}-{job.name}-{number}"))
            loop.validate = validate if side == "with" else lambda *arguments: 0.0
            began = time.perf_counter()
            trainer.run()
            taken.append(time.perf_counter() - began)
        bare.append(bench.turn(batches.__getitem__, 0, count)[1])
    loop.validate = validate
    ratios = [statistics.median(b / t for b, t in zip(bare, taken, strict=True)) for taken in whole.values()]
    return f"{count * tokens_of(job) / min(bare):,.0f}", *(f"{ratio:.3f}" for ratio in ratios)


def tokens_of(job: Job) -> int:
    return job.windows_per_batch * job.windows.sequence_length


def seconds_to_go_on(family: Family, out: Path, step: int) -> tuple[float, float]:
    """From the start of the command until the step after `step` is in metrics.jsonl; and those of the processor."""
    raw = copy.deepcopy(family.raw)
    raw["models"] = {"control": raw["models"]["student"] | {"learn_from": "none", "distill": {}}}
    raw["models"]["control"]["train"] = raw["models"]["control"]["train"] | {"tokens": 200_000 * 2048}
    recipe = out / f"go-on-{step}.toml"
    raw["data"]["sources"] = [str(file.path) for file in family.plan.documents.files]
    recipe.write_text(tomli_w.dumps(raw), encoding="utf-8")
    run = recipe.with_suffix("")
    own = Family.from_file(recipe, out=run)
    own.run("tokenize")
    job = own.plan.trained("control").job()
    bench = Bench(job, job.folder)
    bench.turn(batch_reader(job), 0, 1)
    trainer = bench.trainer
    trainer.checkpoints.save(trainer.model, trainer.optimizer, State(step, step * 2048, step * 0.1, updates=step))
    trainer.checkpoints.close()
    log = job.folder / metrics.METRICS
    line = '{{"step": {0}, "tokens": {1}, "loss": 3.5, "learning_rate": 0.001, "gradient_norm": 0.5, "seconds": 9.5}}\n'
    log.write_text("".join(line.format(number, number * 2048) for number in range(1, step + 1)), encoding="utf-8")
    size = log.stat().st_size
    began = time.perf_counter()
    command = [sys.executable, "-m", "gemmule", "train", str(recipe), "--out", str(run)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while log.stat().st_size <= size:
        assert process.poll() is None
        time.sleep(0.01)
    seconds = time.perf_counter() - began
    process.kill()
    used = os.wait4(process.pid, 0)[2]
    assert f'"step": {step + 1}' in log.read_text(encoding="utf-8")[size:]
    return seconds, used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
