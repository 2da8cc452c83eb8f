"""What the figures of an estimate mean: what teaching costs and may bring; what to change where a recipe can't fit."""

from __future__ import annotations

from collections.abc import Iterator

from gemmule.base.units import count, duration, flops, plain, size
from gemmule.estimate.machine import SPARE
from gemmule.estimate.remedies import for_training
from gemmule.estimate.shapes import config_of
from gemmule.estimate.whole import Estimate
from gemmule.plan.plan import Plan

MEASURED_GAIN = (
    "Measured gain: the demo's student ends at 0.71 of its control's perplexity, "
    "the paper's students of 200M to 1B at 0.88 to 0.91."
)
OVERFITTING = (
    4  # times that a text is read before it is worth less and less (Muennighoff et al. 2023, arXiv 2305.16264)
)


def teaching_costs(plan: Plan, estimate: Estimate) -> list[str]:
    """A line for each student: what its teacher's answers cost, beside its own training."""
    lines = []
    trained = {model.name: training for model, training, _ in estimate.trained}
    for model, training, _ in estimate.trained:
        if model.learn_from is None:
            continue
        step = plan.trained(model.name)
        stored = next((entry for entry in estimate.teaching if step.targets and entry.name == model.learn_from), None)
        answers = training.teacher_flops if stored is None else stored.flops
        if answers is None:
            lines.append(
                f"{model.name}: what {model.learn_from}'s forward passes cost is not known: it is not on this machine."
            )
            continue
        kept = "" if stored is None else f", cached once in {size(stored.disk)} for all of its students,"
        lines.append(
            f"{model.name}: {model.learn_from}'s forward passes{kept} cost {flops(answers)}, "
            f"{answers / training.flops:.0%} of the student's own training. The same operations would train it alone "
            f"on {count(answers / training.flops * training.tokens)} tokens more."
        )
        here = [trained[teacher.name] for teacher in step.teachers if teacher.name in trained]
        if here:
            cost = sum(teacher.flops for teacher in here)
            lines.append(
                f"  Training {model.learn_from} first costs {cost / training.flops:.1f} times the student's training, "
                f"{duration(sum(teacher.seconds for teacher in here))} here: it pays where it serves several students, "
                "or text is short."
            )
    return [plain(line) for line in [*lines, MEASURED_GAIN]] if lines else []


def warnings(plan: Plan, estimate: Estimate) -> list[str]:
    """What to know before the run begins: what can't fit, and how it would; text that is read too often."""
    lines = []
    if estimate.peak_memory > SPARE * estimate.free_memory:
        lines.append(
            f"Memory: {size(estimate.peak_memory)} are needed at most, {size(estimate.free_memory)} are free. "
            + " ".join(_for_memory(plan, estimate))
        )
    if estimate.disk > SPARE * estimate.free_disk:
        lines.append(
            f"Disk: {size(estimate.disk)} are needed, {size(estimate.free_disk)} are free. "
            + " ".join(_for_disk(plan, estimate))
        )
    lines += [
        f"{model.name} trains for {training.epochs:.1f} epochs: beyond {OVERFITTING} it may overfit. "
        f"Use more text, or models.{model.name}.train.tokens = {round(OVERFITTING * estimate.text.train_tokens)}"
        for model, training, _ in estimate.trained
        if training.epochs > 1.5 * OVERFITTING
    ]
    return [plain(line) for line in lines]


def _for_memory(plan: Plan, estimate: Estimate) -> Iterator[str]:
    """What would make the largest phase fit, and by how much."""
    over = estimate.peak_memory - SPARE * estimate.free_memory
    process = estimate.measured.process
    largest = estimate.peak_memory - process
    for model, _, held in estimate.trained:
        config, too_large = config_of(model.shape), held.total + process > SPARE * estimate.free_memory
        if config is not None and too_large:
            yield from for_training(plan.trained(model.name), config, held, over)
    for entry in estimate.teaching:
        if entry.memory == largest:
            yield f"{entry.name} alone takes {size(entry.memory)}: take a smaller teacher, or one behind a server."
    for model in estimate.models:
        if model.evaluation_memory == largest and not any(held.total == largest for _, _, held in estimate.trained):
            yield f"Evaluating {model.name} takes {size(largest)}: a smaller vocabulary or teacher takes less."


def _for_disk(plan: Plan, estimate: Estimate) -> Iterator[str]:
    over = estimate.disk - SPARE * estimate.free_disk
    for entry in estimate.teaching:
        fits = entry.bytes_per_token - over / max(1, entry.times * entry.tokens)
        if fits >= 8:
            yield f"distill.targets.bytes_per_token = {int(fits)} for {entry.name} saves what is missing."
            return
        taken = entry.times * entry.disk
        yield f"A live teacher (no distill.targets) saves the {size(taken)} of {entry.name}'s targets."
    for model, _, held in estimate.trained:
        less = model.trainings * (plan.trained(model.name).train.keep_last - 1) * held.checkpoint
        if less > over / 4:
            yield f"models.{model.name}.train.keep_last = 1 saves {size(less)} of checkpoints."
    yield "--out on another disk needs no change."
