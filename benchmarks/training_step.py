"""A training step of gemmule beside transformers' Gemma2ForCausalLM, eager and compiled: tokens/s and memory.

    python benchmarks/training_step.py [--only a b c d] [--repeats 5] [--eager]

Same weights, same batch, float32, AdamW, next-token loss. All sides take their steps by turns in one process; medians.
GFLOP/s counts the products that a step needs (Gemma2Config.flops_per_token), as a share of what one large float32
product reaches in the same turns. Memory of (d) is that of forward and backward, in a process of its own, above
weights, gradients and optimizer state. A graph takes minutes to compile; --eager leaves it out.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import common  # before torch
import torch
from rich.table import Table
from torch import nn

from gemmule.model.config import Gemma2Config
from gemmule.model.transformer import Gemma2


@dataclass(frozen=True)
class Case:
    title: str
    batch: int
    tokens: int
    config: Gemma2Config


#                          vocabulary, layers, width, heads, kv heads, head dim, ffn width, window
CASES = {
    "a": Case("16M, V 8,192, B 8 x T 512", 8, 512, Gemma2Config(8192, 8, 384, 6, 3, 64, 1024, 256)),
    "b": Case("4M, V 2,048, B 32 x T 256", 32, 256, Gemma2Config(2048, 4, 256, 4, 2, 64, 896, 128)),
    "c": Case("16M, V 8,192, B 1 x T 4,096", 1, 4096, Gemma2Config(8192, 8, 384, 6, 3, 64, 1024, 512)),
    "d": Case("40M, V 256,000, B 1 x T 512", 1, 512, Gemma2Config(256000, 8, 144, 4, 2, 32, 768, 256)),
}
OURS, OURS_COMPILED = "gemmule, eager", "gemmule, compiled"
THEIRS, THEIRS_COMPILED = "transformers, eager", "transformers, compiled"
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # ids and next tokens [B, T] -> a scalar


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--eager", action="store_true", help="leave compiling out")
    wishes = parser.parse_args()
    sides = [OURS, THEIRS] if wishes.eager else [OURS, OURS_COMPILED, THEIRS, THEIRS_COMPILED]
    table = Table("case", "side", "tokens/s", "× transformers eager", "compiled", "GFLOP/s", "of sgemm", "memory, MB")
    for name in wishes.only:
        case = CASES[name]
        seconds, sgemm = measure(case, sides, wishes.repeats)
        print(f"({name})", *(f"{side}: {taken:.2f} s;" for side, taken in seconds.items()), f"{sgemm:.0f} GFLOP/s")
        for side in sides:
            speed = case.batch * case.tokens / seconds[side]
            rate = 3 * case.config.flops_per_token(case.tokens) * speed / 1e9
            against = [f"{seconds[other] / seconds[side]:.2f}" if other in seconds else ""
                       for other in (THEIRS, THEIRS_COMPILED)]  # fmt: skip
            memory = f"{peak_memory(case, side) / 1e6:,.0f}" if name == "d" and side in (OURS, THEIRS) else ""
            table.add_row(f"({name}) {case.title}", side, f"{speed:,.0f}", *against, f"{rate:.0f}",
                          f"{rate / sgemm:.0%}", memory)  # fmt: skip
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    common.show(table)


def measure(case: Case, sides: list[str], repeats: int) -> tuple[dict[str, float], float]:
    """The median seconds of a step of each side, and the GFLOP/s of a large product between them."""
    ids, targets = batch(case)
    steps = {side: make_step(case, side) for side in sides}
    losses = {side: step(ids, targets) for side, step in steps.items()}  # compiles
    first = losses[sides[0]]
    assert all(abs(loss - first) < 1e-4 * first for loss in losses.values()), f"the sides differ: {losses}"
    times: dict[str, list[float]] = {side: [] for side in sides}
    rates = []
    for _ in range(repeats):
        for side, step in steps.items():
            started = time.perf_counter()
            step(ids, targets)
            times[side].append(time.perf_counter() - started)
        rates.append(product_rate())
    return {side: statistics.median(taken) for side, taken in times.items()}, statistics.median(rates)


def batch(case: Case) -> tuple[torch.Tensor, torch.Tensor]:
    # from 3: transformers gives the embedding of the padding id no gradient
    stream = torch.randint(
        3, case.config.vocabulary_size, (case.batch, case.tokens + 1), generator=torch.Generator().manual_seed(0)
    )
    return stream[:, :-1].contiguous(), stream[:, 1:].contiguous()


def make_step(case: Case, side: str) -> Callable[[torch.Tensor, torch.Tensor], float]:
    """A function that takes one step and gives the loss before it."""
    model, loss_of = make_model(case, side)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step(ids: torch.Tensor, targets: torch.Tensor) -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(ids, targets)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def make_model(case: Case, side: str) -> tuple[nn.Module, Loss]:
    ours = Gemma2(case.config).train()
    if side in (OURS, OURS_COMPILED):
        if side == OURS_COMPILED:
            ours.model.compile()
        return ours, ours
    from transformers import Gemma2Config as TheirConfig
    from transformers import Gemma2ForCausalLM

    theirs = Gemma2ForCausalLM._from_config(
        TheirConfig(**case.config.to_huggingface()), attn_implementation="eager", dtype=torch.float32
    ).train()
    theirs.load_state_dict(ours.state_dict(), strict=False)  # the head is tied, and theirs names it twice
    called = torch.compile(theirs) if side == THEIRS_COMPILED else theirs
    return theirs, lambda ids, targets: called(ids, labels=targets, shift_labels=targets, use_cache=False).loss


def product_rate(size: int = 1024) -> float:
    """GFLOP/s of a square float32 product."""
    x = torch.ones(size, size)
    times = []
    for _ in range(5):
        started = time.perf_counter()
        x @ x
        times.append(time.perf_counter() - started)
    return 2 * size**3 / min(times) / 1e9


def peak_memory(case: Case, side: str) -> int:
    """Bytes that forward and backward take at most, above weights, gradients and optimizer state."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
        return fresh.submit(_peak_memory, case, side).result()


def _peak_memory(case: Case, side: str) -> int:
    ids, targets = batch(case)
    model, loss_of = make_model(case, side)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    loss_of(ids, targets).backward()  # what is made once and kept, as a thread's buffers, is there
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    peak = common.peak_above(lambda: loss_of(ids, targets).backward())
    return peak - sum(weight.grad.nbytes for weight in model.parameters() if weight.grad is not None)


if __name__ == "__main__":
    main()
