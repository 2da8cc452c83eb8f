"""Near-duplicates: a document goes if its Jaccard similarity with a kept earlier one reaches the threshold.

The sets compared are 5-word shingles (`words.py`). Whom to compare is found by MinHash and its bands (`minhash.py`,
`candidates.py`), and what decides is the true similarity of the two sets. A document is compared with those that stay
alone: of a chain in which each is like the next one, not all are lost (marin#6854 lost all but 2 of 859,092).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np

from gemmule.refine.candidates import Candidates, Signatures
from gemmule.refine.corpus import Corpus
from gemmule.refine.minhash import bands_for, sign
from gemmule.refine.steps.step import CorpusStep, Decisions, Drop
from gemmule.refine.words import SHINGLE, Hashes, shingles

CACHE = 2**28  # bytes of shingles that are kept in memory


class NearDuplicates(CorpusStep):
    name = "near_duplicates"

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold

    def decide(self, corpus: Corpus) -> Decisions:
        return Decisions(
            [Drop(copy.number, reason(copy), corpus.place(copy.kept)) for copy in copies(corpus, self.threshold)]
        )


class Copy(NamedTuple):
    """A document that is like a kept one."""

    number: int
    kept: int
    jaccard: float


def reason(copy: Copy) -> str:
    return f"{copy.jaccard:.2f} of their {SHINGLE}-word shingles are shared"


def copies(corpus: Corpus, threshold: float, judged_from: int = 0) -> Iterator[Copy]:
    """The documents that are like kept ones, in order.

    With `judged_from`, the documents before that number are kept whatever they are, and those from it on are compared
    with them alone.
    """
    bands = bands_for(threshold)
    signatures = Signatures(list(corpus.map(partial(sign, bands=bands))))
    candidates = Candidates(signatures, threshold, bands, corpus.folder / "buckets.npy")
    sets = _Shingles(corpus)
    for number, buckets in candidates.sharing():
        if number >= judged_from:
            similar = ((sets.jaccard(number, kept), kept) for kept in candidates.likeliest(number, buckets))
            found = next((Copy(number, kept, jaccard) for jaccard, kept in similar if jaccard >= threshold), None)
            if found:
                yield found
                continue
        if not judged_from or number < judged_from:
            candidates.keep(number, buckets)


class _Shingles:
    """The sets of documents; those asked for last stay in memory."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus, self._sets, self._bytes = corpus, dict[int, Hashes](), 0

    def jaccard(self, number: int, other: int) -> float:
        both = np.concatenate([self._of(number), self._of(other)])
        both.sort()
        shared = np.count_nonzero(both[1:] == both[:-1])
        return shared / (len(both) - shared)

    def _of(self, number: int) -> Hashes:
        found = self._sets.pop(number, None)
        if found is None:
            found = shingles(self._corpus[number].text)
            self._bytes += found.nbytes
            while self._sets and self._bytes > CACHE:
                self._bytes -= self._sets.pop(next(iter(self._sets))).nbytes
        self._sets[number] = found
        return found
