"""`status.json` in a run folder: whether the run is going on, done, failed, or to be taken up again.

For whatever starts runs: a scheduler's script starts the same command anew while `state` is "resume". After a
`kill -9` or a lost machine it still says "running", with a process that is no more: that is to be taken up as well.
"""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from gemmule import artifact
from gemmule.errors import RequestError, Terminated, WorkError, first_line

STATUS = "status.json"
State = Literal["running", "done", "failed", "resume"]


@contextmanager
def kept(out: Path, recipe: Path) -> Iterator[None]:
    """Keeps the status of what runs within it. SIGTERM ends it as an interruption does, and that is no failure."""
    before = (out / STATUS).read_bytes() if (out / STATUS).exists() else None
    _write(out, recipe, "running")
    try:
        with _terminated_by_signal():
            yield
    except (Terminated, KeyboardInterrupt):
        _write(out, recipe, "resume")
        raise
    except RequestError:  # refused: nothing has changed
        if before is None:
            (out / STATUS).unlink()
        else:
            (out / STATUS).write_bytes(before)
        raise
    except Exception as error:
        with suppress(WorkError):  # on a full disk; the error itself is said all the same
            _write(out, recipe, "failed", first_line(error))
        raise
    _write(out, recipe, "done")


def _write(out: Path, recipe: Path, state: State, message: str | None = None) -> None:
    command = shlex.join(["gemmule", "run", str(recipe.absolute()), "--out", str(out.absolute())])
    status = {
        "state": state,
        "message": message,
        "process": os.getpid(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "resume_with": command if state in ("running", "resume") else None,
    }
    artifact.write_json(out / STATUS, status)


@contextmanager
def _terminated_by_signal() -> Iterator[None]:
    def end(number: int, frame: object) -> None:
        raise Terminated

    try:
        before = signal.signal(signal.SIGTERM, end)
    except ValueError:  # not in the main thread: signals go elsewhere
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
