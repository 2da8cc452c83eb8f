"""dropped.parquet, read in one pass: how many documents each rule dropped, some of them, and what they were like.

Reasons carry their figures ("gopher: 12 words, fewer than 50"). Those that differ only in figures are one rule, which
shows the range: "gopher: 3 to 49 words, fewer than 50".
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

from gemmule.refine.refinery import DROPPED

SAMPLES = 3  # of a rule, shown
MOST_RULES = 1000  # of a step: a user's own function may give each document a reason of its own
MOST_MATCHES = 10**6  # different ones; of more, those met once so far are forgotten
NUMBER = re.compile(r"(?<![\w.])(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?![\w.]*\w)")


@dataclass(frozen=True)
class Drop:
    """A document that was dropped; `sample` is the beginning of its text."""

    source: str
    position: int
    reason: str
    matched: str
    bytes: int
    sample: str

    @property
    def place(self) -> str:
        return f"{self.source}:{self.position}"


@dataclass
class Rule:
    """Reasons that differ only in their figures."""

    between: list[str]  # the words before, between and after the figures
    figures: list[tuple[str, str]]  # the smallest and largest at each place
    documents: int = 0
    bytes: int = 0
    sampled: list[tuple[list[float], Drop]] = field(default_factory=list)  # with their figures

    def count(self, figures: list[str], documents: int, bytes: int) -> None:
        self.documents += documents
        self.bytes += bytes
        self.figures = [
            (min(low, figure, key=_value), max(high, figure, key=_value))
            for (low, high), figure in zip(self.figures, figures, strict=True)
        ]

    @property
    def samples(self) -> list[Drop]:
        """Some, from the lowest figure to the highest: a reader wants to see those at the threshold."""
        ordered = [drop for _, drop in sorted(self.sampled, key=lambda entry: entry[0])]
        if len(ordered) <= SAMPLES:
            return ordered
        return [ordered[round(place * (len(ordered) - 1) / (SAMPLES - 1))] for place in range(SAMPLES)]

    @property
    def words(self) -> str:
        ranges = (low if low == high else f"{low} to {high}" for low, high in self.figures)
        return "".join(part for pair in zip_longest(self.between, ranges, fillvalue="") for part in pair)


@dataclass
class Drops:
    """What one step dropped."""

    rules: dict[tuple[str, ...], Rule] = field(default_factory=dict)
    others: int = 0  # documents of rules beyond the most that are kept apart
    matched: Counter[str] = field(default_factory=Counter)  # documents by what they are like

    def count(self, reason: str, documents: int, bytes: int) -> None:
        key, figures = tuple(NUMBER.split(reason)), NUMBER.findall(reason)
        if key not in self.rules and len(self.rules) >= MOST_RULES:
            self.others += documents
            return
        rule = self.rules.setdefault(key, Rule(list(key), [(figure, figure) for figure in figures]))
        rule.count(figures, documents, bytes)

    def sample(self, drop: Drop) -> None:
        """Of a reason that is counted."""
        if rule := self.rules.get(tuple(NUMBER.split(drop.reason))):
            rule.sampled.append(([_value(figure) for figure in NUMBER.findall(drop.reason)], drop))

    def forget(self) -> None:
        """Of too many matches those met once."""
        if len(self.matched) > MOST_MATCHES:
            self.matched = Counter({place: times for place, times in self.matched.items() if times > 1})

    @property
    def ranked(self) -> list[Rule]:
        """The rules, those that dropped most first."""
        return sorted(self.rules.values(), key=lambda rule: (-rule.documents, rule.between))

    def most_matched(self, most: int) -> list[tuple[str, int]]:
        """What more than one document is like, and how many."""
        often = ((place, times) for place, times in self.matched.items() if times > 1)
        return sorted(often, key=lambda entry: (-entry[1], entry[0]))[:most]


def read_drops(folder: Path) -> dict[str, Drops]:
    """By step. Nothing where there is no such file."""
    import pyarrow.parquet as parquet

    found: defaultdict[str, Drops] = defaultdict(Drops)
    if (folder / DROPPED).is_file():
        with parquet.ParquetFile(folder / DROPPED) as file:
            for batch in file.iter_batches(batch_size=2**16):
                _read(batch, found)
    return dict(found)


def _read(batch: Any, found: Mapping[str, Drops]) -> None:
    """Counts are taken by Arrow: a million documents have few different reasons."""
    import pyarrow
    from pyarrow import compute

    table = pyarrow.Table.from_batches([batch])
    reasons = table.group_by(["step", "reason"], use_threads=False).aggregate([("bytes", "sum"), ("bytes", "count")])
    for row in reasons.to_pylist():
        found[row["step"]].count(row["reason"], row["bytes_count"], row["bytes_sum"])
    matched = table.filter(compute.greater(compute.binary_length(table["matched"]), 0))
    places = matched.group_by(["step", "matched"], use_threads=False).aggregate([("bytes", "count")])
    for row in places.to_pylist():
        found[row["step"]].matched[row["matched"]] += row["bytes_count"]
    for row in table.filter(compute.greater(compute.binary_length(table["sample"]), 0)).to_pylist():
        found[row.pop("step")].sample(Drop(**row))
    for drops in found.values():
        drops.forget()


def kept_texts(folder: Path, places: Iterable[str], length: int) -> dict[str, str]:
    """The beginnings of the documents at `places`, as far as they were kept and no two have the same place."""
    import pyarrow.parquet as parquet

    wanted, found = set(places), dict[str, list[str]]()
    if not wanted or not (folder / "documents.parquet").is_file():
        return {}
    with parquet.ParquetFile(folder / "documents.parquet") as file:
        for number in range(file.num_row_groups):
            group = file.read_row_group(number, columns=["source", "position"]).to_pydict()
            at = [f"{source}:{position}" for source, position in zip(group["source"], group["position"], strict=True)]
            rows = [(row, place) for row, place in enumerate(at) if place in wanted]
            if rows:
                texts = file.read_row_group(number, columns=["text"])["text"]
                for row, place in rows:
                    found.setdefault(place, []).append(texts[row].as_py()[:length])
    return {place: texts[0] for place, texts in found.items() if len(texts) == 1}


def _value(figure: str) -> float:
    return float(figure.replace(",", ""))
