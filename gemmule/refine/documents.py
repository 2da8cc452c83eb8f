"""The documents artifact: all the text of a recipe, in one parquet file, each document in its split.

- Which documents are for validation follows from the text alone: a document's sha256, read as a number from 0 to 1, is
  under `validation_fraction` or not. So the split stays when documents are added, and equal texts share a side.
- Neither side is ever empty.

`documents.parquet` has the columns text, source, position, split; `summary.json` the counts. What did not occur
(records that were cut, or skipped) is not in it.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal

from gemmule.base.artifact import write_json
from gemmule.base.errors import RequestError, WorkError
from gemmule.base.progress import PatientMeter
from gemmule.refine.formats.parquet import rows_at_once
from gemmule.refine.sources import Document, SourceFile, Tally, read_documents

Split = Literal["train", "validation"]
FILE = "documents.parquet"
GROUP_BYTES = 2**24  # in a row group, about: what is in memory at a time
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

    def count_all(self, tally: Tally) -> DocumentsSummary:
        """With what was counted while reading."""
        return dataclasses.replace(
            self,
            skipped=tally.empty,
            cut_records=tally.cut,
            bad_records=tally.bad,
            empty_files=tally.empty_files,
            first_bad=tally.first_bad,
        )

    @property
    def remarks(self) -> str:
        """What else there is to say of the documents; empty if nothing."""
        empty = f", {self.skipped:,} without text skipped" if self.skipped else ""
        cut = f", {self.cut_records:,} long records cut" if self.cut_records else ""
        return empty + cut

    @property
    def left_out(self) -> str:
        """What was skipped, counted, and the first of it; empty if nothing."""
        return Tally(bad=self.bad_records, empty_files=self.empty_files, first_bad=self.first_bad).left_out

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


def write_documents(
    files: list[SourceFile], field: str, validation_fraction: float, folder: Path, *, skip_bad: bool = False
) -> DocumentsSummary:
    """Reads `files` in order into `folder`, in a stream, and gives the counts.

    If no document falls on the validation side, that with the smallest digest goes there; if all do, that with the
    largest goes to train. `field` is the one that holds the text in records. With `skip_bad`, records that can't be
    taken and empty files are left out, and counted.

    Raises RequestError for fewer than two distinct documents, and what `read_documents` raises.
    """
    folder.mkdir(parents=True, exist_ok=True)

    def by_number(digest: bytes) -> bool:
        return int.from_bytes(digest[:8], "big") / 2**64 < validation_fraction

    def write(is_validation: Callable[[bytes], bool]) -> _Extremes:
        tally = Tally()
        return _write(_documents(files, field, skip_bad, tally), tally, is_validation, folder / FILE)

    seen = write(by_number)
    summary = seen.summary
    if seen.smallest >= seen.largest:
        raise RequestError(_too_few(summary, len(files)))
    if not summary.validation_documents:
        summary = write(lambda digest: digest == seen.smallest).summary
    elif not summary.train_documents:
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


def _documents(files: list[SourceFile], field: str, skip_bad: bool, tally: Tally) -> Iterator[Document]:
    """All documents; says how far it is, if it takes long."""
    sizes = [file.path.stat().st_size for file in files]
    with PatientMeter("reading text", sum(sizes)) as meter:
        behind = 0
        for file, size in zip(files, sizes, strict=True):
            for document in read_documents(file, field, tally, skip_bad=skip_bad):
                yield document
                meter.update(behind + tally.stored_bytes)
            behind += size
            tally.stored_bytes = 0
            meter.update(behind)


def _write(
    documents: Iterable[Document], tally: Tally, is_validation: Callable[[bytes], bool], file: Path
) -> _Extremes:
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    schema = pyarrow.schema(
        {"text": pyarrow.string(), "source": pyarrow.string(), "position": pyarrow.int64(), "split": pyarrow.string()}
    )
    seen = _Extremes()
    with ParquetWriter(
        file, schema, compression="zstd", use_dictionary=["source", "split"], write_page_checksum=True
    ) as writer:
        for rows in _groups(documents, is_validation, seen):
            texts, sources, positions, splits = zip(*rows, strict=True)
            columns = {"text": texts, "source": sources, "position": positions, "split": splits}
            writer.write_table(pyarrow.table(columns, schema=schema))
    seen.summary = seen.summary.count_all(tally)
    return seen


def _groups(
    documents: Iterable[Document], is_validation: Callable[[bytes], bool], seen: _Extremes
) -> Iterator[list[tuple[str, str, int, Split]]]:
    """The rows (text, source, position, split) of all documents, about GROUP_BYTES at a time; counts them in `seen`."""
    summary = seen.summary
    rows: list[tuple[str, str, int, Split]] = []
    size = 0
    for document in documents:
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
