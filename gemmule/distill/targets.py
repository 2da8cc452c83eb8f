"""Targets: a teacher's distributions at every token of the stream, sampled once, stored, and read by any student.

- Addressed by stream position: any batch size, order, number of ranks or restart reads the right ones.
- Small: a tail token needs no value, only its id (`sampling.py`); random access through an index of blocks.
- One threshold tau for the whole folder, solved on a random sample for a byte budget.

The folder holds `info.json` and five raw little-endian arrays. For N positions with E exact and S entries in all:

    counts.bin    [N, 2] uint8 or uint16   tokens of the row that are exact, and drawn
    entropy.bin   [N] uint16               the teacher's whole entropy: nats * 65535 / log(vocabulary size)
    ids.bin       [S] uint16 or uint32     each row's exact ids, then its drawn ones
    values.bin    [E] uint16               probability * 65535 of the exact ones, stochastically rounded: unbiased
    index.bin     [N / 256 + 1, 2] uint64  where each block of 256 rows starts in ids and in values
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import torch

from gemmule import artifact
from gemmule.data.loader import Batch, Windows
from gemmule.distill import sampling, teachers
from gemmule.errors import RequestError, WorkError
from gemmule.model.head import SparseDistributions

if TYPE_CHECKING:
    from gemmule.model.transformer import Gemma2

BLOCK = 256  # rows between two entries of the index
SCALE = 65535  # of numbers between 0 and 1 in 16 bits
ARRAYS = ("counts", "entropy", "ids", "values", "index")
SAMPLED_POSITIONS = 4096  # for solving tau
SAMPLED_PROBABILITIES = 2**25  # the sample's size in memory, if the vocabulary is large


class TargetStore:
    """The stored distributions of a token stream.

    `store[start:stop]` are the distributions OF stream tokens start..stop: what the teacher expected there, as a
    SparseDistributions of stop - start rows, entropies included. `len(store)` is the number of positions.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self.info: dict[str, Any] = json.loads((self.path / "info.json").read_text(encoding="utf-8"))
            dtypes = self.info["dtypes"]
            self._arrays = {name: self._map(name, dtypes[name]) for name in ARRAYS}
            self.tau = float(self.info["tau"])
            self.vocabulary_size = int(self.info["vocabulary_size"])
            self._entropy_unit = math.log(self.vocabulary_size) / SCALE
        except (OSError, ValueError, KeyError) as error:
            raise WorkError(f"{self.path}: not a folder of targets ({error})") from None
        self._counts = self._arrays["counts"].reshape(-1, 2)
        self._index = self._arrays["index"].reshape(-1, 2)
        rows, entries, exact = len(self._counts), len(self._arrays["ids"]), len(self._arrays["values"])
        if {rows, len(self._arrays["entropy"])} != {self.info["positions"]} or [entries, exact] != self._index[
            -1
        ].tolist():
            raise WorkError(
                f"{self.path}: cut short: its files do not have the lengths that info.json and the index say"
            )

    def _map(self, name: str, dtype: str) -> np.ndarray:
        file = self.path / f"{name}.bin"
        if file.stat().st_size == 0:  # an empty file can't be mapped
            return np.empty(0, dtype)
        return np.memmap(file, dtype, "r")

    def __len__(self) -> int:
        return len(self._counts)

    @property
    def bytes_per_token(self) -> float:
        """Bytes on disk, index included, for each position."""
        return sum(array.nbytes for array in self._arrays.values()) / len(self)

    def __getitem__(self, rows: slice) -> SparseDistributions:
        start, stop, stride = rows.indices(len(self))
        if stride != 1:
            raise ValueError("targets are read by ranges of consecutive positions")
        stop = max(start, stop)
        block = start // BLOCK
        counts = self._counts[block * BLOCK : stop].astype(np.int64)
        skipped, counts = np.split(counts, [start - block * BLOCK])
        before = self._index[block].astype(np.int64) + np.array([skipped.sum(), skipped[:, 0].sum()])
        row_counts = counts.sum(axis=1)
        offsets = np.concatenate([[0], np.cumsum(row_counts)])
        ids = self._arrays["ids"][before[0] : before[0] + offsets[-1]].astype(np.int64)
        values = self._arrays["values"][before[1] : before[1] + counts[:, 0].sum()]
        probabilities = np.full(len(ids), self.tau, np.float32)
        place_in_row = np.arange(len(ids)) - np.repeat(offsets[:-1], row_counts)
        probabilities[place_in_row < np.repeat(counts[:, 0], row_counts)] = values.astype(np.float32) / SCALE
        return SparseDistributions(
            offsets=torch.from_numpy(offsets),
            ids=torch.from_numpy(ids),
            probabilities=torch.from_numpy(probabilities),
            entropy=torch.from_numpy(self._arrays["entropy"][start:stop] * np.float32(self._entropy_unit)),
        )

    def batch(self, batch: Batch) -> SparseDistributions:
        """The targets of a batch of windows [B, T], flattened; positions past the end of the stream are empty rows."""
        length = batch.inputs.shape[1]
        windows = []
        for start in batch.starts.tolist():
            window = self[start : start + length]
            if (missing := length - (len(window.offsets) - 1)) > 0:
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
    teacher: Gemma2,
    windows: Windows,
    *,
    bytes_per_token: float,
    temperature: float,
    seed: int,
    windows_per_batch: int = 8,
    progress: Callable[[int, int], None] | None = None,
) -> float:
    """Runs the teacher over every window once and writes its sampled distributions into `folder`.

    Args:
        bytes_per_token: the budget for which tau is solved.
        temperature: divides the teacher's logits.
        seed: of the draws.
        progress: called with the tokens done and the tokens in all.

    Returns:
        The bytes really used per token.

    Raises:
        RequestError: if the budget is too small for any tau.
    """
    device = teacher.model.embed_tokens.weight.device
    vocabulary_size = teacher.config.vocabulary_size

    def expect(batch: Batch) -> tuple[torch.Tensor, np.ndarray]:
        """Distributions [N, V] of the batch's real positions, and those positions [N]."""
        rows = teachers.probabilities(teacher, torch.from_numpy(batch.inputs).to(device), temperature)
        positions = batch.starts[:, None] + np.arange(batch.inputs.shape[1])
        inside = positions < len(windows.shards)
        return rows[torch.from_numpy(inside).to(device)].cpu(), positions[inside]

    id_dtype = "<u2" if vocabulary_size <= 2**16 else "<u4"
    tau = solve_tau(_sample(windows, expect, vocabulary_size, seed), bytes_per_token, np.dtype(id_dtype).itemsize)
    dtypes = {
        "counts": "|u1" if 1 / tau < 250 else "<u2",
        "entropy": "<u2",
        "ids": id_dtype,
        "values": "<u2",
        "index": "<u8",
    }
    writer = _Writer(folder, dtypes)
    try:
        for first in range(0, len(windows), windows_per_batch):
            batch = windows.window_batch(np.arange(first, min(first + windows_per_batch, len(windows))))
            rows, positions = expect(batch)
            drawn = sampling.draw(rows, tau, torch.from_numpy(sampling.offsets(seed, positions)))
            writer.add(drawn, positions, seed, vocabulary_size)
            if progress is not None:
                progress(writer.rows, len(windows.shards))
    finally:
        writer.close()
    info = {"positions": writer.rows, "tau": tau, "temperature": temperature, "vocabulary_size": vocabulary_size}
    artifact.write_json(folder / "info.json", info | {"dtypes": dtypes, "block": BLOCK})
    return TargetStore(folder).bytes_per_token


def solve_tau(probabilities: np.ndarray, bytes_per_token: float, id_bytes: int) -> float:
    """The smallest tau in [1/4096, 1] at which rows like `probabilities` [N, V] take at most the budget on disk.

    Raises RequestError naming the smallest budget that would do.
    """
    fixed = 2 + 2 + 16 / BLOCK  # counts, entropy, index

    def size(tau: float) -> float:
        exact, drawn = sampling.expected_counts(probabilities, tau)
        return fixed + exact * (id_bytes + 2) + drawn * id_bytes + (2 if tau < 1 / 250 else 0)

    if size(1.0) > bytes_per_token:
        raise RequestError(
            f"distill.targets.bytes_per_token = {bytes_per_token:g}: too small; "
            f"at least {math.ceil(size(1.0))} is needed"
        )
    low, high = math.log(1 / 4096), 0.0  # size falls as tau grows
    if size(math.exp(low)) <= bytes_per_token:
        return math.exp(low)
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (low, middle) if size(math.exp(middle)) <= bytes_per_token else (middle, high)
    return math.exp(high)


def _sample(
    windows: Windows,
    expect: Callable[[Batch], tuple[torch.Tensor, np.ndarray]],
    vocabulary_size: int,
    seed: int,
) -> np.ndarray:
    """Distributions [N, V] at random positions of random windows."""
    generator = np.random.default_rng(seed)
    wanted = max(64, min(SAMPLED_POSITIONS, SAMPLED_PROBABILITIES // vocabulary_size))
    sampled: list[torch.Tensor] = []
    for window in generator.permutation(len(windows))[:32]:
        rows, _ = expect(windows.window_batch(np.array([window])))
        keep = generator.permutation(len(rows))[: max(1, wanted // min(32, len(windows)))]
        sampled.append(rows[torch.from_numpy(keep)])
    return torch.cat(sampled).numpy()


class _Writer:
    """Appends draws to the folder's arrays, in stream order."""

    def __init__(self, folder: Path, dtypes: dict[str, str]) -> None:
        self.dtypes = dtypes
        self.files: dict[str, BinaryIO] = {name: (folder / f"{name}.bin").open("wb") for name in ARRAYS}
        self.rows = 0
        self.ends = np.zeros(2, np.int64)  # entries and values written
        self._write("index", self.ends)

    def add(self, draw: sampling.Draw, positions: np.ndarray, seed: int, vocabulary_size: int) -> None:
        counts = draw.counts.numpy()  # [N, 2]
        # Each row's exact ids, then its drawn ones: a stable sort by row of the two lists one after the other.
        rows = np.concatenate([np.repeat(np.arange(len(counts)), counts[:, kind]) for kind in (0, 1)])
        ids = np.concatenate([draw.exact_ids.numpy(), draw.drawn_ids.numpy()])[np.argsort(rows, kind="stable")]
        counter = np.repeat(positions, counts[:, 0]) * vocabulary_size + draw.exact_ids.numpy()
        rounding = sampling.uniform(seed, counter, stream=1)
        values = np.floor(draw.exact_probabilities.numpy().astype(np.float64) * SCALE + rounding)
        self._write("counts", counts)
        self._write("entropy", np.rint(draw.entropy.numpy() * (SCALE / math.log(vocabulary_size))))
        self._write("ids", ids)
        self._write("values", np.minimum(values, SCALE))
        ends = self.ends + np.cumsum(np.stack([counts.sum(axis=1), counts[:, 0]], axis=1), axis=0)  # [N, 2]
        closes_block = (self.rows + np.arange(1, len(counts) + 1)) % BLOCK == 0
        self._write("index", ends[closes_block])
        self.rows += len(counts)
        self.ends = ends[-1]

    def _write(self, name: str, array: np.ndarray) -> None:
        self.files[name].write(np.ascontiguousarray(array).astype(self.dtypes[name]).tobytes())

    def close(self) -> None:
        if self.rows % BLOCK:
            self._write("index", self.ends)
        for file in self.files.values():
            file.close()
