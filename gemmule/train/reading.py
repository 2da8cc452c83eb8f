"""What a step reads: its batch and, where a teacher's targets are stored, these; the next steps' while one computes.

Reading is a function of the step, so a thread that reads ahead changes when the disk and the decoder work, and nothing
else. What is damaged is an error of the step that needs it, or, where the recipe asks for that, skipped.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from types import TracebackType
from typing import Generic, TypeVar

from gemmule.base import ranks
from gemmule.base.progress import say_once
from gemmule.teach.targets.store import TargetStore
from gemmule.tokenize.windows import Batch
from gemmule.train.job import Job

AHEAD = 2  # steps: one may take long, as where a file is read for the first time
Item = TypeVar("Item")


class ReadAhead(Generic[Item]):
    """`ahead(step)` is `read(step)`; a thread meanwhile reads the steps after it, up to `stop`.

    Steps may be asked for in any order; in their own, nobody waits. What `read` raises is raised where the step is
    asked for. The thread ends with the `with` block.
    """

    def __init__(self, read: Callable[[int], Item], stop: int) -> None:
        self._read, self._stop = read, stop
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="read ahead")
        self._begun: dict[int, Future[Item]] = {}

    def __enter__(self) -> ReadAhead[Item]:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._reader.shutdown(cancel_futures=True)

    def __call__(self, step: int) -> Item:
        wanted = range(step, max(step + 1, min(step + 1 + AHEAD, self._stop)))
        for other in self._begun.keys() - set(wanted):
            self._begun.pop(other).cancel()
        for each in wanted:
            if each not in self._begun:
                self._begun[each] = self._reader.submit(self._read, each)
        return self._begun.pop(step).result()


def batch_reader(job: Job) -> Callable[[int], Batch]:
    """The batch of each step of a job, with its stored targets if it learns from such."""
    store = None if job.targets is None else TargetStore(job.targets)

    def read(step: int) -> Batch:
        batch = job.windows.batch(step, job.windows_per_batch, ranks.rank(), ranks.size())
        return batch if store is None else with_targets(batch, store, job.windows.skip_damaged)

    return read


def with_targets(batch: Batch, store: TargetStore, skip_damaged: bool = False) -> Batch:
    """The batch and its stored targets. Raises WorkError where they are damaged, or skips those windows."""
    if skip_damaged:
        batch = _skip_damaged(batch, store)
    return replace(batch, stored=store.batch(batch))


def _skip_damaged(batch: Batch, store: TargetStore) -> Batch:
    mask, damaged = batch.mask.copy(), batch.damaged
    for row, start in enumerate(batch.starts.tolist()):
        damage = store.damage(start, start + mask.shape[1]) if mask[row].any() else None
        if damage is not None:
            say_once(f"{damage}; windows with any of them are skipped")
            mask[row] = False
            damaged += 1
    return replace(batch, mask=mask, damaged=damaged)
