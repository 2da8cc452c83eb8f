"""Documents on disk between two passes of the refinery: parts, each a file, read in order or one document at a time.

A part is an Arrow file, mapped into memory and not compressed, so that any document is there without reading others.
What steps keep of a part beside it (signatures, hashes) they name by its stem.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from gemmule.refine.sources import Document

COLUMNS = ("text", "source", "position", "language")
BATCH_CHARACTERS = 2**21
Found = TypeVar("Found")
Change = Callable[[Document], Document | None]
"""What a document becomes; None: it is left out."""


@dataclass(frozen=True)
class Part:
    """Some documents, in order: all of a file's, or those of its rows that are still in."""

    file: Path
    documents: int
    rows: NDArray[np.int32] | None = field(default=None, compare=False)

    def __iter__(self) -> Iterator[Document]:
        return map(self.__getitem__, range(self.documents))

    def __getitem__(self, place: int) -> Document:
        table, row = _table(self.file), place if self.rows is None else int(self.rows[place])
        return Document(*(table[name][row].as_py() for name in COLUMNS))

    def named(self, place: int) -> str:
        """`Document.place` of one, without reading its text."""
        table, row = _table(self.file), place if self.rows is None else int(self.rows[place])
        return Document("", table["source"][row].as_py(), table["position"][row].as_py()).place

    def without(self, places: Iterable[int]) -> Part:
        rows = np.delete(np.arange(self.documents, dtype=np.int32) if self.rows is None else self.rows, list(places))
        return Part(self.file, len(rows), rows)


def write_part(file: Path, documents: Iterable[Document]) -> Part:
    """Whole or not at all."""
    import pyarrow
    from pyarrow import ipc

    types = [pyarrow.large_string(), pyarrow.string(), pyarrow.int64(), pyarrow.string()]
    schema = pyarrow.schema(list(zip(COLUMNS, types, strict=True)))
    rows = [(each.text, each.source, each.position, each.language) for each in documents]
    values = list(zip(*rows, strict=True)) or [()] * len(COLUMNS)
    columns = [pyarrow.array(column, type) for column, type in zip(values, types, strict=True)]
    temporary = file.with_suffix(".tmp")
    with ipc.new_file(str(temporary), schema) as writer:
        writer.write_table(pyarrow.Table.from_arrays(columns, schema=schema))
    os.replace(temporary, file)
    return Part(file, len(rows))


def is_part(file: Path) -> bool:
    """Whether it was written, and whole."""
    import pyarrow

    try:
        return _table(file) is not None
    except (pyarrow.ArrowException, OSError):
        return False


def _table(file: Path) -> Any:
    status = file.stat()
    return _mapped(file, status.st_ino, status.st_mtime_ns)


@lru_cache(maxsize=64)
def _mapped(file: Path, number: int, modified: int) -> Any:
    """The table in a file, which another of the same name may replace."""
    import pyarrow
    from pyarrow import ipc

    return ipc.open_file(pyarrow.memory_map(str(file))).read_all()


class Corpus:
    """The documents as they come to a step, numbered from 0 in their order.

    `map` runs a function on every part, in several processes, and gives its results in the order of the parts; the
    function is sent by pickle. `folder` is for files that a step keeps; they are gone when the refinery is done.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        folder: Path,
        in_order: Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]] = map,
    ) -> None:
        self.parts, self.folder = parts, folder
        self._in_order = in_order
        self._starts = list(accumulate((part.documents for part in parts), initial=0))

    def __len__(self) -> int:
        return self._starts[-1]

    def __iter__(self) -> Iterator[Document]:
        for part in self.parts:
            yield from part

    def __getitem__(self, number: int) -> Document:
        place = self._part_of(number)
        return self.parts[place][number - self._starts[place]]

    def place(self, number: int) -> str:
        """`Document.place` of one, without reading its text."""
        place = self._part_of(number)
        return self.parts[place].named(number - self._starts[place])

    def without(self, numbers: Iterable[int]) -> Corpus:
        """The same but for some documents."""
        gone: dict[int, list[int]] = {}
        for number in numbers:
            place = self._part_of(number)
            gone.setdefault(place, []).append(number - self._starts[place])
        parts = [part.without(gone[place]) if place in gone else part for place, part in enumerate(self.parts)]
        return Corpus(parts, self.folder, self._in_order)

    def with_texts(self, texts: Mapping[int, str], name: str) -> Corpus:
        """The same with other texts of some documents: their parts are written anew, in a folder of this `name`."""
        parts = list(self.parts)
        for place in sorted({self._part_of(number) for number in texts}):
            start, part = self._starts[place], parts[place]
            documents = (
                replace(document, text=texts[start + row]) if start + row in texts else document
                for row, document in enumerate(part)
            )
            file = self.folder / name / part.file.name
            file.parent.mkdir(exist_ok=True)
            parts[place] = write_part(file, documents)
        return Corpus(parts, self.folder, self._in_order)

    def beside(self, documents: Iterable[Document], name: str, change: Change) -> Corpus:
        """Others, in parts of their own in a folder of this `name`, each as `change` makes it before it is written."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        batches = enumerate(iter(partial(_batch, iter(documents)), []))
        return Corpus(list(self._in_order(partial(_write_changed, folder, change), batches)), folder, self._in_order)

    def after(self, other: Corpus) -> Corpus:
        """The other one's documents, and then these."""
        return Corpus([*other.parts, *self.parts], self.folder, self._in_order)

    def _part_of(self, number: int) -> int:
        return bisect_right(self._starts, number) - 1

    def map(self, function: Callable[[Part], Found]) -> Iterator[Found]:
        return self._in_order(function, self.parts)


def _batch(documents: Iterator[Document]) -> list[Document]:
    """The next ones, until their text is of BATCH_CHARACTERS; empty after the last."""
    batch: list[Document] = []
    length = 0
    while length < BATCH_CHARACTERS and (document := next(documents, None)) is not None:
        batch.append(document)
        length += len(document.text)
    return batch


def _write_changed(folder: Path, change: Change, batch: tuple[int, list[Document]]) -> Part:
    number, documents = batch
    changed = (left for document in documents if (left := change(document)) is not None)
    return write_part(folder / f"{number:06d}.arrow", changed)
