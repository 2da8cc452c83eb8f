"""Reads a source file in blocks of bytes, decompressed where it is compressed; the first step of text in.

A half-downloaded archive must never pass for a shorter one: gzip and zstd streams are read to their declared end, all
members and frames of them, and a cut or damaged one raises.
"""

from __future__ import annotations

import gzip
import lzma
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from gemmule.base.errors import RequestError, WorkError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

SUFFIXES = (".gz", ".zst")
BLOCK = 2**20
STRETCH = 2**25
Opened = Callable[[], IO[bytes]]


def read_blocks(
    path: Path, name: str, on_read: Callable[[int], object] = int, opened: Opened | None = None
) -> Iterator[bytes]:
    """The file's bytes, decompressed by what its name ends in, in blocks of at most 1 MiB.

    `name` is what errors call it; `on_read` is told how many bytes of the file are read; `opened` opens it, if it is in
    an archive. Raises WorkError if it is cut short or damaged, RequestError if it may not be read.
    """
    with explained(name), _open(path, opened) as file, _decompressed(file, path.suffix) as stream:
        while block := stream.read(BLOCK):
            on_read(file.tell())
            yield block


def read_beginning(path: Path, name: str, size: int, opened: Opened | None = None) -> tuple[bytes, float]:
    """The file's first `size` bytes, decompressed, and about which share of the file they are: 1.0 if that is all; of
    one in an archive, which `opened` opens, 0.0 if not.

    It reads on for a while, for how much a compressed byte holds shows only over a stretch. Raises as `read_blocks`.
    """
    parts: list[bytes] = []
    read = 0
    stretch = STRETCH if path.suffix.lower() in SUFFIXES and opened is None else 1
    with explained(name), _open(path, opened) as file, _decompressed(file, path.suffix) as stream:
        while block := stream.read(BLOCK):
            parts += [block[: size - read]] if read < size else []
            read += len(block)
            if read >= size + stretch:
                break
        share = 1.0 if not block else 0.0 if opened is not None else file.tell() / path.stat().st_size
    return b"".join(parts), share * min(1.0, size / max(1, read))


@contextmanager
def explained(name: str) -> Iterator[None]:
    """Says of which file something is wrong, and what."""
    try:
        yield
    except EOFError:
        raise WorkError(f"{name}: cut short: its compressed data ends early; get the whole file again") from None
    except (gzip.BadGzipFile, zlib.error, zstd.ZstdError, lzma.LZMAError) as error:
        raise WorkError(f"{name}: damaged, or not compressed as its name says ({error})") from None
    except (zipfile.BadZipFile, tarfile.TarError) as error:
        raise WorkError(f"{name}: cut short, damaged, or no archive as its name says ({error})") from None
    except OSError as error:
        raise unreadable(name, error) from None


def unreadable(name: str, error: OSError) -> RequestError | WorkError:
    """What to raise for a file that can't be opened or read."""
    refused = isinstance(error, PermissionError | FileNotFoundError)
    return (RequestError if refused else WorkError)(f"{name}: can't be read: {error.strerror or error}")


def _open(path: Path, opened: Opened | None) -> IO[bytes]:
    return path.open("rb") if opened is None else opened()


def _decompressed(file: IO[bytes], suffix: str) -> IO[bytes]:
    if suffix.lower() in (".gz", ".tgz"):
        return cast("IO[bytes]", gzip.open(file, "rb"))
    if suffix.lower() == ".zst":
        # archives made by `zstd --long` ask for windows that zstd by itself refuses
        options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: 31}
        return cast("IO[bytes]", zstd.open(file, "rb", options=options))
    return file
