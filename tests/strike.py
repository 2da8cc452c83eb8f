"""Runs gemmule in a process that sends itself a signal at a known place: no test needs the machine to be slow, or fast.

    command("SIGKILL", "gemmule.train.metrics:MetricsLog.write", 5, "run", "recipe.toml")

is a command line in which the fifth call of that function is followed by the signal. What then happens does not
depend on when somebody looks.
"""

from __future__ import annotations

import functools
import importlib
import os
import signal
import subprocess
import sys

METRICS = "gemmule.train.metrics:MetricsLog.write"  # one call a step, and one a validation


def command(signal_name: str, place: str, times: int, *arguments: object) -> list[str]:
    return [sys.executable, __file__, signal_name, place, str(times), *map(str, arguments)]


def wait_until_stopped(process: subprocess.Popen[str]) -> None:
    """Waits for the SIGSTOP of a process that was started by `command`; it may end instead, which fails."""
    found = os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    assert found is not None
    assert found.si_code in (os.CLD_STOPPED, os.CLD_TRAPPED), process.communicate()


def main(signal_name: str, place: str, times: int, arguments: list[str]) -> None:
    from gemmule import cli
    from gemmule.base import host

    host.settle()
    module, _, path = place.partition(":")
    *owners, name = path.split(".")
    owner = functools.reduce(getattr, owners, importlib.import_module(module))
    struck, calls = getattr(owner, name), 0

    @functools.wraps(struck)
    def strike(*positional: object, **named: object) -> object:
        nonlocal calls
        result = struck(*positional, **named)
        calls += 1
        if calls == times:
            os.kill(os.getpid(), signal.Signals[signal_name])
        return result

    setattr(owner, name, strike)
    sys.argv = ["gemmule", *arguments]
    cli.main()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:])
