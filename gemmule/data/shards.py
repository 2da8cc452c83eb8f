"""Token shards: the token stream on disk, after tokenizing and before teaching and training.

- The stream is `document <eos>`, one document after the other. A token's position in it is its address: teacher
  targets, windows and evaluation all count in it.
- Stored as numpy files of equal length, mapped into memory and never read whole: uint16 where the vocabulary fits
  into it, else uint32. Any number of processes may read one folder at a time.
- Beside them: where each document starts, and optionally a mask of the tokens that are to be learned (a prompt is
  context and not learned).
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, overload

import numpy as np
from numpy.typing import NDArray

from gemmule.artifact import write_json
from gemmule.errors import WorkError

if TYPE_CHECKING:
    from gemmule.tokenizer.load import Tokenizer

Piece = tuple[str, bool]  # text, and whether it is learned
DocumentText = str | Sequence[Piece]

INFO = "info.json"
BATCH_CHARACTERS = 2**20  # tokenized at a time: enough to keep all cores busy, little enough to stay small in memory


class TokenShards:
    """The token stream in a folder, read as a list is: `len(shards)`, `shards[i]`, `shards[start:stop]`.

    Slices are int64 arrays of ids. `document_starts` [documents] int64 are the positions of the documents' first
    tokens; `text_bytes` the length in UTF-8 of all the text; ids are under `vocabulary_size`.

    Raises WorkError naming the file if one is missing, cut short or of another length than was written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        info = _read_info(self.path / INFO)
        self.vocabulary_size: int = info["vocabulary_size"]
        self.text_bytes: int = info["text_bytes"]
        self._tokens: int = info["tokens"]
        self._shard_tokens: int = info["shard_tokens"]
        dtype = _dtype_for(self.vocabulary_size)
        lengths = [
            min(self._shard_tokens, self._tokens - start) for start in range(0, self._tokens, self._shard_tokens)
        ]
        self._shards = [_map(self.path / _name("tokens", i), n, dtype) for i, n in enumerate(lengths)]
        self._masks = [_map(self.path / _name("mask", i), n, np.dtype(bool)) for i, n in enumerate(lengths)
                       if info["masked"]]  # fmt: skip
        self.document_starts: NDArray[np.int64] = _map(
            self.path / "document_starts.npy", info["documents"], np.dtype(np.int64)
        )

    def __len__(self) -> int:
        return self._tokens

    @overload
    def __getitem__(self, where: int) -> int: ...
    @overload
    def __getitem__(self, where: slice) -> NDArray[np.int64]: ...
    def __getitem__(self, where: int | slice) -> int | NDArray[np.int64]:
        if isinstance(where, slice):
            start, stop, step = where.indices(self._tokens)
            if step == 1:
                return self._gather(self._shards, start, stop).astype(np.int64)
            positions = range(start, stop, step)
            if not positions:
                return np.empty(0, np.int64)
            low, high = min(positions[0], positions[-1]), max(positions[0], positions[-1])
            between = self._gather(self._shards, low, high + 1).astype(np.int64)
            return between[::step] if step > 0 else between[::-1][::-step]
        position = where + self._tokens if where < 0 else where
        if not 0 <= position < self._tokens:
            raise IndexError(f"position {where} in a stream of {self._tokens} tokens")
        shard, offset = divmod(position, self._shard_tokens)
        return int(self._shards[shard][offset])

    def mask(self, start: int, stop: int) -> NDArray[np.bool_]:
        """Which of the tokens start..stop (bounds as in a slice) are learned; all, where no mask was written."""
        start, stop, _ = slice(start, stop).indices(self._tokens)
        if not self._masks:
            return np.ones(max(0, stop - start), bool)
        return self._gather(self._masks, start, stop).astype(bool)

    def _gather(self, shards: list[NDArray[Any]], start: int, stop: int) -> NDArray[Any]:
        """The entries start..stop of arrays that follow each other, each `_shard_tokens` long but the last."""
        if start >= stop:
            return np.empty(0, np.int64)
        first, last = start // self._shard_tokens, (stop - 1) // self._shard_tokens
        if first == last:
            base = first * self._shard_tokens
            return shards[first][start - base : stop - base]
        bases = [(shard, shard * self._shard_tokens) for shard in range(first, last + 1)]
        return np.concatenate([shards[shard][max(0, start - base) : stop - base] for shard, base in bases])


def write_shards(
    documents: Iterable[DocumentText], tokenizer: Tokenizer, folder: Path, *, shard_tokens: int = 2**26
) -> TokenShards:
    """Tokenizes documents one after the other into `folder`, each followed by `<eos>`, and gives them back to read.

    A document is a text, or pieces of (text, learned), each tokenized by itself; `<eos>` is learned if the last piece
    is. A mask is written only if some document comes in pieces. Memory use does not grow with the documents.
    """
    folder.mkdir(parents=True, exist_ok=True)
    writer = _Writer(folder, _dtype_for(tokenizer.vocabulary_size), shard_tokens)
    try:
        for batch in _batches(documents):
            writer.add(batch, tokenizer)
    finally:
        writer.close()
    np.save(folder / "document_starts.npy", np.array(writer.document_starts, np.int64))
    write_json(
        folder / INFO,
        {
            "tokens": writer.tokens,
            "documents": len(writer.document_starts),
            "text_bytes": writer.text_bytes,
            "vocabulary_size": tokenizer.vocabulary_size,
            "tokenizer": tokenizer.content_hash,
            "shard_tokens": shard_tokens,
            "masked": writer.masked,
        },
    )
    return TokenShards(folder)


class _Writer:
    """Appends tokens to shard files, and the mask beside from the first document in pieces on."""

    def __init__(self, folder: Path, dtype: np.dtype[Any], shard_tokens: int) -> None:
        self.tokens = 0
        self.text_bytes = 0
        self.document_starts = array("q")
        self.masked = False
        self._ids = _ShardFiles(folder, "tokens", dtype, shard_tokens)
        self._mask = _ShardFiles(folder, "mask", np.dtype(bool), shard_tokens)

    def add(self, batch: list[DocumentText], tokenizer: Tokenizer) -> None:
        texts = [text for document in batch for text, _ in _pieces(document)]
        encoded = iter(tokenizer.encode_batch(texts))
        if not self.masked and any(not isinstance(document, str) for document in batch):
            self.masked = True
            for start in range(0, self.tokens, BATCH_CHARACTERS):  # all that came before is learned
                self._mask.append(np.ones(min(BATCH_CHARACTERS, self.tokens - start), bool))
        ids: list[int] = []
        mask: list[bool] = []
        for document in batch:
            self.document_starts.append(self.tokens + len(ids))
            pieces = _pieces(document)
            for text, learned in pieces:
                piece = next(encoded)
                ids += piece
                mask += [learned] * len(piece)
                self.text_bytes += len(text.encode())
            ids.append(tokenizer.eos_id)
            mask.append(pieces[-1][1] if pieces else True)
        self._ids.append(np.array(ids, np.int64))
        if self.masked:
            self._mask.append(np.array(mask, bool))
        self.tokens += len(ids)

    def close(self) -> None:
        self._ids.close()
        self._mask.close()


class _ShardFiles:
    """`stem-00000.npy`, `stem-00001.npy`, ... of `length` entries each (the last: the rest), written in a stream."""

    def __init__(self, folder: Path, stem: str, dtype: np.dtype[Any], length: int) -> None:
        self._folder, self._stem, self._dtype, self._length = folder, stem, dtype, length
        self._number = 0
        self._filled = 0
        self._file: BinaryIO | None = None

    def append(self, values: NDArray[Any]) -> None:
        while len(values):
            if self._file is None:
                self._file = (self._folder / _name(self._stem, self._number)).open("wb")
                self._write_header(self._file, 0)
            part = values[: self._length - self._filled]
            self._file.write(part.astype(self._dtype).tobytes())
            self._filled += len(part)
            values = values[len(part) :]
            if self._filled == self._length:
                self.close()

    def close(self) -> None:
        """Ends the shard that is open: its header gets the length that it has now."""
        if self._file is None:
            return
        with self._file as file:
            end = file.tell()
            file.seek(0)
            self._write_header(file, self._filled)
            if file.tell() + self._filled * self._dtype.itemsize != end:
                raise AssertionError("numpy's header grew: it should keep room for any length")
        self._file, self._number, self._filled = None, self._number + 1, 0

    def _write_header(self, file: BinaryIO, length: int) -> None:
        descr = np.lib.format.dtype_to_descr(self._dtype)
        np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": (length,)})


def _batches(documents: Iterable[DocumentText]) -> Iterator[list[DocumentText]]:
    batch: list[DocumentText] = []
    characters = 0
    for document in documents:
        batch.append(document)
        characters += sum(len(text) for text, _ in _pieces(document))
        if characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _pieces(document: DocumentText) -> Sequence[Piece]:
    return [(document, True)] if isinstance(document, str) else document


def _dtype_for(vocabulary_size: int) -> np.dtype[Any]:
    # little-endian by name, so that the bytes are the same on every machine
    return np.dtype("<u2") if vocabulary_size <= 2**16 else np.dtype("<u4")


def _name(stem: str, number: int) -> str:
    return f"{stem}-{number:05d}.npy"


def _read_info(file: Path) -> dict[str, Any]:
    try:
        info: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        for key in ("tokens", "documents", "text_bytes", "vocabulary_size", "shard_tokens", "masked"):
            info[key] = int(info[key])
    except FileNotFoundError:
        raise WorkError(f"{file.parent}: no token shards: it has no {INFO}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WorkError(f"{file}: can't be read ({error}); make the tokens again") from None
    return info


def _map(file: Path, length: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """The array in `file`, mapped into memory and checked to be of that length and type."""
    try:
        values: NDArray[Any] = np.lib.format.open_memmap(file, mode="r") if length else np.load(file)
    except (OSError, ValueError, EOFError) as error:
        raise WorkError(f"{file}: missing or cut short ({error}); make the tokens again") from None
    if values.shape != (length,) or values.dtype != dtype:
        raise WorkError(
            f"{file}: holds {values.dtype}{list(values.shape)} where {dtype}[{length}] was written; "
            "make the tokens again"
        )
    return values
