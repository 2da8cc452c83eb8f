"""The cards of a run's models, once they are evaluated: what is said on the page of each on a hub."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gemmule.base import units
from gemmule.convert.card import Evaluated, Metric
from gemmule.evaluate import table
from gemmule.plan.plan import Plan
from gemmule.plan.steps.model import ModelStep


def write_cards(plan: Plan) -> None:
    """Writes the README.md of each model that was trained here anew, with what its evaluation found."""
    for training in plan.trainings:
        for name, step in training.models.items():
            evaluation = training.evaluations.get(name)
            if isinstance(step, ModelStep) and evaluation is not None and evaluation.path.exists():
                step.write_card(evaluated(evaluation.figures))


def evaluated(figures: Mapping[str, Any]) -> Evaluated:
    """Of what is in evaluation.json the metrics that the report shows, and the numbers of tasks."""
    metrics = []
    for figure in table.FIGURES:
        value: Any = figures.get(figure.name)
        if figure.group != "quality" or not figure.title or not units.is_number(value):
            continue
        interval = figures.get(f"{figure.name}_interval")
        ends = "" if interval is None else f" ({' to '.join(map(figure.show, interval))})"
        metrics.append(Metric(figure.name, figure.title, value, f"{figure.show(value)}{ends}"))
    tasks = {
        task: {metric: value for metric, value in found.items() if units.is_number(value)}
        for task, found in figures.get("tasks", {}).items()
    }
    return Evaluated(metrics, table.over(figures) if figures.get("perplexity_interval") else "", tasks)
