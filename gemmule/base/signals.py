"""What a signal from outside does: the command saves and ends, whatever step it is in.

    SIGINT   a person's Ctrl-C                                      KeyboardInterrupt, exit status 130
    SIGTERM  Slurm's, a spot machine's before it is taken away      Terminated, 143
    SIGHUP   a terminal or SSH session that was closed              HungUp, 129

Each is raised in the main thread as an exception, so that all that is being written is cleaned up. Training finishes
its step first (`train/stopping.py`). SIGHUP is left alone where it is ignored: that is what nohup is for.

A library may swallow the exception (PyTorch does, while it imports numpy), or make an error of its own of it: what was
raised is `pending` until the command ends.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from gemmule.base.errors import HungUp, Terminated

INTERRUPTED = 130  # exit status of Ctrl-C; the others' is their exceptions' own
Stop = type[KeyboardInterrupt] | type[Terminated] | type[HungUp]
REASONS: dict[int, Stop] = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Terminated}
if hasattr(signal, "SIGHUP"):  # Windows has none
    REASONS[signal.SIGHUP] = HungUp


AT_ONCE = 0.3  # seconds: a terminal that is closed sends SIGHUP twice, itself and by its shell
_pending: Stop | None = None
_last = -AT_ONCE  # when a signal came


def pending() -> Stop | None:
    """What a signal has raised in this command."""
    return _pending


def check() -> None:
    """Raises again what was swallowed."""
    if _pending is not None:
        raise _pending


@contextmanager
def handled(handler: Callable[[Stop], None]) -> Iterator[None]:
    """Within this, `handler` is called with what the signal is to raise; once for those that come at once.

    In another than the main thread: nothing.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        global _last
        now = time.monotonic()
        if now - _last >= AT_ONCE:
            _last = now
            handler(REASONS[number])

    with _handlers(handle, [number for number in REASONS if not _is_nohup(number)]):
        yield


@contextmanager
def raised() -> Iterator[None]:
    """Within this, a command, a signal raises its exception at once. After one no other disturbs the process's end."""
    global _pending, _last

    def now(reason: Stop) -> None:
        global _pending
        _pending = reason
        raise reason

    _pending, _last = None, -AT_ONCE
    try:
        with handled(now):
            yield
    finally:
        if _last >= 0 and threading.current_thread() is threading.main_thread():
            for number in REASONS:
                signal.signal(number, signal.SIG_IGN)


@contextmanager
def deferred() -> Iterator[None]:
    """Within this a signal waits. PyTorch's import, some seconds, aborts the process where an exception enters it."""

    def later(reason: Stop) -> None:
        global _pending
        _pending = reason

    with handled(later):
        yield
    check()


@contextmanager
def ignored() -> Iterator[None]:
    """Within this, no signal interrupts: for the few lines that say how a run ended."""
    with _handlers(signal.SIG_IGN, list(REASONS)):
        yield


@contextmanager
def _handlers(handler: Any, numbers: list[int]) -> Iterator[None]:
    before: dict[int, Any] = {}
    try:
        try:
            for number in numbers:
                before[number] = signal.signal(number, handler)
        except ValueError:  # not in the main thread: signals go elsewhere
            assert not before
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier if earlier is not None else signal.SIG_DFL)


def _is_nohup(number: int) -> bool:
    return REASONS[number] is HungUp and signal.getsignal(number) is signal.SIG_IGN
