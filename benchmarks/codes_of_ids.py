"""What `fidelity.py` shows beside its table: other codes for the ids of stored targets, and what coding costs."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from typing import Any

import common
import numpy as np
import torch
from rich.table import Table
from torch import Tensor

from gemmule.teach.targets import packing
from gemmule.teach.targets.packing import Coding
from gemmule.teach.targets.sampling import Draw
from gemmule.teach.targets.store import BLOCK


def show_codes(coding: Coding, draw: Draw) -> None:
    """The ids of the same draws under other codes: bytes per position, and how fast they are read."""
    import constriction
    from backports import zstd

    blocks = [draw[start : start + BLOCK] for start in range(0, len(draw) // BLOCK * BLOCK, BLOCK)]
    entries = [packing._entries(block, coding.rank) for block in blocks]
    table = Table("code of the ids", "bytes per position", "positions/s read", "what is timed")
    rows = BLOCK * len(blocks)

    def add(
        name: str, encoded: list[Any], decode: Callable[[Any], object], size: Callable[[Any], int], what: str
    ) -> None:
        for one in encoded[:1]:
            decode(one)
        best = math.inf
        for _ in range(5):
            started = time.process_time()
            for one in encoded:
                decode(one)
            best = min(best, time.process_time() - started)
        total = sum(size(one) for one in encoded)
        table.add_row(name, f"{total / rows:.2f}", f"{rows / best:,.0f}", what)

    whole = [coding.encode(block, np.arange(BLOCK), 0) for block in blocks]
    add("whole blocks", whole, lambda block: coding.decode(block, BLOCK), len, "the block: ids, values, entropy")
    codes = {
        "these classes": coding,
        "Rice alone": dataclasses.replace(coding, doubling=np.zeros_like(coding.doubling)),
    }
    for name, code in codes.items():
        if name == "Rice alone":  # fitted to these very draws
            code = dataclasses.replace(code, parameters=_rice(entries))
        packed = []
        for _, _, counts, gaps, _ in entries:
            contexts = packing._contexts(counts)
            classes, first, widths = packing._classes(gaps, code.parameters[contexts], code.doubling[contexts])
            packed.append((packing._pack_unary(classes), packing._pack_fields(gaps - first, widths), counts))

        def read(one: Any, code: Coding = code) -> object:
            contexts = packing._contexts(one[2])
            classes, _ = packing._unpack_unary(one[0], len(contexts[0]))
            first, widths = packing._class_starts(classes, code.parameters[contexts], code.doubling[contexts])
            return first + packing._unpack_fields(one[1], widths)

        add(name, packed, read, lambda one: len(one[0]) + len(one[1]), "the gaps")
    for level in (3, 19):
        packed = [zstd.compress(_varint(gaps), level) for _, _, _, gaps, _ in entries]
        add(
            f"varint, zstd {level}",
            packed,
            lambda one: np.frombuffer(zstd.decompress(one), np.uint8),
            len,
            "zstd alone",
        )
    # Elias: the gap's length in bits by a range coder, by its place in the row; the bits below it as they are
    lengths = [np.frexp(gaps + 1.0)[1].astype(np.int32) - 1 for _, _, _, gaps, _ in entries]
    places = [packing._contexts(counts)[0] for _, _, counts, _, _ in entries]
    models = []
    for place in range(packing.PLACES):
        some = np.concatenate([one[where == place] for one, where in zip(lengths, places, strict=True)])
        chances = np.bincount(some, minlength=20) + 0.1
        models.append(constriction.stream.model.Categorical(chances / chances.sum(), perfect=False))
    ranged = []
    for length, place in zip(lengths, places, strict=True):
        streams = []
        for number, model in enumerate(models):
            coder = constriction.stream.queue.RangeEncoder()
            coder.encode(length[place == number], model)
            streams.append((coder.get_compressed(), int((place == number).sum())))
        ranged.append((streams, int(length.sum())))

    def read_ranged(one: Any) -> object:
        return [
            constriction.stream.queue.RangeDecoder(words).decode(model, count)
            for (words, count), model in zip(one[0], models, strict=True)
        ]

    add(
        "range coder (constriction)",
        ranged,
        read_ranged,
        lambda one: sum(4 * len(words) for words, _ in one[0]) + -(-one[1] // 8),
        "the lengths alone",
    )
    common.show(table)


def show_speed(coding: Coding, draw: Draw, head: Tensor) -> None:
    """What sampling and coding take beside the head's own multiplications, taken in turn: CPU time of a position."""
    hidden = torch.randn(64, head.shape[1])
    logits = hidden @ head.T / head.shape[1] ** 0.5
    positions, rows = np.arange(64), draw[:BLOCK]
    block = coding.encode(rows, np.arange(BLOCK), 0)
    work: dict[str, tuple[int, Callable[[], object]]] = {
        "the head's multiplications": (64, lambda: hidden @ head.T),
        "softmax": (64, lambda: torch.softmax(logits, dim=-1)),
        "sampling (with its own softmax and entropy)": (64, lambda: coding.scheme.draw(logits, 0, positions)),
        "encoding": (BLOCK, lambda: coding.encode(rows, np.arange(BLOCK), 0)),
        "decoding": (BLOCK, lambda: coding.decode(block, BLOCK)),
    }
    best = dict.fromkeys(work, math.inf)
    for _ in range(5):
        for name, (count, do) in work.items():
            started = time.process_time()
            do()
            best[name] = min(best[name], (time.process_time() - started) / count)
    table = Table("of one position", "CPU microseconds", "positions/s")
    for name, seconds in best.items():
        table.add_row(name, f"{seconds * 1e6:,.1f}", f"{1 / seconds:,.0f}")
    common.show(table)


def _rice(entries: list[Any]) -> np.ndarray:
    """The Rice parameter that is best for these gaps, by their place and their row's length."""
    contexts = [packing._contexts(counts) for _, _, counts, _, _ in entries]
    places, lengths = (np.concatenate(parts) for parts in zip(*contexts, strict=True))
    gaps = np.concatenate([entry[3] for entry in entries])
    best = np.zeros((packing.PLACES, packing.LENGTHS), np.int64)
    for place, length in set(zip(places.tolist(), lengths.tolist(), strict=True)):
        some = gaps[(places == place) & (lengths == length)]
        best[place, length] = int(np.argmin([((some >> k) + k).sum() for k in range(20)]))
    return best


def _varint(gaps: np.ndarray) -> bytes:
    out = bytearray()
    for gap in gaps.tolist():
        while gap > 127:
            out.append(gap & 127 | 128)
            gap >>= 7
        out.append(gap)
    return bytes(out)
