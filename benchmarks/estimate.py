"""What `gemmule estimate` says of a recipe beside what the run then takes, right after it.

    python benchmarks/estimate.py RECIPE... [--out benchmarks/work/estimate] [--set KEY=VALUE]

Each is a process of its own, started as by hand. Seconds of the wall depend on what else the machine does meanwhile, so
those of the processor stand beside them: the estimate's are its wall's, times the share of a processor that it got.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import common
from rich.table import Table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/work/estimate"))
    parser.add_argument("--set", action="append", default=[])
    wishes = parser.parse_args()
    for recipe in wishes.recipes:
        table = Table(recipe.stem, "estimated", "real", "real / estimated")
        run = wishes.out / recipe.stem
        shutil.rmtree(run, ignore_errors=True)
        overrides = [argument for override in wishes.set for argument in ("--set", override)]
        beforehand = Command("estimate", recipe, "--out", run, "--json", *overrides)
        said = json.loads(beforehand.output)
        real = Command("run", recipe, "--out", run, *overrides)
        models = json.loads((run / "summary.json").read_text())["models"].values()
        rows = {
            "training, s": (said["training_seconds"], sum(model["seconds"] or 0 for model in models)),
            "whole run, s": (said["seconds"], real.wall),
            "whole run, s of the processor": (said["seconds"] * beforehand.share, real.processor),
            "peak memory, MB": (said["peak_memory"] / 1e6, real.memory / 1e6),
            "disk, MB": (said["disk"] / 1e6, folder_bytes(run) / 1e6),
        }
        for title, (estimated, measured) in rows.items():
            table.add_row(title, f"{estimated:,.0f}", f"{measured:,.0f}", f"{measured / estimated:.2f}")
        common.show(table)
        print(f"processors in the mean: estimate {beforehand.share:.2f}, run {real.share:.2f}", flush=True)


class Command:
    """A command of gemmule's, run: what it printed and what it took."""

    def __init__(self, *arguments: Any) -> None:
        started = time.monotonic()
        with subprocess.Popen(
            [sys.executable, "-m", "gemmule", *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            assert process.stdout is not None
            self.output = process.stdout.read()
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        self.wall = time.monotonic() - started
        if process.returncode:
            sys.exit(f"gemmule {' '.join(map(str, arguments))}: exit status {process.returncode}")
        self.processor = used.ru_utime + used.ru_stime
        self.share = self.processor / self.wall
        self.memory = used.ru_maxrss * 1024


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
