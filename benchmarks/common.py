"""What the benchmarks share. Import it before torch: it settles how threads wait.

The models of a recipe and the teacher of its run; the figures of a finished run; random tokens; peak memory; a table on
the screen.
"""

from __future__ import annotations

import ctypes
import gc
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from rich.console import Console
from rich.table import Table

from gemmule import recipe as recipes
from gemmule.base import host
from gemmule.model.config import Gemma2Config
from gemmule.plan.steps.model import gemma2_config
from gemmule.run.runner import Family
from gemmule.tokenize.windows import Windows

if TYPE_CHECKING:
    from gemmule.tokenize.shards import TokenShards

host.settle()  # as the command line does

DEMO = Path("recipes/demo.toml")
T95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}  # Student's t of two sides, by seeds


def demo_config(name: str) -> Gemma2Config:
    """The shape of one of the demo's models."""
    demo = recipes.parse(recipes.read(DEMO))
    shape, vocabulary_size = demo.models[name].architecture, demo.tokenizer.vocabulary_size
    assert shape is not None
    assert vocabulary_size is not None
    return gemma2_config(shape, vocabulary_size, demo.data.sequence_length)


def student_and_teacher(recipe: Path, run: Path) -> tuple[Family, str, Path]:
    """A recipe's family in `run`, its first student, and the folder of that student's teacher, trained if need be."""
    family = Family.from_file(recipe, out=run)
    models = family.plan.recipe.models
    student = next(name for name, model in models.items() if model.learn_from != "none")
    teacher = models[student].learn_from
    assert isinstance(teacher, str)
    family.run("train", [teacher])
    return family, student, (run / "models" / teacher / "final").resolve()


def run(family: Family) -> dict[str, dict[str, Any]]:
    """Makes what is missing of a family; gives the figures of each of its models."""
    family.run()
    models: dict[str, dict[str, Any]] = json.loads((family.out / "summary.json").read_text())["models"]
    return models


class RandomTokens:
    """A stream of them, as token shards are read: for `Windows`."""

    path = Path("random")

    def __init__(self, tokens: int, vocabulary_size: int) -> None:
        self.vocabulary_size = vocabulary_size
        self.ids = np.random.default_rng(0).integers(6, vocabulary_size, tokens)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, where: Any) -> Any:
        return self.ids[where]

    def mask(self, start: int, stop: int) -> Any:
        return np.ones(stop - start, bool)


def random_windows(count: int, length: int, vocabulary_size: int) -> Windows:
    tokens = RandomTokens(count * length, vocabulary_size)
    return Windows(cast("TokenShards", tokens), length, bos_id=2, pad_id=0)


def medians(repeats: int, *sides: Callable[[], object]) -> list[float]:
    """Seconds of each, after a turn that does not count."""
    seconds: list[list[float]] = [[] for _ in sides]
    for _ in range(1 + repeats):
        for work, taken in zip(sides, seconds, strict=True):
            began = time.perf_counter()
            work()
            taken.append(time.perf_counter() - began)
    return [statistics.median(taken[1:]) for taken in seconds]


def peak_above(work: Callable[[], object]) -> int:
    """Bytes that this process takes at most during `work`, above what it holds before it. Linux only."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    before = _memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
    kept = work()
    peak = _memory("VmHWM")
    del kept
    return peak - before


def _memory(field: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def interval(values: list[float]) -> str:
    """Mean, and what it is certain to by Student's t."""
    if len(values) not in T95:
        return f"{statistics.mean(values):.3f}"
    half = T95[len(values)] * statistics.stdev(values) / len(values) ** 0.5
    return f"{statistics.mean(values):.3f} ± {half:.3f}"


def show(table: Table) -> None:
    Console(width=120).print(table)
