"""What `gemmule evaluate MODEL` prints: a table of figures, how two models compare, and tasks' numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table

from gemmule.base import units

WIDE = 200  # columns of what is no terminal: nothing there cuts lines
COMPARED = {"perplexity": "perplexities", "bits_per_byte": "bits per byte"}


def show(found: Mapping[str, Any]) -> None:
    """What `outside.evaluate` gives, as text on stdout."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=WIDE)
    console.print(Group(*_parts(found)))


def _parts(found: Mapping[str, Any]) -> Iterator[RenderableType]:
    if "perplexity" in found:
        yield _figures(found)
        yield f"Intervals: 95%, by bootstrap over {_over(found)}; windows of {found['context']:,} tokens."
    if (against := found.get("against")) is not None:
        yield from (units.plain(line) for line in _compared(found, against))
    for name, numbers in found.get("tasks", {}).items():
        yield ""
        yield _task(name, numbers)


def _figures(found: Mapping[str, Any]) -> Table:
    table = Table("model")
    for heading in ("perplexity", "95% interval", "bits per byte", "accuracy", "calibration error", "tokens"):
        table.add_column(heading, justify="right")
    for each in (found, found.get("against")):
        if each is not None:
            table.add_row(
                units.plain(each["model"]),
                units.perplexity(each["perplexity"]),
                _interval(each["perplexity_interval"], 2),
                units.decimals(each["bits_per_byte"], 3),
                units.percent(each["accuracy"]),
                units.percent(each["ece"]),
                units.count(each["tokens"]),
            )
    return table


def _compared(found: Mapping[str, Any], against: Mapping[str, Any]) -> Iterator[str]:
    interval, what = against["ratio_interval"], COMPARED[against["ratio_of"]]
    ends = "" if interval is None else f" ({_interval(interval, 3)})"
    if interval is None:
        verdict = "one part of a text shows no interval"
    elif interval[0] <= 1 <= interval[1]:
        verdict = "no difference found"
    else:
        verdict = f"{found['model'] if interval[1] < 1 else against['model']} is ahead"
    yield (
        f"Ratio of {what} {against['ratio']:.3f}{ends}, p = {against['p_value']:.2g}, paired over {_over(found)}: "
        f"{verdict}. This compares two checkpoints, not two ways to train."
    )
    if against["not_compared"] is not None:
        yield f"Not compared: {against['not_compared']}."
    else:
        yield (
            f"KL {against['kl']:.4f} nats per token; {units.percent(against['agreement'])} of likeliest tokens are the "
            f"same; acceptance of drafts (sum of min(p, q)) {against['acceptance']:.3f}."
        )


def _over(found: Mapping[str, Any]) -> str:
    count = found["documents"]
    documents = f"{count:,} document{'' if count == 1 else 's'}"
    return documents if found["units"] == "documents" else f"stretches of {documents}"


def _interval(ends: tuple[float, float] | None, places: int) -> str:
    return units.DASH if ends is None else f"{units.decimals(ends[0], places)} to {units.decimals(ends[1], places)}"


def _task(name: str, numbers: Mapping[str, Any]) -> RenderableType:
    """The numbers of a task, and a table of its own for each list of them."""
    plain = {key: value for key, value in numbers.items() if not _is_list_of_rows(value)}
    table = Table(units.plain(name), "")
    for key, value in plain.items():
        table.add_row(units.plain(key), _value(value))
    lists = [_rows(key, value) for key, value in numbers.items() if _is_list_of_rows(value)]
    return Group(table, *lists)


def _is_list_of_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, Mapping) for row in value)


def _rows(name: str, rows: list[Mapping[str, Any]]) -> Table:
    table = Table(*map(units.plain, rows[0]), title=units.plain(name.replace("_", " ")), title_justify="left")
    for row in rows:
        table.add_row(*(_value(row.get(key)) for key in rows[0]))
    return table


def _value(value: Any) -> str:
    if value is None:
        return units.DASH
    if isinstance(value, bool | int):
        return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return " to ".join(map(_value, value)) if len(value) == 2 else ", ".join(map(_value, value))
    return units.plain(str(value))
