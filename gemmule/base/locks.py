"""Locks of folders: by the kernel (flock), or by the library filelock where that is not available (Windows).

A kernel lock dies with its process, whatever ended it: whether a folder is held says whether its run goes on, where
a process's number could be another's by now.
"""

from __future__ import annotations

import errno
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from gemmule.base.errors import RequestError, cannot_write

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"  # holds the number of the process that held it last
HELD = ".lock.held"  # filelock's own, where there is no flock
TRIES, PAUSE = 10, 0.05  # `is_held` takes the lock for a moment, which is no reason to refuse


@contextmanager
def lock(folder: Path, *, shared: bool = False, wait: Callable[[str], None] | None = None) -> Iterator[None]:
    """Holds `folder` against other processes; makes it, if it is not there.

    With `shared` other sharers may hold it too (without flock they take turns). With `wait` it waits for its turn and
    says so; else raises RequestError naming the process that holds it. Raises GemmuleError if it can't be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / LOCK).open("ab+", buffering=0)
    except OSError as error:
        raise cannot_write(folder, error) from error
    with handle:
        for left in reversed(range(TRIES)):
            if (release := _take(handle, folder, shared)) is not None:
                break
            if left:
                time.sleep(PAUSE)
        if release is None:
            handle.seek(0)
            holder = f"{folder} is in use by process {handle.read().decode().strip() or 'unknown'}"
            if wait is None:
                raise RequestError(f"{holder}; wait for it, or choose another folder with --out")
            wait(f"{holder}; waiting for it")
            release = _take(handle, folder, shared, waiting=True)
            assert release is not None
        try:
            _sign(handle, folder)
            yield
        finally:
            release()


def is_held(folder: Path) -> bool:
    """Whether a process has `folder` for itself."""
    try:
        handle = (folder / LOCK).open("rb")
    except OSError:
        return False
    with handle:
        release = _take(handle, folder, shared=True)
        if release is not None:
            release()
        return release is None


def _take(handle: IO[bytes], folder: Path, shared: bool, waiting: bool = False) -> Callable[[], object] | None:
    """The lock, as a function that gives it back; None while someone else has it."""
    if fcntl is None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a system without any lock: filelock has a way for it as well
            import filelock
        held = filelock.FileLock(folder / HELD, timeout=-1 if waiting else 0)
        try:
            held.acquire()
        except filelock.Timeout:
            return None
        return held.release
    mode = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(handle, mode if waiting else mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    return handle.close


def _sign(handle: IO[bytes], folder: Path) -> None:
    """Leaves this process's number, for whoever finds the folder held; a full disk may have no room for it."""
    try:
        handle.truncate(0)
        handle.write(f"{os.getpid()}\n".encode())
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise cannot_write(folder, error) from error
