"""Lines that many documents have (cookie banners, navigation, footers, licences) are taken out of them.

A line is boilerplate if it is long enough, and no label (`Answer:`, a speaker's name), code or row of a table, and
stands in so many documents, and in such a share of all, that it is nobody's own: among a million documents some
sentence is a hundred times by chance. Of source code only comments can be.

Lines that make up more than half of a document are its text, as in form letters and copies, and stay: letters have to
be read, and of copies the duplicates' steps keep one. Only a short document that has nothing else is dropped.

Exact copies of a document count once. Lines are counted in a sketch (Cormode & Muthukrishnan 2005, "An improved data
stream summary: the count-min sketch"), which never counts too few; those that reach the threshold there are counted
again, exactly. It takes 4 bytes for each 40 bytes of text, and 144 MB at most, however much text there is.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gemmule.recipe.refining import Boilerplate as Settings
from gemmule.refine.corpus import Corpus, Part
from gemmule.refine.sources import Document
from gemmule.refine.steps.quality.kinds import is_code
from gemmule.refine.steps.quality.words import SPACELESS
from gemmule.refine.steps.step import DocumentStep, Figure, Verdict

Hashes = NDArray[np.uint64]
FILE = "boilerplate.npy"
COMMENT = re.compile(r"(?:#|//+|/?\*+|--|;+|%+)\s|\"\"\"")
CODE_OR_TABLE = re.compile(r">>>|\$ |\||.*[{};|\\]$")
LABEL = re.compile(r".{,59}:$")  # of what comes after it
ROWS, MOST_CELLS, MOST = 2, 2**25, 2**16 - 1
LARGEST_DROPPED = 2000  # bytes


class Boilerplate(DocumentStep):
    name = "boilerplate"
    learns = True

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.file = Path()
        self.threshold = self.most = 0  # documents
        self._known: frozenset[int] | None = None

    def prepare(self, folder: Path, corpus: Corpus | None) -> None:
        assert corpus is not None
        self.file = folder / FILE
        self.threshold = max(self.settings.min_documents, math.ceil(self.settings.min_share * len(corpus)))
        known = _frequent(corpus, self.settings, self.threshold)
        self.most = max(known.values(), default=0)
        np.save(self.file, np.fromiter(sorted(known), np.uint64, len(known)))
        self._known = None

    def facts(self) -> dict[str, Figure]:
        return {
            "lines": len(self._lines_known()),
            "documents that have such a line, at least": self.threshold,
            "documents that have the most frequent one": self.most,
        }

    def judge(self, document: Document) -> Verdict:
        text = document.text
        lines = text.splitlines(keepends=True)
        known = self._lines_known()
        theirs = [number for number, key in _keys(document, lines, self.settings) if key in known]
        if not theirs:
            return Verdict(document)
        size, whole = sum(len(lines[number].strip()) for number in theirs), sum(len(line.strip()) for line in lines)
        figures = {"of the text in lines of many documents": f"{size / whole:.2f}"}
        if 2 * size > whole:
            if 10 * size >= 9 * whole and len(text.encode()) <= LARGEST_DROPPED:
                return Verdict(None, f"nothing but lines that {self.threshold} documents or more have", figures)
            return Verdict(document, figures=figures)
        gone = {*theirs}
        left = "".join(line for number, line in enumerate(lines) if number not in gone)
        return Verdict(replace(document, text=left), figures=figures, counts={"lines": len(gone)})

    def _lines_known(self) -> frozenset[int]:
        if self._known is None:
            self._known = frozenset(np.load(self.file).tolist())
        return self._known

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_known": None}


def _keys(document: Document, lines: list[str], settings: Settings) -> Iterator[tuple[int, int]]:
    """The lines that are long enough, by number, each with its hash. White space makes no difference."""
    code = is_code(document.source)
    for number, line in enumerate(lines):
        words = line.split()
        plain = " ".join(words)
        if len(plain) < settings.min_length and (plain.isascii() or len(plain.encode()) < settings.min_length):
            continue
        if len(words) < settings.min_words and not SPACELESS.search(plain):
            continue
        if COMMENT.match(plain) if code else not (CODE_OR_TABLE.match(plain) or LABEL.match(plain)):
            yield number, _hash(plain)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _frequent(corpus: Corpus, settings: Settings, threshold: int) -> dict[int, int]:
    """The lines, by their hashes, that stand in at least `threshold` documents which are not the same: in how many."""
    lines = sum(part.file.stat().st_size for part in corpus.parts) // 40
    cells = min(MOST_CELLS, 1 << lines.bit_length())
    counts = np.zeros((ROWS, cells), np.uint16)
    candidates: set[int] = set()
    for hashes in _distinct(corpus, settings):
        least = np.full(len(hashes), MOST, np.uint16)
        for row in range(ROWS):
            at = (hashes >> np.uint64(32 * row)) % np.uint64(cells)
            counted = counts[row, at]
            counts[row, at] = counted = counted + (counted < MOST)
            np.minimum(least, counted, out=least)
        candidates.update(hashes[least >= min(threshold, MOST)].tolist())
    del counts
    exact = Counter[int]()
    for hashes in _distinct(corpus, settings):
        exact.update(candidates.intersection(hashes.tolist()))
    return {key: count for key, count in exact.items() if count >= threshold}


def _distinct(corpus: Corpus, settings: Settings) -> Iterator[Hashes]:
    """The lines of each document that is no copy of an earlier one, each line once.

    Of a million documents, 1 in 100 is taken for a copy, and not counted.
    """
    seen = bytearray(2**24)
    for of_part in corpus.map(partial(_lines_of, settings=settings)):
        for document, hashes in of_part:
            place, bit = document >> 3 & 0xFFFFFF, 1 << (document & 7)
            if not seen[place] & bit:
                seen[place] |= bit
                yield hashes


def _lines_of(part: Part, settings: Settings) -> list[tuple[int, Hashes]]:
    """Of each document its hash, and those of its lines, each once."""
    found = []
    for document in part:
        keys = {key for _, key in _keys(document, document.text.splitlines(), settings)}
        if keys:
            found.append((_hash(document.text.strip()), np.fromiter(sorted(keys), np.uint64, len(keys))))
    return found
