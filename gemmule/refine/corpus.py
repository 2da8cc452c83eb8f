"""Documents on disk between two passes of the refinery: parts, each a file, read in order or one document at a time.

A part is an Arrow file, mapped into memory and not compressed, so that any document is there without reading others.
What steps keep of a part beside it (signatures, hashes) they name by its stem.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from gemmule.refine.sources import Document

COLUMNS = ("text", "source", "position", "language")
Found = TypeVar("Found")


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


@lru_cache(maxsize=64)
def _table(file: Path) -> Any:
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
        in_order: Callable[[Callable[[Part], Any], Iterable[Part]], Iterator[Any]] = map,
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

    def _part_of(self, number: int) -> int:
        return bisect_right(self._starts, number) - 1

    def map(self, function: Callable[[Part], Found]) -> Iterator[Found]:
        return self._in_order(function, self.parts)
