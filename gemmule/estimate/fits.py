"""Whether what a run has still to make fits into this machine: counted before any work, in milliseconds.

Memory is that of the largest phase, disk that of checkpoints and weights; both are known without a look at the text.
What is refused can't run, whatever else the machine does: the figures, which are right to about a tenth, are more than
all the memory that there is. What would be tight is for `gemmule estimate` to say.

Left to the run itself: GPUs, of which only the memory for weights, gradients and moments is asked for; several
processes (torchrun), which share a model; and servers.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from gemmule.base.errors import RequestError
from gemmule.base.units import plain, size
from gemmule.base.vocabulary import SMALLEST_VOCABULARY
from gemmule.estimate import memory
from gemmule.estimate.machine import SPARE, free_disk, total_memory
from gemmule.estimate.memory import Memory
from gemmule.estimate.remedies import for_training
from gemmule.estimate.shapes import config_of
from gemmule.evaluate.amounts import MODELS_AT_ONCE
from gemmule.evaluate.scores import WINDOW
from gemmule.plan.plan import Plan
from gemmule.plan.steps import Step
from gemmule.plan.steps.evaluation import EvaluationStep
from gemmule.plan.steps.model import ModelStep
from gemmule.plan.steps.scores import ScoresStep
from gemmule.plan.steps.targets import TargetsStep
from gemmule.teach.teachers.shape import Shape

PROCESS = 400 * 10**6  # bytes: Python and PyTorch
DRIVERS = "/dev/nvidiactl", "/dev/kfd", "/dev/dxg"  # one of which a GPU has on Linux: CUDA's, ROCm's, WSL's
SMALLEST_GPU = 10**9  # bytes, which any has: below, PyTorch need not be asked
SURELY = 0.85  # of a figure: real ones are 0.89 to 1.13 of what is counted (benchmarks/RESULTS.md)


@dataclass(frozen=True)
class Phase:
    """Something that a run does, and the bytes that it holds meanwhile."""

    what: str
    held: int
    states: int  # of these: weights, gradients and moments, which are on the device
    step: Step


class _Shapes(dict[str, Shape | None]):
    """Of the recipe's models, each found when it is asked for: another one's damaged file is no matter here."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self._plan, self._vocabulary_size = plan, vocabulary_size(plan)

    def __missing__(self, name: str) -> Shape | None:
        self[name] = shape = self._plan.models[name].shape(self._vocabulary_size)
        return shape


def check(plan: Plan, steps: Iterable[Step]) -> None:
    """Raises RequestError, naming the phase, the figure, what is there and what to lower, if these steps can't fit."""
    steps = list(steps)
    known = _Shapes(plan)
    phases = list(_phases(plan, steps, known))
    if phases:
        _check_memory(plan, max(phases, key=lambda phase: phase.held), known)
        _check_gpu(plan, max(phases, key=lambda phase: phase.states))
    _check_disk(plan, steps, known)


def training(step: ModelStep, known: Mapping[str, Shape | None]) -> Memory | None:
    """What a model's training holds; None where nobody knows its shape."""
    config = config_of(known[step.name])
    if config is None:
        return None
    live = [known[teacher.name] for teacher in step.live_teachers]
    return memory.of_training(config, step.train, step.tokens_per_micro_batch, live)


def evaluation(step: EvaluationStep, known: Mapping[str, Shape | None], vocabulary_size: int) -> int:
    """The bytes that a model's evaluation holds, with all read beside it; 0 where nobody knows their shapes.

    Of one that is not evaluated too, as it only scores documents.
    """
    if step.recipe.only_scores(step.name):
        return 0
    together = [step, *step.sharing[: MODELS_AT_ONCE - 1]]
    models = dict.fromkeys(model for each in together for model in each.asked)
    shapes = [shape for model in models if (shape := known[model.name]) is not None]
    return memory.of_evaluation(shapes, vocabulary_size, step.recipe.data.sequence_length) if shapes else 0


def vocabulary_size(plan: Plan) -> int:
    """As far as that is known without reading a tokenizer: that of a pruned one can't be less than the smallest."""
    section = plan.recipe.tokenizer
    if section.vocabulary_size is not None:
        return section.vocabulary_size
    if plan.train_tokens.path.exists():
        return plan.train_tokens.shards.vocabulary_size
    if section.prune or plan.tokenizer.origin is None:
        return SMALLEST_VOCABULARY
    return max(SMALLEST_VOCABULARY, _rows(Path(plan.tokenizer.origin.place) / "config.json"))


def _rows(config: Path) -> int:
    """Of a model's table; 0 of a GGUF file, or what is on the hub: that is read when it is taken over."""
    try:
        read = json.loads(config.read_text(encoding="utf-8"))
        return int(read.get("text_config", read)["vocab_size"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return 0


def _phases(plan: Plan, steps: Iterable[Step], known: Mapping[str, Shape | None]) -> Iterator[Phase]:
    """Those of which something is known."""
    length = plan.recipe.data.sequence_length
    for step in steps:
        if isinstance(step, ModelStep) and (held := training(step, known)) is not None:
            narrow = held.activations // 2 if plan.recipe.machine.precision == "bfloat16" else 0
            states = held.weights + held.gradients + held.moments
            yield Phase(f"training {step.name}", held.total - narrow, states, step)
        elif isinstance(step, TargetsStep):
            teachers = [shape for teacher in step.teachers if (shape := known[teacher.name]) is not None]
            if teachers:
                weights = sum(teacher.parameters for teacher in teachers) * memory.NUMBER
                bytes_held = memory.of_teaching(teachers, vocabulary_size(plan), length)
                yield Phase(f"storing targets of {step.path.name}", bytes_held, weights, step)
        elif isinstance(step, ScoresStep) and (read := step.shape) is not None:
            bytes_held = memory.of_scoring(read, WINDOW)
            yield Phase(f"scoring documents by {step.name}", bytes_held, read.parameters * memory.NUMBER, step)
        elif isinstance(step, EvaluationStep) and (shape := known[step.name]) is not None:
            if not (bytes_held := evaluation(step, known, vocabulary_size(plan))):
                continue
            yield Phase(f"evaluating {step.name}", bytes_held, shape.parameters * memory.NUMBER, step)


def _check_memory(plan: Plan, phase: Phase, known: Mapping[str, Shape | None]) -> None:
    there, needed = total_memory(), PROCESS + phase.held
    if SURELY * needed <= there or _device(plan) != "cpu":
        return
    lines = [f"Memory: {phase.what} takes about {size(needed)}, and this machine has {size(there)}."]
    step = phase.step
    held = training(step, known) if isinstance(step, ModelStep) else None
    if isinstance(step, ModelStep) and held is not None and (config := config_of(known[step.name])) is not None:
        remedies = list(for_training(step, config, held, needed - SPARE * there))
        lines += remedies[:2] if phase.states < there else remedies[-1:]  # or the model itself is too large
    else:
        lines.append("A smaller model or teacher takes less.")
    raise RequestError(_refusal(lines))


def _check_gpu(plan: Plan, phase: Phase) -> None:
    """Of a GPU only what is there whatever it computes in; one of which PyTorch can't tell is left alone."""
    if plan.recipe.machine.device == "cpu" or phase.states < SMALLEST_GPU or _device(plan) != "cuda":
        return
    import torch

    there = torch.cuda.get_device_properties(0).total_memory
    if phase.states > there:
        lines = [f"Memory: {phase.what} takes {size(phase.states)} and more, and the GPU has {size(there)}."]
        raise RequestError(_refusal([*lines, "A smaller model takes less."]))


def _device(plan: Plan) -> str:
    """Where the run would compute. PyTorch, which takes seconds to import, is asked only where there may be a GPU."""
    wanted = plan.recipe.machine.device
    if wanted == "cpu" or (wanted == "auto" and sys.platform == "linux" and not any(map(os.path.exists, DRIVERS))):
        return "cpu"
    from gemmule.base.device import choose_device  # imports torch

    return choose_device(wanted).type


def _check_disk(plan: Plan, steps: Iterable[Step], known: Mapping[str, Shape | None]) -> None:
    """Of checkpoints and weights alone: at the fewest checkpoints that the recipe keeps, and less those there."""
    needed = 0
    for step in steps:
        if not isinstance(step, ModelStep) or (config := config_of(known[step.name])) is None:
            continue
        kept = memory.checkpoints_kept(step.train, step.steps, 0.0)
        needed += kept * memory.checkpoint_bytes(config, step.train) + config.parameters * memory.NUMBER
        needed -= sum(file.stat().st_size for path in step.checkpoints for file in path.rglob("*") if file.is_file())
    there = free_disk(plan.out)
    if SURELY * needed > there:
        raise RequestError(
            _refusal(
                [
                    f"Disk: checkpoints and weights take {size(needed)}, and {size(there)} are free at {plan.out}.",
                    "--out on another disk, a smaller model or train.keep_last = 1 takes less there.",
                ]
            )
        )


def _refusal(lines: list[str]) -> str:
    return plain("\n".join([lines[0], " ".join([*lines[1:], "gemmule estimate has the details; --force runs anyway"])]))
