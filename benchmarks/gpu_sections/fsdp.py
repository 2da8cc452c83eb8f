"""FSDP2 with NCCL on one rank, started by torchrun: the numbers of one process, its speed, a checkpoint's shards."""

from __future__ import annotations

import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

from gemmule.base import ranks
from gemmule.model.fast import compiling
from gemmule.model.transformer import Gemma2
from gemmule.train import parallel
from gemmule.train.optimizer import Optimizer
from gpu_sections import step
from gpu_sections.bench import Bench, Values, random_batch


class One(int):
    """A world of one rank that is taken for several: it goes the code's way through FSDP2."""

    def __eq__(self, other: object) -> bool:
        return False

    def __gt__(self, other: object) -> bool:
        return True

    __hash__ = int.__hash__


def run(bench: Bench) -> None:
    torchrun = ("-m", "torch.distributed.run", "--nproc-per-node", "1", "--standalone")
    bench.attempt("torchrun, one rank through FSDP2", bench.child, "fsdp", *torchrun)


def child(bench: Bench) -> Values:
    """What torchrun's process does."""
    config, (windows, T) = step.shape(bench), step.size(bench)
    batch = random_batch(config, windows, T)

    def trained(model: Gemma2) -> tuple[Optimizer, list[tuple[float, float]], float]:
        """The losses and norms of three steps, and the seconds of one."""
        compiling.prepare(model.train(), "auto")
        optimizer = step.new_optimizer(model)
        train = step.training_step(bench, model, batch, partial(step.next_tokens, device=bench.device), optimizer)
        return optimizer, [train() for _ in range(3)], bench.seconds(train, warm=0)

    bench.fresh(probed=True)
    plain, plain_s = trained(Gemma2(config).to(bench.device))[1:]
    bench.fresh(probed=True)
    ranks.size = lambda: One(1)
    parallel.join(bench.device)
    model = parallel.place(config, bench.device, lambda: Gemma2(config))  # new weights are those of seed 0
    optimizer, sharded, sharded_s = trained(model)
    differences = [
        [abs(a - b) for a, b in zip(one, other, strict=True)] for one, other in zip(plain, sharded, strict=True)
    ]
    whole = parallel.gather(model)
    found = {
        "tokens_per_s_plain": windows * T / plain_s,
        "tokens_per_s_fsdp": windows * T / sharded_s,
        "loss_differs": max(loss for loss, _ in differences),
        "norm_differs": max(norm for _, norm in differences),
        **checkpoint(model, optimizer),
        "gathered": sum(weight.numel() for weight in whole.parameters()) == config.parameters,
        "add_up": parallel.add_up(1.5)[0],
        "agree": parallel.agree("x"),
        "first": parallel.first(None),
    }
    torch.distributed.destroy_process_group()
    return found


def checkpoint(model: Gemma2, optimizer: Optimizer) -> Values:
    """Writes the shards and reads them back."""
    tensors: dict[str, Any] = {**model.state_dict(), **optimizer.state()}
    held = {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        parallel.write(held, Path(folder))
        took = time.perf_counter() - begin
        try:
            parallel.read({**model.state_dict(), **optimizer.empty_state()}, Path(folder))
            read = "ok"
        except Exception as problem:  # a finding: the others are to be told too
            read = f"{type(problem).__name__}: {problem}"[:150]
    return {"write_s": took, "read": read}
