"""Token shards: the token stream on disk, after tokenizing and before teaching and training.

- The stream is `document <eos>`, one document after the other. A token's position in it is its address: teacher
  targets, windows and evaluation all count in it.
- Stored as numpy files of equal length, mapped into memory and never read whole: uint16 where the vocabulary fits
  into it, else uint32. Any number of processes may read one folder at a time.
- Beside them: where each document starts, and optionally a mask of the tokens that are to be learned (a prompt is
  context and not trained on).
- Every block of 2^14 entries has a checksum, held against it when a process first reads from it: what a disk or a copy
  has changed is found before anything is made from it, and nothing is read twice.
"""

from __future__ import annotations

import json
import zlib
from array import array
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, overload

import numpy as np
from numpy.typing import NDArray

from gemmule.base.artifact import write_json
from gemmule.base.errors import WorkError, naming
from gemmule.base.vocabulary import id_type

if TYPE_CHECKING:
    from gemmule.tokenize.tokenizer import Tokenizer

Piece = tuple[str, bool]  # text, and whether it is trained on
DocumentText = str | Sequence[Piece]

INFO = "info.json"
CHECKSUMS = "checksums.npy"
BLOCK = 2**14  # entries with a checksum of their own
BATCH_CHARACTERS = (
    2**19
)  # tokenized at a time: enough to keep cores busy, few enough to be small in memory and to hear Ctrl-C


class TokenShards:
    """The token stream in a folder, read as a list is: `len(shards)`, `shards[i]`, `shards[start:stop]`.

    Slices are int64 arrays of ids. `document_starts` [documents] int64 are the positions of the documents' first
    tokens; `text_bytes` the length in UTF-8 of all the text; ids are under `vocabulary_size`.

    Raises WorkError naming the file if one is missing, cut short or of another length than was written, and, with the
    positions, where something is read that is not what was written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        info = _read_info(self.path / INFO)
        self.vocabulary_size: int = info["vocabulary_size"]
        self.text_bytes: int = info["text_bytes"]
        self._tokens: int = info["tokens"]
        self._shard_tokens: int = info["shard_tokens"]
        lengths = [
            min(self._shard_tokens, self._tokens - start) for start in range(0, self._tokens, self._shard_tokens)
        ]
        blocks = sum(-(-length // BLOCK) for length in lengths)
        checksums = _map(self.path / CHECKSUMS, (1 + info["masked"]) * blocks, np.dtype("<u4"))
        self._ids = _Column(self.path, "tokens", np.dtype(id_type(self.vocabulary_size)), lengths, checksums[:blocks])
        self._mask = None
        if info["masked"]:
            self._mask = _Column(self.path, "mask", np.dtype(bool), lengths, checksums[blocks:])
        self._document_starts = _map(self.path / "document_starts.npy", info["documents"], np.dtype(np.int64))
        self._starts_checksum: int = info["document_starts_checksum"]

    @cached_property
    def document_starts(self) -> NDArray[np.int64]:
        if zlib.crc32(self._document_starts.data) != self._starts_checksum:
            raise _damaged(f"{self.path / 'document_starts.npy'}: not what was written")
        return self._document_starts

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
                return self._ids.read(start, stop).astype(np.int64)
            positions = range(start, stop, step)
            if not positions:
                return np.empty(0, np.int64)
            low, high = min(positions[0], positions[-1]), max(positions[0], positions[-1])
            between = self._ids.read(low, high + 1).astype(np.int64)
            return between[::step] if step > 0 else between[::-1][::-step]
        position = where + self._tokens if where < 0 else where
        if not 0 <= position < self._tokens:
            raise IndexError(f"position {where} in a stream of {self._tokens} tokens")
        return int(self._ids.read(position, position + 1)[0])

    def mask(self, start: int, stop: int) -> NDArray[np.bool_]:
        """Which of the tokens start..stop (bounds as in a slice) count in the loss; all, where no mask was written."""
        start, stop, _ = slice(start, stop).indices(self._tokens)
        if self._mask is None:
            return np.ones(max(0, stop - start), bool)
        return self._mask.read(start, stop).astype(bool)

    @property
    def learned_tokens(self) -> int:
        """How many count in the loss: all, where no mask was written. Where the mask is damaged, none of a million."""
        mask = self._mask
        if mask is None:
            return self._tokens
        chunks = ((start, min(start + 2**20, self._tokens)) for start in range(0, self._tokens, 2**20))
        return sum(int(np.count_nonzero(mask.read(*chunk))) for chunk in chunks if mask.damage(*chunk) is None)

    def damage(self, start: int, stop: int) -> str | None:
        """Which block of the tokens start..stop, or of their mask, is not what was written; None if all are whole."""
        columns = [self._ids] if self._mask is None else [self._ids, self._mask]
        return next((found for column in columns if (found := column.damage(start, stop))), None)


class _Column:
    """The files of one kind: arrays that follow each other, all as long as the first but the last."""

    def __init__(
        self, folder: Path, stem: str, dtype: np.dtype[Any], lengths: list[int], checksums: NDArray[np.uint32]
    ) -> None:
        self._files = [folder / _name(stem, number) for number in range(len(lengths))]
        self._arrays = [_map(file, length, dtype) for file, length in zip(self._files, lengths, strict=True)]
        self._length = lengths[0] if lengths else 1
        self._blocks_a_file = -(-self._length // BLOCK)
        self._checksums = checksums  # [blocks]
        self._whole = np.zeros(len(checksums), bool)  # the blocks that were found to be what was written

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """The entries start..stop. Raises WorkError naming the first block among them that is damaged."""
        if start >= stop:
            return np.empty(0, np.int64)
        if found := self.damage(start, stop):
            raise _damaged(found)
        first, last = start // self._length, (stop - 1) // self._length
        if first == last:
            base = first * self._length
            return self._arrays[first][start - base : stop - base]
        bases = [(number, number * self._length) for number in range(first, last + 1)]
        return np.concatenate([self._arrays[number][max(0, start - base) : stop - base] for number, base in bases])

    def damage(self, start: int, stop: int) -> str | None:
        """Which block of the entries start..stop is damaged, in words; each block that is whole is read but once."""
        first, last = self._block(start), self._block(stop - 1)
        if self._whole[first : last + 1].all():
            return None
        for block in range(first, last + 1):
            number, inside = divmod(block, self._blocks_a_file)
            begin = inside * BLOCK
            entries = self._arrays[number][begin : begin + BLOCK]
            if not self._whole[block] and zlib.crc32(entries.data) != self._checksums[block]:
                place = number * self._length + begin
                return f"{self._files[number]}: tokens {place} to {place + len(entries) - 1} are not what was written"
            self._whole[block] = True
        return None

    def _block(self, position: int) -> int:
        """The number of the block in which an entry lies: those of a file follow those of the file before."""
        number, inside = divmod(position, self._length)
        return number * self._blocks_a_file + inside // BLOCK


def _damaged(found: str) -> WorkError:
    return WorkError(
        f"{found}: a disk or a copy changed it. Move the folder away and make the tokens again, "
        'or train without them: data.damaged = "skip"'
    )


def write_shards(
    documents: Iterable[DocumentText], tokenizer: Tokenizer, folder: Path, *, shard_tokens: int = 2**26
) -> TokenShards:
    """Tokenizes documents one after the other into `folder`, each followed by `<eos>`, and gives them back to read.

    A document is a text, or pieces of (text, learned), each tokenized by itself; `<eos>` is learned if the last piece
    is. A mask is written only if some document comes in pieces. Memory use does not grow with the documents.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (
        _Writer(folder, np.dtype(id_type(tokenizer.vocabulary_size)), shard_tokens) as writer,
        closing(_encoded(_batches(_units(documents, tokenizer)), tokenizer)) as encoded,
    ):
        for batch, ids in encoded:
            writer.add(batch, ids, tokenizer.eos_id)
    starts = np.array(writer.document_starts, np.int64)
    _save(folder / "document_starts.npy", starts)
    _save(folder / CHECKSUMS, np.array([*writer.ids.checksums, *writer.mask.checksums], "<u4"))
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
            "document_starts_checksum": zlib.crc32(starts.data),
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
        self.ids = _ShardFiles(folder, "tokens", dtype, shard_tokens)
        self.mask = _ShardFiles(folder, "mask", np.dtype(bool), shard_tokens)

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        for files in (self.ids, self.mask):
            files.close() if kind is None else files.drop()

    def add(self, batch: list[_Unit], encoded: list[list[int]], eos_id: int) -> None:
        if not self.masked and any(unit.in_pieces for unit in batch):
            self.masked = True
            for start in range(0, self.tokens, BATCH_CHARACTERS):  # all that came before is trained on
                self.mask.append(np.ones(min(BATCH_CHARACTERS, self.tokens - start), bool))
        for unit, ids in zip(batch, encoded, strict=True):
            if unit.begins:
                self.document_starts.append(self.tokens)
            if unit.ends:
                ids.append(eos_id)
            self.text_bytes += unit.bytes
            self.ids.append(np.array(ids, np.int64))
            if self.masked:
                self.mask.append(np.full(len(ids), unit.learned))
            self.tokens += len(ids)


class _ShardFiles:
    """`stem-00000.npy`, `stem-00001.npy`, ... of `length` entries each (the last: the rest), written in a stream.

    `checksums` are the CRC-32 of their blocks, one file's after the other's.
    """

    def __init__(self, folder: Path, stem: str, dtype: np.dtype[Any], length: int) -> None:
        self._folder, self._stem, self._dtype, self._length = folder, stem, dtype, length
        self._number = 0
        self._filled = 0
        self._file: BinaryIO | None = None
        self._checksum = 0
        self.checksums = array("I")

    @property
    def _path(self) -> Path:
        return self._folder / _name(self._stem, self._number)

    def append(self, values: NDArray[Any]) -> None:
        while len(values):
            if self._file is None:
                self._file = self._path.open("wb")
                self._write_header(self._file, 0)
            part = values[: min(self._length - self._filled, BLOCK - self._filled % BLOCK)]
            content = part.astype(self._dtype).tobytes()
            with naming(self._path):
                self._file.write(content)
            self._checksum = zlib.crc32(content, self._checksum)
            self._filled += len(part)
            values = values[len(part) :]
            if self._filled % BLOCK == 0:
                self._end_block()
            if self._filled == self._length:
                self.close()

    def close(self) -> None:
        """Ends the shard that is open: its header gets the length that it has now."""
        if self._file is None:
            return
        if self._filled % BLOCK:
            self._end_block()
        with naming(self._path), self._file as file:
            end = file.tell()
            file.seek(0)
            self._write_header(file, self._filled)
            if file.tell() + self._filled * self._dtype.itemsize != end:
                raise AssertionError("numpy's header grew: it should keep room for any length")
        self._file, self._number, self._filled = None, self._number + 1, 0

    def drop(self) -> None:
        """Ends it as it is: what was written so far is of no use, and the reason for that is on its way."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()

    def _end_block(self) -> None:
        self.checksums.append(self._checksum)
        self._checksum = 0

    def _write_header(self, file: BinaryIO, length: int) -> None:
        descr = np.lib.format.dtype_to_descr(self._dtype)
        np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": (length,)})


@dataclass
class _Unit:
    """What is tokenized by itself: a text, or a part of a long one."""

    text: str
    bytes: int
    learned: bool
    in_pieces: bool  # whether its document is
    begins: bool  # whether its document begins with it
    ends: bool = False


def _units(documents: Iterable[DocumentText], tokenizer: Tokenizer) -> Iterator[_Unit]:
    from gemmule.tokenize.parts import LONGEST, parts  # shards are read without a tokenizer

    for document in documents:
        in_pieces = not isinstance(document, str)
        pieces: Sequence[Piece] = document if not isinstance(document, str) else [(document, True)]
        last = None
        for text, learned in pieces or [("", True)]:
            for number, part in enumerate(parts(text, tokenizer.encode) if len(text) > LONGEST else [text]):
                if last is not None:
                    yield last
                text_bytes = len(text.encode()) if number == 0 else 0
                last = _Unit(part, text_bytes, learned, in_pieces, begins=last is None)
        assert last is not None
        last.ends = True
        yield last


def _encoded(batches: Iterable[list[_Unit]], tokenizer: Tokenizer) -> Generator[tuple[list[_Unit], list[list[int]]]]:
    """Each batch with its tokens. While one is written, and another one read, the next is tokenized, on all cores."""
    pool = ThreadPoolExecutor(1)
    try:
        ahead: deque[tuple[list[_Unit], Future[list[list[int]]]]] = deque()
        for batch in batches:
            ahead.append((batch, pool.submit(tokenizer.encode_batch, [unit.text for unit in batch])))
            if len(ahead) > 1:
                done, ids = ahead.popleft()
                yield done, ids.result()
        while ahead:
            done, ids = ahead.popleft()
            yield done, ids.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _batches(units: Iterable[_Unit]) -> Iterator[list[_Unit]]:
    batch: list[_Unit] = []
    characters = 0
    for unit in units:
        batch.append(unit)
        characters += len(unit.text)
        if characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _save(path: Path, values: NDArray[Any]) -> None:
    """As np.save does, but for errors: numpy tells neither path nor reason."""
    with naming(path), path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(values))
        file.write(values.tobytes())


def _name(stem: str, number: int) -> str:
    return f"{stem}-{number:05d}.npy"


def _read_info(file: Path) -> dict[str, Any]:
    try:
        info: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        for key in ("tokens", "documents", "text_bytes", "vocabulary_size", "shard_tokens", "masked",
                    "document_starts_checksum"):  # fmt: skip
            info[key] = int(info[key])
    except FileNotFoundError:
        raise WorkError(f"{file.parent}: no token shards: it has no {INFO}") from None
    except KeyError as missing:
        raise WorkError(f"{file}: does not say {missing}: made by an earlier gemmule; make the tokens again") from None
    except (OSError, ValueError, TypeError) as error:
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
