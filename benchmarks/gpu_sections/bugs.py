"""What a reading of the code said would go wrong on a GPU; each line has in brackets what a correct program gives.

A line that is as its brackets say has been mended, or was no bug.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from gemmule.evaluate.figures import measure_one
from gemmule.evaluate.passages import StreamPassages
from gemmule.model.config import Gemma2Config
from gemmule.model.fast import compiling
from gemmule.model.transformer import Gemma2
from gemmule.teach.targets.sampling import Kind, Scheme
from gemmule.train.memory import lower_precision
from gpu_sections.bench import Bench, Values, random_ids, random_windows

SMALL = Gemma2Config(1000, 6, 128, 4, 2, 64, 256, 128)
SCHEMES: tuple[tuple[Kind, float], ...] = (("threshold", 0.05), ("top-k", 5.0), ("rs-kd", 7.0))


def run(bench: Bench) -> None:
    bench.fresh()
    if bench.cuda:
        bench.attempt("graphs of a backbone of 6 layers, as it is [1, 0]", graphs, bench, probed=False)
        bench.attempt("graphs of a backbone of 6 layers, probed before [1, 0]", graphs, bench, probed=True)
        bench.attempt("recompute_activations, a process's first step [a loss]", bench.child, "recompute")
        bench.attempt("a demo's shapes in one process: flex unfused [0]", bench.child, "recompiles")
        bench.attempt("validation at T 8192, 2B's shape: peak [equal]", validation, bench)
        bench.attempt("a teacher under autocast: its bf16 copies [equal]", copies, bench)
    logits = torch.randn(4, 1000, generator=torch.Generator().manual_seed(0)).to(bench.device)
    for kind, setting in SCHEMES:
        bench.attempt(f"sampling on the device: {kind} [same]", sampled, Scheme(kind, setting), logits)
    bench.attempt("precision bfloat16 on a CPU, T 100 [a loss]", low_on_cpu)
    bench.attempt("evaluation beside a teacher, V 64k: peak [about equal]", evaluation, bench)


def graphs(bench: Bench, *, probed: bool) -> Values:
    """How many a backbone compiles to, and how often one was broken off."""
    from torch._dynamo.testing import CompileCounterWithBackend

    bench.fresh(probed=probed)
    model, ids, counter = bench.model(SMALL), bench.ids(SMALL, 2, 256), CompileCounterWithBackend("inductor")
    model.model.compile(backend=counter)
    with bench.autocast():
        loss = model(ids, ids)
    loss.backward()
    return {"graphs": counter.frame_count, "breaks": sum(torch._dynamo.utils.counters["graph_break"].values())}


def validation(bench: Bench) -> Values:
    """A validation runs uncompiled: what that keeps of attention's scores, and what the kernel would."""
    config = bench.shape_of_2b(vocabulary_size=1024, layers=2)
    model, ids = bench.model(config), bench.ids(config, 1, 512 if bench.tiny else 8192)
    with torch.no_grad():
        bench.fresh()
        with compiling.eager():
            eager = bench.peak_gb(lambda: model(ids, ids))
        bench.fresh()
        model(ids, ids)
        return {"as_it_is_gb": eager, "by_the_kernel_gb": bench.peak_gb(lambda: model(ids, ids))}


def copies(bench: Bench) -> Values:
    """Autocast keeps its copies of weights that require gradients until its context ends."""
    bench.fresh()
    config = bench.shape_of_2b(vocabulary_size=1024, layers=8)
    teacher, ids = bench.teacher(config), bench.ids(config, 1, 256)

    def read() -> None:
        with bench.autocast():
            teacher.expect(ids)

    read()
    as_loaded = bench.peak_gb(read)
    teacher.model.requires_grad_(False)
    return {"as_loaded_gb": as_loaded, "requires_grad_false_gb": bench.peak_gb(read)}


def sampled(scheme: Scheme, logits: torch.Tensor) -> Values:
    """From logits on the device what is drawn from the same on the CPU."""
    there, exact = (scheme.draw(side, 0, np.arange(len(logits))) for side in (logits, logits.cpu()))
    same = all(torch.equal(getattr(there, name).cpu(), getattr(exact, name)) for name in ("exact_ids", "drawn_ids"))
    return {"kept": int(exact.counts.sum()), "same": same}


def low_on_cpu() -> Values:
    config, cpu = replace(SMALL, layers=2), torch.device("cpu")
    model, ids = Gemma2(config), random_ids(config, 1, 100)
    with lower_precision("bfloat16", cpu)():
        loss = model(ids, ids)
    loss.backward()
    return {"loss": float(loss.detach())}


def evaluation(bench: Bench) -> Values:
    """What it holds does not grow with the window: no window's logits exist whole."""
    bench.fresh()
    config = replace(SMALL, layers=1, vocabulary_size=2000 if bench.tiny else 64_000, width=64, head_dim=16)
    model, teacher = bench.teacher(config), bench.teacher(config)
    values: Values = {}
    for length in (64, 256) if bench.tiny else (4096, 8192):
        windows = random_windows(config, 1, length)
        look = partial(measure_one, model, StreamPassages(windows), teacher, "evaluating")
        values |= {
            f"at_{length}_gb": bench.peak_gb(look),
            f"its_logits_{length}_gb": length * config.vocabulary_size * 4e-9,
        }
    return values


def recompute_child(bench: Bench) -> Values:
    from gemmule.model.fast.attention import flex
    from gemmule.train.memory import recompute_activations

    model, ids = bench.model(replace(SMALL, layers=3)).train(), bench.ids(SMALL, 2, 256)
    recompute_activations(model)
    compiling.prepare(model, "auto")
    with bench.autocast():
        loss = model(ids, ids)
    loss.backward()
    works = flex.works(SMALL.head_dim, torch.float32, 0) if bench.cuda else None
    return {"loss": float(loss.detach()), "flex_works": works}


def recompiles_child(bench: Bench) -> Values:
    """The attention shapes of one `gemmule run recipes/demo.toml`, step by step: how often flex runs unfused."""
    import common
    import torch.nn.attention.flex_attention as module

    said: list[str] = []
    warn = module._warn_once

    def count(warning_id: str, *rest: Any, **more: Any) -> None:  # by PyTorch's own name: it is called by keywords
        said.append(warning_id)
        warn(warning_id, *rest, **more)

    module._warn_once = count
    large, little = common.demo_config("teacher"), common.demo_config("student")

    def trained(config: Gemma2Config, *, taught: bool = False) -> None:
        model, ids = bench.model(config).train(), bench.ids(config, 8, 256)
        live = bench.teacher(large) if taught else None
        compiling.prepare(model, "auto")
        for _ in range(2):
            with bench.autocast():
                if live is not None:
                    live.expect(ids)
                loss = model(ids, ids)
            loss.backward()

    def evaluated(*configs: Gemma2Config) -> None:
        for config in configs:
            teacher = bench.teacher(config)
            for rows in (32, 5):
                teacher.expect(bench.ids(config, rows, 256))

    trained(large)
    evaluated(large)
    trained(little, taught=True)
    trained(little)
    evaluated(little, large)
    return {"calls_unfused": said.count("flex_attention_performance")}
