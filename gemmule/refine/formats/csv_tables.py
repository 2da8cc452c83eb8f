"""csv and tsv: rows under a line of column names, of which one is the field."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

from gemmule.base.encodings import BYTE_ORDER_MARK, BadRecord, nul_byte, wrong_bytes
from gemmule.refine.beginnings import first_texts
from gemmule.refine.formats import Format, streamed
from gemmule.refine.records import LONGEST_RECORD, TOO_LONG, Read, Texts, lines, no_field
from gemmule.refine.source_file import SourceFile

DELIMITERS = {".csv": ",;\t|", ".tsv": "\t,;|"}  # the likeliest first


def read_csv(blocks: Iterable[bytes], name: str, field: str, delimiters: str) -> Texts:
    """Rows under a line of column names, quoted as RFC 4180 and spreadsheets do; the position is the line, from 1.

    Columns are parted by whichever of `delimiters` makes one of them the field.
    """
    csv.field_size_limit(LONGEST_RECORD)
    decoded = _TextLines(blocks, name)
    delimiter, columns = _columns(next(decoded, ""), field, delimiters, f"{name}, line 1")
    place = columns.index(field)
    rows = csv.reader(decoded, delimiter=delimiter, strict=True)
    while True:
        number = decoded.number + 1
        where = f"{name}, line {number}"
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:  # the reader begins anew with the next line
            yield number, BadRecord(f"{where}: not csv ({error}); a quote within quotes is written twice")
        except BadRecord as error:
            yield number, error
        else:
            if len(row) == len(columns):
                yield number, row[place]
            elif row:
                yield (
                    number,
                    BadRecord(
                        f"{where}: {len(row)} values under {len(columns)} column names; one with {delimiter!r} in it "
                        "needs quotes around it"
                    ),
                )


def _columns(header: str, field: str, delimiters: str, where: str) -> tuple[str, list[str]]:
    """The delimiter by which the header has the field, and the column names. Raises BadRecord if there is none."""
    if "\r" in header.rstrip("\r\n"):
        raise BadRecord(f"{where}: its lines end in CR alone: convert them by tr '\\r' '\\n'")
    for delimiter in delimiters:
        try:
            columns = next(csv.reader([header], delimiter=delimiter, strict=True), [])
        except csv.Error as error:
            raise BadRecord(f"{where}: not csv: {error}") from None
        if columns.count(field) > 1:
            raise BadRecord(f"{where}: {columns.count(field)} columns are called {field!r}; let one keep the name")
        if field in columns:
            return delimiter, columns
    likely = max(delimiters, key=header.count)
    names = next(csv.reader([header], delimiter=likely), [])
    raise BadRecord(f"{where}: {no_field(field, [name[:40] for name in names])}")


class _TextLines:
    """The lines with their ends, which may stand within quotes; `number` is the last one's. Raises BadRecord for one
    that is no text, and goes on with the next."""

    def __init__(self, blocks: Iterable[bytes], name: str) -> None:
        self._lines, self._name, self.number = lines(blocks), name, 0

    def __iter__(self) -> _TextLines:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.number += 1
        where = f"{self._name}, line {self.number}"
        if line is None:
            raise BadRecord(f"{where}: {TOO_LONG}")
        if b"\0" in line:
            raise nul_byte(where)
        try:
            return (line.removeprefix(BYTE_ORDER_MARK) if self.number == 1 else line).decode() + "\n"
        except UnicodeDecodeError as error:
            raise wrong_bytes(error, where) from None


def first_records(file: SourceFile) -> Iterator[dict[str, Any]]:
    """Those in the first MiB; columns are parted by the delimiter that the header has most of."""
    content, _ = file.beginning(2**20)
    header, *rows = content.removeprefix(BYTE_ORDER_MARK).decode("utf-8", "replace").splitlines(keepends=True) or [""]
    delimiter = max(DELIMITERS[file.suffix], key=header.count)
    with suppress(csv.Error):
        names = next(csv.reader([header], delimiter=delimiter), [])
        for row in csv.reader(rows, delimiter=delimiter):
            yield dict(zip(names, row, strict=False))


def _format(suffix: str) -> Format:
    read: Read = partial(read_csv, delimiters=DELIMITERS[suffix])
    return Format((suffix,), streamed(read), first_records, first_texts(read), in_folders="alone")


FORMATS = tuple(map(_format, DELIMITERS))
