"""How OpenMP's threads should wait for each other: tokens/s of a training step, alone and beside a busy process.

    python benchmarks/threads.py [--repeats 3]

Each setting runs in a fresh process, by turns; medians. Prints one table. gemmule's command line sets the
short spin unless the user set anything.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys

from rich.console import Console
from rich.table import Table

SETTINGS = {
    "PyTorch's default (long spin)": {},
    "GOMP_SPINCOUNT=2000 (gemmule)": {"GOMP_SPINCOUNT": "2000"},
    "OMP_WAIT_POLICY=PASSIVE (no spin)": {"OMP_WAIT_POLICY": "PASSIVE"},
}
STEP = """
import statistics, time, torch
from gemmule.model.config import Gemma2Config
from gemmule.model.transformer import Gemma2
model = Gemma2(Gemma2Config(2048, 3, 128, 4, 2, 32, 384, 128))
ids = torch.randint(0, 2048, (8, 256))
times = []
for _ in range(12):
    start = time.perf_counter()
    model(ids, ids).backward()
    times.append(time.perf_counter() - start)
print(8 * 256 / statistics.median(times[2:]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    measured: dict[tuple[str, str], list[float]] = {}
    for _ in range(repeats):
        for load in ("alone", "beside a busy process"):
            busy = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if load != "alone" else None
            try:
                for name, setting in SETTINGS.items():
                    clean = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
                    done = subprocess.run(
                        [sys.executable, "-c", STEP], env=clean | setting, capture_output=True, text=True, check=True
                    )
                    measured.setdefault((name, load), []).append(float(done.stdout))
            finally:
                if busy is not None:
                    busy.kill()
                    busy.wait()
    table = Table("threads wait by", "alone, tokens/s", "beside a busy process, tokens/s")
    for name in SETTINGS:
        loads = ("alone", "beside a busy process")
        table.add_row(name, *(f"{statistics.median(measured[name, load]):,.0f}" for load in loads))
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
