"""What `gemmule init` decided, in lines for the one who asked: text, tokenizer, models, and what it will take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gemmule.base.errors import shown
from gemmule.base.units import count, duration, plain, size
from gemmule.estimate.whole import Estimate, ModelEstimate
from gemmule.init.inspect_text import Found
from gemmule.init.sizes import Sizes
from gemmule.init.writing import OutsideTeacher

COLUMN = 11


def decisions(
    sources: Sequence[str],
    found: Found,
    sizes: Sizes,
    teacher: OutsideTeacher | None,
    estimate: Estimate,
    remarks: Sequence[str],
) -> list[str]:
    """Each line begins with what it is about."""
    text = estimate.text
    about = "about " if text.share < 1 else ""
    named = ", ".join(map(shown, sources))
    rows = [
        ("text", f"{named}: {found.kinds}, {about}{size(found.bytes)} in {found.documents:,} documents"),
        *(("field", line) for line in _field(found)),
        *([("left out", found.left_out)] if found.left_out else []),
        *(("refine" if not number else "", f"{line.text}: {line.why}") for number, line in enumerate(found.refine)),
        ("tokenizer", f"{_tokenizer(teacher)}: a vocabulary of {text.vocabulary_size:,}, "
                      f"{text.bytes_per_token:.1f} bytes a token"),
        ("tokens", f"{about}{count(text.train_tokens)} to train on, {count(text.validation_tokens)} to validate on"),
        *((model.name, _model(model)) for model in estimate.models),
        ("in all", f"{duration(estimate.seconds)} on this machine, {size(estimate.peak_memory)} of memory "
                   f"({size(estimate.free_memory)} are free), {size(estimate.disk)} of disk"),
    ]  # fmt: skip
    lines = [f"{name:<{COLUMN}}{line}" for name, line in rows]
    return [plain(line) for line in (*lines, *remarks)]


def _field(found: Found) -> Iterator[str]:
    if found.field is None:
        return
    others = f"; if it is another: --field {shown(found.other_fields[0])}" if found.other_fields else ""
    more = f" (there are also: {', '.join(map(shown, found.other_fields[:5]))})" if found.other_fields else ""
    yield f"{shown(found.field)!r} of each record holds the text{more}{others}"


def _tokenizer(teacher: OutsideTeacher | None) -> str:
    if teacher is None:
        return "trained on this text"
    return "the teacher's, pruned to what the text uses" if teacher.prune else "the teacher's"


def _model(model: ModelEstimate) -> str:
    shape, training = model.shape, model.training
    parameters = f"{count(shape.parameters)} parameters" if shape is not None else "parameters unknown"
    if training is None:
        return f"{parameters}, from outside"
    config = shape.config if shape is not None else None
    layers = f" in {config.layers} layers of width {config.width}" if config is not None else ""
    teacher = f", learns from {model.learn_from}" if model.learn_from is not None else ""
    return (
        f"{parameters}{layers}{teacher}; {count(training.tokens)} tokens ({training.epochs:.1f} epochs), "
        f"{duration(training.seconds)}"
    )
