"""The fused head and loss at a vocabulary of 256,000: microseconds a token, forward and backward, and peak memory.

As it is; in larger chunks; with products of bfloat16 and sums in float32; with a chunk's formulas compiled. Beside it
whole logits by PyTorch's formulas, and the chunked formula of Liger and TRL.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gemmule.base import chunks
from gemmule.losses import fused_head
from gemmule.losses.targets import DenseTeacher, OneTarget
from gpu_sections.bench import Bench, Values, random_targets

CAP = 30.0


class Head:
    """Hidden states of N tokens, a head of V words, and targets for them."""

    def __init__(self, bench: Bench) -> None:
        self.bench, device = bench, bench.device
        N, D, E, V = (64, 32, 48, 2000) if bench.tiny else (8192, 2304, 3584, 256_000)
        self.hidden = torch.randn(1, N, D, device=device, requires_grad=True)
        self.weight = (torch.randn(V, D, device=device) * D**-0.5).requires_grad_()
        live = DenseTeacher(torch.randn(N, E, device=device), torch.randn(V, E, device=device) * E**-0.5, CAP)
        assert live.weight is not None
        self.teacher_hidden, self.teacher_weight = live.hidden.bfloat16(), live.weight.bfloat16()
        self.targets: dict[str, OneTarget] = {
            "next tokens": torch.randint(V, (1, N), device=device),
            "stored": random_targets(N, V).to(device),
            "live, float32": live,
            "live, bf16": replace(live, hidden=self.teacher_hidden, weight=self.teacher_weight),
        }

    def measure(self, work: Callable[[], Tensor], tokens: int | None = None) -> Values:
        """Of the loss that `work` gives for this many tokens."""
        tokens = tokens or self.hidden.shape[1]

        def step() -> None:
            self.hidden.grad = self.weight.grad = None
            work().backward()

        return {
            "us_per_token": self.bench.seconds(step, repeat=3) / tokens * 1e6,
            "peak_gb": self.bench.peak_gb(step),
            "tokens": tokens,
        }

    def fused(self, target: str) -> Values:
        return self.measure(lambda: fused_head.fused_loss(self.hidden, self.weight, CAP, self.targets[target]))


def run(bench: Bench) -> None:
    torch.set_float32_matmul_precision("high")
    try:
        head = Head(bench)
        for name in head.targets:
            bench.attempt(f"gemmule: {name}", head.fused, name)
        for numbers in () if bench.tiny else (2**28, 2**29):
            with patched(chunks, CHUNK_ELSEWHERE=numbers):
                bench.attempt(f"gemmule, chunks of {numbers // len(head.weight)} rows: stored", head.fused, "stored")
        variants(bench, head)
        bench.attempt("whole logits, PyTorch's formulas, bf16: live", whole, head)
        bench.attempt("Liger's and TRL's formula, bf16: live", chunked, head)
    finally:
        torch.set_float32_matmul_precision("highest")


@contextmanager
def patched(module: ModuleType, **values: Any) -> Iterator[None]:
    """The fused head with other parts."""
    before = {name: getattr(module, name) for name in values}
    try:
        for name, value in values.items():
            setattr(module, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(module, name, value)


def variants(bench: Bench, head: Head) -> None:
    """bfloat16 operands with float32 sums; then a chunk's formulas compiled."""
    low = head.weight.detach().bfloat16()

    def raw_logits(x: Tensor, matrix: Tensor, cap: float, bias: Tensor | None, buffer: Tensor) -> Tensor:
        rows, x = buffer[: len(x)], (x / cap).bfloat16()
        return rows.copy_(product(x, (low if matrix.shape == low.shape else matrix.bfloat16()).mT))

    def add_product(total: Tensor, gradient: Tensor, x: Tensor) -> None:
        total.add_(product(gradient.bfloat16().mT, x.bfloat16()))

    with patched(fused_head, raw_logits=raw_logits, _add_product=add_product):
        for name in ("stored", "live, bf16"):
            bench.attempt(f"gemmule, bf16 operands, float32 sums: {name}", head.fused, name)
        if bench.cuda:
            with patched(fused_head, _differentiate=torch.compile(fused_head._differentiate, dynamic=False)):
                for name in ("live, bf16", "next tokens"):
                    bench.attempt(f"the same, a chunk's formulas compiled: {name}", head.fused, name)


def product(a: Tensor, b: Tensor) -> Tensor:
    """Of bfloat16 matrices, in float32."""
    return torch.mm(a, b, out_dtype=torch.float32) if a.is_cuda else (a @ b).float()


def capped(x: Tensor) -> Tensor:
    return (x.float() / CAP).tanh() * CAP


def whole(head: Head) -> Values:
    """All logits at once, for as many tokens as fit."""
    rows = min(head.hidden.shape[1], 2048)

    def loss() -> Tensor:
        student = capped(head.hidden[0, :rows].bfloat16() @ head.weight.bfloat16().mT)
        expected = capped(head.teacher_hidden[:rows] @ head.teacher_weight.mT)
        return F.kl_div(F.log_softmax(student, -1), F.log_softmax(expected, -1), log_target=True, reduction="batchmean")

    return head.measure(loss, rows)


def chunked(head: Head) -> Values:
    """Liger's and TRL's fused linear distillation: value and gradient of a chunk, compiled, gradients added up."""
    bench, (N, D), V = head.bench, head.hidden.shape[1:], len(head.weight)

    def loss(x: Tensor, matrix: Tensor, y: Tensor) -> Tensor:
        student, expected = capped(x @ matrix.mT), capped(y @ head.teacher_weight.mT)
        return F.kl_div(F.log_softmax(student, -1), F.log_softmax(expected, -1), log_target=True, reduction="sum")

    both = torch.func.grad_and_value(loss, argnums=(0, 1))
    both = torch.compile(both) if bench.cuda else both
    size = max(1, 2 ** math.ceil(math.log2(N / math.ceil(V / D))))  # Liger's choice of rows
    hidden, weight = head.hidden.detach()[0].bfloat16(), head.weight.detach().bfloat16()

    def step() -> None:
        total, by_weight = torch.zeros((), device=bench.device), torch.zeros_like(head.weight)
        for first in range(0, N, size):
            rows = slice(first, first + size)
            (_, part), value = both(hidden[rows], weight, head.teacher_hidden[rows])
            by_weight += part
            total += value

    return {
        "us_per_token": bench.seconds(step, repeat=2) / N * 1e6,
        "peak_gb": bench.peak_gb(step),
        "rows_a_chunk": size,
    }
