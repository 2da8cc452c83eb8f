"""Attention's paths, whole models and optimizers on the device against the CPU: relative errors.

Attention against the formula in float64, models against float32 on the CPU: values, losses, gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gemmule.losses.targets import DenseTeacher, Mixture, SparseDistributions
from gemmule.model.config import Gemma2Config
from gemmule.model.fast import compiling
from gemmule.model.fast.attention import flex, masked, sequence_mask
from gemmule.model.transformer import Gemma2
from gemmule.recipe import Train
from gemmule.train.optimizer import Optimizer
from gpu_sections.bench import Bench, Values, error, random_ids, random_targets


class Case(NamedTuple):
    """Attention of 2 sequences, 4 heads, 2 kv heads."""

    dtype: torch.dtype
    head_dim: int
    tokens: int
    window: int | None = None
    separate: bool = False  # documents are kept apart
    mixed: bool = False  # query and key float32 beside a bfloat16 value, as under autocast


LOW, FULL = torch.bfloat16, torch.float32
CASES = (
    Case(LOW, 256, 1024),
    Case(LOW, 256, 1000, 100),
    Case(LOW, 64, 255, 100, separate=True),
    Case(LOW, 144, 256),
    Case(FULL, 256, 256, 100),
    Case(FULL, 64, 255, separate=True),
    Case(LOW, 256, 384, 100, mixed=True),
)
TINY = (Case(FULL, 16, 130, 40), Case(FULL, 16, 130, separate=True))


def run(bench: Bench) -> None:
    bench.fresh()
    torch._dynamo.config.recompile_limit = 64
    for case in TINY if bench.tiny else CASES:
        name = f"{str(case.dtype)[6:]} C {case.head_dim} T {case.tokens} window {case.window}"
        name += " documents" * case.separate + " mixed" * case.mixed
        for path in ("masked", "flex") if bench.cuda else ("masked",):
            bench.attempt(f"{path}: {name}", attention, bench, case, path)
    models(bench)
    for kind in ("adamw", "muon"):
        bench.attempt(f"optimizer: {kind}", update, bench, kind)


def attention(bench: Bench, case: Case, path: str) -> Values:
    """One path on the device against the formula in float64 on the CPU."""
    generator = torch.Generator().manual_seed(1)
    T, C = case.tokens, case.head_dim
    # both sides read the same numbers: those that the type can hold
    made = [torch.randn(2, T, heads, C, generator=generator).to(case.dtype).float() for heads in (4, 2, 2)]
    documents = (torch.arange(T) // (T // 3 + 1)).expand(2, -1).contiguous() if case.separate else None
    outer = torch.randn(2, 4, T, C, generator=generator)

    def formula(q: Tensor, k: Tensor, v: Tensor, there: Tensor | None) -> Tensor:
        mask = sequence_mask(T, case.window, q.dtype, q.device, there)
        return masked(q, k, v, mask=mask, scale=C**-0.5, cap=50.0)

    def fused(q: Tensor, k: Tensor, v: Tensor, there: Tensor | None) -> Tensor:
        return flex.flex(q, k, v, window=case.window, documents=there, scale=C**-0.5, cap=50.0)

    def gradients(work: Callable[..., Tensor], dtypes: list[torch.dtype], device: Any, context: Any) -> list[Tensor]:
        inputs = [x.to(device, dtype).transpose(1, 2).detach() for x, dtype in zip(made, dtypes, strict=True)]
        inputs = [x.requires_grad_() for x in inputs]
        with context():
            result = work(*inputs, None if documents is None else documents.to(device))
        return [result, *torch.autograd.grad(result, inputs, outer.to(device, result.dtype))]

    exact = gradients(formula, [torch.float64] * 3, "cpu", nullcontext)
    dtypes = [FULL, FULL, LOW] if case.mixed else [case.dtype] * 3
    context = bench.autocast if case.mixed else nullcontext
    found = gradients(fused if path == "flex" else formula, dtypes, bench.device, context)
    return {name: error(a, b) for name, a, b in zip(("out", "dq", "dk", "dv"), found, exact, strict=True)}


@dataclass
class Signal:
    """What is learned, on the CPU, and how."""

    target: Any
    how: dict[str, Any] = field(default_factory=dict)
    low: bool = False  # the teacher is in bfloat16 on the device


def models(bench: Bench) -> None:
    """Losses and gradients of a small model by every signal."""
    config, B, T = Gemma2Config(1000, 4, 256, 4, 2, 64, 768, 128), 2, 256
    if bench.tiny:
        config, T = Gemma2Config(1000, 2, 32, 4, 2, 8, 64, 16), 96
    ids = random_ids(config, B, T)
    following = ids.roll(-1, 1)
    exact_model, model = Gemma2(config), Gemma2(config).to(bench.device)
    documents = (torch.arange(T) // 100).expand(B, -1).contiguous()

    def gradients(on: Gemma2, signal: Signal, context: Any, documents: Tensor | None = None) -> tuple[float, Tensor]:
        device = on.model.embed_tokens.weight.device
        apart = {} if documents is None else {"documents": documents.to(device)}
        low = signal.low and on is model
        on.zero_grad()
        with context():
            loss = on(ids.to(device), moved(signal.target, device, low), **signal.how, **apart)
        loss.backward()
        grown = [weight.grad for weight in on.parameters() if weight.grad is not None]
        return float(loss), torch.cat([gradient.flatten().double().cpu() for gradient in grown])

    def compare(signal: Signal, context: Any, documents: Tensor | None = None) -> Values:
        loss, gradient = gradients(exact_model, signal, nullcontext, documents)
        there, grown = gradients(model, signal, context, documents)
        return {"loss": abs(there - loss) / abs(loss), "gradient": error(grown, gradient)}

    for name, signal in signals(following, config.vocabulary_size).items():
        bench.attempt(f"model, float32: {name}", compare, signal, nullcontext)
        if bench.cuda:  # on a CPU: see the section "bugs"
            bench.attempt(f"model, autocast: {name}", compare, signal, bench.autocast)
    bench.attempt("model, float32: documents apart", compare, Signal(following), nullcontext, documents)
    if bench.cuda:
        compiling.prepare(model, "auto")
        bench.attempt("model, autocast, compiled: next tokens", compare, Signal(following), bench.autocast)


def signals(following: Tensor, V: int) -> dict[str, Signal]:
    """Every kind of target for these next tokens [B, T]."""
    generator, N = torch.Generator().manual_seed(2), following.numel()
    hidden, weight = torch.randn(N, 48, generator=generator), torch.randn(V, 48, generator=generator) * 0.3
    dense, sparse = DenseTeacher(hidden, weight, 30.0), random_targets(N, V)
    bucketed = replace(sparse, probabilities=sparse.probabilities * 0.9, entropy=None, rest=True)
    return {
        "next tokens": Signal(following),
        "dense teacher": Signal(dense, {"temperature": 2.0}),
        "dense teacher, jsd": Signal(dense, {"divergence": "jsd"}),
        "dense teacher in bf16": Signal(dense, low=True),
        "mixture": Signal(Mixture(((0.6, dense), (0.4, replace(dense, hidden=hidden.flip(0)))))),
        "stored": Signal(sparse),
        "stored, rest as a bucket": Signal(bucketed),
        "stored and next tokens": Signal(((0.5, sparse), (0.5, following))),
    }


def moved(target: Any, device: torch.device, low: bool) -> Any:
    """A target on a device; with `low` a teacher's numbers are bfloat16."""
    if isinstance(target, tuple):
        return tuple((share, moved(part, device, low)) for share, part in target)
    if isinstance(target, Mixture):
        return Mixture(moved(target.members, device, low))
    if isinstance(target, DenseTeacher):
        dtype = LOW if low else FULL
        assert target.weight is not None
        return replace(target, hidden=target.hidden.to(device, dtype), weight=target.weight.to(device, dtype))
    assert isinstance(target, Tensor | SparseDistributions)
    return target.to(device)


def update(bench: Bench, kind: str) -> Values:
    """One update on the device and on the CPU, from the same gradients."""
    config = (
        Gemma2Config(1000, 2, 32, 4, 2, 8, 64, 16) if bench.tiny else Gemma2Config(1000, 4, 256, 4, 2, 64, 768, 128)
    )
    here, there = Gemma2(config), Gemma2(config).to(bench.device)
    generator = torch.Generator().manual_seed(5)
    before = flat(here)
    for a, b in zip(here.parameters(), there.parameters(), strict=True):
        a.grad = torch.randn(a.shape, generator=generator)
        b.grad = a.grad.to(bench.device, copy=True)
    for model in (here, there):
        wishes = Train.model_validate({"tokens": 1000, "learning_rate": 1e-2, "optimizer": kind})
        Optimizer(model, wishes).step(1e-2)
    return {"update": error(flat(there) - before, flat(here) - before)}


def flat(model: Gemma2) -> Tensor:
    return torch.cat([weight.detach().flatten().cpu() for weight in model.parameters()])
