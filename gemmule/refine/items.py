"""Evaluation sets: their items, each with every text in it (question, answer, choices in a list), whatever its fields.

Of formats of records an item is a record; of plain text, a document.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from gemmule.base.encodings import BYTE_ORDER_MARK, BadRecord, text_blocks
from gemmule.base.errors import WorkError
from gemmule.refine.formats import known_format
from gemmule.refine.formats.csv_tables import DELIMITERS
from gemmule.refine.formats.json_records import JsonStream
from gemmule.refine.formats.parquet import rows_at_once
from gemmule.refine.records import LONGEST_RECORD, TOO_LONG, lines, parse_json
from gemmule.refine.source_file import SourceFile
from gemmule.refine.sources import read_documents

Records = Iterator[tuple[int, Any]]


class Item(NamedTuple):
    set: str  # the file, by its name
    position: int  # in it, as in `Document`
    texts: list[str]


def read_items(file: SourceFile) -> Iterator[Item]:
    """The items of a file, in order; of an archive those of each file in it.

    Raises BadRecord for what can't be read, WorkError for a damaged file.
    """
    format = known_format(file)
    if format.members is not None:
        for member in format.members(file, lambda _: None):
            if isinstance(member, BadRecord):
                raise member
            yield from read_items(member)
        return
    records = READERS.get(file.suffix, _of_fields if format.has_fields else _documents)
    for position, record in records(file):
        yield Item(file.name, position, list(_texts(record)))


def _texts(value: Any) -> Iterator[str]:
    """All that is a text in a value: names too, for answers may be such."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, each in value.items():
            yield from _texts(name)
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)


def _jsonl(file: SourceFile) -> Records:
    for number, line in enumerate(lines(text_blocks(file.blocks(), file.name)), start=1):
        if line is None:
            raise BadRecord(f"{file.name}, line {number}: {TOO_LONG}")
        if content := (line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line).strip():
            try:
                yield number, parse_json(content.decode())
            except (ValueError, RecursionError) as error:
                raise BadRecord(f"{file.name}, line {number}: not JSON ({error})") from None


def _json(file: SourceFile) -> Records:
    """The elements of a list; of an object, the objects in its lists, and last what else it has."""
    stream = JsonStream(text_blocks(file.blocks(), file.name), file.name)
    number = 0
    while opening := stream.peek():
        rest: list[Any] = []
        if opening == "{":
            for _ in stream.names():
                for element in stream.elements() if stream.peek() == "[" else [stream.value()]:
                    if isinstance(element, dict):
                        number += 1
                        yield number, element
                    else:
                        rest.append(element)
        elif opening == "[":
            for element in stream.elements():
                number += 1
                yield number, element
        else:
            rest.append(stream.value())
        if rest:
            number += 1
            yield number, rest


def _table(file: SourceFile) -> Records:
    csv.field_size_limit(LONGEST_RECORD)
    begins = 1
    decoded = ((line or b"").decode() + "\n" for line in lines(text_blocks(file.blocks(), file.name)))
    try:
        header = next(decoded, "")
        rows = csv.reader(decoded, delimiter=max(DELIMITERS[file.suffix], key=header.count), strict=True)
        begins = 2
        for row in rows:
            if row:
                yield begins, row
            begins = rows.line_num + 2
    except (csv.Error, UnicodeDecodeError) as error:
        raise BadRecord(f"{file.name}, line {begins}: not csv ({error})") from None


def _parquet(file: SourceFile) -> Records:
    import pyarrow
    from pyarrow.parquet import ParquetFile

    row = 0
    try:
        with file.seekable() as stream:
            table = ParquetFile(stream, page_checksum_verification=True)
            for batch in table.iter_batches(batch_size=rows_at_once(table)):
                for record in batch.to_pylist():
                    yield row, record
                    row += 1
    except (pyarrow.ArrowException, OSError) as error:
        raise WorkError(f"{file.name}: not parquet, or cut short or damaged ({error})") from None


def _of_fields(file: SourceFile) -> Records:
    """Of any other format of records: the texts of each field, one field after the other."""
    format = known_format(file)
    assert format.records is not None
    for field in {name: None for record in format.records(file) for name in record}:
        for position, text in format.texts(file, field, int, None):
            if not isinstance(text, BadRecord):
                yield position, text.decode() if isinstance(text, bytes) else text


def _documents(file: SourceFile) -> Records:
    return ((document.position, document.text) for document in read_documents(file))


READERS: dict[str, Callable[[SourceFile], Records]] = {
    ".jsonl": _jsonl, ".json": _json, ".csv": _table, ".tsv": _table, ".parquet": _parquet,
}  # fmt: skip
