"""Exact substrings: a passage of so many words or more that stood before is cut; where it stood first it stays.

Before: in an earlier document, or earlier in the same one. Words are compared as they are written, white space between
them aside. A document of which a few words are left is dropped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gemmule.refine.corpus import Corpus, Part
from gemmule.refine.passages import REPEAT, Passages, repeated, write_anchors
from gemmule.refine.steps.step import CorpusStep, Decisions, Drop
from gemmule.refine.words import Words, written_words

FEWEST = 5  # words that are left of a document that stays

Span = tuple[int, int]


class Substrings(CorpusStep):
    name = "substrings"

    def __init__(self, words: int) -> None:
        self.passages = Passages(words)

    def decide(self, corpus: Corpus) -> Decisions:
        starts = [*accumulate((part.documents for part in corpus.parts), initial=0)]
        write_anchors(list(corpus.map(self.passages.anchors)), corpus.folder)
        windows = list(corpus.map(partial(self.passages.windows, folder=corpus.folder)))
        for part in corpus.parts:
            _repeats_file(part).unlink(missing_ok=True)
        for number, found in repeated(windows, starts, self.passages.words):
            with _repeats_file(corpus.parts[number]).open("ab") as file:
                file.write(found.tobytes())
        cuts = corpus.map(partial(cut_part, words=self.passages.words))
        drops: list[Drop] = []
        shortened: dict[int, list[Span]] = {}
        counts = {"passages": 0, "words": 0}
        for start, cut in ((start, cut) for start, of_part in zip(starts, cuts, strict=False) for cut in of_part):
            number = start + cut.row
            counts["passages"] += len(cut.spans)
            counts["words"] += cut.words - cut.left
            if cut.left < FEWEST:
                reason = f"{cut.left} of {cut.words} words are left without passages that stood before"
                drops.append(Drop(number, reason, corpus.place(cut.first)))
            else:
                shortened[number] = cut.spans
        return Decisions(drops, Shortened(corpus, shortened), {kind: count for kind, count in counts.items() if count})


class Shortened(Mapping[int, str]):
    """The texts without what is cut, each made when it is asked for."""

    def __init__(self, corpus: Corpus, spans: Mapping[int, list[Span]]) -> None:
        self._corpus, self._spans = corpus, spans

    def __getitem__(self, number: int) -> str:
        return without(self._corpus[number].text, self._spans[number])

    def __contains__(self, number: object) -> bool:
        return number in self._spans

    def __iter__(self) -> Iterator[int]:
        return iter(self._spans)

    def __len__(self) -> int:
        return len(self._spans)


class Cut(NamedTuple):
    """What is cut of a document."""

    row: int  # in its part
    spans: list[Span]  # of characters, ascending
    words: int  # that it had
    left: int  # words
    first: int  # the number of the document where the first passage stood first


def cut_part(part: Part, words: int) -> list[Cut]:
    """By the file of the part's repeated windows, each of so many `words`."""
    file = _repeats_file(part)
    if not file.exists():
        return []
    repeats = np.fromfile(file, REPEAT)
    repeats = repeats[np.lexsort((repeats["place"], repeats["row"]))]
    rows, begins = np.unique(repeats["row"], return_index=True)
    groups = np.split(repeats, begins[1:])
    return [_cut(part[row].text, row, group, words) for row, group in zip(rows.tolist(), groups, strict=True)]


def _cut(text: str, row: int, repeats: NDArray[Any], length: int) -> Cut:
    words = written_words(text)
    change = np.zeros(len(words.hashes) + 1, np.int64)
    np.add.at(change, repeats["place"], 1)
    np.add.at(change, repeats["place"] + length, -1)
    repeated = np.cumsum(change[:-1]) > 0
    edges = np.flatnonzero(np.diff(repeated, prepend=False, append=False)).tolist()
    spans = [_span(text, words, begin, end) for begin, end in zip(edges[::2], edges[1::2], strict=True)]
    return Cut(row, spans, len(repeated), len(repeated) - int(repeated.sum()), int(repeats["first"][0]))


def _span(text: str, words: Words, begin: int, end: int) -> Span:
    """The characters to cut for some words: with the white space before them or after them, so that of the two that
    with more line breaks is left."""
    starts, ends = words.starts, words.ends
    if end == len(starts):
        return int(ends[begin - 1] if begin else starts[0]), int(ends[-1])
    if begin == 0:
        return int(starts[0]), int(starts[end])
    before, after = text[ends[begin - 1] : starts[begin]], text[ends[end - 1] : starts[end]]
    if (before.count("\n"), len(before)) >= (after.count("\n"), len(after)):
        return int(starts[begin]), int(starts[end])
    return int(ends[begin - 1]), int(ends[end - 1])


def without(text: str, spans: list[Span]) -> str:
    borders = [0, *(border for span in spans for border in span), len(text)]
    return "".join(text[begin:end] for begin, end in zip(borders[::2], borders[1::2], strict=True))


def _repeats_file(part: Part) -> Path:
    return part.file.with_suffix(".repeats")
