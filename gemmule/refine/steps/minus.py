"""A without B: what another collection has, the same or nearly, is left out.

The other collection is repaired and masked as this one was, so that what was alike stays alike, and kept in parts
beside it while the refinery works. None of its documents is judged, and none of this one's is compared with another of
this one's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Literal

import numpy as np

from gemmule.refine.corpus import Corpus
from gemmule.refine.sources import Document, SourceFile, read_documents
from gemmule.refine.steps.exact_duplicates import REASON, digests, first_copies
from gemmule.refine.steps.near_duplicates import copies, reason
from gemmule.refine.steps.step import CorpusStep, Decisions, DocumentStep, Drop, Figure


class Minus(CorpusStep):
    """`before`: the steps that changed documents before they came here; none that learns."""

    name = "minus"

    def __init__(
        self,
        files: Sequence[SourceFile],
        field: str,
        threshold: float,
        before: Sequence[DocumentStep],
        *,
        skip_bad: bool = False,
        invalid: Literal["refuse", "replace"] = "refuse",
    ) -> None:
        self.files, self.threshold, self.before = files, threshold, before
        self._read = partial(read_documents, field=field, skip_bad=skip_bad, invalid=invalid)
        self._facts: dict[str, Figure] = {}

    def facts(self) -> Mapping[str, Figure]:
        return self._facts

    def decide(self, corpus: Corpus) -> Decisions:
        for step in self.before:
            step.prepare(corpus.folder, None)
        other = corpus.beside(
            chain.from_iterable(map(self._read, self.files)), self.name, partial(_through, self.before)
        )
        both, ours_from = corpus.after(other), len(other)
        self._facts = {"files": len(self.files), "documents": ours_from}
        if not ours_from:
            return Decisions()
        first = first_copies(both.map(digests))
        same = np.flatnonzero(first[ours_from:] < ours_from)
        drops = {int(number): Drop(int(number), REASON, both.place(int(first[ours_from + number]))) for number in same}
        for copy in copies(both, self.threshold, ours_from):
            number = copy.number - ours_from
            drops.setdefault(number, Drop(number, reason(copy), both.place(copy.kept)))
        return Decisions([drops[number] for number in sorted(drops)])


def _through(steps: Sequence[DocumentStep], document: Document) -> Document | None:
    left: Document | None = document
    for step in steps:
        left = step.judge(left).document if left is not None else None
    return left
