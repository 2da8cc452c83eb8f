"""What models scored in tasks, whatever these report: numbers as a table, lists of rows as grids or tables."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gemmule.base import units
from gemmule.report.contents import ModelReport

ACROSS = ("depth", "distance")  # what a grid has to the right, by lengths downwards
INTERVAL = "_interval"  # after a metric's name, the key of its interval
LONGEST = 60  # characters of anything else that is shown


@dataclass(frozen=True)
class Grid:
    """Accuracies of a model by length and by where in it the answer lies; shares [0, 1] for shading, None unknown."""

    model: str
    title: str
    down: list[str]
    across: list[str]
    across_title: str
    cells: list[list[tuple[str, float | None]]]


@dataclass(frozen=True)
class Rows:
    """Any other list of rows of a model."""

    model: str
    title: str
    columns: list[str]
    cells: list[list[str]]


@dataclass(frozen=True)
class TaskTable:
    """Of one task: metric -> what each model has there, its interval behind it; grids, other lists, sentences."""

    models: list[str]
    metrics: dict[str, list[str]]
    notes: list[str]
    grids: list[Grid] = field(default_factory=list)
    lists: list[Rows] = field(default_factory=list)


def tasks_tables(models: Mapping[str, ModelReport]) -> dict[str, TaskTable]:
    """By task, in the order in which the models have them."""
    tables = {}
    for task in dict.fromkeys(task for report in models.values() for task in report.tasks):
        asked = {name: dict(_flat(report.tasks[task])) for name, report in models.items() if task in report.tasks}
        values = [(key, value) for found in asked.values() for key, value in found.items() if not _is_rows(value)]
        notes = dict.fromkeys(value for _, value in values if isinstance(value, str))
        known = {key for key, _ in values}
        metrics = dict.fromkeys(
            key
            for key, value in values
            if not isinstance(value, str) and key.removesuffix(INTERVAL) not in known - {key}
        )
        tables[task] = table = TaskTable(
            list(asked), {key: [_with_interval(found, key) for found in asked.values()] for key in metrics}, list(notes)
        )
        for name, found in asked.items():
            for key, value in found.items():
                if not _is_rows(value):
                    continue
                if (across := _grid_by(value)) is not None:
                    table.grids.append(_grid(name, key, value, across))
                else:
                    columns = list(dict.fromkeys(column for row in value for column in row))
                    cells = [[_show(row.get(column)) for column in columns] for row in value]
                    table.lists.append(Rows(name, key, columns, cells))
    return tables


def _with_interval(found: Mapping[str, Any], metric: str) -> str:
    ends = found.get(f"{metric}{INTERVAL}")
    return _show(found.get(metric)) + (f" ({_show(ends)})" if ends is not None else "")


def _flat(found: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in found.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{key}.")
        elif value != []:
            yield f"{before}{key}", value


def _is_rows(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, Mapping) for row in value)


def _grid_by(rows: Sequence[Mapping[str, Any]]) -> str | None:
    return next((key for key in ACROSS if all({"length", key, "accuracy"} <= row.keys() for row in rows)), None)


def _grid(model: str, title: str, rows: Sequence[Mapping[str, Any]], key: str) -> Grid:
    down, across = (sorted({row[name] for row in rows}) for name in ("length", key))
    found = {(row["length"], row[key]): row["accuracy"] for row in rows}
    cells = [[_share(found.get((length, place))) for place in across] for length in down]
    shares = all(place <= 1 for place in across)
    titles = [f"{place:.0%}" if shares else units.decimals(place, 0) for place in across]
    return Grid(model, title, [units.decimals(length, 0) for length in down], titles, key, cells)


def _share(value: Any) -> tuple[str, float | None]:
    return units.percent(value), value if units.is_number(value) else None


def _show(value: Any) -> str:
    if value is None:
        return units.DASH
    if isinstance(value, int) and not isinstance(value, bool):
        return units.decimals(value, 0)
    if isinstance(value, float):
        return units.decimals(value, 3)
    if isinstance(value, list) and len(value) == 2 and all(map(units.is_number, value)):
        return " to ".join(map(_show, value))
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
