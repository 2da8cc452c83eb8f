"""Documents that a model is to score before the last ones are dropped: all that the other steps of the refinery leave.

`documents.parquet` has the columns text, source, position, language; `tally.json` what was counted in reading. Beside
them lie the record of those steps, and what they dropped. Once there are scores, `Judged` makes the same of the rest.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from gemmule.base.artifact import write_json
from gemmule.base.errors import WorkError
from gemmule.base.progress import PatientMeter
from gemmule.refine.documents import FILE, GROUP_BYTES, ROW_BYTES, table_writer
from gemmule.refine.formats.parquet import rows_at_once
from gemmule.refine.passes import Log, Mask, size
from gemmule.refine.refinery import (
    CUT,
    DROPPED,
    LISTED,
    RECORD,
    Outcome,
    by_language,
    described,
    recorded,
    write_dropped,
)
from gemmule.refine.sources import Document, Tally
from gemmule.refine.steps.step import Figure

COLUMNS = ("text", "source", "position", "language")
TALLY = "tally.json"


def write_candidates(documents: Iterable[Document], tally: Tally, folder: Path) -> None:
    """Writes documents into `folder`, and then what was counted in reading them."""
    import pyarrow

    with table_writer(folder / FILE, COLUMNS) as file:
        for rows in _groups(documents):
            file.write_table(pyarrow.table(list(zip(*rows, strict=True)), schema=file.schema))
    write_json(folder / TALLY, asdict(tally))


def read_candidates(folder: Path, title: str = "") -> Iterator[Document]:
    """The documents, in order; with a title, it is shown how far they are read, if that takes long.

    Raises WorkError if the file is missing or damaged.
    """
    import pyarrow
    from pyarrow.parquet import ParquetFile

    file = folder / FILE
    try:
        with ParquetFile(file, buffer_size=2**20, page_checksum_verification=True) as table:
            batches = table.iter_batches(batch_size=rows_at_once(table), columns=list(COLUMNS))
            rows = (zip(*(batch[name].to_pylist() for name in COLUMNS), strict=True) for batch in batches)
            with PatientMeter(title, table.metadata.num_rows, "documents") as meter:
                for number, row in enumerate(chain.from_iterable(rows), start=1):
                    yield Document(*row)
                    meter.update(number)
    except (pyarrow.ArrowException, OSError, KeyError) as error:
        raise WorkError(f"{file}: missing or damaged ({error}); make the candidates again") from None


def read_places(folder: Path) -> Iterator[str]:
    """Where each candidate stands, in order: `Document.place`."""
    from pyarrow import parquet

    table = parquet.read_table(folder / FILE, columns=["source", "position"])
    for source, position in zip(*(column.to_pylist() for column in table.columns), strict=True):
        yield Document("", source, position).place


def read_bytes(folder: Path) -> int:
    """Of the text of all candidates."""
    record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    return sum(int(of_language["bytes"]) for of_language in record["languages"].values())


def read_tally(folder: Path) -> Tally:
    return Tally(**json.loads((folder / TALLY).read_text(encoding="utf-8")))


@dataclass(frozen=True)
class Judged:
    """Candidates of which some are dropped."""

    folder: Path  # of the candidates
    reason: Callable[[int], str]  # for which a document goes, by its number; empty: it stays

    def __iter__(self) -> Iterator[Document]:
        """Those that stay, in order."""
        for number, document in enumerate(read_candidates(self.folder)):
            if not self.reason(number):
                yield document

    def write_record(
        self, step: str, facts: Mapping[str, Figure], mask: Mask, folder: Path, settings: Mapping[str, Any]
    ) -> None:
        """The record of all steps, this the last one, into `folder`. `mask` hides personal data in samples."""
        began, log = time.perf_counter(), Log()
        for number, document in enumerate(read_candidates(self.folder)):
            length, reason = size(document.text), self.reason(number)
            log.documents_in += 1
            log.bytes_in += length
            if reason:
                log.drop(document, reason, "", mask, LISTED)
            else:
                log.documents_out += 1
                log.bytes_out += length
        log.seconds = time.perf_counter() - began
        rows, log.dropped = log.dropped, []
        outcome = Outcome(step, log, facts, rows.__iter__)
        languages, texts, left = described(self)
        record: dict[str, Any] = json.loads((self.folder / RECORD).read_text(encoding="utf-8"))
        record["settings"] = recorded(settings)
        record["steps"].append(outcome.as_json())
        record["languages"] = by_language(languages, texts)
        record["lengths"]["refined"] = sorted(left.items())
        write_json(folder / RECORD, record)
        write_dropped(folder / DROPPED, [outcome], self.folder / DROPPED)
        shutil.copyfile(self.folder / CUT, folder / CUT)


def _groups(documents: Iterable[Document]) -> Iterator[list[tuple[str, str, int, str]]]:
    rows: list[tuple[str, str, int, str]] = []
    length = 0
    for document in documents:
        rows.append((document.text, document.source, document.position, document.language))
        length += size(document.text) + ROW_BYTES
        if length >= GROUP_BYTES:
            yield rows
            rows, length = [], 0
    if rows:
        yield rows
