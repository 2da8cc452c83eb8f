"""Records of a file, one after the other, and the text in a field of each: jsonl, json, csv, tsv, parquet.

A reader gives (position, text), a very long text as its bytes in UTF-8; in place of a text a BadRecord, where a record
can't be taken and the next one may be. What spoils the rest of the file is raised. Nothing larger than a record is in
memory, and no record over LONGEST_RECORD is read.
"""

from __future__ import annotations

import codecs
import csv
import json
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any

from gemmule.base.encodings import BYTE_ORDER_MARK, BadRecord, nul_byte, wrong_bytes

Texts = Iterator[tuple[int, str | bytes | BadRecord]]
LONGEST_RECORD = 2**28  # bytes
TOO_LONG = f"longer than {LONGEST_RECORD // 10**6} MB, too long for a record: put long texts into txt files"
LONG = 2**22  # bytes of a text that is better kept as such: one emoji in it makes four of each character in a str
ROWS_AT_ONCE, BYTES_AT_ONCE = 256, 2**23  # of parquet
DECODER, OF_LONG_NUMBERS = json.JSONDecoder(strict=False), json.JSONDecoder(strict=False, parse_int=float)
DELIMITERS = {".csv": ",;\t|", ".tsv": "\t,;|"}


def read_jsonl(blocks: Iterable[bytes], name: str, field: str) -> Texts:
    """One JSON object a line; the position is the line's number, from 1. Lines end at a newline byte."""
    for number, line in enumerate(lines(blocks), start=1):
        where = f"{name}, line {number}"
        if line is None:
            yield number, BadRecord(f"{where}: {TOO_LONG}")
        elif content := (line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line).strip():
            line = b""  # a long one is not kept beside its text
            yield number, taken(_object_text, content, field, where)


def lines(blocks: Iterable[bytes]) -> Iterator[bytes | None]:
    """The lines, without the newline byte that ends each; None for one over LONGEST_RECORD."""
    pending: list[bytes] = []
    length = 0
    for block in blocks:
        head, *rest = block.split(b"\n")
        length += len(head)
        pending = [*pending, head] if length <= LONGEST_RECORD else []
        for line in rest:
            yield b"".join(pending) if length <= LONGEST_RECORD else None
            pending, length = [line], len(line)
    if length:
        yield b"".join(pending) if length <= LONGEST_RECORD else None


def _object_text(content: bytes, field: str, where: str) -> str | bytes:
    if b"\0" in content:
        raise nul_byte(where)
    if len(content) >= LONG and (text := _long_text(content, field)) is not None:
        return text
    try:
        record = parse_json(content.decode())
    except UnicodeDecodeError as error:
        raise wrong_bytes(error, where) from None
    except (ValueError, RecursionError) as error:
        raise BadRecord(f"{where}: not JSON ({_reason(error)}); jsonl holds one JSON object a line") from None
    if not isinstance(record, dict):
        raise BadRecord(f"{where}: not a JSON object but {kind(record)}; jsonl holds one JSON object a line")
    return text_in(record, field, where)


def _long_text(content: bytes, field: str) -> bytes | None:
    """The text of a long record, parsed as Latin-1, where each byte is a character and takes no more room than that.

    None where that can't be (escaped characters are no bytes), or where something is wrong, which the usual way says.
    """
    if b"\\u" in content:
        return None
    try:
        text = parse_json(content.decode("latin-1"))[field.encode().decode("latin-1")].encode("latin-1")
        check_utf8(text)
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return None
    return bytes(text)


def check_utf8(text: bytes | memoryview) -> None:
    """Raises UnicodeDecodeError; keeps no more than a block of the text beside it."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    for start in range(0, len(text), 2**20):
        decoder.decode(text[start : start + 2**20])
    decoder.decode(b"", final=True)


def parse_json(text: str) -> Any:
    """Not strict: a form feed or tab written raw within a string is a fault of form that leaves no doubt; and a number
    of any length is a number. Raises ValueError or RecursionError."""
    return tolerantly(lambda decoder: decoder.decode(text))


def tolerantly(decode: Callable[[json.JSONDecoder], Any]) -> Any:
    try:
        return decode(DECODER)
    except json.JSONDecodeError:
        raise
    except ValueError:  # Python turns no more than 4,300 digits into an int
        return decode(OF_LONG_NUMBERS)


def _reason(error: Exception) -> str:
    return f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)


def text_in(record: dict[str, Any], field: str, where: str) -> str:
    """The text in a field of a record. Raises BadRecord."""
    if field not in record:
        raise BadRecord(f"{where}: {no_field(field, record)}")
    return checked_text(record[field], f"{where}: field {field!r}")


def checked_text(value: Any, where: str) -> str:
    """`value`, if it is a text that can be encoded. Raises BadRecord."""
    if not isinstance(value, str):
        raise BadRecord(f"{where} is not a text but {kind(value)}")
    try:
        if not value.isascii():
            value.encode()
    except UnicodeEncodeError as error:
        lone = f"\\u{ord(value[error.start]):04x}"
        raise BadRecord(f"{where} holds half a surrogate pair ({lone}), which is not text") from None
    return value


def no_field(field: str, names: Iterable[str]) -> str:
    there = ", ".join(sorted(names)) or "none"
    return f"has no field {field!r} (its fields: {there}); say which one holds the text by data.field"


def kind(value: Any) -> str:
    """What a value that is no text is called."""
    names = {type(None): "null", bool: "true or false", str: "a text", list: "a list", dict: "an object"}
    return names.get(type(value), "binary data" if isinstance(value, bytes) else "a number")


def taken(text: Callable[..., str | bytes], *arguments: Any) -> str | bytes | BadRecord:
    """What a function gives, or what it raises of a record that can't be taken."""
    try:
        return text(*arguments)
    except BadRecord as error:
        return error


# --- csv ----------------------------------------------------------------------------------------------------------


def read_csv(blocks: Iterable[bytes], name: str, field: str, extension: str) -> Texts:
    """Rows under a line of column names, quoted as RFC 4180 and spreadsheets do; the position is the line, from 1.

    Columns are parted by whichever of comma, semicolon, tab and bar makes one of them the field.
    """
    csv.field_size_limit(LONGEST_RECORD)
    decoded = _TextLines(blocks, name)
    delimiter, columns = _columns(next(decoded, ""), field, DELIMITERS[extension], f"{name}, line 1")
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


def column_names(header: str, extension: str) -> tuple[str, list[str]]:
    """The delimiter that a header has most of, and its column names: to find out which of them holds the text."""
    delimiter = max(DELIMITERS[extension], key=header.count)
    return delimiter, next(csv.reader([header], delimiter=delimiter), [])


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


# --- parquet ------------------------------------------------------------------------------------------------------


def read_parquet(stream: IO[bytes], name: str, field: str, on_share: Callable[[float], None]) -> Texts:
    """The column `field`; the position is the row, from 0. `on_share` is told what share of the rows is read.

    Raises BadRecord if there is no such column, or more than one.
    """
    from pyarrow.parquet import ParquetFile

    table = ParquetFile(stream, buffer_size=2**20, page_checksum_verification=True)
    names = table.schema_arrow.names
    if names.count(field) != 1:
        many = f"{names.count(field)} columns are called {field!r}; let one keep the name"
        raise BadRecord(f"{name}: {many if field in names else no_field(field, names)}")
    row = 0
    for batch in table.iter_batches(batch_size=rows_at_once(table), columns=[field]):
        for value in batch.column(0):
            yield row, taken(_value_text, value, f"{name}, row {row}: field {field!r}")
            row += 1
        on_share(row / max(1, table.metadata.num_rows))


def rows_at_once(table: Any) -> int:
    """How many rows of a parquet file are in memory at a time: few of long ones."""
    sizes = [table.metadata.row_group(number) for number in range(table.metadata.num_row_groups)]
    longest = max((group.total_byte_size / max(1, group.num_rows) for group in sizes), default=0)
    return max(1, min(ROWS_AT_ONCE, int(BYTES_AT_ONCE / max(1, longest))))


def _value_text(value: Any, where: str) -> str | bytes:
    import pyarrow

    is_text = value.is_valid and (pyarrow.types.is_string(value.type) or pyarrow.types.is_large_string(value.type))
    size = len(value.as_buffer()) if is_text else 0
    if size > LONGEST_RECORD:
        raise BadRecord(f"{where}: {TOO_LONG}")
    try:
        if size < LONG:
            return checked_text(value.as_py(), where)
        check_utf8(memoryview(value.as_buffer()))
    except UnicodeDecodeError:
        raise BadRecord(f"{where} is not UTF-8") from None
    return bytes(value.as_buffer())
