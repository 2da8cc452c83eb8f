"""What the sections share: the device, the clock, what was found; and models and data of random numbers."""

from __future__ import annotations

import gc
import json
import re
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import common  # before torch
import torch
from torch import Tensor

import gemmule
from gemmule.estimate.accelerators import ACCELERATORS
from gemmule.losses.targets import SparseDistributions
from gemmule.model.config import Gemma2Config
from gemmule.model.fast import compiling
from gemmule.model.fast.attention import flex
from gemmule.model.transformer import Gemma2
from gemmule.teach.teachers.gemma2 import Gemma2Teacher
from gemmule.tokenize.windows import Batch, Windows

SCRIPT = Path(__file__).parents[1] / "gpu.py"
Values = dict[str, Any]  # what a measurement gives
_works = flex.works  # as it is


class Bench:
    """One call of the benchmark: where it runs, how long it may, what it found."""

    def __init__(self, *, began: float, seconds: float, tiny: bool, cpu: bool, out: Path) -> None:
        self.cuda = torch.cuda.is_available() and not cpu
        self.device = torch.device("cuda", 0) if self.cuda else torch.device("cpu")
        self.tiny = tiny or not self.cuda
        self.began, self.allowed, self.out = began, seconds, out
        self.flags = ["--tiny"] * tiny + ["--cpu"] * cpu  # for processes of its own
        self.found: dict[str, dict[str, Values]] = {}
        self.section = ""

    @property
    def spent(self) -> float:
        """Seconds."""
        return time.monotonic() - self.began

    def begin(self, section: str) -> None:
        self.section = section
        self.free()
        gc.freeze()  # what is imported by now: `free` would go through it every time, a third of a second
        print(f"{section} (after {self.spent:.0f} s)", flush=True)

    def say(self, title: str, /, **values: Any) -> None:
        """Prints and keeps a line of the section."""
        values = {key: float(f"{value:.4g}") if isinstance(value, float) else value for key, value in values.items()}
        self.found.setdefault(self.section, {})[title] = values
        print(f"  {title:52s} " + "  ".join(f"{key} {value}" for key, value in values.items()), flush=True)

    def attempt(self, title: str, work: Callable[..., Values], /, *given: Any, **named: Any) -> None:
        """Says what `work` gives; what it raises is a finding too. Nothing begins when the time is over."""
        if self.spent > self.allowed:
            self.say(title, left_out="no time")
            return
        try:
            self.say(title, **work(*given, **named))
        except Exception as error:
            ours = Path(gemmule.__file__).parent
            frames = [
                entry for entry in traceback.extract_tb(error.__traceback__) if ours in Path(entry.filename).parents
            ]
            place = f"{Path(frames[-1].filename).relative_to(ours)}:{frames[-1].lineno}" if frames else "the benchmark"
            self.say(title, failed=type(error).__name__, at=place, why=str(error).split("\n")[0][:200])
        finally:
            self.free()

    def write(self) -> Path:
        """gpu.json: everything found so far."""
        path = self.out / "gpu.json"
        path.write_text(json.dumps(self.found, indent=1, default=str))
        return path

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """A process of its own; raises RuntimeError with its error's line if it fails."""
        done = subprocess.run(command, capture_output=True, text=True, timeout=max(60.0, self.allowed - self.spent))
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            errors = [line for line in lines if re.search(r"\w(Error|Exception): ", line) and "ChildFailed" not in line]
            print(*lines[-25:], sep="\n", file=sys.stderr)
            raise RuntimeError((errors or lines or ["no message"])[-1].strip())
        return done

    def child(self, name: str, *launcher: str) -> Values:
        """What `child` of a section's module, run by a process of its own, prints last."""
        done = self.run(sys.executable, *launcher, str(SCRIPT), "--child", name, *self.flags)
        values: Values = json.loads(next(line for line in reversed(done.stdout.splitlines()) if line.startswith("{")))
        return values

    # Measuring

    def sync(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()

    def free(self) -> None:
        """Gives the GPU's memory back that nothing holds."""
        if self.cuda:
            gc.collect()
            torch.cuda.empty_cache()

    def fresh(self, *, probed: bool = False) -> None:
        """Nothing compiled, FlexAttention not probed, or, with `probed`, known to work before anything is compiled."""
        torch.compiler.reset()
        torch._dynamo.utils.counters.clear()
        compiling._given_up = False
        torch.compiler.set_stance("default")
        _works.cache_clear()
        flex.works = (lambda *_: True) if probed and self.cuda else _works
        flex.block_mask.cache_clear()
        self.free()

    def seconds(self, work: Callable[[], object], repeat: int = 5, warm: int = 2) -> float:
        """The median of the device's time."""
        if self.tiny:
            repeat, warm = 1, 0
        for _ in range(warm):
            work()
        self.sync()
        times = []
        for _ in range(repeat):
            begin = time.perf_counter()
            work()
            self.sync()
            times.append(time.perf_counter() - begin)
        return statistics.median(times)

    def peak_gb(self, work: Callable[[], object]) -> float | None:
        """The most that is allocated on the GPU during `work`, beside what is there before. None on a CPU."""
        if not self.cuda:
            work()
            return None
        self.free()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        work()
        self.sync()
        return round((torch.cuda.max_memory_allocated() - before) / 1e9, 2)

    def mfu(self, flops_per_second: float) -> float | None:
        """The share of the GPU's peak in bfloat16 (an H100's, where its name says nothing). None on a CPU."""
        if not self.cuda:
            return None
        name = torch.cuda.get_device_name().lower().replace(" ", "")
        known = max((key for key in ACCELERATORS if key in name), key=len, default="h100")
        return flops_per_second / ACCELERATORS[known].peak

    def autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, torch.bfloat16)

    # Models and data

    def model(self, config: Gemma2Config) -> Gemma2:
        """A random model, drawn on the device: a large one is there at once."""
        with torch.device("meta"):
            made = Gemma2(config)
        made.to_empty(device=self.device)
        with torch.no_grad():
            for weight in made.parameters():
                weight.zero_() if weight.dim() == 1 else weight.normal_(0, weight.shape[-1] ** -0.5)
        return made

    def teacher(self, config: Gemma2Config) -> Gemma2Teacher:
        return Gemma2Teacher(self.model(config).eval())

    def ids(self, config: Gemma2Config, *shape: int) -> Tensor:
        return random_ids(config, *shape).to(self.device)

    def shape_of_2b(self, **overrides: Any) -> Gemma2Config:
        """Gemma 2 2B's; tiny where all is."""
        if not self.tiny:
            return Gemma2Config.preset("gemma2-2b", **overrides)
        overrides = {"vocabulary_size": 500, **overrides, "layers": 2}
        return Gemma2Config(width=64, heads=4, kv_heads=2, head_dim=16, ffn_width=128, window=64, **overrides)

    def student(self, vocabulary_size: int) -> Gemma2Config:
        """A student's shape: 160M parameters without the embedding."""
        if self.tiny:
            return Gemma2Config(vocabulary_size, 2, 32, 4, 2, 8, 64, 32)
        return Gemma2Config(vocabulary_size, 10, 1024, 8, 4, 128, 4096, 2048)


def random_ids(config: Gemma2Config, *shape: int) -> Tensor:
    """The same at every call, on the CPU."""
    return torch.randint(config.vocabulary_size, shape, generator=torch.Generator().manual_seed(0))


def random_windows(config: Gemma2Config, count: int, length: int) -> Windows:
    return common.random_windows(count, length, config.vocabulary_size)


def random_batch(config: Gemma2Config, count: int, length: int, stored: SparseDistributions | None = None) -> Batch:
    return replace(random_windows(config, count, length).window_batch(range(count)), stored=stored)


def random_targets(tokens: int, vocabulary_size: int, entries: int = 20) -> SparseDistributions:
    """Like stored ones, on the CPU."""
    ids = torch.randint(vocabulary_size, (tokens * entries,), generator=torch.Generator().manual_seed(0))
    p = torch.full((tokens * entries,), 1 / entries)
    return SparseDistributions(torch.arange(tokens + 1) * entries, ids, p, torch.ones(tokens))


def error(result: Tensor, expected: Tensor) -> float:
    """Of all of it, relative."""
    result, expected = result.detach().double().cpu(), expected.detach().double().cpu()
    return float((result - expected).norm() / expected.norm().clamp(min=1e-12))
