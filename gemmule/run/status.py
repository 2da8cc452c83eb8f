"""`status.json` in a run folder: whether the run is in progress, done, failed, or to be resumed.

For whatever starts runs: a scheduler's script starts the same command anew while `state` is "resume". A process that is
killed outright leaves "running" behind; `read` and the next command know by the folder's lock that it is no more.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from gemmule.base import artifact, locks, signals
from gemmule.base.errors import GemmuleError, HungUp, RequestError, Terminated, WorkError, first_line
from gemmule.base.run_folder import RECIPE, STATUS

State = Literal["running", "done", "failed", "resume"]
STATES = ("running", "done", "failed", "resume")


@dataclass(frozen=True)
class Status:
    """What status.json holds."""

    state: State
    message: str | None
    process: int
    time: str
    resume_with: str | None


@contextmanager
def kept(out: Path) -> Iterator[None]:
    """Keeps the status of what runs within it, in a folder that this process has locked.

    A refused request changes nothing; but of a process that is no more it isn't said any longer that it runs.
    Raises WorkError naming the folder for a system's error that names nothing.
    """
    before, earlier = _bytes(out), _parse(out)
    try:
        _write(out, _now(out, "running"))
        yield
    except (Terminated, HungUp, KeyboardInterrupt):
        _end(out, _now(out, "resume"))
        raise
    except RequestError:
        if before is None:
            (out / STATUS).unlink(missing_ok=True)
        elif earlier is not None and earlier.state == "running":
            _end(out, _of_the_dead(earlier, out))
        else:
            artifact.replace_file(out / STATUS, before)
        raise
    except Exception as error:
        if (stop := signals.pending()) is not None:
            _end(out, _now(out, "resume"))
            raise stop from error
        _end(out, _now(out, "failed", first_line(error)))
        if isinstance(error, OSError) and error.filename is None:
            raise WorkError(f"{out}: {error.strerror or error}") from error
        raise
    _end(out, _now(out, "done"))


def correct(out: Path) -> None:
    """Of a process that is no more it isn't said any longer that it runs; for a command that keeps no status itself."""
    status = _parse(out)
    if status is not None and status.state == "running":
        _end(out, _of_the_dead(status, out))


def read(out: Path) -> Status | None:
    """What is true of a run, in progress or not; None where nothing was said yet. Takes no lock."""
    status = _parse(out)
    if status is not None and status.state == "running" and not locks.is_held(out):
        status = _parse(out)  # it may have ended since
        if status is not None and status.state == "running":
            return _of_the_dead(status, out)
    return status


def _of_the_dead(status: Status, out: Path) -> Status:
    """What is true of a run that says that it goes on, where no process is at work in its folder."""
    message = f"process {status.process} ended without a message: it was killed, or the machine stopped"
    return replace(_now(out, "resume", message), process=status.process, time=status.time)


def _now(out: Path, state: State, message: str | None = None) -> Status:
    command = shlex.join(["gemmule", "run", str((out / RECIPE).absolute()), "--out", str(out.absolute())])
    resumable = state == "running" or (state == "resume" and (out / RECIPE).is_file())
    return Status(
        state=state,
        message=message,
        process=os.getpid(),
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        resume_with=command if resumable else None,
    )


def _bytes(out: Path) -> bytes | None:
    try:
        return (out / STATUS).read_bytes()
    except OSError:
        return None


def _parse(out: Path) -> Status | None:
    """What status.json says; None where there is none, or it is damaged."""
    try:
        status = Status(**json.loads(_bytes(out) or b""))
        datetime.fromisoformat(status.time)
    except (ValueError, TypeError):
        return None
    return status if status.state in STATES else None


def _end(out: Path, status: Status) -> None:
    """The last word; no second signal cuts it short, and on a full disk it takes the place of what is there."""
    with signals.ignored():
        try:
            _write(out, status)
        except GemmuleError:
            with suppress(OSError), (out / STATUS).open("r+b") as file:
                file.write(artifact.json_bytes(asdict(status)))
                file.truncate()


def _write(out: Path, status: Status) -> None:
    artifact.write_json(out / STATUS, asdict(status))
