"""A file of text, plain or compressed, and how its bytes are read; the first step of text in."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from gemmule.refine.compressed import SUFFIXES, read_beginning, read_blocks


@dataclass(frozen=True)
class SourceFile:
    """A file to read and what to call it: relative to the recipe where it lies beneath it."""

    path: Path
    name: str
    weight: float = 1.0  # how often its training documents are read

    @property
    def is_compressed(self) -> bool:
        return self.path.suffix.lower() in SUFFIXES

    @property
    def suffix(self) -> str:
        """That of its format, in lower case: ".txt" for a.TXT.gz."""
        return (self.path.with_suffix("") if self.is_compressed else self.path).suffix.lower()

    def blocks(self, on_read: Callable[[int], object] = int) -> Iterator[bytes]:
        """Its bytes, decompressed, as `read_blocks` gives them."""
        return read_blocks(self.path, self.name, on_read)

    def beginning(self, size: int) -> tuple[bytes, float]:
        """Its first `size` bytes, decompressed, and about which share of it they are: 1.0 if that is all."""
        return read_beginning(self.path, self.name, size)

    @contextmanager
    def seekable(self) -> Iterator[IO[bytes]]:
        """The file opened; if it is compressed, a decompressed copy that vanishes when closed."""
        if not self.is_compressed:
            with self.path.open("rb") as stream:
                yield stream
            return
        with tempfile.TemporaryFile() as copy:
            for block in self.blocks():
                copy.write(block)
            copy.seek(0)
            yield copy
