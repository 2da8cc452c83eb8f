"""What a run costs in operations and seconds, from its schedule and what was measured.

FLOPs: a forward pass is what `Gemma2Config.flops_per_token` counts, training costs three of them. Seconds: the measured
steps, times their number; and shares that are stated here, for what is not worth measuring.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gemmule.estimate import memory
from gemmule.estimate.machine import BANDWIDTH, OF_PRODUCT, Measured
from gemmule.estimate.text import Text
from gemmule.evaluate.scores import WINDOW
from gemmule.model.config import TRAINING_PASSES, Gemma2Config
from gemmule.plan.steps.evaluation import EvaluationStep
from gemmule.plan.steps.model import ModelStep
from gemmule.plan.steps.scores import ScoresStep
from gemmule.plan.steps.targets import TargetsStep
from gemmule.teach.targets.amounts import SAMPLED_POSITIONS, SEARCHED_POSITIONS
from gemmule.teach.teachers.shape import Shape
from gemmule.train.schedule import VALIDATIONS, validation_windows

START_UP = 8.0  # seconds: Python, PyTorch and TensorBoard imported; the report written
A_STEP = 0.002  # seconds: a batch read, metrics written
DISK = 200e6  # bytes a second: written, hashed, and forced to the disk
A_LAYER = 0.0012  # seconds a layer of a token that a model writes, beside its weights' way through memory
SAMPLES = 2  # texts that a model writes for the report, if the recipe names no prompts
DRAWING = 5e-9  # seconds a number of logits, of drawing targets from them (benchmarks/RESULTS.md: 1.3 ms of 262,144)
BYTES_PER_TOKEN = 4  # of a large vocabulary, about
SOLVED_POSITIONS = SAMPLED_POSITIONS + 2 * 9 * SEARCHED_POSITIONS  # read for a coding of targets, or drawn again


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


def training(
    step: ModelStep, config: Gemma2Config, shapes: Mapping[str, Shape | None], text: Text, measured: Measured
) -> Training:
    """Of a model that the recipe trains, of this shape."""
    length, windows = step.recipe.data.sequence_length, step.windows_per_batch
    of_micro_batch, micro_batch = step.windows_per_micro_batch, measured.micro_batch[step.name]
    asked = _asked(step, text)
    teachers = [shapes[teacher.name] for teacher in step.live_teachers]
    a_step = micro_batch * windows / of_micro_batch + measured.update[step.name] + A_STEP
    beside = sum(measured.reading.get(teacher.name, 0.0) for teacher in step.live_teachers) * asked
    checked = min(validation_windows(step.steps, windows) * length, text.validation_tokens)
    validating = min(VALIDATIONS, step.steps) * checked * micro_batch / (TRAINING_PASSES * of_micro_batch * length)
    seconds = step.steps * a_step + beside
    checkpoints = memory.checkpoints_written(step.train, step.steps, seconds)
    return Training(
        tokens=step.tokens,
        steps=step.steps,
        epochs=step.tokens / max(1, text.train_tokens),
        flops=TRAINING_PASSES * config.flops_per_token(length) * step.tokens,
        teacher_flops=None if None in teachers else sum(t.flops_per_token for t in teachers if t is not None) * asked,
        seconds=seconds,
        other_seconds=validating + checkpoints * memory.checkpoint_bytes(config, step.train) / DISK,
    )


def _asked(step: ModelStep, text: Text) -> int:
    """For how many tokens a live teacher is asked while the model trains."""
    return min(step.tokens, text.train_tokens) if step.model.distill.own_tokens else step.tokens  # answers are kept


def evaluating(step: EvaluationStep, shapes: Mapping[str, Shape | None], text: Text, measured: Measured) -> float:
    """Seconds of measuring a finished model, and of the texts that it writes.

    A teacher beside it that is evaluated itself is read once for both, there.
    """
    shape, evaluation = shapes[step.name], step.recipe.evaluate
    if shape is None or step.recipe.only_scores(step.name):
        return 0.0
    tokens = min(text.validation_tokens, step.most_tokens or text.validation_tokens)
    unmeasured = [teacher for teacher in step.teachers if teacher.unmeasured_by_recipe]
    beside = {teacher.name: s for teacher in unmeasured if (s := shapes[teacher.name]) is not None}
    numbers = tokens * text.vocabulary_size
    looked = sum(
        tokens * (measured.reading[n] + s.head_flops / (OF_PRODUCT * measured.product))
        for n, s in {step.name: shape, **beside}.items()
    )
    written = (len(evaluation.prompts) or SAMPLES) * evaluation.sample_tokens
    layers = shape.config.layers if shape.config is not None else 0
    a_token = layers * A_LAYER + shape.parameters * memory.NUMBER / BANDWIDTH
    return looked + numbers * measured.judging * (1 + 1.5 * bool(step.teachers)) + written * a_token


@dataclass(frozen=True)
class Scoring:
    """What a model makes of each document, before any is learned from."""

    name: str
    tokens: int  # about, of its own
    flops: float | None
    seconds: float | None  # None where nothing is known of the model
    memory: int  # bytes


def scoring(step: ScoresStep, text: Text, measured: Measured) -> Scoring:
    """A forward pass over the documents that are there before some are dropped by it."""
    shape, tokens = step.shape, round(text.bytes / step.recipe.left_by_scores / BYTES_PER_TOKEN)
    if step.is_made:
        return Scoring(step.name, tokens, 0.0, 0.0, 0)
    if shape is None:
        return Scoring(step.name, tokens, None, None, 0)
    a_token = shape.flops_per_token / (OF_PRODUCT * measured.product) + shape.vocabulary_size * measured.judging
    flops, held = tokens * shape.flops_per_token, memory.of_scoring(shape, WINDOW)
    return Scoring(step.name, tokens, flops, tokens * a_token, held)


@dataclass(frozen=True)
class Teaching:
    """A folder of stored targets."""

    name: str
    times: int  # one for each training of its teacher
    tokens: int
    bytes_per_token: float
    flops: float | None
    seconds: float | None  # None: of a server
    memory: int  # bytes, while it is made

    @property
    def disk(self) -> int:
        return round(self.tokens * self.bytes_per_token)


def teaching(
    step: TargetsStep, shapes: Mapping[str, Shape | None], text: Text, measured: Measured, times: int = 1
) -> Teaching:
    """Stored targets: their teachers' answers, once over the training text; so many folders of them."""
    how = step.how
    known = [(s, measured.reading[t.name]) for t in step.teachers if (s := shapes[t.name]) is not None]
    whole = len(known) == len(step.teachers)
    positions = text.train_tokens + SOLVED_POSITIONS
    a_token = text.vocabulary_size * DRAWING + sum(
        reading + shape.head_flops / (OF_PRODUCT * measured.product) for shape, reading in known
    )
    # two bytes an exact token or draw, and what each position has beside
    size = how.bytes_per_token or min(4 + 1.5 * (how.k or how.draws or 1 / (how.tau or 1)), 1024)
    return Teaching(
        name=step.path.name,
        times=times,
        tokens=text.train_tokens,
        bytes_per_token=size,
        flops=sum(shape.flops_per_token for shape, _ in known) * text.train_tokens if whole else None,
        seconds=positions * a_token if whole else None,
        memory=memory.of_teaching(
            [shape for shape, _ in known], text.vocabulary_size, step.recipe.data.sequence_length
        ),
    )
