"""Targets in the making: by one process or many at once, interrupted and gone on with, or taken over from earlier ones.

The stream is cut into segments of whole windows and whole blocks, about 16,384 tokens each. A segment is one file,
written under a temporary name and renamed: it is there whole, or not at all. Its bytes follow from the teacher, the
coding and the seed alone, so it does not matter who makes it, or how often it was begun. The parts' folder holds

    info.json, order.bin    what all segments share, as in the finished folder
    identity.json           what the targets are made from
    segment-00000000        the index of its blocks, then the blocks; ends count from the first block's beginning
    begun-00000001          the same of a segment that takes longer than a minute, its later blocks still empty
"""

from __future__ import annotations

import json
import math
import os
import shutil
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gemmule.base import artifact, host
from gemmule.base.errors import WorkError
from gemmule.base.progress import running_seconds
from gemmule.teach.targets import sampling
from gemmule.teach.targets.amounts import windows_at_once
from gemmule.teach.targets.expectations import expect
from gemmule.teach.targets.packing import Coding
from gemmule.teach.targets.store import BLOCK, INDEX, INFO, ORDER, Rest, TargetStore, read_coding, write_coding
from gemmule.teach.teachers.teacher import Teacher
from gemmule.tokenize.shards import TokenShards
from gemmule.tokenize.windows import Windows

SEGMENT = 2**14  # tokens, about
IDENTITY = "identity.json"
KEPT_EVERY = 60.0  # seconds: a kill costs at most this, and what the teacher reads at once
COMPARED_AT_ONCE = 2**20  # tokens


class Parts:
    """The segments of a stream's targets that are done so far, in `folder`."""

    def __init__(self, folder: Path, windows: Windows, identity: dict[str, Any]) -> None:
        """`identity`: all that the targets are made from; parts of another are worth nothing."""
        self.folder = folder
        self.windows = windows
        self.identity: dict[str, Any] = json.loads(json.dumps(identity))
        whole = math.lcm(BLOCK, windows.sequence_length)
        self.segment_tokens = whole * max(1, SEGMENT // whole)

    def __len__(self) -> int:
        """The number of segments."""
        return -(-len(self.windows.shards) // self.segment_tokens)

    @property
    def prepared(self) -> bool:
        try:
            identity = json.loads((self.folder / IDENTITY).read_text(encoding="utf-8"))
            read_coding(self.folder)
        except (OSError, ValueError, WorkError):
            return False
        return bool(identity == self.identity)

    def prepare(self, coding: Coding, temperature: float, rest: Rest) -> None:
        """Begins anew with this coding. What was there before was made otherwise, or is damaged."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with artifact.writing(self.folder):
            self.folder.mkdir(parents=True)
            artifact.write_json(self.folder / IDENTITY, self.identity)
            write_coding(self.folder, coding, len(self.windows.shards), temperature, rest)
        host.give_back()  # what solving the coding took

    def rows(self, number: int) -> range:
        """The positions in the stream of a segment."""
        start = number * self.segment_tokens
        return range(start, min(start + self.segment_tokens, len(self.windows.shards)))

    def missing(self, numbers: Iterable[int] | None = None) -> list[int]:
        """Those of the segments (all, if none are named) that are not there, or damaged."""
        return [
            number
            for number in (range(len(self)) if numbers is None else numbers)
            if self._read(self._path(number), number) is None
        ]

    @property
    def absent(self) -> int:
        """How many segments are not there, by their files' names alone."""
        return sum(not self._path(number).exists() for number in range(len(self)))

    def teach(
        self, teacher: Teacher, numbers: Iterable[int], seed: int, progress: Callable[[int], None] | None = None
    ) -> None:
        """Makes these segments. `progress` is called with the tokens just done."""
        coding, info = read_coding(self.folder)
        for number in numbers:
            self._write(
                self._path(number), number, self._make(number, teacher, coding, info["temperature"], seed, progress)
            )
            self._begun(number).unlink(missing_ok=True)

    def _make(
        self,
        number: int,
        teacher: Teacher,
        coding: Coding,
        temperature: float,
        seed: int,
        progress: Callable[[int], None] | None,
    ) -> list[bytes]:
        """The blocks of a segment. Of a slow teacher those done are kept every minute.

        The teacher always reads the same windows together, so resuming changes no byte: those of the block that was
        begun are read again.
        """
        rows, length = self.rows(number), self.windows.sequence_length
        group = windows_at_once(length) * length
        blocks = self._kept(number)
        done, kept = rows.start + len(blocks) * BLOCK, running_seconds()
        begin = rows.start + (done - rows.start) // group * group
        if progress is not None and begin > rows.start:
            progress(begin - rows.start)
        left: list[sampling.Draw] = []  # of the rows from `done` on that make no whole block yet
        for first in range(begin, rows.stop, group):
            last = min(first + group, rows.stop)
            draw = self._draw(range(first, last), teacher, coding, temperature, seed)
            left = [sampling.join([*left, draw[max(0, done - first) :]])]
            whole = last if last == rows.stop else last - (last - done) % BLOCK
            for start in range(done, whole, BLOCK):
                block = left[0][start - done : min(start + BLOCK, whole) - done]
                blocks.append(coding.encode(block, np.arange(start, start + len(block)), seed))
            left, done = [left[0][whole - done :]], whole
            if progress is not None:
                progress(last - first)
            if last < rows.stop and running_seconds() - kept >= KEPT_EVERY:
                self._write(self._begun(number), number, blocks)
                kept = running_seconds()
        return blocks

    def _draw(self, rows: range, teacher: Teacher, coding: Coding, temperature: float, seed: int) -> sampling.Draw:
        """What is kept at these rows, which whole windows hold."""
        length = self.windows.sequence_length
        some = range(rows.start // length, -(-rows.stop // length))
        draws, taught = [], []
        for logits, positions, known in expect(teacher, self.windows, some, temperature):
            draws.append(coding.scheme.draw(logits, seed, positions, known))
            taught.append(positions)
        # a window without <bos> begins with a token at which nothing is expected: an empty row
        return sampling.join(draws).spread(len(rows), torch.from_numpy(np.concatenate(taught) - rows.start))

    def _kept(self, number: int) -> list[bytes]:
        """The first blocks of a segment, as far as they were kept."""
        found = self._read(self._begun(number), number)
        if found is None:
            return []
        ends = found[0]["end"].tolist()
        blocks = [found[1][begin:end] for begin, end in zip([0, *ends], ends, strict=False)]
        return [block for block in blocks if block]

    def take_over(self, earlier: TargetStore, positions: int) -> int:
        """Takes the whole segments among the first `positions` from earlier targets; gives the number of tokens."""
        whole = min(positions, len(earlier)) // self.segment_tokens
        for number in range(whole):
            rows = self.rows(number)
            self._write(
                self._path(number),
                number,
                [earlier.block(start // BLOCK) for start in range(rows.start, rows.stop, BLOCK)],
            )
        return whole * self.segment_tokens

    def merge(self, folder: Path) -> None:
        """Writes the finished targets into `folder`: all segments are there."""
        for name in (INFO, ORDER):
            shutil.copy(self.folder / name, folder / name)
        with (folder / "blocks.bin").open("wb") as blocks, (folder / "index.bin").open("wb") as index:
            for number in range(len(self)):
                segment = self._read(self._path(number), number)
                if segment is None:
                    raise WorkError(f"{self._path(number)}: missing or damaged; the same command makes it again")
                entries, content = segment
                entries["end"] += blocks.tell()
                index.write(entries.tobytes())
                blocks.write(content)

    def remove(self) -> None:
        shutil.rmtree(self.folder)

    def _path(self, number: int) -> Path:
        return self.folder / f"segment-{number:08d}"

    def _begun(self, number: int) -> Path:
        return self.folder / f"begun-{number:08d}"

    def _write(self, path: Path, number: int, blocks: list[bytes]) -> None:
        """A segment, or its first blocks. Raises WorkError naming the path if it can't be written."""
        blocks = blocks + [b""] * (-(-len(self.rows(number)) // BLOCK) - len(blocks))  # those that are still to come
        index = np.zeros(len(blocks), INDEX)
        index["end"] = np.cumsum([len(block) for block in blocks])
        index["crc"] = [zlib.crc32(block) for block in blocks]
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        with artifact.writing(path):
            try:
                with temporary.open("wb") as file:
                    file.write(index.tobytes() + b"".join(blocks))
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(path)
            except OSError:
                temporary.unlink(missing_ok=True)
                raise

    def _read(self, path: Path, number: int) -> tuple[np.ndarray, bytes] | None:
        """The index and the blocks of a segment; None if it is not there as it was written."""
        try:
            content = path.read_bytes()
        except OSError:
            return None
        size = -(-len(self.rows(number)) // BLOCK) * INDEX.itemsize
        if len(content) < size:
            return None
        index, blocks = np.frombuffer(content[:size], INDEX).copy(), content[size:]
        if index["end"][-1] != len(blocks):
            return None
        begins = [0, *index["end"][:-1].tolist()]
        for begin, end, crc in zip(begins, index["end"].tolist(), index["crc"].tolist(), strict=True):
            if zlib.crc32(blocks[begin:end]) != crc:
                return None
        return index, blocks


def common_tokens(earlier: TokenShards, now: TokenShards) -> int:
    """How many tokens two streams have in common, from their beginning on, with the documents cut alike."""
    length = min(len(earlier), len(now))
    first, second = (
        shards.document_starts[: np.searchsorted(shards.document_starts, length)] for shards in (earlier, now)
    )
    documents = min(len(first), len(second))
    alike = int(np.argmin(np.append(first[:documents] == second[:documents], False)))
    if alike < max(len(first), len(second)):
        length = int(min(starts[alike] for starts in (first, second) if alike < len(starts)))
    for begin in range(0, length, COMPARED_AT_ONCE):
        end = min(begin + COMPARED_AT_ONCE, length)
        differ = np.flatnonzero(earlier[begin:end] != now[begin:end])
        if len(differ):
            return begin + int(differ[0])
    return length
