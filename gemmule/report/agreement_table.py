"""The tables of agreement: for each teacher the models compared with it, by the teacher's entropy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gemmule.base import units
from gemmule.report.contents import ModelReport, Number


def agreement_tables(models: Mapping[str, ModelReport]) -> dict[str, dict[str, Any]]:
    """teacher -> titles and shares of the buckets, and each model's cells: KL, and how often both say the same first.

    The buckets are the teacher's, so all models share them; those that no token fell into are left out.
    """
    tables: dict[str, dict[str, Any]] = {}
    for teacher in dict.fromkeys(report.against for report in models.values()):
        held = {name: report.agreement for name, report in models.items() if report.against == teacher}
        held = {name: buckets for name, buckets in held.items() if any(bucket["count"] for bucket in buckets)}
        if teacher is None or not held:
            continue
        counts = [bucket["count"] or 0 for bucket in next(iter(held.values()))]
        filled = [place for place, count in enumerate(counts) if count]
        buckets = [next(iter(held.values()))[place] for place in filled]
        tables[teacher] = {
            "buckets": [_title(bucket) for bucket in buckets],
            "shares": [units.percent((bucket["count"] or 0) / sum(counts)) for bucket in buckets],
            "rows": {
                name: [(units.decimals(theirs[p]["kl"], 3), units.percent(theirs[p]["agreement"])) for p in filled]
                for name, theirs in held.items()
            },
            "errors": {name: units.percent(models[name].figures.get("ece")) for name in held},
            "error": units.percent(models[teacher].figures.get("ece")) if teacher in models else "",
        }
    return tables


def _title(bucket: Mapping[str, Number | None]) -> str:
    if bucket["to"] is None:
        return f"over {bucket['from']:g}"
    return f"{bucket['from']:g} to {bucket['to']:g}"
