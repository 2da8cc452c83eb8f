"""Targets: a teacher's distributions at every token of the stream, sampled once, stored, and read by any student.

- Addressed by stream position: any batch size, order, number of ranks or restart reads the right ones.
- Small: a tail token needs no value, only its id (`sampling.py`), and about a byte for that (`packing.py`).
- One threshold tau for the whole folder, solved on a random sample for a byte budget.
- Every block of 256 positions has a checksum, held against what is read.

The folder holds `info.json` (tau, Rice parameters, sizes) and little-endian arrays:

    order.bin    [V] uint16 or uint32   token ids by falling frequency
    index.bin    [N / 256] of 12 bytes  uint64 where the block ends in blocks.bin, uint32 its CRC-32
    blocks.bin                          the blocks, as `packing.py` has them
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from gemmule import artifact
from gemmule.data.loader import Batch, Windows
from gemmule.distill import packing, sampling
from gemmule.distill.packing import Coding
from gemmule.distill.sampling import Draw
from gemmule.distill.teachers import Teacher, probabilities
from gemmule.errors import RequestError, WorkError
from gemmule.model.head import SparseDistributions

FORMAT = artifact.FORMAT_VERSIONS["targets"]
BLOCK = 256  # rows
ARRAYS = ("blocks.bin", "index.bin", "order.bin")
INDEX = np.dtype([("end", "<u8"), ("crc", "<u4")])
SAMPLED_WINDOWS = 64
SAMPLED_POSITIONS = 4096  # for solving tau
SEARCHED_POSITIONS = 1024  # of the sample, for each tau tried
SAMPLED_PROBABILITIES = 2**25  # the sample's size in memory, if the vocabulary is large


class TargetStore:
    """The stored distributions of a token stream.

    `store[start:stop]` are the distributions OF stream tokens start..stop: what the teacher expected there, as a
    SparseDistributions of stop - start rows, entropies included. `len(store)` is the number of positions.

    Raises WorkError where the folder, or a block that is read, is damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            info: dict[str, Any] = json.loads((self.path / "info.json").read_text(encoding="utf-8"))
            if info["format"] != FORMAT:
                raise ValueError(f"format {info['format']}, and this version of gemmule reads {FORMAT}")
            order = np.fromfile(self.path / "order.bin", _id_dtype(info["vocabulary_size"])).astype(np.int64)
            self.coding = Coding(float(info["tau"]), order, np.array(info["parameters"]))
            self.positions = int(info["positions"])
            self._index = np.fromfile(self.path / "index.bin", INDEX)
            self._blocks = np.memmap(self.path / "blocks.bin", np.uint8, "r")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise WorkError(f"{self.path}: not a folder of targets that can be read ({error})") from None
        whole = len(order) == info["vocabulary_size"] and len(self._index) == -(-self.positions // BLOCK)
        if not whole or len(self._blocks) != self._index["end"][-1]:
            raise WorkError(f"{self.path}: cut short: its files do not have the lengths that they themselves say")

    @property
    def tau(self) -> float:
        return self.coding.tau

    def __len__(self) -> int:
        return self.positions

    @property
    def bytes_per_token(self) -> float:
        """Bytes on disk, index included, for each position."""
        return sum((self.path / name).stat().st_size for name in ARRAYS) / len(self)

    def __getitem__(self, rows: slice) -> SparseDistributions:
        start, stop, stride = rows.indices(len(self))
        if stride != 1:
            raise ValueError("targets are read by ranges of consecutive positions")
        stop = max(start, stop)
        first, last = start // BLOCK, max(start, stop - 1) // BLOCK
        blocks = [self._block(number) for number in range(first, min(last + 1, len(self._index)))]
        return SparseDistributions.concatenate(blocks)[start - first * BLOCK : stop - first * BLOCK]

    def _block(self, number: int) -> SparseDistributions:
        begin = int(self._index["end"][number - 1]) if number else 0
        block = self._blocks[begin : int(self._index["end"][number])].tobytes()
        try:
            if zlib.crc32(block) != self._index["crc"][number]:
                raise ValueError("its checksum is another")
            return self.coding.decode(block, min(BLOCK, len(self) - number * BLOCK))
        except ValueError as error:
            raise WorkError(
                f"{self.path / 'blocks.bin'}: damaged at positions {number * BLOCK} and on: {error}; "
                "move the folder away and make the targets again"
            ) from None

    def batch(self, batch: Batch) -> SparseDistributions:
        """The targets of a batch of windows [B, T], flattened; positions past the end of the stream are empty rows."""
        length = batch.inputs.shape[1]
        windows = []
        for start in batch.starts.tolist():
            window = self[start : start + length]
            if (missing := length - len(window)) > 0:
                window = SparseDistributions(
                    torch.cat([window.offsets, window.offsets[-1:].expand(missing)]),
                    window.ids,
                    window.probabilities,
                    None if window.entropy is None else torch.nn.functional.pad(window.entropy, (0, missing)),
                )
            windows.append(window)
        return SparseDistributions.concatenate(windows)


def write_targets(
    folder: Path,
    teacher: Teacher,
    windows: Windows,
    coding: Coding,
    *,
    temperature: float = 1.0,
    seed: int = 0,
    windows_per_batch: int = 8,
    progress: Callable[[int, int], None] | None = None,
) -> float:
    """Runs the teacher over every window once and writes its sampled distributions into `folder`.

    Args:
        coding: as `solve` gives it; it holds the threshold.
        temperature: divides the teacher's logits.
        seed: of the draws.
        progress: called with the tokens done and the tokens in all.

    Returns:
        The bytes really used per token.
    """
    vocabulary_size = teacher.vocabulary_size
    coding.order.astype(_id_dtype(vocabulary_size)).tofile(folder / "order.bin")
    with _Writer(folder, coding, seed) as writer:
        for first in range(0, len(windows), windows_per_batch):
            batch = windows.window_batch(range(first, min(first + windows_per_batch, len(windows))))
            rows, positions = _expect(teacher, windows, batch, temperature)
            writer.add(sampling.draw(rows, coding.tau, torch.from_numpy(sampling.offsets(seed, positions))))
            if progress is not None:
                progress(writer.rows, len(windows.shards))
    info = {
        "format": FORMAT,
        "positions": writer.rows,
        "vocabulary_size": vocabulary_size,
        "temperature": temperature,
        "tau": coding.tau,
        "parameters": coding.parameters.tolist(),
    }
    artifact.write_json(folder / "info.json", info)
    return TargetStore(folder).bytes_per_token


def sample(teacher: Teacher, windows: Windows, *, temperature: float = 1.0, seed: int = 0) -> torch.Tensor:
    """The teacher's distributions [rows, V] at random positions of random windows, for `solve`."""
    generator = np.random.default_rng(seed)
    wanted = max(64, min(SAMPLED_POSITIONS, SAMPLED_PROBABILITIES // teacher.vocabulary_size))
    sampled: list[torch.Tensor] = []
    for window in generator.permutation(len(windows))[:SAMPLED_WINDOWS]:
        rows, _ = _expect(teacher, windows, windows.window_batch([window]), temperature)
        keep = generator.permutation(len(rows))[: max(1, wanted // min(SAMPLED_WINDOWS, len(windows)))]
        sampled.append(rows[torch.from_numpy(keep)])
    return torch.cat(sampled)


def _expect(
    teacher: Teacher, windows: Windows, batch: Batch, temperature: float
) -> tuple[torch.Tensor, NDArray[np.int64]]:
    """The distributions [N, V] of a batch's positions in the stream, and these [N]."""
    rows = probabilities(teacher.expect(**batch.model_inputs(teacher.device)), temperature)
    positions = batch.starts[:, None] + np.arange(batch.inputs.shape[1])
    if windows.bos_id is None:  # nothing is expected at a window's first token: an empty row
        rows = torch.nn.functional.pad(rows.view(*positions.shape, -1), (0, 0, 1, 0)).flatten(0, 1)
        positions = np.concatenate([positions[:, :1] - 1, positions], axis=1)
    inside = positions < len(windows.shards)
    return rows[torch.from_numpy(inside.ravel()).to(rows.device)].cpu(), positions[inside]


def solve(probabilities: torch.Tensor, bytes_per_token: float, positions: int, seed: int = 0) -> Coding:
    """The coding of the smallest tau in [1/4096, 1] at which rows like these take at most the budget on disk.

    Args:
        probabilities: [rows, V], a sample of the distributions.
        bytes_per_token: the budget.
        positions: how many there will be, to share what the folder holds once.

    Raises RequestError naming the smallest budget that would do.
    """
    vocabulary_size = probabilities.shape[1]
    once = _id_dtype(vocabulary_size).itemsize * vocabulary_size / positions + INDEX.itemsize / BLOCK
    few = probabilities[:: -(-len(probabilities) // SEARCHED_POSITIONS)]
    numbers = np.arange(len(few))
    offsets = torch.from_numpy(sampling.offsets(seed + 1, numbers))  # other draws than those that `fit` sees

    def size(tau: float) -> float:
        block = packing.fit(few, tau, seed).encode(sampling.draw(few, tau, offsets), numbers, seed)
        return once + len(block) / len(few)

    smallest = size(1.0)
    if smallest > bytes_per_token:
        raise RequestError(
            f"distill.targets.bytes_per_token = {bytes_per_token:g}: too small; "
            f"at least {math.ceil(smallest)} is needed"
        )
    low, high = math.log(1 / 4096), 0.0  # size falls as tau grows
    for _ in range(10):
        middle = (low + high) / 2
        low, high = (low, middle) if size(math.exp(middle)) <= bytes_per_token else (middle, high)
    return packing.fit(probabilities, math.exp(high), seed)


class _Writer:
    """Appends draws, in stream order, and closes a block whenever it is full."""

    def __init__(self, folder: Path, coding: Coding, seed: int) -> None:
        self.coding, self.seed = coding, seed
        self.blocks, self.index = (folder / "blocks.bin").open("wb"), (folder / "index.bin").open("wb")
        self.rows = 0  # in full blocks and waiting
        self.waiting: list[Draw] = []
        self.closed, self.end = 0, 0  # blocks, bytes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None and self.waiting:
            self._close_block(sampling.join(self.waiting))
        self.blocks.close()
        self.index.close()

    def add(self, draw: Draw) -> None:
        self.rows += len(draw)
        self.waiting.append(draw)
        waiting = sum(len(part) for part in self.waiting)
        if waiting < BLOCK:
            return
        whole = sampling.join(self.waiting)
        full = waiting // BLOCK * BLOCK
        for start in range(0, full, BLOCK):
            self._close_block(whole[start : start + BLOCK])
        self.waiting = [whole[full:]] if full < waiting else []

    def _close_block(self, draw: Draw) -> None:
        first = self.closed * BLOCK
        block = self.coding.encode(draw, np.arange(first, first + len(draw)), self.seed)
        self.end += len(block)
        self.blocks.write(block)
        self.index.write(np.array([(self.end, zlib.crc32(block))], INDEX).tobytes())
        self.closed += 1


def _id_dtype(vocabulary_size: int) -> np.dtype[np.unsignedinteger]:
    return np.dtype("<u2" if vocabulary_size <= 2**16 else "<u4")
