"""Ceilings of the machine: products, copies on the device and to the host."""

from __future__ import annotations

import sys
from functools import partial

import torch

from gpu_sections.bench import Bench, Values


def run(bench: Bench) -> None:
    bench.say(
        "versions",
        torch=torch.__version__,
        python=sys.version.split()[0],
        device=str(bench.device),
        name=torch.cuda.get_device_name() if bench.cuda else "CPU",
        threads=torch.get_num_threads(),
    )
    n = 256 if bench.tiny else 8192
    for name, dtype, precision in (
        ("bf16", torch.bfloat16, "highest"), ("TF32", torch.float32, "high"), ("float32", torch.float32, "highest")
    ):  # fmt: skip
        torch.set_float32_matmul_precision(precision)
        bench.attempt(f"product of {n}^3, {name}", product, bench, n, dtype)
    torch.set_float32_matmul_precision("highest")
    x = torch.empty(2**20 if bench.tiny else 2**30, device=bench.device)
    y = torch.empty_like(x)
    bench.say("copy on the device", gb_per_s=2 * x.nbytes / bench.seconds(partial(y.copy_, x)) / 1e9)
    some = x[: 2**18 if bench.tiny else 2**25]
    bench.say("to the host, as logits are (pageable)", gb_per_s=some.nbytes / bench.seconds(some.cpu) / 1e9)
    if bench.cuda:
        pinned = torch.empty(some.shape, pin_memory=True)
        copy = partial(pinned.copy_, some, non_blocking=True)
        bench.say("to the host, pinned", gb_per_s=some.nbytes / bench.seconds(copy) / 1e9)


def product(bench: Bench, n: int, dtype: torch.dtype) -> Values:
    x = torch.randn(n, n, device=bench.device, dtype=dtype)
    return {"tflops": 2 * n**3 / bench.seconds(lambda: x @ x) / 1e12}
