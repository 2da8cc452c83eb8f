"""The hashes of files: of large ones several at a time, in threads, for hashing leaves Python's lock to others."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

from gemmule.base.processes import cores

LARGE = 2**20  # bytes of a file from which on a thread is worth it
BLOCK = 2**20
PATIENCE = 0.1  # seconds, in which a signal is heard and the progress is told


class _Progress:
    """Of all threads: the bytes of each file that are behind, and whether to go on."""

    def __init__(self) -> None:
        self.behind: dict[int, int] = {}
        self.finished = 0
        self.stopped = False

    @property
    def bytes(self) -> int:
        return self.finished + sum(list(self.behind.values()))

    def finish(self, number: int) -> None:
        self.finished += self.behind.pop(number, 0)


def sha256_file(path: Path) -> str:
    (found,) = sha256_files([path])
    return found


def sha256_files(paths: Sequence[Path], on_read: Callable[[int], object] = int) -> Generator[str]:
    """The sha256 of each file, in their order; `on_read` is told how many bytes of them all are read.

    Raises OSError for one that can't be read, when it is its turn.
    """
    progress = _Progress()
    large = [number for number, path in enumerate(paths) if _size(path) >= LARGE]
    pool = ThreadPoolExecutor(min(cores(), len(large)) or 1)
    try:
        futures: dict[int, Future[str]] = {}
        if len(large) > 1:
            futures = {number: pool.submit(_sha256, number, paths[number], progress, int) for number in large}
        for number, path in enumerate(paths):
            if (future := futures.pop(number, None)) is None:
                found = _sha256(number, path, progress, on_read)
            else:
                while wait([future], PATIENCE).not_done:
                    on_read(progress.bytes)
                found = future.result()
            progress.finish(number)
            on_read(progress.bytes)
            yield found
    finally:
        progress.stopped = True
        pool.shutdown(cancel_futures=True)


def _sha256(number: int, path: Path, progress: _Progress, on_read: Callable[[int], object]) -> str:
    whole, behind = hashlib.sha256(), 0
    with path.open("rb", buffering=0) as file:
        while not progress.stopped and (block := file.read(BLOCK)):
            whole.update(block)
            progress.behind[number] = behind = behind + len(block)
            on_read(progress.bytes)
    return whole.hexdigest()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # which is said when it is its turn
        return 0
