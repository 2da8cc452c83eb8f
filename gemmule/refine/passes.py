"""One pass over documents: some steps, each a judgement of one document, in any process; what came of it on disk.

A pass takes a batch of documents and leaves two files in its folder: the part (`NNNNNN.arrow`), and last the log of the
batch (`NNNNNN.json`), by which a resumed run knows that it is done.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from gemmule.base.artifact import write_json
from gemmule.refine.corpus import Part, is_part, write_part
from gemmule.refine.sources import Document, Tally, extracted
from gemmule.refine.steps.step import DocumentStep

SAMPLE = 400  # characters of a dropped document that the report may show
SAMPLES = 50  # of a batch, by each step

Mask = Callable[[str, str], str]  # personal data in a text of a language
Batch = tuple[int, Iterable[Document]]


@dataclass
class Log:
    """What a step did with the documents that came to it."""

    documents_in: int = 0
    documents_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    changed: int = 0  # documents
    counts: Counter[str] = field(default_factory=Counter)  # of what was changed or found, by kind
    seconds: float = 0.0  # of one core
    dropped: list[dict[str, Any]] = field(default_factory=list)
    cut: list[dict[str, Any]] = field(default_factory=list)  # documents changed by what is in others

    def drop(self, document: Document, reason: str, matched: str, mask: Mask, samples: int = SAMPLES) -> None:
        """Notes a dropped document; the first `samples` with the beginning of their text."""
        sample = mask(document.text, document.language)[:SAMPLE] if len(self.dropped) < samples else ""
        self.dropped.append(
            {
                "source": document.source,
                "position": document.position,
                "reason": reason,
                "matched": matched,
                "bytes": size(document.text),
                "sample": sample,
            }
        )

    def note_cut(self, document: Document) -> None:
        self.cut.append({"source": document.source, "position": document.position, "bytes": size(document.text)})

    def add(self, other: Mapping[str, Any]) -> None:
        """Adds up what `as_json` gave, but for who was dropped."""
        for name in ("documents_in", "documents_out", "bytes_in", "bytes_out", "changed", "seconds"):
            setattr(self, name, getattr(self, name) + other[name])
        self.counts.update(other["counts"])

    def as_json(self) -> dict[str, Any]:
        return self.__dict__ | {"counts": dict(self.counts)}


def size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def octave(length: int) -> int:
    """The power of two up to a length in bytes: how lengths are counted."""
    return 1 << max(0, length.bit_length() - 1)


@dataclass(frozen=True)
class Pass:
    """Sent to every process once; called with each batch, or with what an earlier pass left."""

    folder: Path
    steps: Sequence[DocumentStep]
    mask: Mask

    def log_file(self, number: int) -> Path:
        return self.folder / f"{number:06d}.json"

    def part_file(self, number: int) -> Path:
        return self.folder / f"{number:06d}.arrow"

    def __call__(self, batch: Batch) -> int:
        """Gives the number of documents that are left."""
        number, documents = batch
        logs = {step.name: Log() for step in self.steps}
        lengths: Counter[int] = Counter()
        pages = Tally()
        read = chain.from_iterable(extracted(document, pages) for document in documents)
        kept = [left for document in read if (left := self._one(document, logs, lengths)) is not None]
        write_part(self.part_file(number), kept)
        write_json(
            self.log_file(number),
            {
                "documents": len(kept),
                "steps": {name: log.as_json() for name, log in logs.items()},
                "pages": {"cut": pages.cut, "empty": pages.empty},
                "lengths": {str(length): count for length, count in lengths.items()},
            },
        )
        return len(kept)

    def _one(self, document: Document, logs: Mapping[str, Log], lengths: Counter[int]) -> Document | None:
        length = size(document.text)
        lengths[octave(length)] += 1
        for step in self.steps:
            log, began = logs[step.name], time.process_time()
            verdict = step.judge(document)
            log.seconds += time.process_time() - began
            log.documents_in += 1
            log.bytes_in += length
            log.counts.update(verdict.counts)
            left = verdict.document
            if left is None:
                log.drop(document, verdict.reason, verdict.matched, self.mask)
                return None
            if left.text is not document.text and left.text != document.text:
                length = size(left.text)
                log.changed += 1
                if step.learns:
                    log.note_cut(document)
            log.documents_out += 1
            log.bytes_out += length
            document = left
        return document

    def log(self, number: int) -> dict[str, Any]:
        """Of a batch that is done."""
        log: dict[str, Any] = json.loads(self.log_file(number).read_text(encoding="utf-8"))
        return log

    def is_done(self, number: int) -> bool:
        """Whether this run or an earlier one has done a batch."""
        try:
            self.log(number)
        except (FileNotFoundError, ValueError):  # not written, or only begun when the power went
            return False
        return is_part(self.part_file(number))

    def part(self, number: int, documents: int) -> Part:
        return Part(self.part_file(number), documents)
