"""What would make a training fit into memory, in the recipe's keys."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

from gemmule.base.units import size
from gemmule.estimate import memory
from gemmule.estimate.memory import Memory
from gemmule.model.config import Gemma2Config
from gemmule.plan.steps.model import ModelStep
from gemmule.recipe.schema import BYTES_PER_TOKEN


def for_training(step: ModelStep, config: Gemma2Config, held: Memory, over: float) -> Iterator[str]:
    """What would make the training of a model fit that takes `over` bytes too many: the first that does, or all."""
    train, key, length = step.train, f"models.{step.name}", step.recipe.data.sequence_length
    windows = step.windows_per_micro_batch
    teacher = held.teacher + held.head // 2 if held.teacher else 0

    def saved(fewer: int) -> int:
        return held.total - teacher - memory.of_training(config, train, fewer * length).total

    if fewer := bisect_left(range(1, windows), True, key=lambda fewer: saved(fewer) < over):
        yield f"{key}.train.micro_batch_tokens = {fewer * length} saves {size(saved(fewer))} and costs only time."
        return
    if windows == 1 and held.activations > over:
        shorter = int(length * (1 - over / held.activations))
        yield f"data.sequence_length = {shorter} would fit: one window takes {size(held.activations)}."
    if windows > 1:
        yield f"{key}.train.micro_batch_tokens = {length} saves most of {size(held.activations)}, which is not enough."
    if not train.recompute_activations:
        again = train.model_copy(update={"recompute_activations": True})
        less = held.activations - memory.activations(config, again, length) * memory.NUMBER
        yield f"{key}.train.recompute_activations = true saves another {size(less)}, for a third more time."
    if held.teacher > 0 and step.model.distill.takes_samples:
        yield (
            f"{key}.distill.targets = {{ bytes_per_token = {BYTES_PER_TOKEN:g} }} in place of a live teacher saves "
            f"{size(held.teacher)}."
        )
    states = held.weights + held.gradients + held.moments
    if states > held.total // 2:
        fits = max(0.0, 1 - over / states)
        smaller = f"a model of {fits:.0%} of its size" if fits >= 0.01 else "a far smaller model"
        yield f"Weights, gradients and moments alone take {size(states)}: {smaller} would fit."
