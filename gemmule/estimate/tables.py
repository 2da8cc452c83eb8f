"""How an estimate is shown: two tables and some sentences, or JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, fields
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text as Line

from gemmule.base.units import DASH, count, duration, flops, plain, size
from gemmule.base.vocabulary import id_bytes
from gemmule.estimate import advice
from gemmule.estimate.accelerators import UTILISATION, Accelerator
from gemmule.estimate.machine import SPARE
from gemmule.estimate.memory import Memory
from gemmule.estimate.whole import Estimate
from gemmule.plan.plan import Plan

WIDE = 140  # characters
SMALL = 10**8  # parameters under which a GPU waits more than it works


def show(plan: Plan, estimate: Estimate, on: list[Accelerator]) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:  # into a file or a pipe: nothing there cuts lines
        console = Console(highlight=False, width=WIDE)
    console.print(page(plan, estimate, on))


def page(plan: Plan, estimate: Estimate, on: list[Accelerator]) -> RenderableType:
    sentences = [*_text(estimate), *_time(estimate), *_elsewhere(estimate, on)]
    costs = advice.teaching_costs(plan, estimate)
    warnings = [f"! {line}" for line in advice.warnings(plan, estimate)]
    parts: list[RenderableType] = [_models(estimate), "", *map(Line, map(plain, sentences)), "", _space(estimate)]
    for lines in (costs, warnings):
        parts += ["", *map(Line, lines)] if lines else []
    return Group(*parts)


def _models(estimate: Estimate) -> Table:
    table = Table("model", title=f"{estimate.recipe}: what it will take", title_justify="left", title_style="bold")
    for heading in ("learns from",):
        table.add_column(heading)
    for heading in ("parameters", "embedding", "FLOP/token", "tokens", "epochs", "steps", "training", "time"):
        table.add_column(heading, justify="right")
    for model in estimate.models:
        shape, training = model.shape, model.training
        sizes = (
            [count(shape.parameters), count(shape.embedding_parameters), count(shape.flops_per_token)]
            if shape is not None
            else [DASH] * 3
        )
        schedule = (
            [
                count(training.tokens),
                f"{training.epochs:.1f}" if training.epochs >= 1 else f"{training.epochs:.2f}",
                f"{training.steps:,}",
                flops(training.flops + (training.teacher_flops or 0)),
                duration(training.seconds),
            ]
            if training is not None
            else [DASH] * 5
        )
        name = model.name + (f" x {model.trainings}" if model.trainings > 1 else "")
        table.add_row(name, model.learn_from or ("text" if training else "not trained"), *sizes, *schedule)
    return table


def _text(estimate: Estimate) -> Iterator[str]:
    found = estimate.text
    how = "" if found.share == 1 else f" (from {found.share:.0%} of it)"
    yield (
        f"Text: {size(found.bytes)} in {found.documents:,} documents{how}: {count(found.train_tokens)} tokens to "
        f"train on, {count(found.validation_tokens)} to validate on, {found.bytes_per_token:.2f} bytes each; "
        f"vocabulary {found.vocabulary_size:,}."
    )


def _time(estimate: Estimate) -> Iterator[str]:
    measured = estimate.measured
    scores = [
        f", scores of documents by {entry.name} {duration(entry.seconds)}"
        for entry in estimate.scoring
        if entry.seconds is not None
    ]
    answers = [
        f", {entry.name}'s forward passes {duration(entry.times * entry.seconds)}"
        for entry in estimate.teaching
        if entry.seconds is not None
    ]
    yield (
        f"Time here: {duration(estimate.seconds)}, of which training {duration(estimate.training_seconds)}"
        f"{''.join(scores + answers)}. Measured on {measured.threads} thread{'s' * (measured.threads > 1)}, where a "
        f"large matmul ran at {measured.product / 1e9:.0f} GFLOP/s; on a busier machine it takes longer."
    )
    if any(model.trainings > 1 for model in estimate.models):
        yield "x N: trained with N seeds. Its row is one training; times and disk below are of all N."
    if len(answers) < len(estimate.teaching):
        yield "A server's response time is not included."
    if len(scores) < len(estimate.scoring):
        yield f"{estimate.scoring[0].name} is not here yet: the time of its scores of documents is not included."


def _elsewhere(estimate: Estimate, on: list[Accelerator]) -> Iterator[str]:
    held = max((held.total for _, _, held in estimate.trained), default=0)
    largest = max((model.shape.parameters for model, _, _ in estimate.trained if model.shape is not None), default=0)
    for gpu in on:
        fits = "fit into" if held < gpu.memory else "do not fit into"
        yield (
            f"On one {gpu.title}: {duration(estimate.flops / (UTILISATION * gpu.peak))} of training and teaching, at "
            f"{UTILISATION:.0%} of its {gpu.peak / 1e12:,.0f} TFLOP/s in bfloat16"
            f"{' (models this small reach far less)' if largest < SMALL else ''}; {size(held)} in float32 {fits} its "
            f"{size(gpu.memory)}."
        )


def _space(estimate: Estimate) -> Table:
    table = Table(
        "while", title=f"memory: {size(estimate.peak_memory)} at the most, of {size(estimate.free_memory)} free; "
        f"disk: {size(estimate.disk)}, of {size(estimate.free_disk)} free", title_justify="left", title_style="bold",
    )  # fmt: skip
    for part in fields(Memory):
        table.add_column(part.name, justify="right")
    table.add_column("in all", justify="right")
    table.add_column("on disk", justify="right")
    for model, _, held in estimate.trained:
        parts = [size(getattr(held, part.name)) for part in fields(Memory)]
        table.add_row(
            f"training {model.name}",
            *parts,
            size(held.total + estimate.measured.process),
            size(model.trainings * model.disk),
        )
    blank = [""] * len(fields(Memory))
    for scoring in estimate.scoring:
        held_by_all = size(scoring.memory + estimate.measured.process)
        table.add_row(f"scoring by {scoring.name}", *blank, held_by_all, DASH)
    for entry in estimate.teaching:
        table.add_row(
            f"teaching by {entry.name}",
            *blank,
            size(entry.memory + estimate.measured.process),
            size(entry.times * entry.disk),
        )
    judged = max(estimate.models, key=lambda model: model.evaluation_memory)
    table.add_row(f"evaluating {judged.name}", *blank, size(judged.evaluation_memory + estimate.measured.process), DASH)
    tokens = estimate.text.train_tokens + estimate.text.validation_tokens
    stored = estimate.text.document_bytes + tokens * id_bytes(estimate.text.vocabulary_size)
    table.add_row("documents and tokens", *blank, "", size(stored))
    return table


def as_json(plan: Plan, estimate: Estimate, on: list[Accelerator]) -> dict[str, Any]:
    """Bytes, seconds and FLOPs as numbers; null where nothing is known."""
    content = asdict(estimate)
    for entry in content["models"]:
        if entry["shape"] is not None:
            del entry["shape"]["config"]
    return content | {
        "seconds": estimate.seconds,
        "training_seconds": estimate.training_seconds,
        "flops": estimate.flops,
        "peak_memory": estimate.peak_memory,
        "fits": not (estimate.peak_memory > SPARE * estimate.free_memory
                     or estimate.disk > SPARE * estimate.free_disk),
        "on": {gpu.title: {"seconds": estimate.flops / (UTILISATION * gpu.peak), "utilisation": UTILISATION}
               for gpu in on},
        "teaching_costs": advice.teaching_costs(plan, estimate),
        "warnings": advice.warnings(plan, estimate),
    }  # fmt: skip
