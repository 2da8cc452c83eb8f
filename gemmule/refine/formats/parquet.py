"""parquet: a column of texts among others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from gemmule.base.encodings import BadRecord, valid_blocks
from gemmule.base.errors import WorkError
from gemmule.refine.beginnings import Beginning
from gemmule.refine.compressed import unreadable
from gemmule.refine.formats import Format, OnInvalid
from gemmule.refine.records import LONG, LONGEST_RECORD, TOO_LONG, Texts, check_utf8, checked_text, no_field, taken
from gemmule.refine.source_file import SourceFile

ROWS_AT_ONCE, BYTES_AT_ONCE = 256, 2**23  # that are in memory


def read_parquet(file: SourceFile, field: str, on_read: Callable[[int], object], on_invalid: OnInvalid) -> Texts:
    """The column `field`; the position is the row, from 0.

    Raises BadRecord if there is no such column, or more than one; WorkError for a file that is cut short or damaged.
    """
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        size = file.size
        with file.seekable() as stream:
            table = ParquetFile(stream, buffer_size=2**20, page_checksum_verification=True)
            names = table.schema_arrow.names
            if names.count(field) != 1:
                many = f"{names.count(field)} columns are called {field!r}; let one keep the name"
                raise BadRecord(f"{file.name}: {many if field in names else no_field(field, names)}")
            row = 0
            for batch in table.iter_batches(batch_size=rows_at_once(table), columns=[field]):
                for value in batch.column(0):
                    yield row, taken(_value_text, value, f"{file.name}, row {row}: field {field!r}", on_invalid)
                    row += 1
                on_read(int(row / max(1, table.metadata.num_rows) * size))
    except pyarrow.ArrowException as error:
        raise WorkError(f"{file.name}: not parquet, or cut short or damaged ({error})") from None
    except OSError as error:
        if error.errno is None:  # pyarrow's own word for pages that can't be decoded
            raise WorkError(f"{file.name}: damaged ({error})") from None
        raise unreadable(file.name, error) from None


def rows_at_once(table: Any) -> int:
    """How many rows of a parquet file are in memory at a time: few of long ones."""
    sizes = [table.metadata.row_group(number) for number in range(table.metadata.num_row_groups)]
    longest = max((group.total_byte_size / max(1, group.num_rows) for group in sizes), default=0)
    return max(1, min(ROWS_AT_ONCE, int(BYTES_AT_ONCE / max(1, longest))))


def _value_text(value: Any, where: str, on_invalid: OnInvalid) -> str | bytes:
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
        if on_invalid is None:
            raise BadRecord(f"{where} is not UTF-8") from None
        return b"".join(valid_blocks([bytes(value.as_buffer())], on_invalid))
    return bytes(value.as_buffer())


def first_records(file: SourceFile) -> Iterator[dict[str, Any]]:
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        with file.seekable() as stream:
            table = ParquetFile(stream)
            for batch in table.iter_batches(batch_size=rows_at_once(table)):
                yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError):
        return


def first_rows(file: SourceFile, field: str, size: int, stem: Path) -> Beginning:
    """The first rows of the column `field`; what is wrong with the file is said by who reads all of it."""
    import pyarrow
    from pyarrow.parquet import ParquetFile, write_table

    stored = file.size
    if file.is_compressed or stored <= size // 4:  # text is compressed to no less than a quarter
        return Beginning(file, 1.0, stored)
    try:
        with ParquetFile(file.path) as table:
            batches, rows, length = [], 0, 0
            if table.schema_arrow.names.count(field) != 1:
                return Beginning(file, 1.0, stored)
            for batch in table.iter_batches(batch_size=rows_at_once(table), columns=[field]):
                batches.append(batch)
                rows, length = rows + len(batch), length + batch.nbytes
                if length >= size:
                    break
            if not batches or rows == table.metadata.num_rows:
                return Beginning(file, 1.0, length)
            part = stem.with_suffix(".parquet")
            write_table(pyarrow.Table.from_batches(batches), part)
            return Beginning(replace(file, path=part), rows / table.metadata.num_rows, length)
    except (pyarrow.ArrowException, OSError):
        return Beginning(file, 1.0, stored)


FORMATS = (Format((".parquet",), read_parquet, first_records, first_rows),)
