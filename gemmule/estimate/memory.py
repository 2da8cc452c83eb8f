"""Memory and disk, counted: what a model's training, a teacher and an evaluation hold at most, part by part.

Everything is float32, as it is on a CPU. N tokens of a micro-batch, D width, H heads, K kv heads, C head_dim, F
feed-forward neurons, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

from gemmule.base.chunks import CHUNK, chunk_rows
from gemmule.evaluate.amounts import FEWEST_ROWS, tokens_at_once
from gemmule.model.config import Gemma2Config
from gemmule.recipe import Train
from gemmule.teach.targets.amounts import LOGITS_AT_ONCE, windows_at_once
from gemmule.teach.teachers.shape import Shape
from gemmule.train import pace
from gemmule.train.optimizers import rule_of
from gemmule.train.schedule import VALIDATIONS

NUMBER = 4  # bytes
TAUGHT_COPIES = 3  # of the logits from which targets are drawn at once
TAUGHT_BESIDE = 7 * 10**7  # numbers: a segment of draws on its way into bytes, as measured
GAPS = 2  # times its tensors' size is what a forward pass takes, as measured: memory lies idle between them


@dataclass(frozen=True)
class Memory:
    """Bytes while one model is trained, beside those of the process itself."""

    weights: int
    gradients: int
    moments: int  # the optimizer's
    checkpoint: int  # a copy of weights and moments, from which a thread writes while training continues
    activations: int  # of a micro-batch
    head: int  # chunks of logits, the model's and its live teachers'
    teacher: int  # live teachers: weights, and the activations of their forward pass

    @property
    def total(self) -> int:
        return sum(getattr(self, part.name) for part in fields(self))


def of_training(config: Gemma2Config, train: Train, tokens: int, teachers: Iterable[Shape | None] = ()) -> Memory:
    """While a model trains on micro-batches of `tokens`, with live teachers beside it."""
    live = [teacher for teacher in teachers if teacher is not None]
    logits = min(tokens * config.vocabulary_size, max(CHUNK, config.vocabulary_size)) * NUMBER
    return Memory(
        weights=config.parameters * NUMBER,
        # the head's gradient of the table and the input's meet: there are two of it for a moment
        gradients=(config.parameters + config.embedding_parameters) * NUMBER,
        moments=moments(config, train) * NUMBER,
        checkpoint=checkpoint_bytes(config, train),
        activations=activations(config, train, tokens) * NUMBER,
        head=logits * (1 + len(live)),
        teacher=sum(teacher.parameters * NUMBER for teacher in live)
        + max((forward(teacher, tokens) for teacher in live), default=0) * NUMBER,
    )


def moments(config: Gemma2Config, train: Train) -> int:
    """Numbers that the optimizers of all parameters keep."""
    return sum(
        len(rule_of(name, shape, train).MOMENTS) * math.prod(shape) for name, shape in config.parameter_shapes.items()
    )


def activations(config: Gemma2Config, train: Train, tokens: int) -> int:
    """Numbers that the forward pass keeps for the backward one, and what that needs beside them in one layer.

    Of each layer: what goes into its four norms and comes out of two of them (6 D); queries and what they gathered
    (2 H C); keys and values (2 K C); gate, its GELU, up and their product (4 F). Scores are made again. Where the
    recipe recomputes activations, each layer keeps its input, and one of them all this.
    """
    heads, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
    a_layer = 6 * config.width + 2 * heads + 2 * keys + 4 * config.ffn_width
    kept = config.layers * config.width + a_layer if train.recompute_activations else config.layers * a_layer
    backward = 3 * config.width + 3 * config.ffn_width
    return tokens * (kept + backward + 4 * config.width)


def forward(shape: Shape, tokens: int) -> int:
    """Numbers that a forward pass alone holds at most, in a feed-forward layer: of four widths, if nobody knows."""
    neurons = shape.config.ffn_width if shape.config is not None else 4 * shape.width
    return tokens * (3 * shape.width + 3 * neurons)


def of_evaluation(models: Sequence[Shape], vocabulary_size: int, sequence_length: int) -> int:
    """While models, teachers among them, are held against the validation text: a chunk of logits, shared by them."""
    rows = chunk_rows(vocabulary_size)
    rows = max(min(FEWEST_ROWS, rows), rows // len(models))
    tokens = max(1, tokens_at_once(vocabulary_size) // sequence_length) * sequence_length  # whole windows
    held = sum(model.parameters for model in models) + GAPS * max(forward(model, tokens) for model in models)
    return (held + len(models) * min(rows, tokens) * vocabulary_size) * NUMBER


def of_scoring(model: Shape, window: int) -> int:
    """While a model reads documents, in its own tokens, to score them."""
    return of_evaluation([model], model.vocabulary_size, window)


def of_teaching(teachers: Iterable[Shape], vocabulary_size: int, sequence_length: int) -> int:
    """While targets are made: some windows at a time, and some rows of their logits."""
    teachers = list(teachers)
    held = sum(teacher.parameters for teacher in teachers)
    tokens = windows_at_once(sequence_length) * sequence_length
    held += GAPS * max((forward(teacher, tokens) for teacher in teachers), default=0)
    return (held + TAUGHT_COPIES * min(LOGITS_AT_ONCE, tokens * vocabulary_size) + TAUGHT_BESIDE) * NUMBER


def checkpoint_bytes(config: Gemma2Config, train: Train) -> int:
    """Of one checkpoint: weights and moments."""
    return (config.parameters + moments(config, train)) * NUMBER


def checkpoints_written(train: Train, steps: int, seconds: float) -> int:
    """How many a training of so many steps and seconds writes: by steps, by time, and the last."""
    by_steps = -(-steps // (train.checkpoint_every or pace.EVERY))
    by_time = int(seconds / (60 * train.checkpoint_minutes))
    for_good = steps // train.keep_every if train.keep_every is not None else 0
    stem = pace.stem(steps, train) is not None
    return min(steps, max(by_steps, by_time) + for_good + stem + VALIDATIONS * train.keep_best)


def checkpoints_kept(train: Train, steps: int, seconds: float) -> int:
    """How many lie on disk in the end, by the recipe's policy; the newest by steps may be one beside the newest."""
    for_good = steps // train.keep_every if train.keep_every is not None else 0
    by_time = seconds > 60 * train.checkpoint_minutes
    kept = train.keep_last + by_time + for_good + (pace.stem(steps, train) is not None) + train.keep_best
    return min(checkpoints_written(train, steps, seconds), kept)
