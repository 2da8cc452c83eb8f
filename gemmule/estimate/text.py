"""How much text a recipe has, and how long the steps before training take: found by running them.

- The run's own steps (documents, tokenizer, tokens) run in a temporary folder, timed: on the text itself up to 16 MB (4
  MB if it is refined); of more on the beginnings of files spread over it, decompressed as far as they are read, and the
  rest follows in proportion to the files' bytes.
- Where the run has its tokens already, they are counted there.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gemmule.base.progress import say_once
from gemmule.plan.plan import Plan
from gemmule.refine.documents import read_split
from gemmule.refine.formats import known_format
from gemmule.refine.source_file import SourceFile
from gemmule.tokenize.shards import write_shards
from gemmule.tokenize.tokenizer import Tokenizer

SAMPLE, REFINED = 16 * 2**20, 4 * 2**20  # bytes; of a text that is refined, which takes twenty times as long
FILES = 64  # that the sample is of, at most
NEW_WORDS = 0.5  # a text n times as long has n^0.5 times the different words (Heaps' law)


@dataclass(frozen=True)
class Text:
    """A recipe's text as its models will read it."""

    share: float  # of the text that was looked at; 1.0: the counts are exact
    documents: int
    train_bytes: int
    validation_bytes: int
    train_tokens: int
    validation_tokens: int
    vocabulary_size: int
    document_bytes: int  # on disk
    seconds: float  # that documents, tokenizer and tokens take

    @property
    def bytes(self) -> int:
        """Of all documents."""
        return self.train_bytes + self.validation_bytes

    @property
    def bytes_per_token(self) -> float:
        return self.train_bytes / max(1, self.train_tokens)


def look(plan: Plan) -> Text:
    """Raises RequestError or WorkError as the run's own steps do: for text that can't be read, or is too little."""
    return _made(plan) or _tried(plan)


def _made(plan: Plan) -> Text | None:
    """The text of a run that has its tokens already."""
    documents, splits = plan.documents, (plan.train_tokens, plan.validation_tokens)
    if not all(step.is_made for step in splits):
        return None
    counts = json.loads((documents.path / "summary.json").read_text(encoding="utf-8"))
    train, validation = (step.shards for step in splits)
    return Text(
        share=1.0,
        documents=counts["train_documents"] + counts["validation_documents"],
        train_bytes=train.text_bytes,
        validation_bytes=validation.text_bytes,
        train_tokens=len(train),
        validation_tokens=len(validation),
        vocabulary_size=train.vocabulary_size,
        document_bytes=folder_bytes(documents.path),
        seconds=0.0,
    )


def _tried(plan: Plan) -> Text:
    section = plan.recipe.tokenizer
    for note in plan.documents.notes:
        say_once(note)
    with tempfile.TemporaryDirectory(prefix="gemmule-estimate-") as folder:
        size = SAMPLE if plan.documents.refining is None else REFINED
        files, share = sample(plan.documents.files, plan.recipe.data.field, Path(folder), size)
        taken = _stopwatch()
        documents = Path(folder) / "documents"
        counts = plan.documents.write(files, documents)
        reading = taken() / share
        tokenizer = _tokenizer(plan, documents, Path(folder) / "tokenizer")
        learning = taken() / (share if section.from_ is None else 1.0)
        train, validation = (
            write_shards(read_split(documents, split), tokenizer, Path(folder) / split)
            for split in ("train", "validation")
        )
        vocabulary_size = tokenizer.vocabulary_size
        if section.prune:
            grown = round(vocabulary_size / share**NEW_WORDS)
            vocabulary_size = max(vocabulary_size, min(grown, plan.tokenizer.whole().vocabulary_size))
        left = plan.recipe.left_by_scores / share  # documents are not scored here
        return Text(
            share=share,
            documents=round((counts.train_documents + counts.validation_documents) * left),
            train_bytes=round(train.text_bytes * left),
            validation_bytes=round(validation.text_bytes * left),
            train_tokens=round(len(train) * left),
            validation_tokens=round(len(validation) * left),
            vocabulary_size=vocabulary_size,
            document_bytes=round(folder_bytes(documents) * left),
            seconds=reading + learning + taken() / share,
        )


def _tokenizer(plan: Plan, documents: Path, folder: Path) -> Tokenizer:
    """The recipe's tokenizer: that of its run, if it took that over; else trained, taken over or pruned here."""
    if plan.tokenizer.origin is not None and plan.tokenizer.is_made:
        return plan.tokenizer.load()
    return plan.tokenizer.build(documents, folder)[0]


# --- a sample ----------------------------------------------------------------------------------------------------


def sample(files: list[SourceFile], field: str, folder: Path, size: int = SAMPLE) -> tuple[list[SourceFile], float]:
    """Files that hold about `size` bytes of text of these, and the share of the whole that this is.

    All of them if that is enough; else the beginnings of some, written into `folder`. Small files leave their part of
    the size to large ones.
    """
    whole = max(1, sum(file.size for file in files))
    chosen = files if len(files) <= FILES else [files[i * len(files) // FILES] for i in range(FILES)]
    by_size = sorted(chosen, key=lambda file: file.size)
    left, taken, found = size, 0.0, {}
    for number, file in enumerate(by_size):
        stem = folder / f"{number:03d}"
        part = known_format(file).beginning(file, field, left // (len(by_size) - number), stem)
        found[file] = part.file
        left -= part.bytes
        taken += part.share * file.size
    return [found[file] for file in chosen], min(1.0, taken / whole)


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _stopwatch() -> Callable[[], float]:
    """A function that gives the seconds since it was last called."""
    last = time.perf_counter()

    def lap() -> float:
        nonlocal last
        before, last = last, time.perf_counter()
        return last - before

    return lap
