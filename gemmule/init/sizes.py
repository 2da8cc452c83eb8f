"""Shapes and budgets of tokens that fit a text and a machine. Rules, each with where it comes from.

- Deep rather than wide: about 40 of width for a layer, at most 32 layers. Gemma 2 found deeper models ahead at equal
  size (arXiv 2408.00118, table 9), small models more so (MobileLLM, arXiv 2402.14905). Heads of 32 to 64.
- The vocabulary is about the root of the text's bytes, and its table no larger than the rest of the student.
- A teacher that is trained here has four times its student's weights, two and a half times its tokens, and no more than
  8 weights for a token of the text. It must be well ahead to be of use: on GSM8K's answers one that had read as little
  as its student (400k tokens, perplexity 14.3) left that behind its control (15.0 against 14.8); to one of 150k tokens
  it brought 20.3 against 28.2.
- No text is read more than four times: up to that it is worth nearly as much as new text (Muennighoff et al. 2023,
  arXiv 2305.16264). A teacher of 0.5M weights on 72k tokens
  of Hamlet is at its best after six times, and worse at every step after.
- Where the text is not what limits it: two tokens for each of the teacher's weights. More tokens for a smaller model
  would end lower still (20, Hoffmann et al. 2022, arXiv 2203.15556); small ones make poor use of a processor.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from gemmule.base.vocabulary import SMALLEST_VOCABULARY
from gemmule.model.config import TRAINING_PASSES, Gemma2Config
from gemmule.recipe.defaults import complete_shape

ASPECT = 40  # width for a layer
DEEPEST = 32  # layers
HEAD = 64  # channels of a head, at most
TEACHER = 4  # times the student's weights
WEIGHTS_FOR_A_TOKEN = 8  # of the teacher's, for a token of the text
EPOCHS = 4  # at most
TOKENS_FOR_A_WEIGHT = 2  # of the teacher's
OF_TEACHER = 0.4  # of its tokens, for the student
FEWEST_TOKENS = 150_000  # of a student, if the text bears it
VOCABULARIES = (512, 8192)
"""The smallest and largest vocabulary for a text of a size that fits into this range."""


@dataclass(frozen=True)
class Sized:
    """A model to train: its shape and how much it reads."""

    layers: int
    width: int
    heads: int
    tokens: int = 0

    @property
    def weights(self) -> int:
        """Without the embedding: 15 width² a layer, with feed-forward layers of four widths."""
        return 15 * self.width**2 * self.layers

    def config(self, vocabulary_size: int, sequence_length: int) -> Gemma2Config:
        """With the recipe's defaults for all else."""
        shape: dict[str, Any] = {"layers": self.layers, "width": self.width, "heads": self.heads}
        complete_shape(shape, sequence_length)
        return Gemma2Config(vocabulary_size=vocabulary_size, **shape)


@dataclass(frozen=True)
class Sizes:
    """What a recipe is made of."""

    vocabulary_size: int
    sequence_length: int
    student: Sized
    teacher: Sized | None  # None: it comes from outside
    limited_by: str  # "text", "time" or "size": why it is not larger


def shapes() -> list[Sized]:
    """All shapes of the usual proportions, from 0.1M weights to a billion, the smallest first."""
    found = []
    for width in [*range(64, 257, 32), *range(320, 769, 64), *range(896, 2049, 128)]:
        heads = next(
            heads for heads in range(2 if width < 128 else 4, width, 2)
            if width % heads == 0 and width // heads <= HEAD and width // heads % 2 == 0
        )  # fmt: skip
        layers = [n for n in range(2, DEEPEST + 1, 2) if ASPECT * 0.75 <= width / n <= ASPECT * 1.6]
        found += [Sized(n, width, heads) for n in layers or [DEEPEST]]
    return sorted(found, key=lambda shape: shape.weights)


def nearest(weights: float, vocabulary: Callable[[Sized], int] = lambda _: 0) -> Sized:
    """The shape with about so many weights, its table of so large a vocabulary included, of the best proportions."""

    def distance(shape: Sized) -> float:
        size = shape.weights + vocabulary(shape) * shape.width
        return abs(math.log(size / weights)) + 0.1 * abs(math.log(shape.width / shape.layers / ASPECT))

    return min(shapes(), key=distance)


def vocabulary_for(text_bytes: float, student: Sized) -> int:
    """A power of two, about the root of the bytes, with a table no larger than the rest of the student."""
    smallest, largest = VOCABULARIES
    size = 2 ** round(math.log2(math.sqrt(text_bytes)))
    table = 2 ** math.floor(math.log2(student.weights / student.width))
    return max(smallest, SMALLEST_VOCABULARY, min(size, largest, table))


@dataclass(frozen=True)
class Means:
    """What there is to fit to."""

    text_bytes: float
    bytes_per_token: float  # of a vocabulary of 2,048; others follow
    flops: float  # that the run may cost
    train_share: float = 0.95  # of the text, that is not held out
    vocabulary_size: int | None = None  # of a teacher's tokenizer, as it will be; None: one is trained
    teacher_flops: float | None = None  # a token, of a teacher from outside; 0 if nobody knows
    longest: int | None = None  # window that it can read
    largest_vocabulary: int | None = None  # that the text supports, if that is known: one of digits has few words

    def vocabulary(self, student: Sized) -> int:
        size = self.vocabulary_size or vocabulary_for(self.text_bytes, student)
        return min(size, self.largest_vocabulary or size)

    def tokens(self, vocabulary_size: int) -> float:
        """Of the training text. A vocabulary twice as large saves a seventh of them."""
        longer = 1.0 if self.vocabulary_size else (vocabulary_size / 2048) ** 0.2
        return self.train_share * self.text_bytes / (self.bytes_per_token * longer)


def fit(means: Means, size: int | None = None) -> Sizes:
    """The largest student that text and time allow; or the one of about `size` parameters, the embedding included."""
    if size is not None:
        return _within(means, _budget(means, nearest(size, means.vocabulary)), "size")
    best, limit = None, "text"
    for shape in shapes():
        sizes = _budget(means, shape)
        if best is not None and _cost(means, sizes) > means.flops:
            limit = "time"
            break
        if best is not None and TEACHER * shape.weights > WEIGHTS_FOR_A_TOKEN * means.tokens(sizes.vocabulary_size):
            break
        best = sizes
    assert best is not None
    return _within(means, best, limit)


def _budget(means: Means, shape: Sized) -> Sizes:
    """A student of this shape, its teacher, and how much both read."""
    vocabulary_size = means.vocabulary(shape)
    text = means.tokens(vocabulary_size)
    largest = max(WEIGHTS_FOR_A_TOKEN * text, 1.5 * shape.weights)
    teacher = nearest(min(TEACHER * shape.weights, largest)) if means.teacher_flops is None else None
    leader = teacher.weights if teacher is not None else TEACHER * shape.weights
    read = min(EPOCHS * text, TOKENS_FOR_A_WEIGHT * leader)
    student_tokens = max(OF_TEACHER * read, min(FEWEST_TOKENS, EPOCHS * text))
    length = min(256 if shape.width < 512 else 1024, means.longest or 1024)
    return Sizes(
        vocabulary_size=vocabulary_size,
        sequence_length=length,
        student=replace(shape, tokens=_rounded(student_tokens)),
        teacher=replace(teacher, tokens=_rounded(read)) if teacher is not None else None,
        limited_by="",
    )


def _within(means: Means, sizes: Sizes, limit: str) -> Sizes:
    """With as many tokens as the time allows: no fewer than make a model learn, no more than the text bears."""
    share = means.flops / _cost(means, sizes)
    if limit != "text":
        most = EPOCHS * means.tokens(sizes.vocabulary_size)
        student, teacher = sizes.student, sizes.teacher
        learned = max(min(share * student.tokens, OF_TEACHER * most), min(FEWEST_TOKENS, most))
        taught = min(max(share * teacher.tokens, learned / OF_TEACHER), most) if teacher is not None else 0
        sizes = replace(
            sizes,
            student=replace(student, tokens=_rounded(learned)),
            teacher=teacher and replace(teacher, tokens=_rounded(taught)),
        )
    return replace(sizes, limited_by=limit)


def stores_targets(means: Means, sizes: Sizes) -> bool:
    """Whether caching an outside teacher is worth it: it then reads the text once, else every training token."""
    return sizes.student.tokens > means.tokens(sizes.vocabulary_size)


def _cost(means: Means, sizes: Sizes) -> float:
    """FLOPs of all training, and of the teacher's answers."""
    length, vocabulary_size = sizes.sequence_length, sizes.vocabulary_size
    student = sizes.student.config(vocabulary_size, length).flops_per_token(length)
    cost = 2 * TRAINING_PASSES * student * sizes.student.tokens  # its control too
    if sizes.teacher is not None:
        teacher = sizes.teacher.config(vocabulary_size, length).flops_per_token(length)
        return cost + teacher * (TRAINING_PASSES * sizes.teacher.tokens + sizes.student.tokens)
    asked = means.tokens(vocabulary_size) if stores_targets(means, sizes) else sizes.student.tokens
    return cost + (means.teacher_flops or 0.0) * asked


def _rounded(tokens: float) -> int:
    """To two digits, as one would write it."""
    digits = 10 ** max(0, math.floor(math.log10(tokens)) - 1)
    return round(tokens / digits) * digits
