"""Memory and disk, counted: what a model's training, a teacher and an evaluation hold at most, part by part.

Everything is float32, as it is on a CPU. N tokens of a micro-batch, D width, H heads, K kv heads, C head_dim, F
feed-forward neurons, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

from gemmule.estimate.shapes import Shape
from gemmule.model.config import Gemma2Config

NUMBER = 4  # bytes
CHUNK = 2**24  # numbers in a chunk of logits, as `model/fused_head.py` cuts them
JUDGED = 2**24  # numbers in the logits that an evaluation looks at at once, as `evaluate/figures.py` has them
JUDGED_COPIES = 7  # of these: logits, those learned, softmax, its logarithm, and as much of a teacher's
TAUGHT, TAUGHT_WINDOWS = 2**25, 8  # numbers of logits at once, and windows, as `distill/` reads them
TAUGHT_COPIES = 3  # logits, their softmax, and what is drawn by
PROCESS = 450 * 10**6  # Python, PyTorch and the other libraries, before any model
KEPT_CHECKPOINTS = 2  # and a third while it is written


@dataclass(frozen=True)
class Memory:
    """Bytes while one model is trained, beside those of the process itself."""

    weights: int
    gradients: int
    moments: int  # AdamW's two
    activations: int  # of a micro-batch
    head: int  # chunks of logits, the model's and its live teachers'
    teacher: int  # live teachers: weights, and the activations of their forward pass

    @property
    def total(self) -> int:
        return sum(getattr(self, part.name) for part in fields(self))


def of_training(config: Gemma2Config, tokens: int, teachers: Iterable[Shape | None] = ()) -> Memory:
    """While a model trains on micro-batches of `tokens`, with live teachers beside it."""
    live = [teacher for teacher in teachers if teacher is not None]
    logits = min(tokens * config.vocabulary_size, max(CHUNK, config.vocabulary_size)) * NUMBER
    return Memory(
        weights=config.parameters * NUMBER,
        # the head's gradient of the table and the input's meet: there are two of it for a moment
        gradients=(config.parameters + config.embedding_parameters) * NUMBER,
        moments=2 * config.parameters * NUMBER,
        activations=activations(config, tokens) * NUMBER,
        head=logits * (1 + len(live)),
        teacher=sum(teacher.parameters * NUMBER for teacher in live)
        + max((forward(teacher, tokens) for teacher in live), default=0) * NUMBER,
    )


def activations(config: Gemma2Config, tokens: int) -> int:
    """Numbers that the forward pass keeps for the backward one, and what that needs beside them in one layer.

    Of each layer: what goes into its four norms and comes out of two of them (6 D); queries and what they gathered
    (2 H C); keys and values (2 K C); gate, its GELU, up and their product (4 F). Scores are made again.
    """
    heads, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
    kept = 6 * config.width + 2 * heads + 2 * keys + 4 * config.ffn_width
    backward = 3 * config.width + 3 * config.ffn_width
    return tokens * (config.layers * kept + backward + 4 * config.width)


def forward(shape: Shape, tokens: int) -> int:
    """Numbers that a forward pass alone holds at most, in a feed-forward layer: of four widths, if nobody knows."""
    neurons = shape.config.ffn_width if shape.config is not None else 4 * shape.width
    return tokens * (3 * shape.width + 3 * neurons)


def of_evaluation(shape: Shape, teachers: Iterable[Shape | None], vocabulary_size: int) -> int:
    """While a model is held against the validation text, and its teacher beside it."""
    models = [shape, *(teacher for teacher in teachers if teacher is not None)]
    tokens = max(1, JUDGED // vocabulary_size)
    held = sum(model.parameters for model in models) + max(forward(model, tokens) for model in models)
    return (held + (JUDGED_COPIES if len(models) > 1 else 4) * tokens * vocabulary_size) * NUMBER


def of_teaching(teachers: Iterable[Shape], sequence_length: int) -> int:
    """While targets are made: eight windows at a time, and some rows of their logits."""
    teachers = list(teachers)
    held = sum(teacher.parameters for teacher in teachers)
    held += max((forward(teacher, TAUGHT_WINDOWS * sequence_length) for teacher in teachers), default=0)
    return (held + TAUGHT_COPIES * TAUGHT) * NUMBER


def checkpoint_bytes(config: Gemma2Config) -> int:
    """Of one checkpoint: weights and moments."""
    return 3 * config.parameters * NUMBER


def token_bytes(vocabulary_size: int) -> int:
    """On disk, each: uint16 where the vocabulary fits into it."""
    return 2 if vocabulary_size <= 2**16 else 4
