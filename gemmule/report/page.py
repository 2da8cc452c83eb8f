"""Puts the report together: computes what the page says, fills the template, writes the file whole or not at all.

Last step of a run. The page is one file without scripts, fonts or links to anything outside; everything that comes from
a model or a user is escaped, and a content security policy forbids the rest. Equal data gives equal bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gemmule.base import artifact, units
from gemmule.base.page import environment
from gemmule.base.page.svg import COLOURS, shorten, swatch
from gemmule.report import comparison
from gemmule.report.agreement_table import agreement_tables
from gemmule.report.contents import ModelReport, ReportData
from gemmule.report.family_picture import edges_of, family_narrow, family_wide
from gemmule.report.models_table import as_csv, as_markdown, models_table
from gemmule.report.plots import loss_by_position, loss_curves, read_curve, reliability
from gemmule.report.tasks_tables import tasks_tables

__all__ = ["ModelReport", "ReportData", "render", "write_report"]

WIDE, NARROW = 1040, 350  # widths of the pictures for a desk and for a phone
DRAFTED = 4  # tokens
Models = Mapping[str, ModelReport]


def write_report(data: ReportData, path: Path) -> None:
    """Writes the report of a run to `path`, and its table of models beside it as .csv and .md.

    A reader sees the old file or the new one, never half of either. Raises WorkError naming the path that can't be
    written.
    """
    written = {"": render(data), ".csv": as_csv(data.models), ".md": as_markdown(data)}
    for suffix, text in written.items():
        artifact.replace_file(path.with_suffix(suffix or path.suffix), text.encode("utf-8", errors="replace"))


def render(data: ReportData) -> str:
    """The report as HTML."""
    templates = environment(Path(__file__).parent)
    templates.filters |= {"value": _show_setting, "short": _short}
    models = data.models
    return templates.get_template("template.html.jinja").render(
        data=data,
        headline=comparison.headline(data),
        verdicts=_verdicts(models),
        notes=comparison.notes(comparison.comparisons(models)),
        progress=data.progress,
        taught=any(report.learn_from is not None for report in models.values()),
        made=any(report.settings or report.lineage for report in models.values()),
        paid=[] if data.progress else comparison.paid(data),
        paid_by=comparison.PAID_BY,
        index={name: number for number, name in enumerate(models)},
        descriptions={name: _description(name, report) for name, report in models.items()},
        table=models_table(models),
        embedding={name: report.figures.get("embedding_parameters") for name, report in models.items()},
        drafted=_drafted(models),
        family=(family_wide(models), family_narrow(models, width=NARROW)) if models else None,
        kinds={edge.kind for edge in edges_of(models)},
        losses=_curves({name: report.curve for name, report in models.items()}, "validation loss, nats per token"),
        objectives=_objectives(models),
        calibration=_calibration(models),
        agreements=agreement_tables(models),
        positions=_positions(models),
        tasks=tasks_tables(models),
        samples=_samples(models),
        swatch=swatch,
        dash=units.DASH,
        colours=COLOURS,
    )


def _short(name: str) -> str:
    return shorten(name, 150, 15)


def _verdicts(models: Models) -> list[dict[str, Any]]:
    """For each comparison: its sentence, what it means, a bar for each model in it, and what the two differ in."""
    found = []
    for pair in comparison.comparisons(models):
        names = [pair.student, pair.control]
        teacher = comparison.evaluated_teacher(pair.student, models)
        if teacher is not None and teacher not in names:
            names.append(teacher)
        values = {name: models[name].value("perplexity") or 0 for name in names}
        longest = max(values.values())
        bars = [(name, _short(name), units.perplexity(value), 100 * value / longest) for name, value in values.items()]
        found.append(
            {
                "pair": pair,
                "explanation": comparison.explain(pair, models),
                "bars": bars,
                "differences": comparison.different_settings(pair, models),
            }
        )
    return found


def _description(name: str, report: ModelReport) -> str:
    """Where a model comes from, in a few words under its name."""
    if not report.figures and report.origin is None:
        return "no metrics yet"
    parts: list[str] = [report.role] if report.role not in ("model", name) else []
    if report.progress is not None:
        parts.append(report.progress.words)
    if report.learn_from is not None:
        parts.append(f"learned from {report.learn_from}")
    elif report.origin is None:
        parts.append("trained on text alone")
    if report.start_from is not None:
        parts.append(
            f"cut from {report.start_from}: {report.cut}" if report.cut else f"started from {report.start_from}"
        )
    if report.origin is not None:
        parts.append(f"from {report.origin}")
    if len(report.trainings) > 1:
        parts.append(f"mean of {len(report.trainings)} trainings")
    return ", ".join(parts)


def _drafted(models: Models) -> dict[str, str]:
    """For each model the tokens that a step of its teacher gives with it as the draft model, at DRAFTED tokens.

    Leviathan et al. 2023 (arXiv 2211.17192), equation 1: the sum of acceptance^i, i from 0 to the drafted tokens.
    """
    accepted = {name: report.value("acceptance") for name, report in models.items()}
    return {
        name: units.decimals(sum(rate**number for number in range(DRAFTED + 1)), 2)
        for name, rate in accepted.items()
        if rate is not None
    }


def _curves(recorded: Mapping[str, Any], y_title: str) -> tuple[str, str, list[str]] | None:
    """The picture of curves, wide and narrow, and the models in it; None if nothing was recorded."""
    curves = {name: read_curve(curve) for name, curve in recorded.items()}
    drawn = [name for name, points in curves.items() if points]
    if not drawn:
        return None
    wide = loss_curves(curves, y_title, width=WIDE, height=400)
    return wide, loss_curves(curves, y_title, width=NARROW, height=320), drawn


def _objectives(models: Models) -> list[tuple[str, tuple[str, str, list[str]]]]:
    """What models minimised, by what it is: a KL and a next-token loss are no curves of one picture."""
    found = []
    for name in dict.fromkeys(report.objective for report in models.values()):
        own = {model: report.training if report.objective == name else () for model, report in models.items()}
        if (curves := _curves(own, f"{name}, nats per token")) is not None:
            found.append((name, curves))
    return found


def _positions(models: Models) -> tuple[str, str, list[str]] | None:
    """The loss by position, wide and narrow, and the models in it; None if it was not measured."""
    ranges = {name: [each for each in report.by_position if each["count"]] for name, report in models.items()}
    drawn = [name for name, each in ranges.items() if each]
    if not drawn:
        return None
    wide = loss_by_position(ranges, width=WIDE, height=340)
    return wide, loss_by_position(ranges, width=NARROW, height=300), drawn


def _calibration(models: Models) -> dict[str, Any] | None:
    """The reliability diagram, wide and narrow, and for each model in it its error and entropy, and its teacher's.

    None if nothing was recorded.
    """
    bins = {name: report.calibration for name, report in models.items()}
    drawn = [name for name, each in bins.items() if any(entry.get("count") for entry in each)]
    if not drawn:
        return None
    columns = [("ece", "Calibration error", units.percent), ("entropy", "Entropy", _nats)]
    columns += [("teacher_entropy", "Teacher’s", _nats)]
    known = [each for each in columns if any(models[name].value(each[0]) is not None for name in drawn)]
    return {
        "pictures": (reliability(bins, side=440), reliability(bins, side=NARROW)),
        "columns": [title for _, title, _ in known],
        "rows": {name: [show(models[name].value(figure)) for figure, _, show in known] for name in drawn},
    }


def _nats(value: float | None) -> str:
    return units.decimals(value, 3)


def _samples(models: Models) -> dict[str, dict[str, list[str]]]:
    """prompt -> model -> what it wrote, so that the models' answers to one prompt stand side by side."""
    found: dict[str, dict[str, list[str]]] = {}
    for name, report in models.items():
        for sample in report.samples:
            found.setdefault(sample["prompt"], {}).setdefault(name, []).append(sample["text"])
    return found


def _show_setting(value: Any) -> str:
    """A setting as TOML or JSON would have it, but text without quotes."""
    if value is None:
        return units.DASH
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
