"""What a text is, before there is a recipe for it: its files, the field of its records, how much of it there is."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gemmule.data.compressed import read_beginning
from gemmule.data.sources import SourceFile, read_documents, resolve, seekable
from gemmule.errors import RequestError
from gemmule.estimate.text import sample
from gemmule.report.units import plain, size

LEAST = 50_000  # bytes: below, there is nothing to learn from and nothing to validate on
RECORDS = 100  # that are looked at for the field


@dataclass(frozen=True)
class Found:
    """A text and how it is read."""

    files: list[SourceFile]
    field: str | None  # of records; None: it is plain text
    other_fields: list[str]  # of records, with text too
    bytes: int
    documents: int


def look(sources: list[str], base: Path) -> Found:
    """Raises RequestError for what can't be read, for records without text, and for too little text."""
    files = resolve(sources, base)
    fields = _fields(files)
    field = fields[0] if fields else None
    with tempfile.TemporaryDirectory(prefix="gemmule-init-") as folder:
        some, share = sample(files, field or "text", Path(folder))
        lengths = [len(document.text.encode()) for file in some for document in read_documents(file, field or "text")]
    total = round(sum(lengths) / share)
    if total < LEAST:
        raise RequestError(
            f"{', '.join(sources)}: {plain(size(total))} of text is too little to learn from: {plain(size(LEAST))} are "
            "needed at least, and 200 kB or more are better"
        )
    return Found(files, field, fields[1:], total, round(len(lengths) / share))


def _fields(files: list[SourceFile]) -> list[str]:
    """The fields that hold text in the records of all files, that with most of it first; none for plain text.

    Raises RequestError if the files have none in common.
    """
    with_records = [file for file in files if file.format in (".jsonl", ".parquet")]
    counts: Counter[str] = Counter()
    shared: set[str] | None = None
    for file in with_records[:RECORDS]:
        lengths: Counter[str] = Counter()
        for record in _records(file):
            lengths.update({name: len(value) for name, value in record.items() if isinstance(value, str)})
        shared = set(lengths) if shared is None else shared & set(lengths)
        counts += lengths
    if shared is None:
        return []
    if not shared:
        raise RequestError(
            f"{with_records[0].name}: its records have no field of text that those of the other files have too; name "
            "files of one kind, and say which field holds the text by data.field"
        )
    if "text" in shared:  # the usual name
        counts["text"] = max(counts.values()) + 1
    return [name for name, _ in counts.most_common() if name in shared]


def _records(file: SourceFile) -> Iterator[dict[str, Any]]:
    """The first records of a file; what is wrong with it is said by those who read all of it."""
    if file.format == ".parquet":
        yield from _parquet_rows(file)
        return
    content, _ = read_beginning(file.path, file.name, 2**20)
    for line in content.split(b"\n")[:RECORDS]:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            yield record


def _parquet_rows(file: SourceFile) -> Iterator[dict[str, Any]]:
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        with seekable(file) as stream:
            batches = ParquetFile(stream).iter_batches(batch_size=RECORDS)
            yield from next(batches, pyarrow.RecordBatch.from_pylist([])).to_pylist()
    except (pyarrow.ArrowException, OSError):
        return
