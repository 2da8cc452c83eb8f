"""Source files to documents: the first step of the flow, text in.

- Of every format in `formats/`, each plain, .gz or .zst, or in an archive (`files.py` finds them).
- Read in a stream: a file may be larger than memory. A text of more than 64 KiB, be it a file or a record, is cut into
  documents (`cutting.py`).
- Text is taken as it is, byte for byte: no newline translation, no normalisation; only a byte-order mark is no text.
- What can't be read exactly is refused, naming file and line, or skipped and counted where the recipe says so
  (`data.bad_records`); bytes that are no UTF-8 are replaced, and counted, where it says so (`refine.repair`). Nothing
  else is repaired here. Documents without text are passed over, and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from gemmule.base.encodings import BadRecord, EmptyFile, InvalidBytes
from gemmule.base.hashing import sha256_files
from gemmule.base.progress import PatientMeter
from gemmule.refine.compressed import unreadable
from gemmule.refine.cutting import LONGEST, cut
from gemmule.refine.files import BUNDLED, MissingSource, absolute, is_bundled, printable, resolve
from gemmule.refine.formats import known_format
from gemmule.refine.source_file import SourceFile

__all__ = [
    "BUNDLED", "Document", "MissingSource", "SourceFile", "Tally", "absolute", "extracted", "fingerprints",
    "is_bundled", "printable", "read_documents", "resolve",
]  # fmt: skip

Invalid = Literal["refuse", "replace"]


@dataclass(frozen=True)
class Document:
    """A text and where it stands: `position` is the byte offset in the (decompressed) file for plain text, the line
    number from 1 for jsonl and csv, the record's number from 1 for json, the row from 0 for parquet. The documents
    that a long record is cut into have the same. Of a page, it is the byte offset in its main text. A file in an
    archive is called "books.zip/inner/a.txt"."""

    text: str
    source: str
    position: int
    language: str = ""  # as the refinery found it, by its ISO 639-1 code; empty: not looked at, or too short to tell
    is_markup: bool = False  # a page, of which `extracted` makes documents

    @property
    def place(self) -> str:
        """What it is called in reports and for --explain."""
        return f"{self.source}:{self.position}"


@dataclass
class Tally:
    """What was not taken as it stands, and how far reading is."""

    empty: int = 0  # documents without text
    cut: int = 0  # records that were cut into several documents
    bad: int = 0  # records that were skipped, or files that are no text
    empty_files: int = 0  # that were skipped
    first_bad: str = ""  # what was wrong with the first of them
    replaced: int = 0  # invalid bytes that became U+FFFD, and NUL bytes that were dropped
    left_members: int = 0  # of archives, that were left out: links, archives in archives
    first_left: str = ""  # the first of them, and what it is
    stored_bytes: int = 0  # of the file that is being read: how many, as stored, are behind

    @property
    def left_out(self) -> str:
        """What was skipped, counted, and the first of it; empty if nothing."""
        counts = {"bad record": self.bad, "empty file": self.empty_files}
        named = ", ".join(f"{count:,} {what}{'s' * (count > 1)}" for what, count in counts.items() if count)
        bad = f"{named}; the first: {self.first_bad}" if named else ""
        many = f" (and {self.left_members - 1:,} more)" if self.left_members > 1 else ""
        return "; ".join(filter(None, [bad, f"{self.first_left}{many}" if self.left_members else ""]))

    def skip(self, error: BadRecord) -> None:
        self.empty_files += isinstance(error, EmptyFile)
        self.bad += not isinstance(error, EmptyFile)
        self.first_bad = self.first_bad or str(error)

    def leave(self, member: str) -> None:
        self.left_members += 1
        self.first_left = self.first_left or member


def fingerprints(
    files: Sequence[SourceFile], known: Sequence[Mapping[str, Any] | None] | None = None
) -> Iterator[dict[str, Any]]:
    """What tells whether each source changed: {"name", "size", "mtime_ns", "sha256"}, in their order.

    The sha256 is taken from `known`, earlier fingerprints of the files, where size and time of change are the same;
    else the file is read. Says how far that is, if it takes long.
    """
    states = [_state(file) for file in files]
    same = [before if before and state.items() <= before.items() else None
            for state, before in zip(states, known or [None] * len(files), strict=True)]  # fmt: skip
    changed = [file.path for file, before in zip(files, same, strict=True) if before is None]
    total = sum(state["size"] for state, before in zip(states, same, strict=True) if before is None)
    with PatientMeter("hashing files", total) as meter, closing(sha256_files(changed, meter.update)) as hashes:
        for file, state, before in zip(files, states, same, strict=True):
            try:
                sha256 = next(hashes) if before is None else before["sha256"]
            except OSError as error:
                raise unreadable(file.name, error) from None
            yield {"name": file.name, **state, "sha256": sha256}


def _state(file: SourceFile) -> dict[str, int]:
    try:
        status = file.path.stat()
    except OSError as error:
        raise unreadable(file.name, error) from None
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns}


def read_documents(
    file: SourceFile,
    field: str = "text",
    tally: Tally | None = None,
    *,
    skip_bad: bool = False,
    invalid: Invalid = "refuse",
    extract: bool = True,
) -> Iterator[Document]:
    """The documents in a file, in order. `field` is the one that holds the text in records.

    `invalid`: "replace" makes bytes that are no UTF-8 U+FFFD, and drops NUL bytes; positions in plain text are then
    those in what comes of it. `extract`: whether the main text of a page is found here, which is slow; else a document
    is a page's markup, of which `extracted` makes documents. Those of nothing but white space are passed over. `tally`
    counts these, and what else is not as it stands there.

    Raises BadRecord, a RequestError, naming file and line (row, in parquet) for what isn't UTF-8, or no record whose
    `field` is a text, unless `skip_bad`; WorkError naming the file for an archive that is cut short or damaged.
    """
    tally = tally if tally is not None else Tally()
    format = known_format(file)

    def on_read(stored: int) -> None:
        tally.stored_bytes = stored

    def on_invalid(count: int) -> None:
        tally.replaced += count

    if format.members is not None:
        read = partial(read_documents, field=field, tally=tally, skip_bad=skip_bad, invalid=invalid, extract=extract)
        yield from _in_archive(format.members(file, tally.leave), read, tally, skip_bad)
        return
    try:
        for position, text in format.texts(file, field, on_read, on_invalid if invalid == "replace" else None):
            if isinstance(text, BadRecord):
                if not skip_bad:
                    raise _stopped(text)
                tally.skip(text)
                continue
            if format.extract is not None and isinstance(text, str):
                page = Document(text, file.name, position, is_markup=True)
                yield from extracted(page, tally) if extract else [page]
            else:
                parts = _parts_of(position, text, whole=format.in_documents)
                del text
                yield from _documents(file.name, parts, tally)
    except BadRecord as error:
        if not skip_bad:
            raise
        tally.skip(error)


def extracted(document: Document, tally: Tally | None = None) -> Iterator[Document]:
    """The documents in the main text of one that is markup; any other document as it is."""
    if not document.is_markup:
        yield document
        return
    extract = known_format(SourceFile(Path(document.source), document.source)).extract
    assert extract is not None
    parts = _parts_of(document.position, extract(document.text), whole=False, is_offset=True)
    yield from _documents(document.source, parts, tally if tally is not None else Tally())


def _documents(source: str, parts: Iterable[tuple[int, str]], tally: Tally) -> Iterator[Document]:
    """Those of the parts of a text that are not white space alone."""
    for number, (position, part) in enumerate(parts):
        tally.cut += number == 1
        if part.strip():
            yield Document(part, source, position)
        else:
            tally.empty += 1


def _in_archive(
    members: Iterator[SourceFile | BadRecord],
    read: Callable[[SourceFile], Iterator[Document]],
    tally: Tally,
    skip_bad: bool,
) -> Iterator[Document]:
    try:
        for member in members:
            if isinstance(member, SourceFile):
                yield from read(member)
            elif skip_bad:
                tally.skip(member)
            else:
                raise _stopped(member)
    except EmptyFile as error:
        if not skip_bad:
            raise
        tally.skip(error)


def _stopped(error: BadRecord) -> BadRecord:
    replace = '; to read such bytes as U+FFFD: [refine] repair = "replace"' if isinstance(error, InvalidBytes) else ""
    return BadRecord(f'{error}\nTo leave such records out, counted: data.bad_records = "skip"{replace}')


def _parts_of(position: int, text: str | bytes, whole: bool, is_offset: bool = False) -> Iterator[tuple[int, str]]:
    """A text: in one, or cut into documents if it is long and need not stay `whole`; with the position of them all, or
    each with its own, where that counts bytes."""
    if isinstance(text, str) and (whole or _is_short(text)):
        yield position, text
        return
    content = memoryview(text.encode() if isinstance(text, str) else text)
    del text
    blocks = (content[start : start + 2**20] for start in range(0, len(content), 2**20))
    yield from ((position + offset * is_offset, part.decode()) for offset, part in cut(blocks))


def _is_short(text: str) -> bool:
    return len(text) <= LONGEST and (len(text) <= LONGEST // 4 or len(text.encode()) <= LONGEST)
