"""`gemmule refine` in a process of its own, watched; what it left, by the line of each document."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet

from gemmule.studies.noise import speeches, works

OFF: dict[str, Any] = {"repair": False, "personal_data": "keep", "quality": False, "duplicates": False}
EVERY_STEP: dict[str, Any] = {"languages": ["en"], "duplicates": {"substrings": 50}}


@dataclass(frozen=True)
class Refined:
    """What `gemmule refine` made of a file: by the line of each document."""

    texts: dict[int, str]
    dropped: dict[int, tuple[str, str]]  # by which step, and why
    steps: list[dict[str, Any]]
    seconds: float
    processor: float  # seconds of all its processes
    megabytes: float  # anonymous memory of all its processes, at most


def refine(text: Path, out: Path, settings: dict[str, Any] | None, processes: int = 1) -> Refined:
    """Runs the command in a process of its own."""
    recipe = out.with_suffix(".toml")
    recipe.write_text(recipe_text(text, settings, processes))
    began = time.perf_counter()
    used = watched(["refine", str(recipe), "--out", str(out)], out.with_suffix(".log"))
    folder = out / "documents"
    columns = pyarrow.parquet.read_table(folder / "documents.parquet", columns=["position", "text"]).to_pydict()
    texts = dict(zip(columns["position"], columns["text"], strict=True))
    if settings is None:
        return Refined(texts, {}, [], *used)
    rows = pyarrow.parquet.read_table(folder / "dropped.parquet").to_pylist()
    dropped = {row["position"]: (row["step"], row["reason"]) for row in rows}
    steps = json.loads((folder / "refinery.json").read_text())["steps"]
    print(f"  {out.name}: {time.perf_counter() - began:.1f} s", file=sys.stderr, flush=True)
    return Refined(texts, dropped, steps, *used)


def recipe_text(text: Path, settings: dict[str, Any] | None, processes: int) -> str:
    lines = [f'name = "refining"\n[data]\nsources = ["{text}"]\n[machine]\nprocesses = {processes}']
    lines += ["[tokenizer]\nvocabulary_size = 1000\n[models.small]", "architecture = { layers = 1, width = 32 }"]
    lines += ["train = { tokens = 4000 }"]
    if settings is not None:
        lines += ["[refine]", *(f"{key} = {toml(value)}" for key, value in settings.items())]
    return "\n".join(lines) + "\n"


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(inner)}" for key, inner in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)


def watched(arguments: Sequence[str], log: Path) -> tuple[float, float, float]:
    """Seconds, the processor's seconds, and megabytes of anonymous memory at the most, looked at 20 times a second."""
    began, before, most = time.perf_counter(), processor_seconds(), 0
    with log.open("ab") as file:
        process = subprocess.Popen([sys.executable, "-m", "gemmule", *arguments], stdout=file, stderr=file)
        while process.poll() is None:
            most = max(most, sum(map(anonymous, family(process.pid))))
            time.sleep(0.05)
    if process.returncode:
        raise SystemExit(f"gemmule {' '.join(arguments)}:\n{log.read_text()[-3000:]}")
    return time.perf_counter() - began, processor_seconds() - before, most / 1e6


def processor_seconds() -> float:
    """Of all processes that were started here and have ended, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def family(pid: int) -> list[int]:
    try:
        children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return [pid]
    return [pid, *(one for child in children for one in family(child))]


def anonymous(pid: int) -> int:
    """Bytes that are of no file: what is mapped from the refinery's own files can be given back at any time."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def write(documents: Iterable[str], file: Path) -> Path:
    file.write_text("".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in documents))
    return file


def real_pages(gsm8k: Path) -> list[str]:
    """Pages of Shakespeare, and of five training questions each."""
    rows = [json.loads(line)["question"] for line in (gsm8k / "gsm8k.train.jsonl").read_text().splitlines()]
    questions = ["\n\n".join(rows[start : start + 5]) for start in range(0, len(rows) - 4, 5)]
    return [page for work in works().values() for page in speeches(work)] + questions
