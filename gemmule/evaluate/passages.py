"""What an evaluation reads: windows of text, and the unit that each token counts for.

Units are what intervals are taken over (`intervals.py`): documents; or, where there are fewer than ten of these,
stretches of them, equal parts of about 256 bytes (a block bootstrap, Künsch 1989). How many stretches a document has
follows from its bytes alone, so that models of two tokenizers are compared stretch by stretch too.

- `StreamPassages`: the windows that a run's models are trained on, all or some drawn evenly.
- `DocumentPassages`: documents each by itself, in windows as long as a model reads, which may overlap.

Every window begins with one `<bos>`; a document's `<eos>` counts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np
from numpy.typing import NDArray

from gemmule.base.errors import RequestError
from gemmule.tokenize.tokenizer import Tokenizer
from gemmule.tokenize.windows import Batch, Windows, permute

ENOUGH = 10  # documents for an interval over them
STRETCH = 256  # bytes
FEWEST_STRETCHES = 16  # of a short text
GROUP = 2**20  # bytes of documents that are tokenized and sorted at once


@dataclass(frozen=True)
class Passage:
    """Windows to read at once: a batch, the unit of each target [B, T], and how far reading is behind it."""

    batch: Batch
    units: NDArray[np.int64]
    done: int  # of the whole, as `Passages.total` counts


class Passages(ABC):
    """Windows of a text, each token of it a target once."""

    total: int  # how much there is to read
    unit: str = "tokens"  # that this is counted in
    over: str  # what the units are: "documents" or "stretches"

    @abstractmethod
    def read(self, tokens_at_once: int) -> Iterator[Passage]:
        """In order, about so many tokens at a time."""

    @abstractmethod
    def bytes_of_units(self, tokens: NDArray[np.int64]) -> NDArray[np.float64]:
        """The bytes of each unit's text, [U], of which so many tokens were read. Known once all is read."""

    @property
    @abstractmethod
    def documents(self) -> int:
        """How many were read from, once all is read."""


class StreamPassages(Passages):
    """Windows of a token stream as models are trained on them: in order, all, or drawn evenly of all."""

    def __init__(self, windows: Windows, most_tokens: int | None = None) -> None:
        """Reads about `most_tokens` at most; windows that are drawn for less are among those drawn for more."""
        shards, length = windows.shards, windows.sequence_length
        self.windows, count = windows, len(windows)
        wanted = count if most_tokens is None else min(count, max(1, round(most_tokens / length)))
        self.chosen = np.arange(count)
        if wanted < count:
            self.chosen = np.sort(permute(np.arange(wanted), count, 0, 0))
        self.total = wanted * length
        self._starts = shards.document_starts
        self._lengths = np.diff(self._starts, append=len(shards))
        self._bytes_per_token = shards.text_bytes / len(shards)
        first, last = self._documents(self.chosen * length), self._documents((self.chosen + 1) * length - 1)
        begun, ended = (np.bincount(each, minlength=len(self._starts) + 1) for each in (first, last + 1))
        self._read_from = int(((begun - ended).cumsum() > 0).sum())  # documents in which any window lies
        stretches = _stretches(self._lengths * self._bytes_per_token, self._read_from)
        self.over = "documents" if stretches is None else "stretches"
        self._parts = np.ones_like(self._lengths) if stretches is None else stretches
        self._first_unit = np.cumsum(self._parts) - self._parts

    def read(self, tokens_at_once: int) -> Iterator[Passage]:
        length = self.windows.sequence_length
        at_once = max(1, tokens_at_once // length)
        for first in range(0, len(self.chosen), at_once):
            batch = self.windows.window_batch(self.chosen[first : first + at_once])
            places = batch.starts[:, None] + np.arange(batch.targets.shape[1])
            documents = self._documents(places)
            inside = places - self._starts[documents]
            part = np.minimum(inside * self._parts[documents] // self._lengths[documents], self._parts[documents] - 1)
            yield Passage(batch, self._first_unit[documents] + part, min(self.total, (first + at_once) * length))

    def _documents(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """The number of the document that each place of the stream lies in; the last one's past the end."""
        return np.searchsorted(self._starts, places, side="right") - 1

    def bytes_of_units(self, tokens: NDArray[np.int64]) -> NDArray[np.float64]:
        """As of so many tokens of the text in the mean: of which bytes a token is made, the stream does not say."""
        size: NDArray[np.float64] = tokens.astype(np.float64) * self._bytes_per_token
        return size

    @property
    def documents(self) -> int:
        return self._read_from


class DocumentPassages(Passages):
    """Documents, each by itself and followed by its `<eos>`, in windows of `context` tokens of input.

    A window begins `stride` tokens after the one before, and what that one had counted for is context only (sliding
    window evaluation); with a stride of `context`, the default, windows don't overlap.
    """

    unit = "bytes"

    def __init__(
        self,
        texts: Iterable[str],
        tokenizer: Tokenizer,
        context: int,
        *,
        stride: int | None = None,
        total: int = 1,
        most_bytes: int | None = None,
        by_document: bool = False,
    ) -> None:
        """`total`: the bytes of all texts, as far as is known; no document is begun past `most_bytes`.

        `by_document`: the units are documents, however few there are.

        Raises RequestError for a context or stride that can't be.
        """
        self.tokenizer, self.context = tokenizer, context
        self.stride = context if stride is None else stride
        if not 1 <= self.stride <= context:
            raise RequestError(f"stride {self.stride}: must be from 1 to the {context} tokens that the model reads")
        self.total = max(1, total)
        self.most_bytes = most_bytes
        texts = iter(texts)
        first = list(islice(texts, ENOUGH))
        self._texts = chain(first, texts)
        sizes = np.array([len(text.encode()) for text in first], np.int64)
        self._few = None if by_document else _stretches(sizes, len(first))
        self.over = "documents" if self._few is None else "stretches"
        self.empty = not first
        self._bytes: list[NDArray[np.float64]] = []  # of units, in their order
        self._documents = 0

    def read(self, tokens_at_once: int) -> Iterator[Passage]:
        units, done = 0, 0
        for group in self._groups():
            encoded = self.tokenizer.encode_batch(group)
            ids = [np.array([*each, self.tokenizer.eos_id]) for each in encoded]
            sizes = np.array([len(text.encode()) for text in group], np.int64)
            parts = np.ones_like(sizes) if self._few is None else self._few[self._documents :][: len(group)]
            self._bytes.append(np.repeat(sizes / parts, parts))
            first_unit = units + np.cumsum(parts) - parts
            windows = sorted(self._windows(ids), key=lambda window: window.begin - window.end)  # the longest first
            behind = 0
            for some in _about(windows, tokens_at_once):
                batch = self._batch(some, ids)
                behind += len(some)
                if not batch.targets.shape[1]:
                    continue
                found = np.zeros(batch.targets.shape, np.int64)
                for row, window in enumerate(some):
                    places = np.arange(window.begin + (self.tokenizer.bos_id is None), window.end)
                    number = window.document
                    found[row, : len(places)] = first_unit[number] + places * parts[number] // len(ids[number])
                yield Passage(batch, found, min(self.total, done + int(sizes.sum()) * behind // len(windows)))
            units += int(parts.sum())
            done += int(sizes.sum())
            self._documents += len(group)

    def _groups(self) -> Iterator[list[str]]:
        group: list[str] = []
        size = all_bytes = 0
        for text in self._texts:
            if self.most_bytes is not None and all_bytes >= self.most_bytes:
                break
            group.append(text)
            size += (own := len(text.encode()))
            all_bytes += own
            if size >= GROUP:
                yield group
                group, size = [], 0
        if group:
            yield group

    def _windows(self, ids: Sequence[NDArray[np.int64]]) -> Iterator[_Window]:
        for number, each in enumerate(ids):
            begin = counted = 0
            while counted < len(each):
                end = min(begin + self.context, len(each))
                yield _Window(number, begin, end, counted)
                begin, counted = begin + self.stride, end

    def _batch(self, windows: Sequence[_Window], ids: Sequence[NDArray[np.int64]]) -> Batch:
        longest = max(window.end - window.begin for window in windows)
        targets = np.full((len(windows), longest), self.tokenizer.pad_id, np.int64)
        mask = np.zeros(targets.shape, bool)
        for row, window in enumerate(windows):
            targets[row, : window.end - window.begin] = ids[window.document][window.begin : window.end]
            mask[row, window.counted - window.begin : window.end - window.begin] = True
        bos_id = self.tokenizer.bos_id
        starts = np.zeros(len(windows), np.int64)
        if bos_id is None:  # nothing says what the first token of a window follows: it is context only
            return Batch(targets[:, :-1], targets[:, 1:], mask[:, 1:], starts)
        opening = np.full((len(windows), 1), bos_id, np.int64)
        return Batch(np.concatenate([opening, targets[:, :-1]], axis=1), targets, mask, starts)

    def bytes_of_units(self, tokens: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.concatenate(self._bytes) if self._bytes else np.empty(0)

    @property
    def documents(self) -> int:
        return self._documents


@dataclass(frozen=True)
class _Window:
    document: int
    begin: int  # its targets are the document's tokens begin..end
    end: int
    counted: int  # from here on


def _about(windows: list[_Window], tokens: int) -> Iterator[list[_Window]]:
    """Some at a time, padded to the longest of them about so many tokens."""
    some: list[_Window] = []
    for window in windows:
        if some and (len(some) + 1) * (some[0].end - some[0].begin) > tokens:
            yield some
            some = []
        some.append(window)
    if some:
        yield some


def _stretches(sizes: NDArray[np.int64] | NDArray[np.float64], documents: int) -> NDArray[np.int64] | None:
    """Of documents of these bytes, how many stretches each has; None where there are enough documents."""
    if documents >= ENOUGH:
        return None
    length = max(1.0, min(STRETCH, float(sizes.sum()) / FEWEST_STRETCHES))
    return np.maximum(1, np.ceil(sizes / length)).astype(np.int64)
