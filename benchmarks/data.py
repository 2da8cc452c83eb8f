"""How fast text becomes batches: documents, tokenizer training, token shards, loader.

    python benchmarks/data.py [TEXT...] [--vocabulary-size 2048] [--repeats 5]

The bundled Shakespeare, or text of your own. Medians. Prints one table. Documents are read from disk (the bundled
ones are compressed) and written as parquet; the other speeds are by the bytes of the training text.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
from rich.table import Table

from gemmule.refine import sources
from gemmule.refine.documents import read_split, write_documents
from gemmule.tokenize.shards import TokenShards, write_shards
from gemmule.tokenize.training import train
from gemmule.tokenize.windows import Windows

WINDOWS, LENGTH, BATCHES = 16, 256, 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", nargs="*", default=[sources.BUNDLED])
    parser.add_argument("--vocabulary-size", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=5)
    wishes = parser.parse_args()

    files = sources.resolve(wishes.text, Path())
    table = Table("work", "on", "seconds", "speed")
    with tempfile.TemporaryDirectory() as folder:
        documents, tokens = Path(folder) / "documents", Path(folder) / "tokens"
        seconds, summary = median(wishes.repeats, lambda: write_documents(files, "text", 0.05, fresh(documents)))
        size = summary.train_bytes + summary.validation_bytes
        add(table, "documents", f"{len(files)} files, {size / 1e6:.1f} MB", seconds, f"{size / seconds / 1e6:.1f} MB/s")

        texts, size = list(read_split(documents, "train")), summary.train_bytes
        on = f"{len(texts)} documents, {size / 1e6:.1f} MB"
        seconds, words = median(wishes.repeats, lambda: train(texts, wishes.vocabulary_size))
        what = f"tokenizer of {words.vocabulary_size:,} words"
        add(table, what, on, seconds, f"{size / seconds / 1e6:.1f} MB/s")

        seconds, shards = median(wishes.repeats, lambda: write_shards(texts, words, fresh(tokens)))
        speed = f"{size / seconds / 1e6:.1f} MB/s, {len(shards) / seconds / 1e6:.2f}M tokens/s"
        add(table, "tokenizing and writing shards", on, seconds, speed)

        windows = Windows(TokenShards(tokens), LENGTH, words.bos_id, words.pad_id)
        steps = itertools.count()
        seconds, _ = median(wishes.repeats, lambda: [windows.batch(next(steps), WINDOWS) for _ in range(BATCHES)])
        speed = f"{BATCHES / seconds:,.0f} batches/s, {BATCHES * WINDOWS * LENGTH / seconds / 1e6:.1f}M tokens/s"
        add(table, "loader", f"{BATCHES} batches of {WINDOWS} x {LENGTH} tokens", seconds, speed)
    common.show(table)
    print(f"{len(os.sched_getaffinity(0))} CPU cores")


def median(repeats: int, work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of doing `work`, and what it gave."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - started)
    return statistics.median(times), result


def fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def add(table: Table, work: str, on: str, seconds: float, speed: str) -> None:
    table.add_row(work, on, f"{seconds:.3f}", speed)


if __name__ == "__main__":
    main()
