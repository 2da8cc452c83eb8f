"""The documents artifact: all the text of a recipe, in one parquet file, each document in its split.

- Which documents are for validation follows from the text alone: a document's sha256, read as a number from 0 to 1, is
  under `validation_fraction` or not. So the split stays when documents are added, and equal texts share a side.
- Neither side is ever empty.
- A source of weight 2.5 has each of its training documents twice, and half of them, by their digests, a third time;
  further copies stand after all documents, in their order. Weights don't touch the validation side.

`documents.parquet` has the columns text, source, position, split; `summary.json` the counts. What did not occur
(records that were cut, or skipped) is not in it.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from gemmule.base.artifact import write_json
from gemmule.base.errors import RequestError, WorkError
from gemmule.base.progress import PatientMeter
from gemmule.refine.formats.parquet import rows_at_once
from gemmule.refine.sources import Document, SourceFile, Tally, read_documents

Split = Literal["train", "validation"]
FILE = "documents.parquet"
GROUP_BYTES = 2**24  # in a row group, about: what is in memory at a time
COLUMNS = ("text", "source", "position", "split", "copies")  # the last one is not kept
ROW_BYTES = 200  # that a row takes in memory beside its text


@dataclass
class DocumentsSummary:
    """Counts of documents and of their text's bytes in UTF-8 on each side, and of what is not as it stood."""

    train_documents: int = 0
    train_bytes: int = 0
    validation_documents: int = 0
    validation_bytes: int = 0
    skipped: int = 0  # documents without text
    cut_records: int = 0  # long ones, each in several documents now
    bad_records: int = 0  # that were left out
    empty_files: int = 0  # that were left out
    first_bad: str = ""  # what was wrong with the first of these
    replaced: int = 0  # invalid bytes that became U+FFFD, and NUL bytes that were dropped
    left_members: int = 0  # of archives, that were left out: links, archives in archives
    first_left: str = ""  # the first of these
    copies: int = 0  # of training documents, by weights above 1; counted as documents too
    left_by_weight: int = 0  # training documents that weights below 1 left out

    def count_all(self, tally: Tally) -> DocumentsSummary:
        """With what was counted while reading."""
        return dataclasses.replace(
            self,
            skipped=tally.empty,
            cut_records=tally.cut,
            bad_records=tally.bad,
            empty_files=tally.empty_files,
            first_bad=tally.first_bad,
            replaced=tally.replaced,
            left_members=tally.left_members,
            first_left=tally.first_left,
        )

    @property
    def remarks(self) -> str:
        """What else there is to say of the documents; empty if nothing."""
        empty = f", {self.skipped:,} without text skipped" if self.skipped else ""
        cut = f", {self.cut_records:,} long records cut" if self.cut_records else ""
        replaced = f", {self.replaced:,} invalid bytes replaced" if self.replaced else ""
        copies = f", {self.copies:,} copies by weight" if self.copies else ""
        left = f", {self.left_by_weight:,} left out by weight" if self.left_by_weight else ""
        return empty + cut + replaced + copies + left

    @property
    def left_out(self) -> str:
        """What was skipped, counted, and the first of it; empty if nothing."""
        return Tally(
            bad=self.bad_records,
            empty_files=self.empty_files,
            first_bad=self.first_bad,
            left_members=self.left_members,
            first_left=self.first_left,
        ).left_out

    def as_json(self) -> dict[str, int | str]:
        counts = dataclasses.asdict(self)
        return {name: value for name, value in counts.items() if value or name in OF_EVERY_SUMMARY}


OF_EVERY_SUMMARY = ("train_documents", "train_bytes", "validation_documents", "validation_bytes", "skipped")


@dataclass
class _Extremes:
    """The smallest and the largest digest seen: enough to know whether there are two distinct documents."""

    smallest: bytes = b"\xff" * 33
    largest: bytes = b""
    summary: DocumentsSummary = dataclasses.field(default_factory=DocumentsSummary)


@dataclass(frozen=True)
class Reading:
    """The documents in some files, as a recipe has them read: in order, in a stream, as often as they are asked for."""

    files: Sequence[SourceFile]
    field: str = "text"  # that holds the text in records
    skip_bad: bool = False  # whether records that can't be taken, and empty files, are left out and counted
    invalid: Literal["refuse", "replace"] = "refuse"  # bytes that are no UTF-8

    def of(self, file: SourceFile, tally: Tally | None = None, extract: bool = True) -> Iterator[Document]:
        """Those in one file. Raises what `read_documents` raises."""
        return read_documents(file, self.field, tally, skip_bad=self.skip_bad, invalid=self.invalid, extract=extract)

    def documents(self, tally: Tally, extract: bool = True, title: str = "reading text") -> Iterator[Document]:
        """Says how far it is, if it takes long. Raises what `read_documents` raises."""
        sizes = [file.path.stat().st_size for file in self.files]
        with PatientMeter(title, sum(sizes)) as meter:
            behind = 0
            for file, size in zip(self.files, sizes, strict=True):
                for document in self.of(file, tally, extract):
                    yield document
                    meter.update(behind + tally.stored_bytes)
                behind += size
                tally.stored_bytes = 0
                meter.update(behind)


def write_documents(
    reading: Reading,
    validation_fraction: float,
    folder: Path,
    documents: Callable[[Tally], Iterable[Document]] | None = None,
) -> DocumentsSummary:
    """Writes what is read into `folder`, in a stream, and gives the counts; or `documents`, what became of it.

    If no document falls on the validation side, that with the smallest digest goes there; if all do, that with the
    largest goes to train.

    Raises RequestError for fewer than two distinct documents, and what `read_documents` raises.
    """
    folder.mkdir(parents=True, exist_ok=True)
    again = documents or reading.documents

    def by_number(digest: bytes) -> bool:
        return int.from_bytes(digest[:8], "big") / 2**64 < validation_fraction

    weights = {file.name: file.weight for file in reading.files if file.weight != 1}

    def write(is_validation: Callable[[bytes], bool]) -> _Extremes:
        tally = Tally()
        return _write(again(tally), tally, is_validation, folder / FILE, weights)

    seen = write(by_number)
    summary = seen.summary
    if seen.smallest >= seen.largest:
        raise RequestError(_too_few(summary, len(reading.files)))
    if summary.left_by_weight and not summary.train_documents:
        raise RequestError(
            f"data.sources: weights leave out all {summary.left_by_weight:,} documents for training: raise them"
        )
    if not summary.validation_documents:
        summary = write(lambda digest: digest == seen.smallest).summary
    elif not summary.train_documents:
        weights = {}  # there is one document, which stands once
        summary = write(lambda digest: digest != seen.largest).summary
    write_json(folder / "summary.json", summary.as_json())
    return summary


def _too_few(summary: DocumentsSummary, files: int) -> str:
    found = summary.train_documents + summary.validation_documents
    return (
        f"{found} document{'' if found == 1 else 's'} found in {files} file{'' if files == 1 else 's'}"
        f"{'' if found < 2 else ', all the same'}: at least 2 different ones are needed, one to validate on; add text "
        "(a text is cut into documents if it is longer than 64 kB)"
        + (f"; skipped: {summary.left_out}" if summary.left_out else "")
    )


def read_split(folder: Path, split: Split, title: str = "") -> Iterator[str]:
    """The texts of one side, in order; with a title, it is shown how far they are read, if that takes long.

    Raises WorkError if the file is missing or damaged.
    """
    import pyarrow
    from pyarrow.parquet import ParquetFile

    file = folder / FILE
    try:
        with ParquetFile(file, buffer_size=2**20, page_checksum_verification=True) as table:
            batches = table.iter_batches(batch_size=rows_at_once(table), columns=["text", "split"])
            rows = (zip(batch["text"].to_pylist(), batch["split"].to_pylist(), strict=True) for batch in batches)
            with PatientMeter(title, table.metadata.num_rows, "documents") as meter:
                for number, (text, side) in enumerate(chain.from_iterable(rows), start=1):
                    if side == split:
                        yield text
                    meter.update(number)
    except (pyarrow.ArrowException, OSError, KeyError) as error:
        raise WorkError(f"{file}: missing or damaged ({error}); make the documents again") from None


def _write(
    documents: Iterable[Document],
    tally: Tally,
    is_validation: Callable[[bytes], bool],
    file: Path,
    weights: Mapping[str, float],
) -> _Extremes:
    import pyarrow

    seen = _Extremes()
    is_repeated = max(weights.values(), default=1.0) > 1
    once = file.with_suffix(".once") if is_repeated else file
    with table_writer(once, COLUMNS if is_repeated else COLUMNS[:-1]) as writer:
        for rows in _groups(documents, is_validation, seen, weights):
            columns = list(zip(*rows, strict=True))[: len(writer.schema)]
            writer.write_table(pyarrow.table(columns, schema=writer.schema))
    if is_repeated:
        _write_copies(once, file, seen.summary)
        once.unlink()
    seen.summary = seen.summary.count_all(tally)
    return seen


@contextmanager
def table_writer(file: Path, columns: Iterable[str]) -> Iterator[Any]:
    """A parquet file of documents: texts, but for what is numbered or counted."""
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    numbers = {"position": pyarrow.int64(), "copies": pyarrow.int64()}
    schema = pyarrow.schema({name: numbers.get(name, pyarrow.string()) for name in columns})
    with ParquetWriter(
        file, schema, compression="zstd", use_dictionary=["source", "split"], write_page_checksum=True
    ) as writer:
        yield writer


def _write_copies(once: Path, file: Path, summary: DocumentsSummary) -> None:
    """Writes into `file` the documents in `once`, and then, in the same order, the second copies, the third, ..."""
    import pyarrow
    from pyarrow import compute
    from pyarrow.parquet import ParquetFile

    with ParquetFile(once, buffer_size=2**20) as stored, table_writer(file, COLUMNS[:-1]) as writer:
        round, found = 1, stored.metadata.num_rows
        while found:
            found, size, waiting = 0, 0, []
            for batch in stored.iter_batches(batch_size=rows_at_once(stored)):
                rows = batch.filter(compute.greater_equal(batch["copies"], round)).select(COLUMNS[:-1])
                waiting.append(rows)
                found, size = found + len(rows), size + rows.nbytes
                if round > 1:
                    summary.copies += len(rows)
                    summary.train_bytes += compute.sum(compute.binary_length(rows["text"])).as_py() or 0
                if size >= GROUP_BYTES:
                    writer.write_table(pyarrow.Table.from_batches(waiting))
                    size, waiting = 0, []
            if size:
                writer.write_table(pyarrow.Table.from_batches(waiting))
            round += 1
    summary.train_documents += summary.copies


def copies(source: str, digest: bytes, weights: Mapping[str, float]) -> int:
    """How often a training document stands there: its source's weight; of the fraction by its digest, by other bytes
    of it than the split. An archive's weight is that of all that is in it."""
    while source not in weights and source:
        source = source.rpartition("/")[0]
    weight = weights.get(source, 1.0)
    return int(weight) + (int.from_bytes(digest[8:16], "big") / 2**64 < weight % 1)


def _groups(
    documents: Iterable[Document],
    is_validation: Callable[[bytes], bool],
    seen: _Extremes,
    weights: Mapping[str, float],
) -> Iterator[list[tuple[str, str, int, Split, int]]]:
    """The rows (text, source, position, split, copies) of all documents, about GROUP_BYTES at a time; counts them in
    `seen`."""
    summary = seen.summary
    rows: list[tuple[str, str, int, Split, int]] = []
    size = 0
    for document in documents:
        text = document.text.encode()
        digest = hashlib.sha256(text).digest()
        seen.smallest, seen.largest = min(seen.smallest, digest), max(seen.largest, digest)
        split: Split = "validation" if is_validation(digest) else "train"
        times = copies(document.source, digest, weights) if weights and split == "train" else 1
        if times == 0:
            summary.left_by_weight += 1
            continue
        if split == "validation":
            summary.validation_documents += 1
            summary.validation_bytes += len(text)
        else:
            summary.train_documents += 1
            summary.train_bytes += len(text)
        rows.append((document.text, document.source, document.position, split, times))
        size += len(text) + ROW_BYTES
        if size >= GROUP_BYTES:
            yield rows
            rows, size = [], 0
    if rows:
        yield rows
