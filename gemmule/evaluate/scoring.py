"""The scores of documents, made: how well a model predicts each of them, and how sure it was (`scores.py`).

- A document is read by itself, in the model's own tokens, in windows that begin with one `<bos>`. Its `<eos>` does not
  count: where a text was cut says nothing about it.
- In chunks of documents, sorted by length within, many at once. A chunk that is done is kept in a file beside: what was
  interrupted resumes there, and ends with the same bytes. Memory is a chunk's, whatever the text.
"""

from __future__ import annotations

import math
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gemmule.base import artifact
from gemmule.base.errors import WorkError
from gemmule.base.progress import Meter
from gemmule.evaluate.amounts import tokens_at_once
from gemmule.evaluate.any_model import AnyModel
from gemmule.evaluate.looking import Looking
from gemmule.evaluate.passages import DocumentPassages
from gemmule.evaluate.scores import ROW, WINDOW, Known, digests
from gemmule.refine.refinery import resumable

CHUNK = 2**16  # bytes of documents, about: what a kill costs at most, a minute of a slow model
ROWS = "rows"  # the file of what is kept
HEADER = np.dtype([("documents", "<i8"), ("checksum", "<i8")])  # of a chunk


class Kept:
    """The rows of the chunks that are done so far, in `folder`."""

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        """`identity`: all that the scores are made from; what is there of another is worth nothing, and removed."""
        self.folder = resumable(folder, identity)
        self.file = self.folder / ROWS
        self._whole = 0  # bytes of the file that are as they were written
        self.documents = self.bytes = 0
        for rows in self:
            self._count(rows)

    def __iter__(self) -> Iterator[NDArray[np.void]]:
        """The rows of each chunk, up to one that is cut short or damaged."""
        if not self.file.exists():
            return
        with self.file.open("rb") as file:
            while len(head := file.read(HEADER.itemsize)) == HEADER.itemsize:
                (header,) = np.frombuffer(head, HEADER)
                content = file.read(max(0, int(header["documents"])) * ROW.itemsize)
                if zlib.crc32(content) != header["checksum"]:
                    return
                yield np.frombuffer(content, ROW)

    def add(self, rows: NDArray[np.void]) -> None:
        """Of the next chunk. Raises WorkError if they can't be written."""
        content = rows.tobytes()
        header = np.array([(len(rows), zlib.crc32(content))], HEADER)
        with artifact.writing(self.file), self.file.open("r+b" if self.file.exists() else "wb") as file:
            file.truncate(self._whole)
            file.seek(self._whole)
            file.write(header.tobytes() + content)
        self._count(rows)

    def _count(self, rows: NDArray[np.void]) -> None:
        self._whole += HEADER.itemsize + rows.nbytes
        self.documents += len(rows)
        self.bytes += int(rows["bytes"].sum())

    def remove(self) -> None:
        shutil.rmtree(self.folder)


def score_all(
    texts: Iterable[str],
    total: int,
    kept: Kept,
    load: Callable[[], AnyModel],
    name: str,
    *,
    known: Known | None = None,
    allow_worse: bool = False,
) -> None:
    """Scores what is missing of documents of `total` bytes, and not `known`; `load` gives the model, if it is needed.

    Raises WorkError for a model that gives no numbers; or that predicts text worse than the frequencies of its bytes,
    unless `allow_worse`: it is damaged, lacks its <bos> or has another tokenizer, and would judge at random.
    """
    scorer: Scorer | None = None
    with Meter(f"scores by {name}", max(1, total), done=kept.bytes, unit="bytes") as meter:
        for chunk in _chunks(islice(texts, kept.documents, None)):
            found = digests(chunk)
            there, rows = (known or Known()).find(found)
            if not there.all():
                scorer = scorer or Scorer(load())
                new = [text for text, is_there in zip(chunk, there, strict=True) if not is_there]
                made = scorer.score(new, lambda done: meter.update(min(total, kept.bytes + done)))
                _check(made, new, name, kept.documents == 0 and not allow_worse)
                rows[~there] = made
            rows["digest"] = found
            kept.add(rows)
            meter.update(min(total, kept.bytes))


class Scorer:
    """A model that reads documents."""

    def __init__(self, model: AnyModel, context: int = WINDOW) -> None:
        """It reads `context` tokens at once, or what it can."""
        self.model, self.context = model, min(context, model.context or context)
        self._looking = Looking(model.model.vocabulary_size, model.model.device)

    @torch.no_grad()
    def score(self, texts: Sequence[str], on_read: Callable[[int], object] = int) -> NDArray[np.void]:
        """A row for each text, its digest left out; `on_read` is told how many bytes are behind."""
        model, tokenizer = self.model.model, self.model.tokenizer
        rows = np.zeros(len(texts), ROW)
        rows["bytes"] = [len(text.encode()) for text in texts]
        size = int(rows["bytes"].sum())
        passages = DocumentPassages(texts, tokenizer, self.context, total=size, by_document=True)
        for passage in passages.read(tokens_at_once(model.vocabulary_size)):
            batch = passage.batch
            targets = torch.from_numpy(batch.targets).to(model.device).flatten()
            looks = self._looking.look(model.targets(batch), targets)
            counted = batch.mask & (batch.targets != tokenizer.eos_id)
            documents = passage.units[counted]
            there = torch.from_numpy(counted).to(model.device).flatten()
            rows["tokens"] += np.bincount(documents, minlength=len(rows))
            for name, column in (("loss", looks.loss), ("entropy", looks.entropy)):
                rows[name] += np.bincount(documents, column[there].double().cpu().numpy(), len(rows))
            on_read(passage.done)
        return rows


def _check(rows: NDArray[np.void], texts: Sequence[str], name: str, must_know: bool) -> None:
    """Raises WorkError for numbers that are none; and, if it must know, for a model that predicts texts worse than how
    often each byte occurred before in them.

    That is a code that begins with all bytes alike and learns by counting (Laplace): of n bytes, c of each kind,
    log((n + 255)! / 255! / the product of all c!).
    """
    if not np.isfinite(rows["loss"] + rows["entropy"]).all():
        raise WorkError(f"models.{name}: its loss is no number on some document: are its weights damaged?")
    counts = np.bincount(np.frombuffer("".join(texts).encode(), np.uint8), minlength=256).tolist()
    counted = math.lgamma(sum(counts) + 256) - math.lgamma(256) - sum(math.lgamma(count + 1) for count in counts)
    found, plain = (nats / math.log(2) / sum(counts) for nats in (rows["loss"].sum(), counted))
    if must_know and found > plain:
        raise WorkError(
            f"models.{name}: {found:.2f} bits per byte on the first {len(texts):,} documents, where counts of bytes "
            f"alone have {plain:.2f}: it can't judge them. Does it have another tokenizer, lack its <bos>, or is "
            f'its file damaged? To use it anyway: models.{name}.worse_than_unigram = "allow"'
        )


def _chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    chunk: list[str] = []
    size = 0
    for text in texts:
        chunk.append(text)
        size += len(text.encode())
        if size >= CHUNK:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
