"""What a run costs in operations and seconds, from its schedule and what was measured.

FLOPs: a forward pass is what `Gemma2Config.flops_per_token` counts, training costs three of them. Seconds: the measured
steps, times their number; and shares that are stated here, for what is not worth measuring.
"""

from __future__ import annotations

from dataclasses import dataclass

from gemmule.estimate import memory
from gemmule.estimate.machine import BANDWIDTH, OF_PRODUCT, Measured
from gemmule.estimate.shapes import Shape
from gemmule.estimate.text import Text
from gemmule.plan.plan import Plan
from gemmule.recipe import Model, join_names
from gemmule.train.schedule import VALIDATIONS, validation_windows

START_UP = 8.0  # seconds: Python, PyTorch and TensorBoard imported; the report written
A_STEP = 0.002  # seconds: a batch read, metrics written
DISK = 200e6  # bytes a second: written, hashed, and forced to the disk
A_LAYER = 0.0012  # seconds a layer of a token that a model writes, beside its weights' way through memory
SAMPLES = 2  # texts that a model writes for the report, if the recipe names no prompts
DRAWING = 5e-9  # seconds a number of logits, of drawing targets from them (benchmarks/RESULTS.md: 1.3 ms of 262,144)
SAMPLED_POSITIONS = 4096 + 2 * 9 * 512  # of which a coding for targets is solved, and what that draws again


@dataclass(frozen=True)
class Training:
    """One model's training, counted. FLOPs are None where a teacher's are not known."""

    tokens: int  # that it learns from
    steps: int
    epochs: float  # times that it reads the text
    flops: float
    teacher_flops: float | None  # of its teacher's answers beside it; 0 if it has none, or they are stored
    seconds: float  # of its steps
    other_seconds: float  # its teacher's loading, validations, checkpoints


def training(plan: Plan, name: str, shapes: dict[str, Shape | None], text: Text, measured: Measured) -> Training:
    """Of a model that the recipe trains."""
    model, shape, length = plan.recipe.models[name], shapes[name], plan.recipe.data.sequence_length
    assert model.train is not None
    assert shape is not None
    assert shape.config is not None
    steps = model.train.steps(length)
    windows = model.train.windows_per_batch(length)
    per_micro = model.train.windows_per_micro_batch(length)
    tokens = steps * windows * length
    asked = _asked(model, tokens, text)
    teachers = [shapes[teacher] for teacher in model.teachers] if asked else []
    a_step = measured.micro_batch[name] * windows / per_micro + measured.update[name] + A_STEP
    beside = sum(measured.reading[teacher] for teacher in model.teachers if teacher in measured.reading) * asked
    checks = min(VALIDATIONS, steps) * min(validation_windows(steps, windows) * length, text.validation_tokens)
    seconds = steps * a_step + beside
    checkpoints = memory.checkpoints_written(model.train, steps, seconds)
    return Training(
        tokens=tokens,
        steps=steps,
        epochs=tokens / max(1, text.train_tokens),
        flops=3 * shape.flops_per_token * tokens,
        teacher_flops=None if None in teachers else sum(t.flops_per_token for t in teachers if t is not None) * asked,
        seconds=seconds,
        other_seconds=checks * measured.micro_batch[name] / (3 * per_micro * length)
        + checkpoints * memory.checkpoint_bytes(shape.config, model.train) / DISK,
    )


def _asked(model: Model, tokens: int, text: Text) -> int:
    """For how many tokens a live teacher is asked while the model trains."""
    if model.distill.targets is not None or not model.teachers:
        return 0
    return min(tokens, text.train_tokens) if model.distill.loss == "alm" else tokens  # whose answers are kept


def evaluating(plan: Plan, name: str, shapes: dict[str, Shape | None], text: Text, measured: Measured) -> float:
    """Seconds of measuring a finished model, with its teachers beside, and of the texts that it writes."""
    shape, evaluation = shapes[name], plan.recipe.evaluate
    if shape is None:
        return 0.0
    beside = {
        n: s for n in plan.teachers_of(name) if (s := shapes[n]) is not None and not plan.recipe.aligned_by_bytes(n)
    }
    numbers = text.validation_tokens * text.vocabulary_size
    looked = sum(
        text.validation_tokens * (measured.reading[n] + s.head_flops / (OF_PRODUCT * measured.product))
        for n, s in {name: shape, **beside}.items()
    )
    written = (len(evaluation.prompts) or SAMPLES) * evaluation.sample_tokens
    layers = shape.config.layers if shape.config is not None else 0
    a_token = layers * A_LAYER + shape.parameters * memory.NUMBER / BANDWIDTH
    return looked + numbers * measured.judging * (1 + 1.5 * bool(beside)) + written * a_token


@dataclass(frozen=True)
class Teaching:
    """A folder of stored targets."""

    name: str
    tokens: int
    bytes_per_token: float
    flops: float | None
    seconds: float | None  # None: of a server
    memory: int  # bytes, while it is made

    @property
    def disk(self) -> int:
        return round(self.tokens * self.bytes_per_token)


def teaching(plan: Plan, shapes: dict[str, Shape | None], text: Text, measured: Measured) -> list[Teaching]:
    """The targets that the recipe stores: each teacher's, once over the training text."""
    found = {}
    for model in plan.recipe.models.values():
        targets = model.distill.targets
        if not model.teachers or targets is None or (name := join_names(model.teachers)) in found:
            continue
        teachers = [shapes[teacher] for teacher in model.teachers]
        known = [(t, measured.reading[n]) for n, t in zip(model.teachers, teachers, strict=True) if t is not None]
        whole = len(known) == len(teachers)
        positions = text.train_tokens + SAMPLED_POSITIONS
        a_token = text.vocabulary_size * DRAWING + sum(
            reading + shape.head_flops / (OF_PRODUCT * measured.product) for shape, reading in known
        )
        # two bytes an exact token or draw, and what each position has beside
        size = targets.bytes_per_token or min(4 + 1.5 * (targets.k or targets.draws or 1 / (targets.tau or 1)), 1024)
        found[name] = Teaching(
            name=name,
            tokens=text.train_tokens,
            bytes_per_token=size,
            flops=sum(shape.flops_per_token for shape, _ in known) * text.train_tokens if whole else None,
            seconds=positions * a_token if whole else None,
            memory=memory.of_teaching(
                [shape for shape, _ in known], text.vocabulary_size, plan.recipe.data.sequence_length
            ),
        )
    return list(found.values())
