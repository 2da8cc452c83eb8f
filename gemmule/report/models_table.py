"""The table of models: computed once, shown on the page, and written as CSV and Markdown for other programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gemmule.base import units
from gemmule.evaluate import table as figures
from gemmule.evaluate.table import Figure
from gemmule.report import comparison
from gemmule.report.contents import ModelReport, Number, ReportData

Models = Mapping[str, ModelReport]
COMPARED = ("perplexity", "bits_per_byte")  # the figures that a comparison is of


@dataclass(frozen=True)
class Cell:
    """A figure of a model: as a number, and as it is shown."""

    value: Number | None
    text: str
    interval: Sequence[Number] | None = None  # 95%
    interval_text: str = ""
    best: bool = False  # of its group


@dataclass(frozen=True)
class ModelsTable:
    columns: list[Figure]  # that anything is known of
    rows: dict[str, list[Cell]]
    over: str  # what its intervals are over: "412 documents", "3 trainings"; empty without intervals

    @property
    def spans(self) -> list[tuple[str, int]]:
        """The groups of columns, and how many each has."""
        return [(group, sum(each.group == group for each in self.columns)) for group in ("size", "quality", "cost")]

    @property
    def marks(self) -> bool:
        return any(cell.best for cells in self.rows.values() for cell in cells)


def models_table(models: Models) -> ModelsTable:
    known = [
        figure
        for figure in figures.FIGURES
        if figure.title and any(report.figures.get(figure.name) is not None for report in models.values())
    ]
    best = {(name, column.name) for column in known for name in _winners(models, column)}
    rows = {
        name: [_cell(report, column, (name, column.name) in best) for column in known]
        for name, report in models.items()
    }
    with_intervals = [report for name, report in models.items() if any(cell.interval for cell in rows[name])]
    over = dict.fromkeys(
        f"{len(report.trainings)} trainings" if len(report.trainings) > 1 else report.over for report in with_intervals
    )
    return ModelsTable(known, rows, " or ".join(filter(None, over)))


def _cell(report: ModelReport, column: Figure, best: bool) -> Cell:
    value, interval = report.value(column.name), None
    if column.group == "quality" and value is not None:
        interval = report.interval(column.name)
    if interval is None:
        said = ""
    elif len(report.trainings) > 1:  # Student's t, as far to either side
        said = f"±{units.SPACE}{column.show((interval[1] - interval[0]) / 2)}"
    else:
        said = " to ".join(column.show(end) for end in interval)
    return Cell(value, column.show(value), interval, said, best)


def _winners(models: Models, column: Figure) -> list[str]:
    """In each group of students and controls, whoever has the best figure as shown, if anyone has a worse one.

    Of perplexities none, where no comparison of the group finds a difference.
    """
    winners: list[str] = []
    if column.best is None:
        return winners
    pairs = comparison.comparisons(models)
    for group in comparison.groups(models):
        verdicts = {pair.verdict for pair in pairs if pair.student in group}
        if column.name in COMPARED and verdicts == {"no difference found"}:
            continue
        values = {name: models[name].value(column.name) for name in group}
        known = {name: value for name, value in values.items() if value is not None and units.is_number(value)}
        if len({column.show(value) for value in known.values()}) > 1:
            top = column.show(column.best(known.values()))
            winners += [name for name, value in known.items() if column.show(value) == top]
    return winners


def as_csv(models: Models) -> str:
    """A row a model: its name and role, each figure in full, and the ends of its interval where any model has one."""
    table = models_table(models)
    spread = [any(cells[place].interval for cells in table.rows.values()) for place in range(len(table.columns))]
    header = ["model", "role"]
    for column, has_interval in zip(table.columns, spread, strict=True):
        header += [column.name, *([f"{column.name}_low", f"{column.name}_high"] if has_interval else [])]
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(header)
    for name, cells in table.rows.items():
        row: list[str | Number | None] = [name, models[name].role]
        for cell, has_interval in zip(cells, spread, strict=True):
            row += [cell.value, *((cell.interval or (None, None)) if has_interval else ())]
        writer.writerow(row)
    return written.getvalue()


def as_markdown(data: ReportData) -> str:
    """The headline, the comparisons, and the table as the page shows it."""
    table, pairs = models_table(data.models), comparison.comparisons(data.models)
    lines = [f"# {_escape(data.name)}: {_escape(comparison.headline(data))}", ""]
    for pair in pairs:
        certainty = f" ({pair.certainty})" if pair.certainty else ""
        lines += [f"- {_escape(comparison.explain(pair, data.models))}{_escape(certainty)}"]
    if pairs:
        lines += ["", *(f"{note}\n" for note in comparison.notes(pairs))]
    header = ["Model", *(column.title for column in table.columns)]
    lines += [_row(header), _row(["---", *["---:"] * len(table.columns)])]
    for name, cells in table.rows.items():
        shown = [f"{cell.text} ({cell.interval_text})" if cell.interval_text else cell.text for cell in cells]
        lines.append(_row([name, *shown]))
    if table.over:
        lines += ["", f"In brackets: intervals of 95%, over {table.over}."]
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_escape, cells))} |"


def _escape(text: str) -> str:
    """As Markdown shows it to the letter: names may hold underscores and stars."""
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>|" else letter for letter in text)
