"""Decontamination: a document that shares 13 words in a row with an item of an evaluation set is dropped.

As GPT-3's authors measured it (arXiv 2005.14165, appendix C): words in lower case, without punctuation. Every text of
an item counts by itself. Items without a text of 13 words can't be told from other text; they are counted in `facts`.

A run of words is known by a hash of 64 bits: of 10**9 runs of text against 10**7 of items, one is mistaken for another
with a probability of 1 in 1,800. All processes map them into memory from files: 16 to 20 bytes each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from gemmule.refine.corpus import Corpus
from gemmule.refine.items import read_items
from gemmule.refine.lookup import Lookup
from gemmule.refine.sources import Document, SourceFile
from gemmule.refine.steps.step import DocumentStep, Figure, Verdict
from gemmule.refine.words import Hashes, plain_words, runs

LENGTH = 13  # words
ITEM = np.dtype([("set", "u4"), ("position", "i8")])
ITEMS, PLACES = "decontaminate.items.npy", "decontaminate.places.npy"


class _Index(NamedTuple):
    """The runs of all items."""

    lookup: Lookup
    items: NDArray[np.uint32]  # [runs]: of which item
    places: NDArray[Any]  # [items] of ITEM


@dataclass
class _Set:
    """What is counted of an evaluation set."""

    number: int
    items: int = 0
    too_short: int = 0


class Decontaminate(DocumentStep):
    """Each of `files` is a set; so is each file in an archive."""

    name = "decontaminate"

    def __init__(self, files: Sequence[SourceFile]) -> None:
        self.files = files
        self._facts: dict[str, Figure] = {}
        self._sets: list[str] = []  # by their names
        self._folder = Path()
        self._index: _Index | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_index": None}  # each process maps the files itself

    def prepare(self, folder: Path, corpus: Corpus | None) -> None:
        self._folder, self._index = folder, None
        found: list[tuple[Hashes, int]] = []
        places: list[tuple[int, int]] = []
        counts: dict[str, _Set] = {}
        for item in chain.from_iterable(map(read_items, self.files)):
            of_set = counts.setdefault(item.set, _Set(len(counts)))
            of_item = np.unique(np.concatenate([np.empty(0, np.uint64), *map(_item_runs, item.texts)]))
            of_set.items += 1
            of_set.too_short += not len(of_item)
            if len(of_item):
                found.append((of_item, len(places)))
                places.append((of_set.number, item.position))
        self._sets = list(counts)
        self._facts = {"items": sum(each.items for each in counts.values())}
        self._facts["too_short"] = sum(each.too_short for each in counts.values())
        for name, each in counts.items():
            self._facts |= {f"{name}: items": each.items, f"{name}: too_short": each.too_short}
        _write(folder, found, places)

    def facts(self) -> Mapping[str, Figure]:
        return self._facts

    def judge(self, document: Document) -> Verdict:
        index = self._index = self._index or _read(self._folder)
        found = index.lookup.find(_runs(document.text))
        if not len(found.where):
            return Verdict(document)
        items = [index.items[low:high] for low, high in zip(found.low, found.high, strict=True)]
        return self._contaminated(index, found.where, items)

    def _contaminated(self, index: _Index, where: NDArray[np.int64], items: list[NDArray[np.uint32]]) -> Verdict:
        """`where` the runs of items begin in the document, and which items have them."""
        found, shared = np.unique(np.concatenate(items), return_counts=True)
        names = [f"{self._sets[of_set]}:{position}" for of_set, position in index.places[found].tolist()]
        sets = [self._sets[of_set] for of_set in np.unique(index.places[found]["set"]).tolist()]
        likest = int(shared.argmax())
        words = _longest([place for place, each in zip(where, items, strict=True) if found[likest] in each])
        return Verdict(
            None,
            f"shares {words} words in a row with an evaluation item",
            figures={"words_in_a_row": words},
            counts=dict.fromkeys([*sets, *names], 1),
            matched=names[likest],
        )


def _runs(text: str) -> Hashes:
    return runs(plain_words(text), LENGTH)


def _item_runs(text: str) -> Hashes:
    """In the form that `repair` gives documents."""
    return _runs(normalize("NFC", text)) if len(text) >= LENGTH else np.empty(0, np.uint64)


def _longest(places: Sequence[int]) -> int:
    """How many words in a row, of the places where runs begin."""
    breaks = np.flatnonzero(np.diff(places, prepend=-2, append=-2) != 1)
    return int(np.diff(breaks).max()) + LENGTH - 1


def _write(folder: Path, found: Sequence[tuple[Hashes, int]], places: Sequence[tuple[int, int]]) -> None:
    of_items = np.concatenate([np.empty(0, np.uint64), *(each for each, _ in found)])
    items = np.repeat(np.array([item for _, item in found], np.uint32), [len(each) for each, _ in found])
    order = np.argsort(of_items, kind="stable")
    Lookup.write(of_items[order], folder, "decontaminate")
    np.save(folder / ITEMS, items[order])
    np.save(folder / PLACES, np.array(places, ITEM))


def _read(folder: Path) -> _Index:
    items, places = (np.load(folder / file, mmap_mode="r") for file in (ITEMS, PLACES))
    return _Index(Lookup.read(folder, "decontaminate"), items, places)
