"""Targets in the making: by one process or many at once, interrupted and gone on with, or taken over from earlier ones.

The stream is cut into segments of whole windows and whole blocks, about 16,384 tokens each. A segment is one file,
written under a temporary name and renamed: it is there whole, or not at all. Its bytes follow from the teacher, the
coding and the seed alone, so it does not matter who makes it, or how often it was begun. The parts' folder holds

    info.json, order.bin    what all segments share, as in the finished folder
    identity.json           what the targets are made from
    segment-00000000        the index of its blocks, then the blocks; ends count from the first block's beginning
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

from gemmule import artifact, host
from gemmule.data.loader import Windows
from gemmule.data.shards import TokenShards
from gemmule.distill import sampling
from gemmule.distill.expectations import expect
from gemmule.distill.packing import Coding
from gemmule.distill.targets import BLOCK, INDEX, INFO, ORDER, Rest, TargetStore, read_coding, write_coding
from gemmule.distill.teachers import Teacher
from gemmule.errors import WorkError

SEGMENT = 2**14  # tokens, about
IDENTITY = "identity.json"
WINDOWS_AT_ONCE, TOKENS_AT_ONCE = 8, 4096  # that the teacher reads, at most of either (but one window)
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
        return [number for number in (range(len(self)) if numbers is None else numbers) if self._read(number) is None]

    @property
    def absent(self) -> int:
        """How many segments are not there, by their files' names alone."""
        return sum(not self._path(number).exists() for number in range(len(self)))

    def teach(
        self, teacher: Teacher, numbers: Iterable[int], seed: int, progress: Callable[[int], None] | None = None
    ) -> None:
        """Makes these segments. `progress` is called with the tokens just done."""
        coding, info = read_coding(self.folder)
        length = self.windows.sequence_length
        at_once = min(WINDOWS_AT_ONCE, max(1, TOKENS_AT_ONCE // length)) * length
        for number in numbers:
            rows = self.rows(number)
            draws, taught = [], []
            for first in range(rows.start, rows.stop, at_once):
                last = min(first + at_once, rows.stop)
                some = range(first // length, -(-last // length))
                for logits, positions in expect(teacher, self.windows, some, info["temperature"]):
                    draws.append(coding.scheme.draw(logits, seed, positions))
                    taught.append(positions)
                if progress is not None:
                    progress(last - first)
            positions = np.array(rows)
            # a window without <bos> begins with a token at which nothing is expected: an empty row
            draw = sampling.join(draws).spread(len(rows), torch.from_numpy(np.concatenate(taught) - rows.start))
            blocks = [slice(start, start + BLOCK) for start in range(0, len(rows), BLOCK)]
            self._write(number, [coding.encode(draw[block], positions[block], seed) for block in blocks])

    def take_over(self, earlier: TargetStore, positions: int) -> int:
        """Takes the whole segments among the first `positions` from earlier targets; gives the number of tokens."""
        whole = min(positions, len(earlier)) // self.segment_tokens
        for number in range(whole):
            rows = self.rows(number)
            self._write(number, [earlier.block(start // BLOCK) for start in range(rows.start, rows.stop, BLOCK)])
        return whole * self.segment_tokens

    def merge(self, folder: Path) -> None:
        """Writes the finished targets into `folder`: all segments are there."""
        for name in (INFO, ORDER):
            shutil.copy(self.folder / name, folder / name)
        with (folder / "blocks.bin").open("wb") as blocks, (folder / "index.bin").open("wb") as index:
            for number in range(len(self)):
                segment = self._read(number)
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

    def _write(self, number: int, blocks: list[bytes]) -> None:
        index = np.zeros(len(blocks), INDEX)
        index["end"] = np.cumsum([len(block) for block in blocks])
        index["crc"] = [zlib.crc32(block) for block in blocks]
        path = self._path(number)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        with temporary.open("wb") as file:
            file.write(index.tobytes() + b"".join(blocks))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)

    def _read(self, number: int) -> tuple[np.ndarray, bytes] | None:
        """The index and the blocks of a segment; None if it is not there as it was written."""
        try:
            content = self._path(number).read_bytes()
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
