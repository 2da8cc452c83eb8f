"""Targets: a teacher's distributions at every token of the stream, sampled once, stored, and read by any student.

- Addressed by stream position: any batch size, order, number of ranks or restart reads the right ones.
- Small: a tail token needs no value, only its id (`sampling.py`), and about a byte for that (`packing.py`).
- Every block of 256 positions has a checksum, held against what is read. Any number of processes may read at once.

The folder (made by `parts.py`) holds `info.json` (what is kept, Rice parameters, sizes) and little-endian arrays:

    order.bin    [V] uint16 or uint32   token ids by falling frequency
    index.bin    [N / 256] of 12 bytes  uint64 where the block ends in blocks.bin, uint32 its CRC-32
    blocks.bin                          the blocks, as `packing.py` has them

`docs/targets.md` is the format's description for other programs.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch

from gemmule.base import artifact
from gemmule.base.errors import WorkError
from gemmule.base.vocabulary import id_bytes, id_type
from gemmule.losses.targets import SparseDistributions
from gemmule.teach.targets.packing import Coding
from gemmule.teach.targets.sampling import Kind, Scheme
from gemmule.tokenize.windows import Batch

FORMAT = artifact.FORMAT_VERSIONS["targets"]
BLOCK = 256  # rows
INFO, ORDER, ARRAYS = "info.json", "order.bin", ("blocks.bin", "index.bin", "order.bin")
INDEX = np.dtype([("end", "<u8"), ("crc", "<u4")])
Rest = Literal["bucket", "dropped", "renormalised"]


class TargetStore:
    """The stored distributions of a token stream.

    `store[start:stop]` are the distributions OF stream tokens start..stop: what the teacher expected there, as a
    SparseDistributions of stop - start rows, entropies included. `len(store)` is the number of positions.

    Raises WorkError where the folder, or a block that is read, is damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.coding, info = read_coding(self.path)
        self.positions: int = info["positions"]
        self.rest: Rest = info["rest"]
        try:
            self._index = np.fromfile(self.path / "index.bin", INDEX)
            self._blocks = np.memmap(self.path / "blocks.bin", np.uint8, "r")
        except (OSError, ValueError) as error:
            raise WorkError(f"{self.path}: not a folder of targets that can be read ({error})") from None
        whole = self.positions > 0 and len(self._index) == -(-self.positions // BLOCK)
        if not whole or len(self._blocks) != self._index["end"][-1]:
            raise _cut_short(self.path)

    def __len__(self) -> int:
        return self.positions

    @property
    def bytes_per_token(self) -> float:
        """Bytes on disk, index included, for each position."""
        return sum((self.path / name).stat().st_size for name in ARRAYS) / len(self)

    def __getitem__(self, rows: slice) -> SparseDistributions:
        start, stop, stride = rows.indices(len(self))
        if stride != 1:
            raise ValueError("targets can be read as ranges of consecutive positions only")
        stop = max(start, stop)
        first, last = start // BLOCK, max(start, stop - 1) // BLOCK
        blocks = [self._decode(number) for number in range(first, min(last + 1, len(self._index)))]
        found = SparseDistributions.concatenate(blocks)[start - first * BLOCK : stop - first * BLOCK]
        return found if self.coding.scheme.kind != "top-k" else with_rest(found, self.rest)

    def block(self, number: int) -> bytes:
        """The bytes of a block of 256 positions, held against their checksum."""
        block = self._bytes(number)
        if zlib.crc32(block.data) != self._index["crc"][number]:
            raise self._damaged(number, "checksum mismatch")
        return block.tobytes()

    def damage(self, start: int, stop: int) -> str | None:
        """Which block of the targets start..stop is not what was written; None if all are whole."""
        for number in range(start // BLOCK, -(-min(stop, len(self)) // BLOCK)):
            if zlib.crc32(self._bytes(number).data) != self._index["crc"][number]:
                return f"{self.path / 'blocks.bin'}: targets from {number * BLOCK} on: checksum mismatch"
        return None

    def _bytes(self, number: int) -> np.ndarray:
        begin = int(self._index["end"][number - 1]) if number else 0
        return self._blocks[begin : int(self._index["end"][number])]

    def _decode(self, number: int) -> SparseDistributions:
        try:
            return self.coding.decode(self.block(number), min(BLOCK, len(self) - number * BLOCK))
        except ValueError as error:
            raise self._damaged(number, error) from None

    def _damaged(self, number: int, why: object) -> WorkError:
        return WorkError(
            f"{self.path / 'blocks.bin'}: damaged from position {number * BLOCK} on: {why}; "
            "move the folder away and make the targets again"
        )

    def batch(self, batch: Batch) -> SparseDistributions:
        """The targets of a batch of windows [B, T], flattened.

        Positions past the end of the stream are empty rows, and so are windows that are fully masked.
        """
        length = batch.inputs.shape[1]
        windows = []
        for start, mask in zip(batch.starts.tolist(), batch.mask, strict=True):
            window = self[start : start + length] if mask.any() else _no_rows()
            if (missing := length - len(window)) > 0:
                window = SparseDistributions(
                    torch.cat([window.offsets, window.offsets[-1:].expand(missing)]),
                    window.ids,
                    window.probabilities,
                    None if window.entropy is None else torch.nn.functional.pad(window.entropy, (0, missing)),
                    window.rest,
                )
            windows.append(window)
        return SparseDistributions.concatenate(windows)


def _no_rows() -> SparseDistributions:
    return SparseDistributions(torch.zeros(1, dtype=torch.int64), torch.empty(0, dtype=torch.int64),
                               torch.empty(0), torch.empty(0))  # fmt: skip


def with_rest(top: SparseDistributions, rest: Rest) -> SparseDistributions:
    """A teacher's top k with the mass that they lack dropped, shared among them, or as one bucket more.

    The entropy is that of the whole distribution where the mass is dropped, else of what the row then is.
    """
    if rest == "dropped":
        return top
    p = top.probabilities if rest == "bucket" else top.probabilities / top.mass[top.rows]
    row = replace(top, probabilities=p, rest=rest == "bucket")
    return replace(row, entropy=row.known_entropy())


def write_coding(folder: Path, coding: Coding, positions: int, temperature: float, rest: Rest) -> None:
    """What all blocks share, as `info.json` and `order.bin`; the former comes last, and whole."""
    coding.order.astype(id_type(coding.vocabulary_size)).tofile(folder / ORDER)
    info = {
        "format": FORMAT,
        "kind": coding.scheme.kind,
        "setting": coding.scheme.setting,
        "rest": rest,
        "positions": positions,
        "vocabulary_size": coding.vocabulary_size,
        "temperature": temperature,
        "weight": coding.scheme.weight,
        "value_bits": coding.value_bits,
        "count_bytes": coding.count_dtype.itemsize,
        "parameters": coding.parameters.tolist(),
        "doubling": coding.doubling.astype(int).tolist(),
    }
    artifact.write_json(folder / INFO, info)


def read_coding(folder: Path) -> tuple[Coding, dict[str, Any]]:
    """What `write_coding` wrote. Raises WorkError."""
    try:
        info: dict[str, Any] = json.loads((folder / INFO).read_text(encoding="utf-8"))
        if info["format"] != FORMAT:
            raise ValueError(f"format {info['format']}, and this version of gemmule reads {FORMAT}")
        if info["kind"] not in get_args(Kind) or info["rest"] not in get_args(Rest):
            raise ValueError(f"kind {info['kind']!r} with rest {info['rest']!r} is unknown")
        order = np.fromfile(folder / ORDER, id_type(info["vocabulary_size"])).astype(np.int64)
        coding = Coding(Scheme(info["kind"], info["setting"]), order, *_tables(info))
        info["positions"] = int(info["positions"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WorkError(f"{folder}: not a folder of targets that can be read ({error})") from None
    if len(order) != info["vocabulary_size"]:
        raise _cut_short(folder)
    return coding, info


def _tables(info: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    return np.array(info["parameters"]), np.array(info["doubling"], bool)


def bytes_held_once(vocabulary_size: int) -> int:
    """What a folder holds beside its blocks, however many there are."""
    return id_bytes(vocabulary_size) * vocabulary_size


def _cut_short(folder: Path) -> WorkError:
    return WorkError(f"{folder}: truncated: its files do not have the lengths that its info.json says")
