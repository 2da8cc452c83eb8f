"""Filling stored targets from a teacher of gemma2-2b's shape, part by part: microseconds a token.

What one process does for what its teacher reads at once: forward, logits, the copy to the host, drawing there; then
drawing on the GPU instead; then all of it one after the other.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gemmule.losses.targets import DenseTeacher
from gemmule.teach.targets import sampling
from gemmule.teach.targets.amounts import LOGITS_AT_ONCE, windows_at_once
from gemmule.teach.targets.expectations import expect
from gemmule.teach.teachers.gemma2 import Gemma2Teacher
from gemmule.tokenize.windows import Windows
from gpu_sections.bench import Bench, Values, random_windows

SCHEME = sampling.Scheme("threshold", 0.03)


def run(bench: Bench) -> None:
    bench.fresh()
    config = bench.shape_of_2b(vocabulary_size=3000 if bench.tiny else 256_000)
    T = 64 if bench.tiny else 1024
    count = 2 if bench.tiny else windows_at_once(T)
    teacher, windows = bench.teacher(config), random_windows(config, count, T)
    inputs = windows.window_batch(range(count)).model_inputs(bench.device)

    def each(work: Callable[[], object], tokens: int, warm: int = 2) -> Values:
        return {"us_per_token": bench.seconds(work, repeat=3, warm=warm) / tokens * 1e6}

    def read(context: Callable[[], AbstractContextManager[Any]] = nullcontext) -> DenseTeacher:
        with context():
            return teacher.expect(**inputs)

    bench.attempt("forward, float32, as it is", each, read, count * T)
    torch.set_float32_matmul_precision("high")
    bench.attempt("forward, TF32", each, read, count * T)
    if bench.cuda:
        bench.attempt("forward, autocast", each, partial(read, bench.autocast), count * T)
    torch.set_float32_matmul_precision("highest")
    rows = min(count * T, max(1, LOGITS_AT_ONCE // config.vocabulary_size))
    some = read()[slice(0, rows)]
    logits, numbers = some.logits(), np.arange(rows)
    there = logits.cpu()
    bench.attempt("logits on the device, float32", each, some.logits, rows)
    bench.attempt("logits to the host", each, logits.cpu, rows)
    draw = partial(SCHEME.draw, there, 0, numbers)
    bench.attempt(f"drawing on the host, {torch.get_num_threads()} threads", each, draw, rows, warm=1)
    bench.attempt("drawing on the device", on_device, bench, logits, there)
    bench.attempt("all of it, as targets/parts.py does, but packing", whole, teacher, windows)


def on_device(bench: Bench, logits: Tensor, there: Tensor) -> Values:
    """`sampling.draw` as it stands, with its new tensors on the GPU."""
    numbers = np.arange(len(logits))
    offsets = torch.from_numpy(sampling.offsets(0, numbers)).to(bench.device)
    draw = partial(sampling.draw, logits, SCHEME.setting, offsets)
    with bench.device:
        drawn, took = draw(), bench.seconds(draw, repeat=3)
    exact = SCHEME.draw(there, 0, numbers)
    same = torch.equal(drawn.drawn_ids.cpu(), exact.drawn_ids) and torch.equal(drawn.exact_ids.cpu(), exact.exact_ids)
    return {"us_per_token": took / len(logits) * 1e6, "same_draws": same}


def whole(teacher: Gemma2Teacher, windows: Windows) -> Values:
    """At most half a minute of it."""
    begin, done = time.perf_counter(), 0
    for logits, positions, known in expect(teacher, windows, range(len(windows))):
        SCHEME.draw(logits, 0, positions, known)
        done += len(positions)
        if time.perf_counter() - begin > 30:
            break
    rate = done / (time.perf_counter() - begin)
    return {"tokens_per_s": rate, "gpu_hours_for_1T": 1e12 / rate / 3600}
