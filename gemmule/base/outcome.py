"""How a command ends: every outcome as its exit status, and errors as one or two lines.

Exit status: 0 done, 1 the work failed, 2 the request was wrong; 130 interrupted, 143 terminated, 129 hung up.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence

from gemmule.base import host, ranks, signals, streams
from gemmule.base.errors import GemmuleError, HungUp, Terminated

DEBUG = "--debug"


def run(command: Callable[[list[str]], object], arguments: Sequence[str], resumes: Callable[[list[str]], bool]) -> None:
    """Runs `command` with what was written after `gemmule`, in one process or in each of torchrun's.

    `resumes` says whether the same arguments resume what was interrupted.
    """
    streams.settle()
    host.settle()
    with signals.raised(), ranks.led():
        _run(command, list(arguments), resumes)


def _run(command: Callable[[list[str]], object], arguments: list[str], resumes: Callable[[list[str]], bool]) -> None:
    try:
        command([argument for argument in arguments if argument != DEBUG])
    except SystemExit as leaving:
        if isinstance(leaving, Terminated | HungUp) or leaving.code == signals.INTERRUPTED:
            _say_stopped(leaving, arguments, resumes)
        raise
    except Exception as error:
        if DEBUG in arguments:
            raise
        if (stop := signals.pending()) is not None:  # a library made an error of its own of it
            ending = SystemExit(signals.INTERRUPTED) if issubclass(stop, KeyboardInterrupt) else stop()
            _say_stopped(ending, arguments, resumes)
            raise ending from error
        if ranks.may_speak():
            if not isinstance(error, GemmuleError | OSError | UnicodeEncodeError):
                raise
            _print_error(f"gemmule: {_message(error)}")
        sys.exit(error.exit_status if isinstance(error, GemmuleError) else 1)


def _message(error: GemmuleError | OSError | UnicodeEncodeError) -> str:
    if isinstance(error, GemmuleError):
        return str(error)
    if isinstance(error, UnicodeEncodeError):  # of a path that a library is given
        return f"{error.object}: not valid UTF-8, which the libraries that read and write files need"
    return f"{error.filename or 'input or output'}: {error.strerror or error}"


def _say_stopped(leaving: SystemExit, arguments: list[str], resumes: Callable[[list[str]], bool]) -> None:
    """How it was stopped, and the command that resumes it, where one does: other verbs start over."""
    if ranks.rank():
        return
    how = {Terminated: "terminated", HungUp: "hung up"}.get(type(leaving), "interrupted")
    with signals.ignored():
        _print_error(how + (f". Resume with: {shlex.join(['gemmule', *arguments])}" if resumes(arguments) else ""))


def _print_error(text: str) -> None:
    print(streams.printable(text), file=sys.stderr, flush=True)
