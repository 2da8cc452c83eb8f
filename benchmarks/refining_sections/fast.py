"""How fast each step is, and all by default together; memory at two sizes of text; beside datatrove's filters."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import common
from rich.table import Table

from refining_sections.command import EVERY_STEP, Refined, real_pages, refine, write

PEER = """
import sys, json, time
from loguru import logger
logger.remove()
from datatrove.data import Document
from datatrove.pipeline.filters import (
    C4QualityFilter, FineWebQualityFilter, GopherQualityFilter, GopherRepetitionFilter)
texts = [json.loads(line)["text"] for line in open(sys.argv[1])]
filters = [GopherQualityFilter(), GopherRepetitionFilter(), C4QualityFilter(filter_no_terminal_punct=False),
           FineWebQualityFilter()]
documents = [Document(text=text, id="") for text in texts[:20]]
for one in filters:
    for document in documents:
        one.filter(document)
began, seconds, left = time.perf_counter(), {}, [Document(text=text, id="") for text in texts]
for one in filters:
    start, kept = time.perf_counter(), []
    for document in left:
        answer = one.filter(document)
        if answer is True or (isinstance(answer, tuple) and answer[0]):
            kept.append(document)
    seconds[type(one).__name__], left = time.perf_counter() - start, kept
print(json.dumps({"seconds": seconds, "whole": time.perf_counter() - began, "left": len(left)}))
"""


def shuffled(pages: Sequence[str], size: int) -> Iterator[str]:
    """Pages of about 1.5 kB with the sentences of others in random order: no page is like another."""
    sentences = [one for page in pages for one in re.split(r"(?<=[.?!])\s+", page) if 40 < len(one) < 300]
    random, made = Random(0), 0
    while made < size:
        page = "\n\n".join(" ".join(random.choices(sentences, k=4)) for _ in range(4))
        made += len(page)
        yield page


def run(folder: Path, gsm8k: Path, sizes: Sequence[float], peer: str | None) -> None:
    pages = real_pages(gsm8k)
    texts = {size: write(shuffled(pages, int(size * 1e6)), folder / f"{size:g}.jsonl") for size in sizes}
    large = max(sizes)
    default = {size: refine(texts[size], folder / f"default-{size:g}", {}) for size in sizes}
    every = refine(texts[large], folder / "every-step", {
        **EVERY_STEP, "minus": [str(texts[min(sizes)])] if len(sizes) > 1 else [],
        "decontaminate": [str(gsm8k / "gsm8k.test.jsonl")]})  # fmt: skip
    table = Table("step", "MB/s", "documents in", "dropped", title=f"one core, {large:g} MB, {cpu()}")
    by_default = {step["name"] for step in default[large].steps}
    for step in every.steps:
        size, dropped = step["bytes_in"] / 1e6, step["documents_in"] - step["documents_out"]
        star = "" if step["name"] in by_default else " (off by default)"
        rate = f"{size / max(1e-9, step['seconds']):.2f}"
        table.add_row(step["name"] + star, rate, f"{step['documents_in']:,}", f"{dropped:,}")
    steps = default[large].steps
    seconds = sum(step["seconds"] for step in steps)
    table.add_row("the default steps together", f"{steps[0]['bytes_in'] / 1e6 / seconds:.2f}", "", "")
    common.show(table)

    table = Table(
        "gemmule refine", "processes", "seconds", "MB/s", "times one", title=f"the whole command, {large:g} MB"
    )
    plain = refine(texts[large], folder / "no-refine", None)
    table.add_row("without [refine]", "1", f"{plain.seconds:.1f}", f"{large / plain.seconds:.2f}", "")
    both = refine(texts[large], folder / "default-2", {}, processes=2)
    for processes, refined in ((1, default[large]), (2, both)):
        times = default[large].seconds / refined.seconds
        table.add_row("the default steps", f"{processes}", f"{refined.seconds:.1f}", f"{large / refined.seconds:.2f}",
                      f"{times:.2f}")  # fmt: skip
    assert both.texts == default[large].texts
    common.show(table)

    table = Table("text, MB", "documents", "anonymous memory, MB", title="memory, one process")
    without = {size: refine(texts[size], folder / f"no-duplicates-{size:g}", {"duplicates": False}) for size in sizes}
    for name, runs in (("default steps", default), ("without duplicates", without)):
        for size, refined in runs.items():
            table.add_row(f"{name}, {size:g}", f"{refined.steps[0]['documents_in']:,}", f"{refined.megabytes:.0f}")
    common.show(table)
    if len(sizes) > 1:
        small = min(sizes)
        more = default[large].steps[0]["documents_in"] - default[small].steps[0]["documents_in"]
        grown = (default[large].megabytes - default[small].megabytes) * 1e6 / more
        print(f"memory grows by {grown:,.0f} bytes a document with the default steps")
    if peer is not None:
        show_peer(texts[min(sizes)], default[min(sizes)], peer)


def show_peer(text: Path, ours: Refined, peer: str) -> None:
    answer = subprocess.run([peer, "-c", PEER, str(text)], capture_output=True, text=True)
    if answer.returncode:
        raise SystemExit(answer.stderr[-3000:])
    theirs = json.loads(answer.stdout.splitlines()[-1])
    step = next(step for step in ours.steps if step["name"] == "quality")
    size = step["bytes_in"] / 1e6
    table = Table("rules of Gopher, C4 and FineWeb", "MB/s a core", "documents left", title="the same pages")
    table.add_row("gemmule's quality", f"{size / step['seconds']:.2f}", f"{step['documents_out']:,}")
    table.add_row("datatrove's four filters", f"{size / theirs['whole']:.2f}", f"{theirs['left']:,}")
    for name, seconds in theirs["seconds"].items():
        table.add_row(f"  {name}", f"{size / seconds:.2f}", "")
    common.show(table)
    print(f"{theirs['whole'] / step['seconds']:.1f} times as fast as datatrove's filters")


def cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "CPU not told")
