"""One distillation step at a large vocabulary: gemmule's fused loss beside TRL, Liger and DistillKit; memory and speed.

    pip install --no-deps --target PEERS trl liger-kernel
    git clone https://github.com/arcee-ai/DistillKit PEERS/DistillKit
    python benchmarks/distillation_step.py --peers PEERS [--tokens 1024] [--repeats 3] [--only forward_kl sparse]

Head and loss only: hidden states and head weights of a 40M student (width 144) and a 270M teacher (width 640), both
over 262,144 words, without soft-caps, which the peers lack; float32. A step is forward and backward to the student's
hidden states and weight. "sparse" learns the forward KL from 64 stored entries a token instead of a teacher. The peers'
own functions are read from their files in PEERS. Time is the median of turns in one process; memory the peak above what
was there before and the two gradients, in a process of its own. First the sides' losses and gradients are compared, and
each side's gradients for 64 tokens are held against the plain formulas in float64: "error", relative, of all of it.
"""

from __future__ import annotations

import argparse
import ast
import math
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import common  # before torch
import torch
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

from gemmule.losses.fused_head import fused_loss
from gemmule.losses.targets import DenseTeacher, SparseDistributions

VOCABULARY, STUDENT_WIDTH, TEACHER_WIDTH, STORED = 262_144, 144, 640, 64
CHECKED = 64  # tokens, in float64
BETAS = {"forward_kl": 0.0, "reverse_kl": 1.0, "jsd": 0.5}
Loss = Callable[["Step"], Tensor]  # -> the mean over the tokens, in nats


@dataclass(frozen=True)
class Step:
    """What one step is given: N tokens."""

    hidden: Tensor  # [N, D]
    weight: Tensor  # [V, D]
    teacher_hidden: Tensor  # [N, D']
    teacher_weight: Tensor  # [V, D']
    stored_ids: Tensor  # [N, 64]
    stored_log_probabilities: Tensor  # [N, 64], their mass is 1

    def double(self) -> Step:
        """The same numbers, with more room for what is computed from them."""
        student = (tensor.detach().double().requires_grad_() for tensor in (self.hidden, self.weight))
        others = (self.teacher_hidden.double(), self.teacher_weight.double(), self.stored_ids)
        return Step(*student, *others, self.stored_log_probabilities.double())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=[*BETAS, "sparse"], default=[*BETAS, "sparse"])
    wishes = parser.parse_args()
    step = make_step(wishes.tokens)
    few = first(step, CHECKED)
    table = Table("loss", "side", "error", "seconds", "× gemmule", "peak extra memory, MB", "× gemmule")
    for divergence in wishes.only:
        sides = losses(divergence, wishes.peers)
        compare({side: run(loss, step) for side, loss in sides.items()})
        exact = run(lambda step, divergence=divergence: formula(divergence, step), few.double())
        errors = {side: distance(run(loss, few), exact) for side, loss in sides.items()}
        times: dict[str, list[float]] = {side: [] for side in sides}
        for _ in range(wishes.repeats):
            for side, loss in sides.items():
                started = time.perf_counter()
                run(loss, step)
                times[side].append(time.perf_counter() - started)
        seconds = {side: statistics.median(taken) for side, taken in times.items()}
        memory = {side: peak(divergence, side, wishes.peers, wishes.tokens) for side in sides}
        for side in sides:
            print(divergence, side, f"{seconds[side]:.2f} s, {memory[side] / 1e6:.0f} MB", flush=True)
            table.add_row(divergence, side, f"{errors[side]:.1e}", f"{seconds[side]:.2f}",
                          f"{seconds[side] / seconds['gemmule']:.2f}", f"{memory[side] / 1e6:,.0f}",
                          f"{memory[side] / memory['gemmule']:.1f}")  # fmt: skip
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    common.show(table)


def make_step(tokens: int) -> Step:
    """Logits of both with a deviation of 3, as trained models have them; equal numbers in every process."""
    generator = torch.Generator().manual_seed(0)

    def normal(rows: int, width: int, deviation: float) -> Tensor:
        return torch.randn(rows, width, generator=generator) * deviation

    ids = torch.stack([torch.randperm(VOCABULARY, generator=generator)[:STORED] for _ in range(tokens)])
    return Step(
        normal(tokens, STUDENT_WIDTH, 3.0).requires_grad_(),
        normal(VOCABULARY, STUDENT_WIDTH, STUDENT_WIDTH**-0.5).requires_grad_(),
        normal(tokens, TEACHER_WIDTH, 3.0),
        normal(VOCABULARY, TEACHER_WIDTH, TEACHER_WIDTH**-0.5),
        ids,
        normal(tokens, STORED, 3.0).log_softmax(-1),
    )


def losses(divergence: str, peers: Path) -> dict[str, Loss]:
    """The sides of one comparison."""
    if divergence == "sparse":
        return {"gemmule": _ours_sparse, "DistillKit": _distillkit(peers / "DistillKit" / "distillkit")}
    beta = BETAS[divergence]
    jsd = functions(peers / "trl/experimental/gkd/gkd_trainer.py", "generalized_jsd_loss", F=F)["generalized_jsd_loss"]
    sys.path.insert(0, str(peers))
    from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

    def ours(step: Step) -> Tensor:
        teacher = DenseTeacher(step.teacher_hidden, step.teacher_weight, None)
        return fused_loss(step.hidden[None], step.weight, None, teacher, divergence=divergence, beta=beta)

    def trl(step: Step) -> Tensor:
        with torch.no_grad():
            teacher_logits = F.linear(step.teacher_hidden, step.teacher_weight)[None]
        return jsd(F.linear(step.hidden, step.weight)[None], teacher_logits, beta=beta) / len(step.hidden)

    def liger(chunk: int) -> Loss:
        module = LigerFusedLinearJSDLoss(0.0, 1.0, beta=beta, compiled=False, chunk_size=chunk)
        return lambda step: module(
            step.hidden, step.weight, step.teacher_hidden, step.teacher_weight, step.stored_ids[:, 0]
        )

    return {"gemmule": ours, "TRL": trl, "Liger": liger(1024), "Liger, chunks of 64": liger(64)}


def _ours_sparse(step: Step) -> Tensor:
    tokens = len(step.stored_ids)
    p = step.stored_log_probabilities.exp()
    offsets = torch.arange(0, tokens * STORED + 1, STORED)
    entropy = -(p * step.stored_log_probabilities).sum(-1)
    stored = SparseDistributions(offsets, step.stored_ids.flatten(), p.flatten(), entropy)
    return fused_loss(step.hidden[None], step.weight, None, stored)


def _distillkit(package: Path) -> Loss:
    missing = functions(package / "missing_probability.py", "MissingProbabilityHandling")
    parts = functions(package / "lossfuncs" / "common.py", "get_target_logprobs", "get_logprobs",
                      "accumulate_over_chunks", **missing)  # fmt: skip
    parts |= functions(package / "lossfuncs" / "kl.py", "sparse_kl_div_inner", "sparse_kl_div", **missing, **parts)

    def loss(step: Step) -> Tensor:
        logits = F.linear(step.hidden, step.weight)[None]
        stored = step.stored_ids[None], step.stored_log_probabilities[None]
        return parts["sparse_kl_div"](logits, *stored) / len(step.hidden)

    return loss


def functions(file: Path, *names: str, **known: Any) -> dict[str, Any]:
    """Functions and classes of a peer's source file, without what else it imports (trainers, servers)."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    wanted = [node for node in ast.walk(tree)
              if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in names]  # fmt: skip
    for node in wanted:
        node.decorator_list = []  # @staticmethod
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom) and "." not in _root(node)]
    future = ast.parse("from __future__ import annotations").body
    space: dict[str, Any] = {"torch": torch, "nn": nn, **known}
    space.setdefault("__name__", file.stem)
    standard = [node for node in imports if _root(node) in sys.stdlib_module_names]
    exec(compile(ast.Module([*future, *standard, *wanted], []), str(file), "exec"), space)
    return {name: space[name] for name in names}


def _root(node: ast.Import | ast.ImportFrom) -> str:
    return (node.module or ".") if isinstance(node, ast.ImportFrom) else node.names[0].name


def run(loss: Loss, step: Step) -> tuple[float, Tensor, Tensor]:
    """The loss and its gradients."""
    step.hidden.grad = step.weight.grad = None
    value = loss(step)
    value.backward()
    assert step.hidden.grad is not None
    assert step.weight.grad is not None
    gradients = step.hidden.grad, step.weight.grad
    step.hidden.grad = step.weight.grad = None
    return value.item(), *gradients


def compare(found: dict[str, tuple[float, Tensor, Tensor]]) -> None:
    """Stops unless all sides say the same, but for what float32 makes of 262,144 small numbers."""
    for side, other in found.items():
        value = found["gemmule"][0]
        assert abs(other[0] - value) < 1e-3 * abs(value), f"{side}: a loss of {other[0]}, gemmule's is {value}"
        error = distance(other, found["gemmule"])
        assert error < 5e-3, f"{side}: its gradient lies {error:.2g} from gemmule's"


def distance(found: tuple[float, Tensor, Tensor], exact: tuple[float, Tensor, Tensor]) -> float:
    """Between the gradients, relative to those that are exact."""
    pairs = list(zip(found[1:], exact[1:], strict=True))
    off = sum(float((ours - theirs).double().square().sum()) for ours, theirs in pairs)
    return float((off / sum(float(theirs.double().square().sum()) for _, theirs in pairs)) ** 0.5)


def formula(divergence: str, step: Step) -> Tensor:
    """The loss as it is written: KL(p | q), KL(q | p), or half of both to their mean."""
    log_q = F.linear(step.hidden, step.weight).log_softmax(-1)
    if divergence == "sparse":
        log_p = step.stored_log_probabilities
        return (log_p.exp() * (log_p - log_q.gather(-1, step.stored_ids))).sum(-1).mean()
    log_p = F.linear(step.teacher_hidden, step.teacher_weight).log_softmax(-1)
    log_mean = torch.logaddexp(log_p, log_q) - math.log(2)
    pairs = {"forward_kl": [(log_p, log_q)], "reverse_kl": [(log_q, log_p)],
             "jsd": [(log_p, log_mean), (log_q, log_mean)]}[divergence]  # fmt: skip
    return torch.stack([(a.exp() * (a - b)).sum(-1).mean() for a, b in pairs]).mean()


def first(step: Step, tokens: int) -> Step:
    """The same step over its first tokens."""
    return Step(step.hidden[:tokens].detach().requires_grad_(), step.weight, step.teacher_hidden[:tokens],
                step.teacher_weight, step.stored_ids[:tokens], step.stored_log_probabilities[:tokens])  # fmt: skip


def peak(divergence: str, side: str, peers: Path, tokens: int) -> int:
    """Bytes that a step takes at most, above its inputs and gradients; in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
        return fresh.submit(_peak, divergence, side, peers, tokens).result()


def _peak(divergence: str, side: str, peers: Path, tokens: int) -> int:
    loss, step = losses(divergence, peers)[side], make_step(tokens)
    run(loss, first(step, 2))  # what is made once and kept, as a thread's buffers, is there
    step.weight.grad = None
    return common.peak_above(lambda: run(loss, step)) - step.hidden.nbytes - step.weight.nbytes


if __name__ == "__main__":
    main()
