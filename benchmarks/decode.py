"""Decoding against transformers' `generate`: tokens/s of what follows a prompt, greedy, same weights, float32.

    python benchmarks/decode.py [--sizes 16M 100M] [--batches 1 8] [--prompt 512] [--tokens 256] [--repeats 3]

Both sides in one process, by turns; medians. A side's time is that from its first new token to its last, so neither the
prompt is in it nor compiling gemmule's step, whose seconds stand beside. The share of bandwidth is what gemmule's steps
read (all weights, and each row's cached keys and values) over what the memory gives, measured around each turn by
summing a tensor of the weights' size.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import time

import common  # before torch
import torch
from rich.table import Table
from transformers import Gemma2Config as TheirConfig
from transformers import Gemma2ForCausalLM as TheirModel
from transformers.generation.streamers import BaseStreamer

from gemmule.generate.sampling import generate_batch
from gemmule.model.config import Gemma2Config
from gemmule.model.transformer import Gemma2
from gemmule.recipe.generation import Sampling

SIZES = {
    "16M": Gemma2Config(8192, layers=8, width=384, heads=6, kv_heads=3, head_dim=64, ffn_width=1024, window=512),
    "100M": Gemma2Config(32768, layers=12, width=768, heads=12, kv_heads=6, head_dim=64, ffn_width=2048, window=1024),
}


class Stopwatch(BaseStreamer):
    """Notes when transformers' `generate` hands out something: the prompt, then the tokens one by one."""

    def __init__(self) -> None:
        self.moments: list[float] = []

    def put(self, value: torch.Tensor) -> None:
        self.moments.append(time.perf_counter())

    def end(self) -> None:
        pass


def time_theirs(model: TheirModel, ids: torch.Tensor, tokens: int) -> tuple[float, list[list[int]]]:
    """Seconds from the first new token to the last, and the tokens."""
    watch = Stopwatch()
    out = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False,
        eos_token_id=None, pad_token_id=0, streamer=watch,
    )  # fmt: skip
    return watch.moments[-1] - watch.moments[1], out[:, ids.shape[1] :].tolist()


def time_ours(model: Gemma2, ids: torch.Tensor, tokens: int) -> tuple[float, list[list[int | None]]]:
    moments, steps = [], []
    for step in generate_batch(
        model, ids.tolist(), max_new_tokens=tokens, compile=True, sampling=Sampling(temperature=0)
    ):
        moments.append(time.perf_counter())
        steps.append(step)
    return moments[-1] - moments[0], [list(row) for row in zip(*steps, strict=True)]


def compile_step(model: Gemma2, ids: torch.Tensor, tokens: int) -> float:
    """Seconds until the first compiled step is done: generating compiles when it first reads a single token."""
    steps = generate_batch(model, ids.tolist(), max_new_tokens=tokens, compile=True)
    next(steps)
    start = time.perf_counter()
    next(steps)
    return time.perf_counter() - start


def bandwidth(weights: torch.Tensor) -> float:
    """Bytes/s at which memory is read, the best of five."""
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        weights.sum()
        best = min(best, time.perf_counter() - start)
    return weights.numel() * weights.element_size() / best


def measure(size: str, batch: int, prompt: int, tokens: int, repeats: int) -> list[str]:
    """A row of the table."""
    config = SIZES[size]
    ours = Gemma2(config).eval()
    theirs = TheirModel._from_config(TheirConfig(**config.to_huggingface()), attn_implementation="eager").eval()
    theirs.load_state_dict(ours.state_dict(), strict=False)
    ids = torch.randint(config.vocabulary_size, (batch, prompt), generator=torch.Generator().manual_seed(0))
    blank = torch.zeros(config.parameters)
    read = 4 * config.parameters + ours.kv_cache_bytes(batch, prompt + tokens // 2)
    found: dict[str, list[float]] = {"theirs": [], "ours": [], "share": []}
    compiling = compile_step(ours, ids, tokens)
    with torch.inference_mode():
        for turn in range(repeats):
            seconds, expected = time_theirs(theirs, ids, tokens)
            found["theirs"].append(batch * (tokens - 1) / seconds)
            speeds = [bandwidth(blank)]
            seconds, text = time_ours(ours, ids, tokens)
            speeds.append(bandwidth(blank))
            found["ours"].append(batch * (tokens - 1) / seconds)
            found["share"].append(read * (tokens - 1) / seconds / statistics.mean(speeds))
            if turn == 0 and text != expected:
                print(f"{size}, batch {batch}: the texts differ: a near-tie fell otherwise, or one side is wrong")
    middle = {name: statistics.median(values) for name, values in found.items()}
    return [
        f"{size}, {config.parameters:,}", str(batch), f"{middle['theirs']:,.0f}", f"{middle['ours']:,.0f}",
        f"{middle['ours'] / middle['theirs']:.2f}", f"{middle['share']:.0%}", f"{compiling:.0f}",
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    wishes = parser.parse_args()
    logging.disable(logging.WARNING)
    table = Table(
        "parameters",
        "batch",
        "transformers, tokens/s",
        "gemmule, tokens/s",
        "ratio",
        "share of bandwidth",
        "s to compile",
    )
    for size in wishes.sizes:
        for batch in wishes.batches:
            table.add_row(*measure(size, batch, wishes.prompt, wishes.tokens, wishes.repeats))
    common.show(table)


if __name__ == "__main__":
    main()
