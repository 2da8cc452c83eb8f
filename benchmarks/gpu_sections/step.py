"""Whole training steps of a student of 160M parameters and its embedding, 2 windows of 4,096 tokens.

Next tokens, stored targets, a live teacher of gemma2-2b's shape: tokens/s, MFU, peak memory, how busy the GPU is, how
often a step waits for it, how many kernels it starts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gemmule.model.config import Gemma2Config
from gemmule.model.fast import compiling
from gemmule.model.transformer import Gemma2
from gemmule.recipe import Distill, Train
from gemmule.teach.teachers.gemma2 import Gemma2Teacher
from gemmule.tokenize.windows import Batch
from gemmule.train import parallel
from gemmule.train.memory import lower_precision
from gemmule.train.objective import accumulate
from gemmule.train.optimizer import Optimizer
from gpu_sections.bench import Bench, Values, random_batch, random_targets

AS_IT_IS, FROZEN, LOW = "as it is", "requires_grad_(False)", "in bf16, compiled"


def run(bench: Bench) -> None:
    small, large = (500, 1000) if bench.tiny else (32_768, 256_000)
    bench.attempt("V 32k, next tokens, as it is", student_step, bench, small, probed=False)
    bench.attempt("V 32k, next tokens, probed before", student_step, bench, small)
    bench.attempt("V 32k, stored", student_step, bench, small, stored=True)
    for teacher in (AS_IT_IS, FROZEN, LOW) if bench.cuda else (AS_IT_IS, FROZEN):
        bench.attempt(f"V 32k, live 2B teacher, {teacher}", student_step, bench, small, teacher=teacher)
    bench.attempt("V 256k, stored", student_step, bench, large, stored=True)


def student_step(
    bench: Bench, vocabulary: int, *, stored: bool = False, teacher: str | None = None, probed: bool = True
) -> Values:
    bench.fresh(probed=probed)
    config, (windows, T) = bench.student(vocabulary), size(bench)
    model = bench.model(config).train()
    compiling.prepare(model, "auto")
    live = None if teacher is None else live_teacher(bench, vocabulary, teacher)
    batch = random_batch(config, windows, T, random_targets(windows * T, vocabulary) if stored else None)

    def target(part: Batch) -> Any:
        if part.stored is not None:
            return part.stored.to(bench.device)
        if live is not None:
            return live.expect(**part.model_inputs(bench.device))
        return next_tokens(part, bench.device)

    step = training_step(bench, model, batch, target)
    begin = time.perf_counter()
    step()
    bench.sync()
    first = time.perf_counter() - begin
    took = bench.seconds(step, repeat=7)
    flops = 3 * config.flops_per_token(T) + (live.model.config.flops_per_token(T) if live else 0)
    return {
        "tokens_per_s": windows * T / took,
        "mfu": bench.mfu(flops * windows * T / took),
        "ms": took * 1e3,
        "peak_gb": bench.peak_gb(step),
        "first_s": first,
        "parameters_m": config.parameters / 1e6,
        **(profiled(bench, step, took) if bench.cuda else {}),
    }


def size(bench: Bench) -> tuple[int, int]:
    """Windows and their tokens."""
    return (2, 64) if bench.tiny else (2, 4096)


def live_teacher(bench: Bench, vocabulary: int, how: str) -> Gemma2Teacher:
    live = bench.teacher(bench.shape_of_2b(vocabulary_size=vocabulary))
    if how != AS_IT_IS:
        live.model.requires_grad_(False)
    if how == LOW:
        live.model.model.layers.bfloat16()
        compiling.prepare(live.model, "auto")
    return live


def next_tokens(part: Batch, device: torch.device) -> Tensor:
    return torch.from_numpy(part.targets).to(device)


def training_step(
    bench: Bench, model: Gemma2, batch: Batch, target: Callable[[Batch], Any], optimizer: Optimizer | None = None
) -> Callable[[], tuple[float, float]]:
    """A function that takes a step as the trainer does, and gives the loss and the gradient's norm."""
    optimizer = optimizer or new_optimizer(model)
    precision = lower_precision("auto", bench.device)
    windows = len(batch.starts)

    def step() -> tuple[float, float]:
        optimizer.zero_grad()
        loss = accumulate(
            model,
            batch,
            target,
            windows_per_micro_batch=windows,
            distill=Distill(),
            device=bench.device,
            precision=precision,
        )
        norm = parallel.clip(model, 1.0)
        optimizer.step(1e-3)
        return loss, norm

    return step


def new_optimizer(model: Gemma2) -> Optimizer:
    return Optimizer(model, Train(tokens=10**9, learning_rate=1e-3))


def profiled(bench: Bench, step: Callable[[], object], took: float) -> Values:
    """What PyTorch's profiler sees of one step."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as traced:
        step()
        bench.sync()
    rows = traced.key_averages()
    on_gpu = [row for row in rows if str(getattr(row, "device_type", "")).endswith("CUDA")]
    return {
        "gpu_busy": sum(getattr(row, "self_device_time_total", 0) for row in on_gpu) / 1e6 / took,
        "syncs": sum(row.count for row in rows if row.key in ("cudaStreamSynchronize", "cudaDeviceSynchronize")),
        "launches": sum(row.count for row in rows if "LaunchKernel" in row.key),
    }


def shape(bench: Bench) -> Gemma2Config:
    """The student's, of 32k words."""
    return bench.student(500 if bench.tiny else 32_768)
