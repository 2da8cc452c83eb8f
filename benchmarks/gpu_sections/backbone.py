"""The backbone in gemma2-2b's shape, 4 layers, forward and backward: gemmule beside SDPA and transformers.

gemmule as it is, probed before it is compiled, without the cap, by SDPA (which has neither cap nor window) and
uncompiled; transformers eager and by flex_attention. Tokens/s, MFU, peak memory, seconds of the first step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gemmule.model import transformer
from gemmule.model.config import Gemma2Config
from gemmule.model.fast import compiling
from gpu_sections.bench import Bench, Values


def run(bench: Bench) -> None:
    config = bench.shape_of_2b(vocabulary_size=1024, layers=4)
    plain = replace(config, attention_cap=None)
    for T in (128,) if bench.tiny else (4096, 8192):
        if bench.cuda:
            bench.attempt(f"T {T}: gemmule, as it is", ours, bench, config, T, probed=False)
            bench.attempt(f"T {T}: gemmule, probed before", ours, bench, config, T)
            bench.attempt(f"T {T}: gemmule, no cap", ours, bench, plain, T)
            bench.attempt(f"T {T}: gemmule by SDPA, no cap, no window", ours, bench, plain, T, by=sdpa)
        bench.attempt(f"T {T}: gemmule, uncompiled", ours, bench, config, T, wish=False)
        bench.attempt(f"T {T}: transformers, eager", theirs, bench, config, T, "eager")
        if bench.cuda:
            bench.attempt(f"T {T}: transformers, flex_attention", theirs, bench, config, T, "flex_attention")


def ours(
    bench: Bench,
    config: Gemma2Config,
    T: int,
    *,
    wish: compiling.Wish = "auto",
    probed: bool = True,
    by: Callable[..., Tensor] | None = None,
) -> Values:
    bench.fresh(probed=probed)
    model, ids, before = bench.model(config).train(), bench.ids(config, 1, T), transformer.attention
    transformer.attention = by or before
    try:
        compiling.prepare(model, wish)
        return rate(bench, lambda: model.model(ids), model.parameters(), config, T)
    finally:
        transformer.attention = before


def sdpa(query: Tensor, key: Tensor, value: Tensor, *, scale: float, **_: Any) -> Tensor:
    """PyTorch's own attention in the place of ours."""
    query, key = query.to(value.dtype), key.to(value.dtype)
    return F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale, enable_gqa=True)


def theirs(bench: Bench, config: Gemma2Config, T: int, implementation: str) -> Values:
    bench.fresh()
    from transformers import Gemma2Config as TheirConfig
    from transformers import Gemma2Model

    left_out = ("architectures", "dtype", "torch_dtype", "model_type")
    settings = {name: value for name, value in config.to_huggingface().items() if name not in left_out}
    settings["attn_implementation"] = implementation
    with bench.device:
        model: nn.Module = Gemma2Model(TheirConfig(**settings)).train()
    ids = bench.ids(config, 1, T)
    return rate(
        bench, lambda: model(input_ids=ids, use_cache=False).last_hidden_state, model.parameters(), config, T
    )  # fmt: skip


def rate(
    bench: Bench, hidden: Callable[[], Tensor], parameters: Iterable[nn.Parameter], config: Gemma2Config, T: int
) -> Values:
    """Of forward, under autocast on a GPU, and backward from the sum of hidden states [1, T, D]."""
    weights = list(parameters)
    low = torch.autocast(bench.device.type, torch.bfloat16, enabled=bench.cuda)

    def step() -> None:
        for weight in weights:
            weight.grad = None
        with low:
            out = hidden()
        out.float().sum().backward()

    begin = time.perf_counter()
    step()
    bench.sync()
    first = time.perf_counter() - begin
    took = bench.seconds(step)
    flops = 3 * (config.flops_per_token(T) - 2 * config.embedding_parameters)
    return {
        "tokens_per_s": T / took,
        "mfu": bench.mfu(flops * T / took),
        "peak_gb": bench.peak_gb(step),
        "first_s": first,
    }
