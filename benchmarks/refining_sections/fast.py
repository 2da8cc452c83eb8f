"""How fast each step is, and all by default together; memory at two sizes of text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import common
from rich.table import Table

from refining_sections.command import EVERY_STEP, OFF, Refined, real_pages, refine, write

SHORT = (50_000, 250_000)  # documents of one line


def shuffled(pages: Sequence[str], size: int) -> Iterator[str]:
    """Pages of about 1.5 kB with the sentences of others in random order: no page is like another."""
    sentences = [one for page in pages for one in re.split(r"(?<=[.?!])\s+", page) if 40 < len(one) < 300]
    random, made = Random(0), 0
    while made < size:
        page = "\n\n".join(" ".join(random.choices(sentences, k=4)) for _ in range(4))
        made += len(page)
        yield page


def run(folder: Path, gsm8k: Path, sizes: Sequence[float], repeats: int) -> None:
    pages = real_pages(gsm8k)
    texts = {size: write(shuffled(pages, int(size * 1e6)), folder / f"{size:g}.jsonl") for size in sizes}
    small, large = min(sizes), max(sizes)
    turns: dict[int, list[Refined]] = {1: [], 2: []}
    for turn in range(repeats):
        for processes, runs in turns.items():
            runs.append(refine(texts[large], folder / f"default-{processes}-{turn}", {}, processes))
    assert turns[1][0].texts == turns[2][0].texts
    one, two = (sorted(runs, key=lambda refined: refined.seconds)[len(runs) // 2] for runs in turns.values())
    every = refine(texts[large], folder / "every-step", {
        **EVERY_STEP, "minus": [str(texts[small])], "decontaminate": [str(gsm8k / "gsm8k.test.jsonl")]})  # fmt: skip
    show_steps(one, every, f"one core, {large:g} MB, {cpu()}")

    heads = ("the default steps", "seconds", "MB/s", "times one", "processor's seconds")
    table = Table(*heads, title=f"the whole command, {large:g} MB")
    plain = refine(texts[large], folder / "no-refine", None)
    table.add_row("none", f"{plain.seconds:.1f}", f"{large / plain.seconds:.2f}", "", f"{plain.processor:.1f}")
    for name, refined in (("1 process", one), ("2 processes", two)):
        cells = (f"{refined.seconds:.1f}", f"{large / refined.seconds:.2f}", f"{one.seconds / refined.seconds:.2f}")
        table.add_row(name, *cells, f"{refined.processor:.1f}")
    common.show(table)

    table = Table("one process", "text, MB", "documents", "anonymous memory, MB", title="memory")
    default = {small: refine(texts[small], folder / "default-small", {}), large: one}
    for size, refined in default.items():
        documents = refined.steps[0]["documents_in"]
        table.add_row("default steps", f"{size:g}", f"{documents:,}", f"{refined.megabytes:.0f}")
    short = {count: write(lines(pages, count), folder / f"short-{count}.jsonl") for count in SHORT}
    grown = {}
    for name, duplicates in (("exact and near duplicates alone", True), ("no step that drops", False)):
        runs = [refine(short[count], folder / f"short-{count}-{duplicates}", OFF | {"duplicates": duplicates})
                for count in SHORT]  # fmt: skip
        for count, refined in zip(SHORT, runs, strict=True):
            size = short[count].stat().st_size / 1e6
            table.add_row(f"{name}, one line each", f"{size:.1f}", f"{count:,}", f"{refined.megabytes:.0f}")
        grown[name] = (runs[1].megabytes - runs[0].megabytes) * 1e6 / (SHORT[1] - SHORT[0])
    common.show(table)
    print("bytes a document that memory grows by:", ", ".join(f"{name} {size:.0f}" for name, size in grown.items()))


def lines(pages: Sequence[str], count: int) -> Iterator[str]:
    """Documents of twelve words in random order."""
    words, random = " ".join(pages[:200]).split(), Random(0)
    return (" ".join(random.choices(words, k=12)) for _ in range(count))


def show_steps(one: Refined, every: Refined, title: str) -> None:
    """A step's seconds are counted by the clock, here as the processor's: a loaded machine is no slower then."""
    table = Table("step", "MB/s", "documents in", "dropped", title=title)
    by_default = {step["name"] for step in one.steps}
    for step in one.steps + [step for step in every.steps if step["name"] not in by_default]:
        run = one if step["name"] in by_default else every
        seconds = step["seconds"] * min(1, run.processor / run.seconds)
        name = step["name"] if run is one else f"{step['name']} (off by default)"
        dropped = step["documents_in"] - step["documents_out"]
        rate = f"{step['bytes_in'] / 1e6 / max(1e-9, seconds):.2f}"
        table.add_row(name, rate, f"{step['documents_in']:,}", f"{dropped:,}")
    seconds = sum(step["seconds"] for step in one.steps) * min(1, one.processor / one.seconds)
    table.add_row("the default steps together", f"{one.steps[0]['bytes_in'] / 1e6 / seconds:.2f}", "", "")
    common.show(table)


def cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "CPU not told")
