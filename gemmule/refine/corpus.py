"""Documents on disk between two passes of the refinery: parts, each a file, read in order or one document at a time.

A part is an Arrow file, mapped into memory and not compressed, so that any document is there without reading others.
What steps keep of a part beside it (signatures, hashes) they name by its stem.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeVar

from gemmule.refine.sources import Document

COLUMNS = ("text", "source", "position", "language")
Found = TypeVar("Found")


@dataclass(frozen=True)
class Part:
    """Some documents, in order."""

    file: Path
    documents: int

    def __iter__(self) -> Iterator[Document]:
        columns = [_table(self.file)[name] for name in COLUMNS]
        for row in zip(*columns, strict=True):
            yield Document(*(value.as_py() for value in row))

    def __getitem__(self, row: int) -> Document:
        table = _table(self.file)
        return Document(*(table[name][row].as_py() for name in COLUMNS))


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


def read_part(file: Path) -> Part:
    """One that was written."""
    return Part(file, len(_table(file)))


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
        place = bisect_right(self._starts, number) - 1
        return self.parts[place][number - self._starts[place]]

    def map(self, function: Callable[[Part], Found]) -> Iterator[Found]:
        return self._in_order(function, self.parts)
