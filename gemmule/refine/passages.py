"""Passages of so many words that stand more than once in a corpus, found exactly.

Lee et al. 2021 (arXiv 2107.06499) sort all suffixes of a corpus; here few of its places are sorted. Of each document
every `step`-th run of `seed` words is kept (an anchor), with seed + step - 1 = `words`: wherever a passage of that
length stands, it holds one of the document's anchors (the guarantee of winnowing, Schleimer et al. 2003). So where it
stands again, one of its runs is an anchor of another place, and only windows of `words` words with such a run in them
are kept, sorted and compared.

On disk for each MB of English: 50 kB of anchors, 110 kB to look them up in, and 16 bytes for each word of what is
repeated (at most 2.8 MB). In memory: RANGE hashes at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gemmule.refine.corpus import Part
from gemmule.refine.lookup import Lookup
from gemmule.refine.words import Hashes, runs, written_words

RANGE = 2**22
WINDOW = np.dtype([("hash", "u8"), ("row", "u4"), ("place", "u4")])
"""A run of `words` words: the document in its part, and its first word."""
REPEAT = np.dtype([("row", "u4"), ("place", "u4"), ("first", "i8")])
"""A window that stood before, and the number of the document where it stood first."""


@dataclass(frozen=True)
class Passages:
    """How passages of `words` words or more are found; each method makes a file beside a part."""

    words: int

    @property
    def seed(self) -> int:
        return self.words // 2

    @property
    def step(self) -> int:
        return self.words - self.seed + 1

    def anchors(self, part: Part) -> Path:
        """The anchors of all documents, sorted."""
        texts = (written_words(document.text).hashes for document in part)
        found = [runs(words, self.seed)[:: self.step] for words in texts if len(words) >= self.words]
        return _save(part, "anchors", np.sort(np.concatenate([np.empty(0, np.uint64), *found])))

    def windows(self, part: Part, folder: Path) -> Path:
        """The windows that may stand elsewhere too, sorted by their hashes; `folder` is that of the anchors' lookup."""
        anchors, found = Lookup.read(folder, "anchors"), [np.empty(0, WINDOW)]
        for row, document in enumerate(part):
            words = written_words(document.text).hashes
            places = self._candidates(words, anchors)
            if len(places):
                windows = np.empty(len(places), WINDOW)
                windows["hash"], windows["row"], windows["place"] = runs(words, self.words)[places], row, places
                found.append(windows)
        every = np.concatenate(found)
        return _save(part, "windows", every[np.argsort(every["hash"], kind="stable")])

    def _candidates(self, words: Hashes, anchors: Lookup) -> NDArray[np.int64]:
        """The windows with a run that is an anchor elsewhere."""
        if len(words) < self.words:
            return np.empty(0, np.int64)
        seeds = runs(words, self.seed)
        found = anchors.find(seeds)
        elsewhere = (found.high - found.low > 1) | (found.where % self.step != 0)  # not only the anchor that it is
        hits = np.zeros(len(seeds) + 1, np.int64)
        hits[found.where[elsewhere] + 1] = 1
        before = np.cumsum(hits)
        return np.flatnonzero(before[self.step :] > before[: -self.step])


def _save(part: Part, name: str, values: NDArray[Any]) -> Path:
    file = part.file.with_suffix(f".{name}.npy")
    np.save(file, values)
    return file


def in_ranges(files: Sequence[Path], key: str = "") -> Iterator[tuple[NDArray[np.int64], NDArray[Any]]]:
    """What sorted files hold, by ranges of hashes, so that not all is in memory: which file each is of, and itself.

    Within a range the order is that of the files, and of what is in each.
    """
    parts = [np.load(file, mmap_mode="r") for file in files]
    count = sum(map(len, parts)) // RANGE + 1
    limits = [number * 2**64 // count for number in range(1, count)]
    keys = [part[key] if key else part for part in parts]
    cuts = [[0, *np.searchsorted(each, np.array(limits, np.uint64)).tolist(), len(each)] for each in keys]
    for number in range(count):
        slices = [part[cut[number] : cut[number + 1]] for part, cut in zip(parts, cuts, strict=True)]
        if slices:
            yield np.repeat(np.arange(len(slices)), [len(each) for each in slices]), np.concatenate(slices)


def write_anchors(files: Sequence[Path], folder: Path) -> None:
    """All anchors, to be looked up: each once, or twice if it stands more than once."""
    found = [np.empty(0, np.uint64)]
    for _, anchors in in_ranges(files):
        each, counts = np.unique(anchors, return_counts=True)
        found.append(np.repeat(each, np.minimum(counts, 2)))
    Lookup.write(np.concatenate(found), folder, "anchors")


def repeated(files: Sequence[Path], starts: Sequence[int], words: int) -> Iterator[tuple[int, NDArray[Any]]]:
    """The windows of a part that stood before, some at a time: the part's number, and REPEAT of each.

    `starts`: the number of each part's first document. In the same document a window stood before if it ended there
    before it begins here.
    """
    begin = np.array(starts, np.int64)
    for which, windows in in_ranges(files, "hash"):
        order = np.argsort(windows["hash"], kind="stable")
        which, windows = which[order], windows[order]
        new = np.ones(len(order), bool)
        new[1:] = windows["hash"][1:] != windows["hash"][:-1]
        first = np.flatnonzero(new)[np.cumsum(new) - 1]
        numbers = begin[which] + windows["row"]
        later = (numbers > numbers[first]) | (windows["place"] >= windows["place"][first] + words)
        found = np.empty(int(later.sum()), REPEAT)
        found["row"], found["place"] = windows["row"][later], windows["place"][later]
        found["first"] = numbers[first[later]]
        for part in np.unique(which[later]).tolist():
            yield part, found[which[later] == part]
