"""What `gemmule refine` prints: the steps and what they dropped; of one document what every step thinks (--explain)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Literal

from gemmule.base import units
from gemmule.base.streams import printable
from gemmule.refine.page.record import Record
from gemmule.refine.steps.step import Figure

Outcome = Literal["kept", "changed", "dropped", "not reached"]
FEW = 4  # figures
COLOURS: Mapping[Outcome, str] = {"kept": "", "changed": "yellow", "dropped": "red", "not reached": "dim"}


@dataclass(frozen=True)
class Opinion:
    """What one step makes of a document."""

    step: str
    outcome: Outcome
    reason: str = ""  # of a drop: the rule and its figure
    figures: Mapping[str, Figure] = field(default_factory=dict)  # what it measured
    matched: str = ""  # the document or item that it is like, as SOURCE:POSITION

    @property
    def why(self) -> str:
        """The reason, and what the document is like."""
        like = f"like {self.matched}" if self.matched else ""
        return _line("; ".join(part for part in (self.reason, like) if part))

    @property
    def measured(self) -> list[str]:
        """A few figures on one line; of more each has its own, by its name in the recipe."""
        names = [_line(name) for name in self.figures]
        values = [_line(_figure(value)) for value in self.figures.values()]
        if 0 < len(names) <= FEW:
            return [", ".join(f"{name.replace('_', ' ')} {value}" for name, value in zip(names, values, strict=True))]
        return [f"{name}  {value}" for name, value in zip(_aligned(names, right=False), values, strict=True)]


def show_all(documents: Iterable[tuple[str, Sequence[Opinion]]]) -> None:
    """One document in full; of several a line each. On stdout."""
    waiting = iter(documents)
    first, second = next(waiting, None), next(waiting, None)
    if first is not None and second is None:
        show_explained(*first)
        return
    for place, opinions in chain(filter(None, (first, second)), waiting):
        print(_headline(place, opinions))


def show_explained(place: str, opinions: Sequence[Opinion]) -> None:
    """On a terminal a table, elsewhere `lines`; on stdout."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False, emoji=False)
    if not console.is_terminal:
        print("\n".join(lines(place, opinions)))
        return
    table = Table("step", "", "why", title=Text(_headline(place, opinions)), title_justify="left", title_style="bold")
    for each in opinions:
        colour = COLOURS[each.outcome]
        why = Text("\n").join([Text(part) for part in (each.why, *each.measured) if part])
        table.add_row(Text(_line(each.step)), Text(each.outcome, colour), why)
    console.print(table)


def lines(place: str, opinions: Sequence[Opinion]) -> list[str]:
    """What becomes of the document, then a line for each step, and what it measured below."""
    width = max((len(_line(each.step)) for each in opinions), default=0)
    found = [_headline(place, opinions)]
    for each in opinions:
        found.append(f"  {_line(each.step):{width}}  {each.outcome:11}  {each.why}".rstrip())
        found += [f"  {'':{width}}  {line}" for line in each.measured]
    return found


def table_lines(record: Mapping[str, Any]) -> list[str]:
    """What refinery.json says, as an aligned table: a line a step, and one for all."""
    found = Record.of(record)
    share = units.share(found.bytes_out, found.bytes_in)
    rows = [
        ["step", "in", "out", "dropped", "", "changed", "bytes out"],
        *(_row(each.name, each.documents_in, each.documents_out, each.changed, each.bytes_out) for each in found.steps),
        _row("in all", found.documents_in, found.documents_out, 0, found.bytes_out),
    ]
    rows[-1][-1] += f" of {units.size(found.bytes_in)} ({share})"
    aligned = [_aligned(column, right=0 < number < 6) for number, column in enumerate(zip(*rows, strict=True))]
    return ["  ".join(cells).rstrip() for cells in zip(*aligned, strict=True)]


def _row(name: str, before: int, after: int, changed: int, size: int) -> list[str]:
    dropped = before - after
    shown = [f"{dropped:,}", units.share(dropped, before)] if dropped else ["", ""]
    return [_line(name), f"{before:,}", f"{after:,}", *shown, f"{changed:,}" if changed else "", units.size(size)]


def _aligned(column: Sequence[str], right: bool) -> list[str]:
    cells = [units.plain(cell) for cell in column]
    width = max(map(len, cells), default=0)
    return [cell.rjust(width) if right else cell.ljust(width) for cell in cells]


def _headline(place: str, opinions: Sequence[Opinion]) -> str:
    """What becomes of the document."""
    dropping = next((f"dropped by {each.step}: {each.why}" for each in opinions if each.outcome == "dropped"), None)
    changing = [each.step for each in opinions if each.outcome == "changed"]
    kept = f"kept, changed by {', '.join(changing)}" if changing else "kept as it is"
    return _line(f"{place}: {kept if dropping is None else dropping}")


def _figure(value: Figure) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else value


def _line(text: str) -> str:
    """On one line, and with nothing that could change a terminal."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")
