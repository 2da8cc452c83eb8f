"""Other processes that work through a list, with their results in the order of the list.

Each is a Python of its own that reads from a pipe what to do: the caller's script is not run again in it, as
multiprocessing's are, nothing is forked beside threads, and it ends when its pipe closes, however this process ended.
Signals go to this process alone, which ends the others.
"""

from __future__ import annotations

import os
import pickle
import selectors
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any, TypeVar

from gemmule.base.errors import GemmuleError, WorkError

Item = TypeVar("Item")
Result = TypeVar("Result")
SERVE = "from gemmule.base.processes import serve; serve()"


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Workers:
    """`count` processes, started when they are first needed; with one, the work is done in this process."""

    def __init__(self, count: int | None = None) -> None:
        self.count = count or cores()
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                try:
                    pipe.close()
                except OSError:  # what was not sent to one that has died
                    continue
        self._processes = []

    def in_order(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """`function` of each item, in the order of the items; no more than one for each process is taken ahead.

        Function, items and results are sent by pickle. Raises what the function raises, for the first item of which it
        does; WorkError where a process dies.
        """
        if self.count == 1:
            yield from map(function, items)
            return
        waiting = enumerate(items)
        done: dict[int, tuple[bool, Any]] = {}
        task = pickle.dumps(function)
        busy: dict[int, subprocess.Popen[bytes]] = {}  # the numbers of items that are out
        idle = list(self._processes)
        told: set[int] = set()  # the processes that have this function
        upcoming, over = 0, False
        with selectors.DefaultSelector() as selector:
            try:
                while not over or busy or done:
                    while not over and len(busy) + len(done) < 2 * self.count and (idle or self._may_start()):
                        if (taken := next(waiting, None)) is None:
                            over = True
                            break
                        process = idle.pop() if idle else self._start()
                        number, item = taken
                        _send(process, (None if process.pid in told else task, item))
                        told.add(process.pid)
                        busy[number] = process
                        selector.register(_output(process), selectors.EVENT_READ, number)
                    while upcoming in done:
                        worked, result = done.pop(upcoming)
                        upcoming += 1
                        if not worked:
                            raise result
                        yield result
                    if not busy:
                        continue
                    for key, _ in selector.select():
                        process = busy.pop(key.data)
                        selector.unregister(key.fileobj)
                        done[key.data] = _receive(process)
                        idle.append(process)
            finally:
                if busy:  # what is out is of no use any more
                    self.__exit__()

    def _may_start(self) -> bool:
        return len(self._processes) < self.count

    def _start(self) -> subprocess.Popen[bytes]:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
        process = subprocess.Popen(
            [sys.executable, "-c", SERVE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            bufsize=2**16,
            process_group=None if os.name == "nt" else 0,  # a terminal's Ctrl-C is for this process alone
        )
        self._processes.append(process)
        return process


def _output(process: subprocess.Popen[bytes]) -> IO[bytes]:
    assert process.stdout is not None
    return process.stdout


def _send(process: subprocess.Popen[bytes], message: object) -> None:
    assert process.stdin is not None
    try:
        pickle.dump(message, process.stdin)
        process.stdin.flush()
    except BrokenPipeError:
        raise _died(process) from None


def _receive(process: subprocess.Popen[bytes]) -> tuple[bool, Any]:
    try:
        worked, result = pickle.load(_output(process))
    except (EOFError, pickle.UnpicklingError):
        raise _died(process) from None
    return worked, result


def _died(process: subprocess.Popen[bytes]) -> WorkError:
    status = process.wait()
    why = f"killed by signal {-status}: out of memory?" if status < 0 else f"exit status {status}"
    return WorkError(f"a worker process died ({why}); the same command resumes; machine.processes = 1 uses none")


def serve() -> None:
    """What such a process does: until its pipe ends, the function that it was told, of each item."""
    for number in (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])):
        signal.signal(number, signal.SIG_IGN)
    results = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what anything prints is not taken for a result
    function: Callable[[Any], Any] | None = None
    while True:
        try:
            task, item = pickle.load(sys.stdin.buffer)
            if task is not None:
                function = pickle.loads(task)
            assert function is not None
        except EOFError:
            return
        try:
            answer = (True, function(item))
        except GemmuleError as error:
            answer = (False, error)
        except Exception as error:
            failed = WorkError(f"{type(error).__name__}: {error}")
            failed.add_note(traceback.format_exc())  # which --debug shows
            answer = (False, failed)
        try:
            pickle.dump(answer, results)
            results.flush()
        except BrokenPipeError:
            return
