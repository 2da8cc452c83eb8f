"""How OpenMP's threads should wait for each other: tokens/s of a training step, alone and beside a busy process.

    python benchmarks/threads.py [--repeats 3] [--steps 10]

Eager forward, backward and update of the demo's teacher and student. Each setting runs in a fresh process, by turns;
medians. Prints one table. gemmule's command line sets the short spin unless the user set anything.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys

import common
from rich.table import Table

SETTINGS = {
    "PyTorch's default (long spin)": {},
    "GOMP_SPINCOUNT=2000 (gemmule)": {"GOMP_SPINCOUNT": "2000"},
    "OMP_WAIT_POLICY=PASSIVE (no spin)": {"OMP_WAIT_POLICY": "PASSIVE"},
}
MODELS, LOADS = ("teacher", "student"), ("alone", "beside a busy process")
STEP = """
import json, statistics, sys, time, torch
from gemmule.model.config import Gemma2Config
from gemmule.model.transformer import Gemma2
model = Gemma2(Gemma2Config(**json.loads(sys.argv[1]))).initialise(0)
optimizer = torch.optim.AdamW(model.parameters(), fused=True)
ids = torch.randint(0, model.config.vocabulary_size, (8, 256))
times = []
for _ in range(2 + int(sys.argv[2])):  # two to warm up
    start = time.perf_counter()
    optimizer.zero_grad()
    model(ids, ids).backward()
    optimizer.step()
    times.append(time.perf_counter() - start)
print(ids.numel() / statistics.median(times[2:]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10, help="in each process")
    wishes = parser.parse_args()
    measured: dict[tuple[str, str, str], list[float]] = {}
    for _ in range(wishes.repeats):
        for load in LOADS:
            busy = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if load != "alone" else None
            try:
                for model in MODELS:
                    for name, setting in SETTINGS.items():
                        measured.setdefault((name, load, model), []).append(speed(model, setting, wishes.steps))
            finally:
                if busy is not None:
                    busy.kill()
                    busy.wait()
    table = Table("threads wait by", title="tokens/s")
    for load in LOADS:
        for model in MODELS:
            table.add_column(f"{model}\n{load}", justify="right")
    for name in SETTINGS:
        medians = (statistics.median(measured[name, load, model]) for load in LOADS for model in MODELS)
        table.add_row(name, *(f"{median:,.0f}" for median in medians))
    common.show(table)


def speed(model: str, setting: dict[str, str], steps: int) -> float:
    """Tokens/s of one of the demo's models in a process with these variables."""
    clean = {key: value for key, value in os.environ.items() if key not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    shape = json.dumps(dataclasses.asdict(common.demo_config(model)))
    command = [sys.executable, "-c", STEP, shape, str(steps)]
    done = subprocess.run(command, env=clean | setting, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout)


if __name__ == "__main__":
    main()
