"""What long records take: memory and time of `gemmule tokenize`, and how soon it hears Ctrl-C.

    python benchmarks/records.py [--megabytes 38] [--stretch 100] [--interrupts 12]

One record of many megabytes of the bundled Shakespeare, in each format; then stretches without a space or a line end,
at a quarter of their size and whole; then SIGINT at moments spread over one of these runs. Memory is the peak of the
whole process, less that of one which tokenizes a small text; seconds are those of the processor, for a loaded machine's
others say little. Prints two tables.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import common
import pyarrow
import pyarrow.parquet
from rich.table import Table

from gemmule.refine import sources

RECIPE = """
name = "records"
[data]
sources = ["{name}"]
[tokenizer]
vocabulary_size = 2048
[models.one]
architecture = {{ layers = 2, width = 16 }}
train = {{ tokens = 512 }}
"""

# in a small process between: what Linux calls a process's peak begins with that of the one that it was forked from
MEASURED = """
import os, subprocess, sys
_, status, usage = os.wait4(subprocess.Popen(sys.argv[1:], stderr=subprocess.DEVNULL).pid, 0)
assert status == 0
print(usage.ru_utime + usage.ru_stime, usage.ru_maxrss)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=38)
    parser.add_argument("--stretch", type=int, default=100, help="megabytes of a text without a space")
    parser.add_argument("--interrupts", type=int, default=12)
    wishes = parser.parse_args()

    bundled = sources.resolve([sources.BUNDLED], Path())
    text = "".join(document.text for file in bundled for document in sources.read_documents(file))
    size = wishes.megabytes * 10**6
    long = (text * (1 + size // len(text)))[:size]
    dna = "".join(random.Random(0).choices("ACGT", k=10**6))
    stretches = {"ACGT...": dna, "spaces": " ", "signs": "=-"}

    table = Table("text", "MB", "CPU seconds", "peak over a small text's, MB", "of its size")
    with tempfile.TemporaryDirectory() as folder:
        _, base = tokenize(write(Path(folder), "small.txt", text[:200_000]))
        for name in ("a.txt", "a.jsonl", "a.json", "a.csv", "a.parquet"):
            add(table, f"one record, {Path(name).suffix[1:]}", size, base, write(Path(folder), name, long))
        wide = write(Path(folder), "wide.jsonl", "\U0001f600" + long)  # four bytes a character in memory
        add(table, "one record with an emoji, jsonl", size, base, wide)
        for name, stretch in stretches.items():
            for part in (4, 1):
                length = wishes.stretch * 10**6 // part
                repeated = (stretch * (1 + length // len(stretch)))[:length]
                add(table, name, length, base, write(Path(folder), f"{name[:4]}{part}.txt", f"{text}{repeated}"))
        common.show(table)
        latencies = interrupts(write(Path(folder), "ACGT1.txt", text + dna * wishes.stretch), wishes.interrupts)
    table = Table("SIGINT after CPU seconds", "CPU seconds until it ended", "seconds", "exit status")
    for at, used, seconds, status in latencies:
        table.add_row(f"{at:.1f}", f"{used:.2f}", f"{seconds:.2f}", str(status))
    common.show(table)


def write(folder: Path, name: str, text: str) -> Path:
    """A recipe for a file of this name with one record, and two short ones beside it; gives the recipe's path."""
    file, texts = folder / name, [text, "A short one.", "Another short one."]
    if file.suffix == ".jsonl":
        file.write_text("".join(json.dumps({"text": each}, ensure_ascii=False) + "\n" for each in texts))
    elif file.suffix == ".json":
        file.write_text(json.dumps([{"text": each} for each in texts]))
    elif file.suffix == ".csv":
        with file.open("w", newline="") as out:
            csv.writer(out).writerows([["text"], *([each] for each in texts)])
    elif file.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.table({"text": texts}), file)
    else:
        file.write_text(text)
    recipe = file.with_suffix(".toml")
    recipe.write_text(RECIPE.format(name=name))
    return recipe


def command(recipe: Path) -> list[str]:
    run = recipe.with_suffix(f".run{time.monotonic_ns()}")
    return [sys.executable, "-m", "gemmule", "tokenize", str(recipe), "--out", str(run)]


def tokenize(recipe: Path) -> tuple[float, int]:
    """Seconds of the processor, and the peak memory of the process in bytes."""
    arguments = [sys.executable, "-c", MEASURED, *command(recipe)]
    seconds, peak = subprocess.run(arguments, check=True, capture_output=True, text=True).stdout.split()
    return float(seconds), int(peak) * 1024


def add(table: Table, what: str, size: int, base: int, recipe: Path) -> None:
    seconds, peak = tokenize(recipe)
    print(f"{what}, {size / 1e6:.0f} MB: {seconds:.1f} s, {(peak - base) / size:.1f}", file=sys.stderr, flush=True)
    table.add_row(
        what, f"{size / 1e6:.0f}", f"{seconds:.1f}", f"{(peak - base) / 1e6:.0f}", f"{(peak - base) / size:.1f}"
    )


def interrupts(recipe: Path, count: int) -> list[tuple[float, float, float, int]]:
    """When SIGINT was sent to a run, how long after that it ended, by two clocks, and its exit status."""
    whole, _ = tokenize(recipe)
    found = []
    for number in range(count):
        process = subprocess.Popen(command(recipe), stderr=subprocess.DEVNULL)
        at = whole * (number + 0.5) / count
        while used(process.pid) < at:
            time.sleep(0.02)
        before, sent = used(process.pid), time.perf_counter()
        process.send_signal(signal.SIGINT)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = usage.ru_utime + usage.ru_stime - before
        found.append((before, seconds, time.perf_counter() - sent, os.waitstatus_to_exitcode(status)))
    return found


def used(process: int) -> float:
    """Seconds of the processor that a process has had."""
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
