"""What [refine] should say of a text: found by refining a sample of it, each line with what was seen."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gemmule.base.errors import RequestError
from gemmule.base.processes import Workers
from gemmule.base.units import percent
from gemmule.recipe import Refine
from gemmule.refine.documents import Reading
from gemmule.refine.refining import Refining
from gemmule.refine.source_file import SourceFile
from gemmule.refine.steps import Outside
from gemmule.refine.steps.languages import KNOWN

SAMPLE = 2**21  # bytes
MISJUDGED = 0.2  # of the documents: rules for prose that drop more are for other text
MAIN, STRAY = 0.8, 0.002  # of the documents: what a text is mostly in, and what else is worth leaving out
MANY = 20  # languages: more are guesses


@dataclass(frozen=True)
class Line:
    """Of the section: what it says, and why."""

    text: str
    why: str


def lines_for(files: Sequence[SourceFile], field: str) -> list[Line]:
    """The section's lines, for a text of which these files are a sample; none where the packages aren't installed."""
    refining = Refining(Refine(), Outside(Path(), field))
    try:
        refining.check()
    except RequestError:
        return []
    steps = _refined(refining, files, field)
    quality = steps.get("quality")
    lines = []
    if quality is None or quality["documents_out"] < (1 - MISJUDGED) * quality["documents_in"]:
        lost = 1 - quality["documents_out"] / quality["documents_in"] if quality is not None else 1.0
        steps = _refined(Refining(Refine(quality=False), refining.outside), files, field)
        lines.append(Line("quality = false", f"its rules, for prose, would drop {percent(lost)} of the documents"))
    else:
        lines.append(Line('quality = "careful"', f"rules of Gopher, C4 and FineWeb drop {_dropped(quality)}"))
    return [*_repaired(steps), *_languages(steps), *_personal(steps), *lines, *_duplicates(steps)]


def _refined(refining: Refining, files: Sequence[SourceFile], field: str) -> dict[str, Any]:
    """What each step did with the sample; nothing where nothing is left."""
    with tempfile.TemporaryDirectory(prefix="gemmule-init-") as folder, Workers(1) as workers:
        try:
            refined, _ = refining.run(Reading(files, field, skip_bad=True), Path(folder), workers)
        except RequestError:
            return {}
        record = refined.write(Path(folder))
    return {step["name"]: step for step in record["steps"]}


def _repaired(steps: Mapping[str, Any]) -> Iterator[Line]:
    if (step := steps.get("repair")) is not None:
        yield Line("repair = true", f"mojibake, Unicode NFC, control characters: {_counted(step) or 'none'}")


def _languages(steps: Mapping[str, Any]) -> Iterator[Line]:
    """One language is kept where others are strays in it."""
    told = {name: count for name, count in steps.get("languages", {"counts": {}})["counts"].items() if name in KNOWN}
    if not 1 < len(told) <= MANY:
        return
    whole, (main, *others) = sum(told.values()), sorted(told, key=lambda name: -told[name])
    strays = 1 - told[main] / whole
    if told[main] >= MAIN * whole and strays >= STRAY:
        yield Line(f'languages = ["{main}"]', f"{percent(strays)} of a sample are in others: {', '.join(others[:3])}")


def _personal(steps: Mapping[str, Any]) -> Iterator[Line]:
    if (step := steps.get("personal_data")) is not None:
        yield Line('personal_data = "mask"', f"{_counted(step) or 'none was found'} in a sample")


def _duplicates(steps: Mapping[str, Any]) -> Iterator[Line]:
    if "near_duplicates" in steps:
        exact, near = (steps[f"{kind}_duplicates"] for kind in ("exact", "near"))
        found = f"{_dropped(exact)} are copies, {_dropped(near)} nearly"
        yield Line("duplicates = { exact = true, near = 0.8 }", found)


def _dropped(step: Mapping[str, Any]) -> str:
    return f"{percent(1 - step['documents_out'] / max(1, step['documents_in']))} of a sample"


def _counted(step: Mapping[str, Any]) -> str:
    return ", ".join(f"{count:,} {kind}" for kind, count in sorted(step["counts"].items(), key=lambda entry: -entry[1]))
