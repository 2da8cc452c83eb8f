"""Windows of the token stream, in the order of training: a pure function of seed, step, rank and world size.

- Window i holds the stream's tokens [iL, (i+1)L) as targets, L = `sequence_length`; its inputs are `<bos>` and the
  first L - 1 of them. So every token is a target exactly once an epoch, every window starts with the `<bos>` that a
  Gemma teacher needs, and a student sees exactly the context that its teacher saw.
- A model that expects no token there (Qwen) gets none: inputs are the window's first L - 1 tokens and targets the last
  L - 1; the window's first token is context only.
- Each epoch reads all windows in an order of its own. The order is computed, not kept: a permutation by a Feistel
  network over the numbers 0..n-1 (Black and Rogaway 2002, "Ciphers with arbitrary finite domains", FE-1).
- There is no state: any step is reachable at once, by any number of ranks.
- A window with a damaged token is an error, or, where that is asked for, skipped: nothing in it is read or learned.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gemmule.base.errors import RequestError
from gemmule.base.progress import say_once
from gemmule.base.splitmix import GOLDEN, following
from gemmule.tokenize.shards import TokenShards

if TYPE_CHECKING:
    import torch

    from gemmule.losses.targets import SparseDistributions

ROUNDS = 8  # half-rounds; four already pass for random (Luby and Rackoff 1988), small domains mix slower


@dataclass(frozen=True)
class Batch:
    """B windows of T tokens; T is one less than the window's length where no `<bos>` goes in front.

    inputs, targets: [B, T] int64; mask: [B, T] bool, True where the target counts in the loss; starts: [B] int64, the
    position in the stream of each window's first target; documents: [B, T] int64, the document of each input, where
    documents are to be kept apart; stored: B * T rows, what the teacher expected at each target, where that is stored.
    `batch[rows]` are some of the windows.

    damaged: of the whole batch, how many windows are skipped because they are.
    """

    inputs: NDArray[np.int64]
    targets: NDArray[np.int64]
    mask: NDArray[np.bool_]
    starts: NDArray[np.int64]
    documents: NDArray[np.int64] | None = None
    stored: SparseDistributions | None = None
    damaged: int = 0

    def __getitem__(self, rows: slice) -> Batch:
        documents = None if self.documents is None else self.documents[rows]
        first, last, _ = rows.indices(len(self.starts))
        length = self.targets.shape[1]
        stored = None if self.stored is None else self.stored[first * length : last * length]
        return Batch(self.inputs[rows], self.targets[rows], self.mask[rows], self.starts[rows], documents, stored)

    def model_inputs(self, device: torch.device | str) -> dict[str, torch.Tensor]:
        """What a model reads, on its device: `ids`, and `documents` where they are to be kept apart."""
        import torch

        read = {"ids": torch.from_numpy(self.inputs).to(device)}
        if self.documents is not None:
            read["documents"] = torch.from_numpy(self.documents).to(device)
        return read


class Windows:
    """The windows of a token stream. `len()` is their number; the last one may be short: padded, and masked out.

    With `separate_documents` a batch says which document each input belongs to, so that attention keeps them apart, and
    each begins with a `<bos>` of its own, in the place of the last one's `<eos>`: it is read as if it stood alone.

    With `skip_damaged` a window with a damaged token is all padding and masked out, and it is said.
    """

    def __init__(
        self,
        shards: TokenShards,
        sequence_length: int,
        bos_id: int | None,
        pad_id: int,
        seed: int = 0,
        *,
        separate_documents: bool = False,
        skip_damaged: bool = False,
    ) -> None:
        """`bos_id` goes in front of every window; None: nothing does.

        Raises RequestError if there are no tokens or `sequence_length` is not positive.
        """
        if sequence_length < 1:
            raise RequestError(f"sequence_length {sequence_length}: a window holds at least 1 token")
        if not len(shards):
            raise RequestError(f"{shards.path}: holds no tokens: 0 found, at least 1 needed")
        self.shards = shards
        self.sequence_length = sequence_length
        self.bos_id = bos_id
        self.pad_id = pad_id
        self.seed = seed
        self.separate_documents = separate_documents
        self.skip_damaged = skip_damaged

    def __len__(self) -> int:
        return -(-len(self.shards) // self.sequence_length)

    def batch(self, step: int, windows_per_batch: int, rank: int = 0, world_size: int = 1) -> Batch:
        """What rank `rank` of `world_size` reads at `step` (from 0): its part of the step's windows, in order.

        The step's windows are the numbers step * windows_per_batch + j of an endless sequence, epoch after epoch, so
        they don't depend on the number of ranks. B = windows_per_batch / world_size, rounded up: all ranks get as many,
        and what that is too many is the step's last window again, masked out.

        Raises RequestError if there are no windows in a batch.
        """
        if windows_per_batch < 1:
            raise RequestError(f"{windows_per_batch} windows a batch: at least 1 is needed")
        if step < 0 or not 0 <= rank < world_size:
            raise ValueError(f"step {step}, rank {rank} of {world_size}")
        share = -(-windows_per_batch // world_size)
        mine = np.arange(rank * share, (rank + 1) * share, dtype=np.int64)
        numbers = step * windows_per_batch + np.minimum(mine, windows_per_batch - 1)
        epochs, places = np.divmod(numbers, len(self))
        batch = self.window_batch(permute(places, len(self), self.seed, epochs))
        batch.mask[mine >= windows_per_batch] = False
        return batch

    def window_batch(self, indices: Sequence[int] | NDArray[np.int64] | range) -> Batch:
        """The windows of these numbers, in this order.

        Raises IndexError for a number that is no window's, WorkError naming tokens that are damaged.
        """
        windows = np.asarray(indices, dtype=np.int64)
        if len(windows) and (windows.min() < 0 or windows.max() >= len(self)):
            raise IndexError(f"windows {windows.min()} to {windows.max()} of {len(self)}")
        shape = (len(windows), self.sequence_length)
        starts = windows * self.sequence_length
        targets = np.full(shape, self.pad_id, np.int64)
        mask = np.zeros(shape, bool)
        damaged = 0
        for row, start in enumerate(starts.tolist()):
            stop = min(start + self.sequence_length, len(self.shards))
            if self.skip_damaged and (damage := self.shards.damage(start, stop)):
                say_once(f"{damage}; windows with any of them are skipped")
                damaged += 1
                continue
            targets[row, : stop - start] = self.shards[start:stop]
            mask[row, : stop - start] = self.shards.mask(start, stop)
        if self.bos_id is None:
            inputs, targets, mask, starts = targets[:, :-1], targets[:, 1:], mask[:, 1:], starts + 1
        else:
            inputs = np.concatenate([np.full((len(windows), 1), self.bos_id, np.int64), targets[:, :-1]], axis=1)
        documents = None
        if self.separate_documents:
            documents = self._documents(starts, inputs.shape[1])
            if self.bos_id is not None:
                inputs[:, 1:][documents[:, 1:] != documents[:, :-1]] = self.bos_id
        return Batch(inputs, targets, mask, starts, documents, damaged=damaged)

    @property
    def learned_share(self) -> float:
        """Of the tokens that the windows have room for, those that count in the loss: no padding, and no masks."""
        learned = self.shards.learned_tokens - (len(self) if self.bos_id is None else 0)
        return learned / (len(self) * self.sequence_length)

    def documents_of(self, batch: Batch) -> list[int]:
        """The numbers of the documents that a batch's targets lie in, ascending."""
        positions = batch.starts[:, None] + np.arange(batch.targets.shape[1])
        found = np.searchsorted(self.shards.document_starts, positions[batch.mask], side="right") - 1
        return [int(number) for number in np.unique(found)]

    def _documents(self, starts: NDArray[np.int64], tokens: int) -> NDArray[np.int64]:
        """The number of the document of each input, [B, T]: with a `<bos>` that of its target, else its own."""
        positions = starts[:, None] + np.arange(tokens) - (self.bos_id is None)
        return np.searchsorted(self.shards.document_starts, positions, side="right") - 1


def permute(places: NDArray[np.int64], n: int, seed: int, epochs: NDArray[np.int64] | int) -> NDArray[np.int64]:
    """For each place 0 <= i < n the number that stands there in the shuffled order 0..n-1 of (seed, epoch).

    places: [B]; epochs: [B] or one for all. Nothing of size n is made.
    """
    epoch_of = np.broadcast_to(epochs, places.shape).astype(np.uint64)
    keys = following(following(np.array([seed % 2**64], np.uint64)) ^ epoch_of)
    numbers = _feistel(places.astype(np.uint64), n, keys)
    # the network permutes a little more than 0..n-1; whoever lands outside walks on until it is inside again
    while (outside := numbers >= n).any():
        numbers[outside] = _feistel(numbers[outside], n, keys[outside])
    return numbers.astype(np.int64)


def _feistel(numbers: NDArray[np.uint64], n: int, keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Permutes 0..ab-1, where ab is the smallest rectangle over n with sides of about sqrt(n).

    A number is a place (left, right) in the rectangle. Each half-round moves one coordinate, around its side, by a
    hash of the other: that can be undone, so it is a permutation, and so are they all together.
    """
    a = np.uint64(math.isqrt(n - 1) + 1)
    b = np.uint64(-(-n // int(a)))
    left, right = np.divmod(numbers, b)
    for _ in range(ROUNDS // 2):
        left = (left + following(right ^ keys) % a) % a
        keys = keys + GOLDEN  # far from the key before in its high bits: each half-round has a hash of its own
        right = (right + following(left ^ keys) % b) % b
        keys = keys + GOLDEN
    return left * b + right
