"""What every step thinks of one document, for `gemmule refine RECIPE --explain FILE[:N]`.

Steps that judge a document by itself are asked again, each of the document as it comes to it; what steps over all
documents decided stands in the record of what was dropped.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from gemmule.base.errors import RequestError
from gemmule.refine.documents import Reading
from gemmule.refine.explaining import Opinion, Outcome
from gemmule.refine.formats import known_format
from gemmule.refine.passes import size
from gemmule.refine.refinery import CUT, DROPPED
from gemmule.refine.source_file import SourceFile
from gemmule.refine.sources import Document
from gemmule.refine.steps.step import DocumentStep, Step

Rows = dict[tuple[str, str, int], list[Any]]  # by step, source and position


@dataclass(frozen=True)
class Asked:
    """FILE[:N]: a source file as the recipe or the shell has it, a file in an archive, and a document's position."""

    source: str
    position: int | None


def find(wanted: str, files: Sequence[SourceFile]) -> tuple[SourceFile, Asked]:
    """Which of the recipe's files is meant. Raises RequestError if none is."""
    numbered = re.fullmatch(r"(.+):(\d+)", wanted, re.DOTALL)
    for name, position in [(wanted, None), *([(numbered[1], int(numbered[2]))] if numbered else [])]:
        place = Path(name).expanduser()
        for file in files:
            if file.name == name or (place.exists() and file.path.exists() and place.samefile(file.path)):
                return file, Asked(file.name, position)
            if name.startswith(f"{file.name}/"):
                return file, Asked(name, position)
    named = f"; it reads {', '.join(file.name for file in files[:3])}{', ...' * (len(files) > 3)}" if files else ""
    raise RequestError(f"--explain {wanted}: no source of this recipe{named}")


@dataclass(frozen=True)
class Explainer:
    """Asks the steps that made the refined documents in `made` of a text."""

    reading: Reading
    steps: Sequence[Step]
    made: Path

    def explain(self, wanted: str) -> Iterator[tuple[str, list[Opinion]]]:
        """The documents meant, each with what the steps think of it. Raises RequestError if there is none."""
        file, asked = find(wanted, self.reading.files)
        with tempfile.TemporaryDirectory(prefix="gemmule-explain-") as folder:
            for number, step in enumerate(self.steps):
                if isinstance(step, DocumentStep) and not step.learns:
                    (place := Path(folder, str(number))).mkdir()
                    step.prepare(place, None)
            found = False
            before: Document | None = None
            for document in self._documents(file, asked):
                if asked.position is None or document.position == asked.position:
                    found = True
                    yield document.place, list(self._opinions(document))
                elif document.position < asked.position:
                    before = document
                else:
                    break
            if found:
                return
            if before is not None and known_format(file).in_documents:  # N is a byte within it
                yield before.place, list(self._opinions(before))
                return
        near = f"; the one before it is {before.place}" if before is not None else ""
        raise RequestError(f"--explain {wanted}: no document there{near}")

    def _documents(self, file: SourceFile, asked: Asked) -> Iterator[Document]:
        return (document for document in self.reading.of(file) if document.source == asked.source)

    def _opinions(self, document: Document) -> Iterator[Opinion]:
        gone = False
        for step in self.steps:
            if isinstance(step, DocumentStep) and not step.learns:
                verdict = step.explain(document)
                changed = verdict.document is not None and verdict.document.text != document.text
                outcome: Outcome = "dropped" if verdict.document is None else "changed" if changed else "kept"
                figures = verdict.figures or verdict.counts
                yield Opinion(step.name, outcome, verdict.reason, figures, verdict.matched)
                gone = gone or verdict.document is None
                document = verdict.document or document
            elif gone:
                yield Opinion(step.name, "not reached")
            else:
                row = _of(document, step, self._dropped)
                gone = row is not None
                if row is not None:
                    yield Opinion(step.name, "dropped", row["reason"], {}, row["matched"])
                else:
                    yield Opinion(step.name, "kept" if _of(document, step, self._cut) is None else "changed")

    @cached_property
    def _dropped(self) -> Rows:
        return _rows(self.made / DROPPED)

    @cached_property
    def _cut(self) -> Rows:
        return _rows(self.made / CUT)


def _rows(file: Path) -> Rows:
    from pyarrow.parquet import read_table

    found: Rows = {}
    for row in read_table(file).to_pylist():
        found.setdefault((row["step"], row["source"], row["position"]), []).append(row)
    return found


def _of(document: Document, step: Step, rows: Rows) -> Any:
    """That of a document at a step; of the parts of a long record, which share a position, the one as long as it."""
    of_place = rows.get((step.name, document.source, document.position), [])
    exact = [row for row in of_place if row["bytes"] == size(document.text)]
    return next(iter(exact or (of_place if len(of_place) == 1 else [])), None)
