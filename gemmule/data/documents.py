"""The documents artifact: all the text of a recipe, in one parquet file, each document in its split.

- Which documents are for validation follows from the text alone: a document's sha256, read as a number from 0 to 1, is
  under `validation_fraction` or not. So the split stays when documents are added, and equal texts share a side.
- Neither side is ever empty.

`documents.parquet` has the columns text, source, position, split; `summary.json` the counts.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gemmule.artifact import write_json
from gemmule.data.sources import SourceFile, read_documents
from gemmule.errors import RequestError, WorkError

Split = Literal["train", "validation"]
FILE = "documents.parquet"
GROUP_BYTES = 2**24  # in a row group, about: what is in memory at a time
ROW_BYTES = 200  # that a row takes in memory beside its text


@dataclass
class DocumentsSummary:
    """Counts of documents and of their text's bytes in UTF-8 on each side, and of records without text."""

    train_documents: int = 0
    train_bytes: int = 0
    validation_documents: int = 0
    validation_bytes: int = 0
    skipped: int = 0


@dataclass
class _Extremes:
    """The smallest and the largest digest seen: enough to know whether there are two distinct documents."""

    smallest: bytes = b"\xff" * 33
    largest: bytes = b""
    summary: DocumentsSummary = dataclasses.field(default_factory=DocumentsSummary)


def write_documents(files: list[SourceFile], field: str, validation_fraction: float, folder: Path) -> DocumentsSummary:
    """Reads `files` in order into `folder`, in a stream, and gives the counts.

    If no document falls on the validation side, that with the smallest digest goes there; if all do, that with the
    largest goes to train. `field` is the one that holds the text in jsonl and parquet.

    Raises RequestError for fewer than two distinct documents, and what `read_documents` raises.
    """
    folder.mkdir(parents=True, exist_ok=True)

    def by_number(digest: bytes) -> bool:
        return int.from_bytes(digest[:8], "big") / 2**64 < validation_fraction

    seen = _write(files, field, by_number, folder / FILE)
    summary = seen.summary
    if seen.smallest >= seen.largest:
        found = summary.train_documents + summary.validation_documents
        distinct = "" if found < 2 else ", all the same"
        raise RequestError(
            f"{found} document{'' if found == 1 else 's'} found in {len(files)} file{'' if len(files) == 1 else 's'}"
            f"{distinct}: at least 2 different ones are needed, one to validate on; add text "
            "(a txt or md file is cut into documents if it is longer than 64 kB)"
        )
    if not summary.validation_documents:
        summary = _write(files, field, lambda digest: digest == seen.smallest, folder / FILE).summary
    elif not summary.train_documents:
        summary = _write(files, field, lambda digest: digest != seen.largest, folder / FILE).summary
    write_json(folder / "summary.json", dataclasses.asdict(summary))
    return summary


def read_split(folder: Path, split: Split) -> Iterator[str]:
    """The texts of one side, in order. Raises WorkError if the file is missing or damaged."""
    import pyarrow
    from pyarrow.parquet import ParquetFile

    file = folder / FILE
    try:
        with ParquetFile(file, buffer_size=2**20, page_checksum_verification=True) as table:
            for batch in table.iter_batches(batch_size=256, columns=["text", "split"]):
                for text, side in zip(batch["text"].to_pylist(), batch["split"].to_pylist(), strict=True):
                    if side == split:
                        yield text
    except (pyarrow.ArrowException, OSError, KeyError) as error:
        raise WorkError(f"{file}: missing or damaged ({error}); make the documents again") from None


def _write(files: Iterable[SourceFile], field: str, is_validation: Callable[[bytes], bool], file: Path) -> _Extremes:
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    schema = pyarrow.schema(
        {"text": pyarrow.string(), "source": pyarrow.string(), "position": pyarrow.int64(), "split": pyarrow.string()}
    )
    seen = _Extremes()
    with ParquetWriter(
        file, schema, compression="zstd", use_dictionary=["source", "split"], write_page_checksum=True
    ) as writer:
        for rows in _groups(files, field, is_validation, seen):
            texts, sources, positions, splits = zip(*rows, strict=True)
            columns = {"text": texts, "source": sources, "position": positions, "split": splits}
            writer.write_table(pyarrow.table(columns, schema=schema))
    return seen


def _groups(
    files: Iterable[SourceFile], field: str, is_validation: Callable[[bytes], bool], seen: _Extremes
) -> Iterator[list[tuple[str, str, int, Split]]]:
    """The rows (text, source, position, split) of all documents, about GROUP_BYTES at a time; counts them in `seen`."""
    summary = seen.summary

    def skip(_: int) -> None:
        summary.skipped += 1

    rows: list[tuple[str, str, int, Split]] = []
    size = 0
    for file in files:
        for document in read_documents(file, field, skip):
            text = document.text.encode()
            digest = hashlib.sha256(text).digest()
            seen.smallest, seen.largest = min(seen.smallest, digest), max(seen.largest, digest)
            split: Split = "validation" if is_validation(digest) else "train"
            if split == "validation":
                summary.validation_documents += 1
                summary.validation_bytes += len(text)
            else:
                summary.train_documents += 1
                summary.train_bytes += len(text)
            rows.append((document.text, document.source, document.position, split))
            size += len(text) + ROW_BYTES
            if size >= GROUP_BYTES:
                yield rows
                rows, size = [], 0
    if rows:
        yield rows
