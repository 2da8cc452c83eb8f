"""Generation by a model of gemma2-2b's shape, one row and sixteen, beside what reading its weights alone takes."""

from __future__ import annotations

import torch

from gemmule.generate.sampling import generate_batch
from gemmule.model.transformer import Gemma2
from gpu_sections.bench import Bench, Values

BANDWIDTH = 3.35e12  # bytes/s, an H100's


def run(bench: Bench) -> None:
    bench.fresh()
    model = bench.model(bench.shape_of_2b(vocabulary_size=3000 if bench.tiny else 256_000)).eval()
    for dtype in (torch.float32, torch.bfloat16) if bench.cuda else (torch.float32,):
        model = model.to(dtype)
        for rows in (1, 16):
            bench.attempt(f"{str(dtype)[6:]}, {rows} rows", generated, bench, model, rows)


def generated(bench: Bench, model: Gemma2, rows: int) -> Values:
    prompts, count = [list(range(3, 19))] * rows, 8 if bench.tiny else 64
    took = bench.seconds(lambda: list(generate_batch(model, prompts, max_new_tokens=count)), repeat=2, warm=1)
    weights = model.config.parameters * model.model.embed_tokens.weight.element_size()
    return {
        "tokens_per_s": rows * count / took,
        "ms_a_step": took / count * 1e3,
        "bound_by_memory_ms": weights / BANDWIDTH * 1e3,
    }
