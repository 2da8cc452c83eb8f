"""What glibc's habit of giving memory back costs a training step, and what `gemmule.base.host.settle` wins back.

    python benchmarks/memory_kept.py [--repeats 3] [--steps 5]

Steps of cases (a) and (b) of training_step.py, eager, in fresh processes by turns, with glibc's defaults and with
memory kept. Prints one table: seconds a step (the median of all), page faults a step, peak memory.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys

import common
from rich.table import Table

STEPS = """
import json, resource, sys, time
{settle}
sys.path.insert(0, "benchmarks")
import torch
from training_step import CASES, OURS, batch, make_step
case = CASES[sys.argv[1]]
ids, targets = batch(case)
step = make_step(case, OURS)
step(ids, targets)
faults, seconds = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, []
for _ in range(int(sys.argv[2])):
    started = time.perf_counter()
    step(ids, targets)
    seconds.append(time.perf_counter() - started)
use = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps([seconds, (use.ru_minflt - faults) / len(seconds), use.ru_maxrss * 1024]))
"""
SIDES = {
    "glibc's defaults": "import os; os.environ['GOMP_SPINCOUNT'] = '2000'; os.environ['MALLOC_'] = 'as it is'",
    "memory kept": "from gemmule.base import host; host.settle()",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5)
    wishes = parser.parse_args()
    table = Table("case", "", "seconds a step", "page faults a step", "peak memory, MB")
    for case in ("a", "b"):
        runs: dict[str, list[tuple[list[float], float, int]]] = {side: [] for side in SIDES}
        for _ in range(wishes.repeats):
            for side in SIDES:
                runs[side].append(run(side, case, wishes.steps))
        for side, made in runs.items():
            seconds = statistics.median(second for run in made for second in run[0])
            faults, peak = (statistics.median(run[place] for run in made) for place in (1, 2))
            table.add_row(f"({case})", side, f"{seconds:.2f}", f"{faults:,.0f}", f"{peak / 1e6:,.0f}")
    common.show(table)


def run(side: str, case: str, steps: int) -> tuple[list[float], float, int]:
    program = STEPS.format(settle=SIDES[side])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, case, str(steps)],
        capture_output=True, text=True, check=True, env=os.environ,
    )  # fmt: skip
    return tuple(json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    main()
