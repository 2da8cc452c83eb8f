"""Exact duplicates: of documents with the same text, white space around it aside, the first one stays.

Texts are told apart by a hash of 128 bits (blake2b). In memory, at most: 48 bytes a document.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gemmule.refine.corpus import Corpus, Part
from gemmule.refine.steps.step import CorpusStep, Decisions, Drop

REASON = "the same text"


class ExactDuplicates(CorpusStep):
    name = "exact_duplicates"

    def decide(self, corpus: Corpus) -> Decisions:
        first = first_copies(corpus.map(digests))
        copies = np.flatnonzero(first != np.arange(len(first)))
        return Decisions([Drop(int(number), REASON, corpus.place(int(first[number]))) for number in copies])


def digests(part: Part) -> NDArray[np.uint64]:
    """A hash of each document's text: [documents, 2]."""
    hashes = (blake2b(document.text.strip().encode(), digest_size=16).digest() for document in part)
    return np.frombuffer(b"".join(hashes), np.uint64).reshape(-1, 2)


def first_copies(parts: Iterable[NDArray[np.uint64]]) -> NDArray[np.int64]:
    """Of each document the first one with its text, itself if there is none before: [documents]."""
    hashes = np.concatenate([np.empty((0, 2), np.uint64), *parts])
    order: NDArray[Any] = np.lexsort((hashes[:, 1], hashes[:, 0]))  # stable: equal ones stay in order
    ordered = hashes[order]
    begins = np.ones(len(order), bool)
    begins[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    first = np.empty(len(order), np.int64)
    first[order] = order[begins][np.cumsum(begins) - 1]
    return first
