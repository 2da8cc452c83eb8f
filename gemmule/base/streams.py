"""What the command line writes to: its two streams, made safe once, at the start (`settle`).

- Progress and messages (stderr) never stop the work: once nobody reads them (a closed terminal, `| head`, a full disk
  under a log), they are dropped in silence, and the work goes on to its end.
- Results (stdout) end the command quietly once nobody reads them (`gemmule generate ... | head -1`): status 0.
- A stream that was closed (`>&-`) is replaced by /dev/null, so that no file of the run gets its number, and what a
  library prints with it.
- Characters that the stream's encoding lacks, and file names that are not UTF-8, are written as escapes.

What comes from outside (a file's name, what a model writes) reaches a terminal through `printable` alone: it could move
the cursor, or change what was printed before.
"""

from __future__ import annotations

import errno
import io
import os
import re
import sys
from typing import Any, TextIO

from gemmule.base import artifact

# Control characters (C0 but for newline and tab, DEL, C1), what turns the direction of text, and lone surrogates.
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
NOBODY_READS = (errno.EPIPE, errno.EIO, errno.EBADF, errno.ESHUTDOWN)  # EIO: of a terminal that was closed


class Unread(SystemExit):
    """Nobody reads what this command prints: it ends, and did nothing wrong (exit status 0)."""

    def __init__(self) -> None:
        super().__init__(0)


class Output(io.RawIOBase):
    """A stream's file descriptor. What can't be written is dropped; or, where it is what was asked for, `Unread`."""

    def __init__(self, descriptor: int, droppable: bool) -> None:
        self.descriptor, self.droppable = descriptor, droppable

    def write(self, content: Any) -> int:
        left = memoryview(content).cast("B")
        size = len(left)
        while left:
            try:
                left = left[os.write(self.descriptor, left) :]
            except OSError as error:
                if error.errno in NOBODY_READS or (os.name == "nt" and error.errno == errno.EINVAL):
                    self._to_nowhere()
                    if not self.droppable:
                        raise Unread from None
                elif not self.droppable:
                    raise OSError(error.errno, error.strerror, "standard output") from None
                break
        return size

    def _to_nowhere(self) -> None:
        """From here on writing succeeds, for whoever writes to this number."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.descriptor)
        os.close(nowhere)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.descriptor

    def isatty(self) -> bool:
        return os.isatty(self.descriptor)


def settle() -> None:
    """Makes stdin, stdout and stderr safe to use. Streams that someone else put there stay as they are."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115
    if sys.stdout is None or sys.stdout is sys.__stdout__:
        sys.stdout = _safe(sys.stdout, 1, droppable=False)
    if sys.stderr is None or sys.stderr is sys.__stderr__:
        sys.stderr = _safe(sys.stderr, 2, droppable=True)


def _safe(stream: TextIO | None, descriptor: int, droppable: bool) -> TextIO:
    if os.name == "nt" and stream is not None and stream.isatty():  # Windows' console takes UTF-16, by its own door
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
        return stream
    encoding = stream.encoding if stream is not None else "utf-8"
    # no buffer between: a signal's handler may print while another line is being written
    return io.TextIOWrapper(
        Output(descriptor, droppable),  # type: ignore[type-var]
        encoding=encoding,
        errors="backslashreplace",
        line_buffering=True,
        write_through=droppable,
    )


def printable(text: str) -> str:
    r"""`text` with what could change a terminal shown as escapes ("\x1b"); newlines and tabs remain."""
    return UNSAFE.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file's name that is no text
        return f"\\x{code - 0xDC00:02x}"
    return found[0].encode("unicode_escape").decode()


def show(text: str, end: str = "\n") -> None:
    """Prints a result: exactly into a file or pipe, `printable` on a terminal."""
    print(printable(text) if sys.stdout.isatty() else text, end=end, flush=True)


def show_json(value: Any, indent: int | None = None) -> None:
    """Prints a result as strict JSON; in ASCII where the stream takes no more, or is a terminal."""
    ascii_only = sys.stdout.isatty() or (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    print(artifact.to_json(value, indent, ascii_only), flush=True)
