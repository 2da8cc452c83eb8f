"""The two ways in which a command fails, what stops it from outside, and what each means for its exit status.

The first two carry one or two lines that name the thing at fault and the way out; the command line prints them without
a traceback (`--debug` shows it).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TERM_STATUS = "GEMMULE_TERM_STATUS"  # for a scheduler that takes anything but 0 for a failure
NEVER_WRITABLE = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ELOOP,
    errno.ENAMETOOLONG,
)  # fmt: skip


class GemmuleError(Exception):
    """Anything gemmule says to its user instead of showing a traceback."""

    exit_status = 1


class RequestError(GemmuleError):
    """The request was wrong (exit status 2): a recipe, an argument or an input that can't be served as it is."""

    exit_status = 2


class WorkError(GemmuleError):
    """The work failed (exit status 1): a damaged file, a full disk, a step that could not be finished."""


class Terminated(SystemExit):
    """SIGTERM was received, and everything made so far is saved (exit status 143, or what TERM_STATUS says)."""

    def __init__(self) -> None:
        wanted = os.environ.get(TERM_STATUS, "")
        super().__init__(int(wanted) if wanted.isascii() and wanted.isdecimal() and int(wanted) < 256 else 143)


class HungUp(SystemExit):
    """SIGHUP was received, and everything made so far is saved (exit status 129)."""

    def __init__(self) -> None:
        super().__init__(129)


def cannot_write(path: Path | str, error: OSError) -> GemmuleError:
    """For `path` that can't be written: a wrong request where it never could be, failed work where a disk is full."""
    place = error.filename if isinstance(error.filename, str | Path) else path
    kind = RequestError if error.errno in NEVER_WRITABLE else WorkError
    return kind(f"{place}: can't be written: {reason(error)}")


def reason(error: OSError) -> str:
    """The system's; NumPy has none where only a part was written ("8960 requested and 8000 written")."""
    return error.strerror or ("No space left on device" if "requested and" in str(error) else str(error))


@contextmanager
def naming(path: Path) -> Iterator[Path]:
    """Names the file in an error of the system's that does not: a disk that is found full while writing."""
    try:
        yield path
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise


def first_line(error: BaseException) -> str:
    """Of what another library's error says, or its name where it says nothing: for a message of our own."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def shown(text: str | bytes, longest: int = 200) -> str:
    """What another program sent, for a message: one line, cut short, and whatever a terminal would act on escaped."""
    if isinstance(text, bytes):
        text = text[: 4 * longest].decode("utf-8", "backslashreplace")
    line = "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text[: 2 * longest].strip()
    )
    return line if len(line) <= longest else f"{line[:longest]}..."
