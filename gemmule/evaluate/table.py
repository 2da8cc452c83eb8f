"""What is told of a finished model: a line for each figure, by which the summary and the report show it.

A figure of the cost comes from the model's training; the others from its evaluation (`figures.py`), which has None
where they are not known, as of a served model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from gemmule.base import units

Number = float | int


@dataclass(frozen=True)
class Figure:
    """A figure of a model, and its column in the report's table of models; without a `title` it has none there."""

    name: str  # in evaluation.json and summary.json
    group: Literal["size", "quality", "cost"]
    title: str = ""
    show: Callable[[Number | None], str] = units.count
    best: Callable[..., float] | None = None  # which end of it wins: min or max
    note: str = ""  # what it means


def _three_decimals(value: Number | None) -> str:
    return units.decimals(value, 3)


FIGURES = (
    Figure("parameters", "size", "Parameters"),
    Figure("embedding_parameters", "size"),
    Figure("perplexity", "quality", "Perplexity", units.perplexity, min),
    Figure(
        "bits_per_byte",
        "quality",
        "Bits per byte",
        _three_decimals,
        min,
        "Bits per byte of text compares models of any tokenizer.",
    ),
    Figure(
        "accuracy",
        "quality",
        "Accuracy",
        units.percent,
        max,
        "Accuracy: how often the most likely next token is right.",
    ),
    Figure(
        "ece",
        "quality",
        "Calibration error",
        units.percent,
        min,
        "Calibration error: the mean gap between confidence and accuracy (ECE, 15 equal bins).",
    ),
    Figure("kl_to_teacher", "quality", "KL to teacher", _three_decimals, min, "KL to teacher: nats per token."),
    Figure("agreement", "quality"),
    Figure(
        "acceptance",
        "quality",
        "Acceptance",
        units.percent,
        max,
        "Acceptance: the share of drafted tokens that the teacher would accept, the sum of min(p, q).",
    ),
    Figure("entropy", "quality"),
    Figure("teacher_entropy", "quality"),
    Figure("train_tokens", "cost", "Tokens"),
    Figure("train_flops", "cost", "Training", units.flops),
    Figure("teacher_flops", "cost", "Teacher", units.flops, note="Cost, teacher: its forward passes for this model."),
    Figure("seconds", "cost", "Time", units.duration),
)


def evaluated() -> list[str]:
    """The figures that an evaluation gives."""
    return [figure.name for figure in FIGURES if figure.group != "cost"]


def over(evaluation: Mapping[str, Any]) -> str:
    """What the intervals of an evaluation are over; empty for those of before there were any."""
    documents = evaluation.get("documents")
    if documents is None:
        return ""
    said = f"{documents:,} document{'' if documents == 1 else 's'}"
    return said if evaluation.get("units") == "documents" else f"equal parts of {said}"
