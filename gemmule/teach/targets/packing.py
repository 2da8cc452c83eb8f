"""The bytes of sampled distributions: about one for a drawn token, two for an exact one.

A row's tokens are numbered by how often the teacher expects them anywhere (rank 0: most often) and put in that order.
Then only the gaps between their ranks are kept, each as a class in unary and its place in the class in plain bits.
Classes are of equal size, 2^k (Golomb 1966; Rice 1979), or each is twice as large as the one before, from 2^k on
(exponential Golomb; Teuhola 1978), which suits the long tails of large vocabularies. Which of the two, and k, follows
from a token's place in its row and the row's length, by small tables fitted to a sample. On the demo's targets that is
within 2% of the entropy of a model that knows every token's frequency, on Gemma 3's near a range coder of the classes
(`benchmarks/fidelity.py`).

Everything is decoded by whole arrays. A block of rows is

    counts     [rows] uint8 or uint16   tokens of each row
    entropy    [rows] uint16            of the teacher's whole distribution: nats * 65535 / log(vocabulary size)
    flags      1 bit a token            whether it has a value of its own, or weighs what all the others do
    values     a few bits for each such a level: of a logarithmic grid up to 1, rounded stochastically, so unbiased; of
                                        RS-KD how often it was drawn
    classes    of the tokens' gaps, unary: that many zeros, then a one
    places     in their classes: k bits, and one more for each class before if classes double

each array padded to whole bytes; bits from the highest down, numbers little-endian.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from gemmule.losses.targets import SparseDistributions
from gemmule.teach.targets import sampling
from gemmule.teach.targets.sampling import Draw, Scheme

PLACES = 8  # a row's tokens are told apart by eighths of it
LENGTHS = 34  # and rows by their length in half octaves: 1, 2, 3, 4, 6, 8, 12, ...
LARGEST_PARAMETER = 24
ENTROPY_SCALE = 65535
TOP_K_BITS = 8
Integers = NDArray[np.int64]
Floats = NDArray[np.float64]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Coding:
    """What encoder and decoder share: what is kept, the tokens by falling frequency, the Rice parameters."""

    scheme: Scheme
    order: Integers  # [V] token ids
    parameters: Integers  # [PLACES, LENGTHS]: k
    doubling: NDArray[np.bool_]  # [PLACES, LENGTHS]: whether classes double

    @cached_property
    def rank(self) -> Integers:
        """[V]: each token's place in the order."""
        return _inverse(self.order)

    @property
    def vocabulary_size(self) -> int:
        return len(self.order)

    @property
    def count_dtype(self) -> np.dtype[np.unsignedinteger]:
        return np.dtype(np.uint8 if self.scheme.most < 256 else "<u2")

    @property
    def value_bits(self) -> int:
        """With a threshold so many that the grid's steps are no larger than the root of tau: then rounding adds little
        to the draws' own variance, step² p² / 4 at most to about tau."""
        if self.scheme.kind == "rs-kd":
            return int(self.scheme.setting).bit_length()
        if self.scheme.kind == "top-k":
            return TOP_K_BITS
        tau = self.scheme.weight
        return max(1, math.ceil(math.log2(1 - math.log(tau) / math.sqrt(tau))))

    def encode(self, draw: Draw, positions: Integers, seed: int) -> bytes:
        """The block of a draw whose rows stand at these positions [rows] of the stream. The seed is of the rounding."""
        row, ids, counts, gaps, probabilities = _entries(draw, self.rank)
        exact = probabilities > 0
        counter = (positions[row] * self.vocabulary_size + ids)[exact]
        levels = self._to_levels(probabilities[exact], sampling.uniform(seed, counter, stream=1))
        contexts = _contexts(counts)
        classes, first, widths = _classes(gaps, self.parameters[contexts], self.doubling[contexts])
        entropy = np.rint(draw.entropy.numpy() * (ENTROPY_SCALE / math.log(self.vocabulary_size)))
        arrays = (
            counts.astype(self.count_dtype),
            entropy.astype("<u2"),
            np.packbits(exact),
            _pack_fields(levels, np.full(len(levels), self.value_bits)),
            _pack_unary(classes),
            _pack_fields(gaps - first, widths),
        )
        return b"".join(array.tobytes() for array in arrays)

    def decode(self, block: bytes, rows: int) -> SparseDistributions:
        """Undoes `encode`. Raises ValueError if the bytes are no block of `rows` rows."""
        rest = np.frombuffer(block, np.uint8)

        def take(size: int) -> Bytes:
            nonlocal rest
            taken, rest = rest[:size], rest[size:]
            if len(taken) < size:
                raise ValueError("the block is cut short")
            return taken

        counts = take(rows * self.count_dtype.itemsize).view(self.count_dtype).astype(np.int64)
        entropy = take(2 * rows).view("<u2").astype(np.float32)
        entries = int(counts.sum())
        exact = np.unpackbits(take(-(-entries // 8)), count=entries).astype(bool)
        widths = np.full(int(exact.sum()), self.value_bits)
        levels = _unpack_fields(take(-(-int(widths.sum()) // 8)), widths)
        classes, size = _unpack_unary(rest, entries)
        take(size)
        contexts = _contexts(counts)
        first, widths = _class_starts(classes, self.parameters[contexts], self.doubling[contexts])
        if len(rest) != -(-int(widths.sum()) // 8):
            raise ValueError("the block's length does not match its tokens")
        gaps = first + _unpack_fields(rest, widths)

        offsets = np.concatenate([[0], np.cumsum(counts)])
        steps = np.concatenate([[0], np.cumsum(gaps + 1)])  # ranks + 1, if all rows were one
        ranks = steps[1:] - np.repeat(steps[offsets[:-1]], counts) - 1
        if entries and ranks.max() >= self.vocabulary_size:
            raise ValueError("the block holds a token outside the vocabulary")
        probabilities = np.full(entries, self.scheme.weight, np.float32)
        probabilities[exact] = self._from_levels(levels)
        return SparseDistributions(
            offsets=torch.from_numpy(offsets),
            ids=torch.from_numpy(self.order[ranks]),
            probabilities=torch.from_numpy(probabilities),
            entropy=torch.from_numpy(entropy * np.float32(math.log(self.vocabulary_size) / ENTROPY_SCALE)),
        )

    def _to_levels(self, probabilities: Floats, uniform: Floats) -> Integers:
        """Points of the grid, for each p one of the two around it, so that the mean is p."""
        weight = self.scheme.weight
        if self.scheme.kind == "rs-kd":
            return np.rint(probabilities / weight).astype(np.int64)
        highest = 2**self.value_bits - 1
        if weight == 1:
            return np.full(len(probabilities), highest)
        place = highest * (1 - np.log(probabilities) / math.log(weight))
        below = np.clip(np.floor(place), 0, highest - 1).astype(np.int64)
        low, high = self._from_levels(below), self._from_levels(below + 1)
        return below + (uniform < (probabilities - low) / (high - low))

    def _from_levels(self, levels: Integers) -> Floats:
        weight = self.scheme.weight
        if self.scheme.kind == "rs-kd":
            return np.asarray(levels * weight)
        return np.asarray(weight ** (1 - levels / (2**self.value_bits - 1)))


def fit(scheme: Scheme, order: Integers, draw: Draw) -> Coding:
    """The coding with the classes that are best for a draw."""
    _, _, counts, gaps, _ = _entries(draw, _inverse(order))
    places, lengths = _contexts(counts)
    parameters, doubling = np.empty((PLACES, LENGTHS), np.int64), np.zeros((PLACES, LENGTHS), bool)
    for length in range(LENGTHS):  # what the draw does not show: as if the row's tokens lay evenly
        tokens = 2 ** (length // 2) * (1 + length % 2 / 2)
        parameters[:, length] = max(0, int(math.log2(len(order) / tokens)))
    for place, length in set(zip(places.tolist(), lengths.tolist(), strict=True)):
        some = gaps[(places == place) & (lengths == length)]
        bits = []
        for kind in (False, True):
            for k in range(LARGEST_PARAMETER + 1):
                classes, _, widths = _classes(some, np.full(len(some), k), np.full(len(some), kind))
                bits.append((classes + 1 + widths).sum())
        doubling[place, length], parameters[place, length] = divmod(int(np.argmin(bits)), LARGEST_PARAMETER + 1)
    return Coding(scheme, order, parameters, doubling)


def _classes(gaps: Integers, k: Integers, doubling: NDArray[np.bool_]) -> tuple[Integers, Integers, Integers]:
    """For each gap its class, the first gap of that class, and the bits of its place there."""
    classes = gaps >> k
    classes = np.where(doubling, np.frexp(classes + 1.0)[1].astype(np.int64) - 1, classes)
    return classes, *_class_starts(classes, k, doubling)


def _class_starts(classes: Integers, k: Integers, doubling: NDArray[np.bool_]) -> tuple[Integers, Integers]:
    exponents = classes * doubling
    if len(classes) and (exponents + k).max() > LARGEST_PARAMETER:
        raise ValueError("the block holds a token outside the vocabulary")
    return np.where(doubling, (1 << exponents) - 1, classes) << k, exponents + k


def _inverse(order: Integers) -> Integers:
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return rank


def _entries(draw: Draw, rank: Integers) -> tuple[Integers, Integers, Integers, Integers, Floats]:
    """A draw's tokens, row by row in the order of their ranks.

    Gives row, id [S], the counts of the rows [N], each token's gap to the rank before it in its row, and its
    probability, or 0 if it was drawn.
    """
    exact, drawn = draw.counts.numpy().T
    every = np.arange(len(exact))
    row = np.concatenate([np.repeat(every, exact), np.repeat(every, drawn)])
    ids = torch.cat([draw.exact_ids, draw.drawn_ids]).numpy()
    probabilities = np.zeros(len(ids))
    probabilities[: len(draw.exact_ids)] = draw.exact_probabilities.numpy()
    by_rank = np.argsort(row * len(rank) + rank[ids])
    row, ids, probabilities = row[by_rank], ids[by_rank], probabilities[by_rank]
    before = np.concatenate([[-1], rank[ids][:-1]])
    before[np.concatenate([[True], row[1:] != row[:-1]])[: len(row)]] = -1
    return row, ids, exact + drawn, rank[ids] - before[: len(ids)] - 1, probabilities


def _contexts(counts: Integers) -> tuple[Integers, Integers]:
    """For each entry of rows of these lengths: its place in the row, in eighths, and the row's length class."""
    first = np.cumsum(counts) - counts
    length = np.repeat(counts, counts)
    place = np.arange(len(length)) - np.repeat(first, counts)
    octave = np.frexp(length)[1].astype(np.int64) - 1
    return place * PLACES // np.maximum(length, 1), 2 * octave + ((length << 1 >> octave) & 1)


def _pack_fields(values: Integers, widths: Integers) -> Bytes:
    """Numbers of these many bits, one after the other."""
    bit = np.repeat(np.cumsum(widths), widths) - np.arange(widths.sum()) - 1  # 0 is a field's lowest
    return np.packbits((np.repeat(values, widths) >> bit & 1).astype(np.uint8))


def _unpack_fields(packed: Bytes, widths: Integers) -> Integers:
    """Undoes `_pack_fields`: each number from the four bytes in which it begins; widths of up to 24 bits."""
    ends = np.cumsum(widths)
    starts = ends - widths
    padded = np.concatenate([packed, np.zeros(4, np.uint8)]).astype(np.int64)
    byte = starts >> 3
    four = padded[byte] << 24 | padded[byte + 1] << 16 | padded[byte + 2] << 8 | padded[byte + 3]
    return four >> (32 - (starts & 7) - widths) & ((1 << widths) - 1)


def _pack_unary(values: Integers) -> Bytes:
    ones = np.cumsum(values + 1) - 1
    bits = np.zeros(ones[-1] + 1 if len(ones) else 0, np.uint8)
    bits[ones] = 1
    return np.packbits(bits)


def _unpack_unary(packed: Bytes, count: int) -> tuple[Integers, int]:
    """That many numbers from the beginning, and the bytes that they take."""
    ones = np.flatnonzero(np.unpackbits(packed))[:count]
    if len(ones) != count:
        raise ValueError(f"the block holds {len(ones)} tokens where its counts say {count}")
    return np.diff(ones, prepend=-1) - 1, int(ones[-1]) // 8 + 1 if count else 0
