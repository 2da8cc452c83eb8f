"""What the tasks share that have a model write: places spread over a text, and continuations in bounded batches."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from gemmule.base.chunks import chunk_rows
from gemmule.base.progress import Meter, PatientMeter
from gemmule.evaluate.amounts import LARGEST_READ
from gemmule.evaluate.tasks import Asked

ENCODED_AT_ONCE = 256  # documents


def documents(asked: Asked) -> list[NDArray[np.int32]]:
    """The ids of each of the texts, without `<bos>` and `<eos>`: they take no more memory than the texts."""
    encoded: list[NDArray[np.int32]] = []
    with PatientMeter("tokenizing", len(asked.texts), "documents") as meter:
        for start in range(0, len(asked.texts), ENCODED_AT_ONCE):
            some = asked.tokenizer.encode_batch(asked.texts[start : start + ENCODED_AT_ONCE])
            encoded += [np.array(ids, np.int32) for ids in some]
            meter.update(len(encoded))
    return encoded


def spread(counts: Sequence[int], wanted: int, chance: np.random.Generator) -> list[tuple[int, int]]:
    """Which to take of `counts[d]` places in each document d: (d, number of the place), `wanted` of them or all.

    At equal distances from a random start (systematic sampling): every place is as likely, and long documents have
    more of them.
    """
    ends = np.cumsum(counts, dtype=np.int64)
    total = int(ends[-1]) if len(ends) else 0
    taken = min(wanted, total)
    places = np.floor((np.arange(taken) + chance.random()) * (total / max(1, taken))).astype(np.int64)
    found = np.searchsorted(ends, places, side="right")
    return [(int(d), int(place - (ends[d] - counts[d]))) for d, place in zip(found, places, strict=True)]


def continuations(
    asked: Asked,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    title: str,
    stop: Collection[int] = (),
    seeds: Sequence[int] | None = None,
    ended: Callable[[list[int]], bool] | None = None,
) -> list[list[int]]:
    """`Teacher.continuations` in batches of bounded size, with a progress line; each within the model's context.

    A prompt that leaves less room than `max_new_tokens` gets what there is; one that leaves none, nothing.
    """
    rooms = [max(0, min(max_new_tokens, asked.context - len(prompt))) for prompt in prompts]
    written: list[list[int]] = [[] for _ in prompts]
    done = 0
    with Meter(title, max(1, sum(rooms))) as meter:
        for rows in _batches(prompts, rooms, chunk_rows(asked.model.vocabulary_size)):
            room = rooms[rows[0]]
            given = [prompts[row] for row in rows]
            drawn = None if seeds is None else [seeds[row] for row in rows]
            for row, ids in zip(rows, asked.model.continuations(given, room, stop, drawn, ended), strict=True):
                written[row] = ids
            done += room * len(rows)
            meter.update(done)
    return written


def _batches(prompts: Sequence[Sequence[int]], rooms: Sequence[int], most: int) -> Iterator[list[int]]:
    """The prompts with room, by number: those of like length together, and only those with the same room."""
    batch: list[int] = []
    for row in sorted(filter(rooms.__getitem__, range(len(prompts))), key=lambda row: (rooms[row], len(prompts[row]))):
        tokens = (len(batch) + 1) * (len(prompts[row]) + rooms[row])
        if batch and (rooms[row] != rooms[batch[0]] or tokens > LARGEST_READ or len(batch) == most):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
