"""A file of text, plain or compressed, and how its bytes are read; the first step of text in."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from gemmule.base.errors import RequestError
from gemmule.refine.compressed import SUFFIXES, Opened, read_beginning, read_blocks

LARGE, MOST_EXPANDED = (
    2**26,
    100,
)  # bytes of a file in an archive from which on they may be so many times its stored ones


@dataclass(frozen=True)
class Member:
    """A file in an archive, while that is read."""

    name: str  # with the folders in the archive
    size: int  # bytes that it declares, as they stand in the archive
    opened: Opened
    stored: Callable[[], int]  # bytes that the archive has for what was read of it so far, at most
    behind: Callable[[], int]  # bytes of the archive that are read


@dataclass(frozen=True)
class SourceFile:
    """A file to read and what to call it: relative to the recipe where it lies beneath it.

    One in an archive has the archive's path, a name beneath the archive's, and can be read while `members` of it is at
    this one. Of an archive, `only` are patterns of the members to read (none: of all), `without` of those to leave out.
    """

    path: Path
    name: str
    weight: float = 1.0  # how often its training documents are read
    member: Member | None = None
    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()

    @property
    def is_compressed(self) -> bool:
        return self._called.suffix.lower() in SUFFIXES

    @property
    def suffix(self) -> str:
        """That of its format, in lower case: ".txt" for a.TXT.gz."""
        return (self._called.with_suffix("") if self.is_compressed else self._called).suffix.lower()

    @property
    def size(self) -> int:
        """In bytes, as it is stored."""
        return self.path.stat().st_size if self.member is None else self.member.size

    @property
    def _called(self) -> Path:
        return self.path if self.member is None else Path(self.member.name)

    def blocks(self, on_read: Callable[[int], object] = int) -> Iterator[bytes]:
        """Its bytes, decompressed, as `read_blocks` gives them; `on_read` is told how many of the archive are read, if
        it is in one. Raises RequestError for a member of an archive that holds suspiciously much."""
        member = self.member
        if member is None:
            yield from read_blocks(self.path, self.name, on_read)
            return
        read = 0
        for block in read_blocks(self._called, self.name, lambda _: on_read(member.behind()), member.opened):
            read += len(block)
            if read > LARGE and read > MOST_EXPANDED * member.stored():
                raise RequestError(
                    f"{self.name}: more than {MOST_EXPANDED} times as large as it is stored in the archive, as no text "
                    "is: an archive made to fill a disk? If it is text, unpack it"
                )
            yield block

    def beginning(self, size: int) -> tuple[bytes, float]:
        """Its first `size` bytes, decompressed, and about which share of it they are: 1.0 if that is all."""
        return read_beginning(self._called, self.name, size, self.member.opened if self.member else None)

    @contextmanager
    def seekable(self) -> Iterator[IO[bytes]]:
        """The file opened; if it is compressed or in an archive, a copy that vanishes when closed."""
        if not self.is_compressed and self.member is None:
            with self.path.open("rb") as stream:
                yield stream
            return
        with tempfile.TemporaryFile() as copy:
            for block in self.blocks():
                copy.write(block)
            copy.seek(0)
            yield copy
