"""The refinery: documents through steps, in passes over parts on disk, and a record of what became of them.

    sources -> [steps that judge one document] -> parts -> [a step over all of them] -> parts -> [steps ...] -> parts

Passes run in several processes and give the same documents in the same order in any number of them. What is in memory
is a batch for each process, and what steps over all documents keep of each. An interrupted pass resumes with the first
batch that is not done: batches depend on the text alone.
"""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any

from gemmule.base.artifact import write_json
from gemmule.base.errors import RequestError
from gemmule.base.processes import Workers
from gemmule.base.progress import PatientMeter
from gemmule.refine.corpus import Corpus, Part
from gemmule.refine.passes import Log, Mask, Pass, octave, size
from gemmule.refine.sources import Document
from gemmule.refine.steps.step import CorpusStep, DocumentStep, Figure, Step

RECORD, DROPPED, CUT = "refinery.json", "dropped.parquet", "cut.parquet"
BATCH_BYTES = 2**21  # of text, about
LISTED = 1000  # dropped documents of a step that the record lists
Row = dict[str, Any]  # of a dropped document


@dataclass
class Outcome:
    """What one step did with all documents."""

    name: str
    log: Log
    facts: Mapping[str, Figure]
    rows: Callable[[], Iterator[Row]]  # of the documents that it dropped, in order
    cut: Callable[[], Iterator[Row]] = lambda: iter(())  # of those that it changed for what is in others

    def as_json(self) -> dict[str, Any]:
        shown = ("source", "position", "reason", "matched")
        dropped = [{name: row[name] for name in shown} for row in islice(self.rows(), LISTED)]
        counted = self.log.as_json()
        del counted["cut"]
        return {"name": self.name, **counted, "facts": dict(self.facts), "dropped": dropped}


@dataclass
class Refined:
    """The documents that are left, and what became of the others."""

    corpus: Corpus
    outcomes: list[Outcome]
    raw_lengths: Counter[int] = field(default_factory=Counter)
    pages: Counter[str] = field(default_factory=Counter)  # of which main text was found: "cut" into several, or "empty"

    def write(self, folder: Path, settings: Mapping[str, Any] = {}) -> dict[str, Any]:
        """The record, as `refinery.json` and with all dropped documents in `dropped.parquet`."""
        languages, lengths = Counter[str](), Counter[int]()
        texts = Counter[str]()
        for of_part in self.corpus.map(described):
            languages.update(of_part[0])
            texts.update(of_part[1])
            lengths.update(of_part[2])
        record = {
            "settings": recorded(settings),
            "steps": [outcome.as_json() for outcome in self.outcomes],
            "languages": by_language(languages, texts),
            "lengths": {"raw": sorted(self.raw_lengths.items()), "refined": sorted(lengths.items())},
        }
        write_json(folder / RECORD, record)
        write_dropped(folder / DROPPED, self.outcomes)
        _write_cut(folder / CUT, self.outcomes)
        return record


def refine(
    documents: Iterable[Document],
    steps: Sequence[Step],
    folder: Path,
    workers: Workers,
    mask: Mask,
) -> Refined:
    """Takes documents through all steps; `folder` holds what is between them, and what a resumed run goes on from.

    `mask` hides personal data in samples of what is dropped.

    Raises RequestError if no document is left, naming the step that dropped the last ones.
    """
    refined = Refined(Corpus([], folder), [])
    for number, group in enumerate(_groups(steps)):
        step = group[0] if group else None
        if isinstance(step, CorpusStep):
            _decide(refined, step, mask)
        else:
            judges = [step for step in group if isinstance(step, DocumentStep)]
            _pass(refined, judges, folder / f"{number:02d}", workers, mask, documents if number == 0 else None)
        _refuse_nothing(refined)
    return refined


def _groups(steps: Sequence[Step]) -> list[list[Step]]:
    """Steps that go in one pass; the first pass, which may be without any, reads the sources."""
    groups: list[list[Step]] = [[]]
    for step in steps:
        last = groups[-1]
        alone = isinstance(step, CorpusStep) or step.learns or (last and isinstance(last[0], CorpusStep))
        if alone:
            groups.append([step])
        else:
            last.append(step)
    return groups


def _pass(
    refined: Refined,
    steps: list[DocumentStep],
    folder: Path,
    workers: Workers,
    mask: Mask,
    documents: Iterable[Document] | None,
) -> None:
    """All documents through some steps; those of `documents` in the first pass, else what the pass before left."""
    folder.mkdir(parents=True, exist_ok=True)
    for step in steps:
        step.prepare(folder, refined.corpus if step.learns else None)
    work = Pass(folder, steps, mask)
    numbers = count()
    batches = _batches(documents) if documents is not None else refined.corpus.parts
    waiting = ((number, batch) for batch in batches if not work.is_done(number := next(numbers)))
    title = "" if documents is not None else f"refining: {steps[0].name.replace('_', ' ')}"
    with PatientMeter(title, len(refined.corpus.parts), "parts") as parts:
        for done, _ in enumerate(workers.in_order(work, waiting), start=1):
            parts.update(done)
    made = range(next(numbers))
    logs = {step.name: Log() for step in steps}
    found: list[Part] = []
    for number in made:
        log = work.log(number)
        found.append(work.part(number, log["documents"]))
        for name, of_step in log["steps"].items():
            logs[name].add(of_step)
        if documents is not None:
            refined.pages.update(log["pages"])
            refined.raw_lengths.update({int(length): n for length, n in log["lengths"].items()})
    refined.corpus = Corpus(found, folder, workers.in_order)
    for step in steps:
        dropped, cut = (partial(_rows, work, step.name, made, kind) for kind in ("dropped", "cut"))
        refined.outcomes.append(Outcome(step.name, logs[step.name], step.facts(), dropped, cut))


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    length = 0
    for document in documents:
        batch.append(document)
        length += size(document.text)
        if length >= BATCH_BYTES:
            yield batch
            batch, length = [], 0
    if batch:
        yield batch


def _rows(work: Pass, step: str, numbers: Iterable[int], kind: str) -> Iterator[Row]:
    for number in numbers:
        yield from work.log(number)["steps"][step][kind]


def _decide(refined: Refined, step: CorpusStep, mask: Mask) -> None:
    """A step over all documents."""
    began = time.perf_counter()
    corpus = refined.corpus
    decisions = step.decide(corpus)
    last = refined.outcomes[-1].log if refined.outcomes else None
    before = last.bytes_out if last is not None else sum(size(document.text) for document in corpus)
    log = Log(len(corpus), len(corpus) - len(decisions.dropped), before, before, len(decisions.changed))
    log.counts.update(decisions.counts)
    gone = {drop.number for drop in decisions.dropped}
    for drop in decisions.dropped:
        document = corpus[drop.number]
        log.drop(document, drop.reason, drop.matched, mask, LISTED)
        log.bytes_out -= size(document.text)
    for number in decisions.changed:
        if number not in gone:
            log.note_cut(corpus[number])
            log.bytes_out += size(decisions.changed[number]) - size(corpus[number].text)
    if decisions.changed:
        corpus = corpus.with_texts(decisions.changed, step.name)
    refined.corpus = corpus.without(sorted(gone)) if gone else corpus
    log.seconds = time.perf_counter() - began
    (dropped, log.dropped), (cut, log.cut) = (log.dropped, []), (log.cut, [])
    refined.outcomes.append(Outcome(step.name, log, step.facts(), dropped.__iter__, cut.__iter__))


def _refuse_nothing(refined: Refined) -> None:
    if len(refined.corpus) or not any(outcome.log.documents_in for outcome in refined.outcomes):
        return
    first = refined.outcomes[0].log.documents_in
    last = next(outcome for outcome in refined.outcomes if not outcome.log.documents_out)
    reasons = Counter(row["reason"].split(":")[0] for row in last.rows())
    why = ", ".join(f"{reason} ({number:,})" for reason, number in reasons.most_common(3))
    raise RequestError(
        f"refine: no document is left of {first:,}: the last {last.log.documents_in:,} were dropped by {last.name}: "
        f"{why}; tune or turn off the step in [refine], or see --explain"
    )


def described(documents: Iterable[Document]) -> tuple[Counter[str], Counter[str], Counter[int]]:
    """The documents of each language, their bytes, and how many are of each length."""
    languages, texts, lengths = Counter[str](), Counter[str](), Counter[int]()
    for document in documents:
        length = size(document.text)
        languages[document.language] += 1
        texts[document.language] += length
        lengths[octave(length)] += 1
    return languages, texts, lengths


def recorded(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those of [refine]."""
    return {key: value for key, value in settings.items() if key.startswith("refine.")}


def by_language(languages: Counter[str], texts: Counter[str]) -> dict[str, dict[str, int]]:
    """As the record has them, the most frequent first."""
    return {name: {"documents": number, "bytes": texts[name]} for name, number in languages.most_common()}


def _write_cut(file: Path, outcomes: Iterable[Outcome]) -> None:
    """The documents that steps changed for what is in others, so that --explain can tell."""
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    text, number = pyarrow.string(), pyarrow.int64()
    schema = pyarrow.schema({"step": text, "source": text, "position": number, "bytes": number})
    with ParquetWriter(file, schema, compression="zstd", write_page_checksum=True) as writer:
        for outcome in outcomes:
            rows = outcome.cut()
            while some := [{"step": outcome.name, **row} for row in islice(rows, 10_000)]:
                writer.write_table(pyarrow.Table.from_pylist(some, schema))


def write_dropped(file: Path, outcomes: Iterable[Outcome], before: Path | None = None) -> None:
    """All that was dropped, in the order of steps and documents; by steps `before` these what is in that file."""
    import pyarrow
    from pyarrow.parquet import ParquetFile, ParquetWriter

    text = pyarrow.string()
    schema = pyarrow.schema(
        {"step": text, "source": text, "position": pyarrow.int64(), "reason": text, "matched": text,
         "bytes": pyarrow.int64(), "sample": text}
    )  # fmt: skip
    with ParquetWriter(file, schema, compression="zstd", write_page_checksum=True) as writer:
        for batch in ParquetFile(before).iter_batches(10_000) if before is not None else ():
            writer.write_batch(batch)
        for outcome in outcomes:
            rows, samples = outcome.rows(), LISTED
            while some := list(islice(rows, 10_000)):
                for row in some:
                    row["step"] = outcome.name
                    samples -= bool(row["sample"])
                    row["sample"] = row["sample"] if samples >= 0 else ""
                writer.write_table(pyarrow.Table.from_pylist(some, schema))


def resumable(folder: Path, identity: Mapping[str, Any]) -> Path:
    """The folder of work in progress: as it was left, if it is of the same text and settings; else empty."""
    file = folder / "identity.json"
    known = json.loads(json.dumps(identity))
    try:
        same = json.loads(file.read_text(encoding="utf-8")) == known
    except (OSError, ValueError):
        same = False
    if not same:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write_json(file, known)
    return folder
