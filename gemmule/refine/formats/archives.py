"""zip and tar: the files in an archive are read in a stream, one after the other, each in its own format.

- An archive is read as a folder is: hidden files are left out, and html, csv, tsv and json are read only if there is
  nothing else to read. Archives within, links and devices are left out, and told.
- No name of a member is ever that of a file here. Names that lead out of the archive all the same, or stand there
  twice, are refused: whoever unpacks the archive might get other files than were read.
- A member that is encrypted is refused, and one that holds suspiciously much (`SourceFile.blocks`). A zip's checksums
  and a tar's end are held against what is read: an archive that is cut short or damaged raises.
- In memory are a block, the hashes of the names, and of a zip the list of its members.
"""

from __future__ import annotations

import re
import stat
import tarfile
import unicodedata
import zipfile
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, Any, cast

from gemmule.base.encodings import BadRecord, EmptyFile
from gemmule.base.errors import shown
from gemmule.refine.beginnings import LEAST, Beginning, as_jsonl
from gemmule.refine.compressed import BLOCK, explained
from gemmule.refine.formats import Format, OnInvalid, format_of, known_format, read_in_folders
from gemmule.refine.records import Texts
from gemmule.refine.source_file import Member, SourceFile

LONGEST_NAME = 4096  # characters
LONGEST_HEADER = 2**20  # bytes of a name, or of what else a tar says of a member
LISTED = 3  # of what is left out, where nothing else is there
RECORDS = 100  # first ones, of each member
METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}
ENCRYPTED, UTF8 = 0x1, 0x800  # flags of a zip's member
HEADERS = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME,
           tarfile.GNUTYPE_LONGLINK)  # fmt: skip
OnLeft = Callable[[str], object]


@dataclass(frozen=True)
class _Entry:
    """What an archive has under a name."""

    member: Member
    kind: str = "file"  # or "folder", or what else it is, in words
    refused: str = ""  # why it can't be read, if so


def members(archive: SourceFile, on_left: OnLeft = str) -> Iterator[SourceFile | BadRecord]:
    """The files in an archive that are read, in its order, each while the iteration is at it; a BadRecord in place of
    one that is refused. `on_left` is told of each that one would read, and that is left out.

    Raises EmptyFile if there is none, WorkError if the archive is cut short or damaged.
    """
    present = set()
    with closing(_files(archive)) as files:
        for file in files:
            if not isinstance(file, BadRecord):
                present.add(known_format(file).in_folders)
                if "always" in present:
                    break
    levels, left = read_in_folders(present), list[str]()
    named = {SourceFile(Path(pattern), "").suffix for pattern in archive.only}
    empty = True

    def leave(name: str) -> None:
        left.extend([name] if len(left) < LISTED else [])
        on_left(name)

    for file in _files(archive, leave):
        if isinstance(file, BadRecord) or (level := known_format(file).in_folders) in levels or file.suffix in named:
            empty = False
            yield file
        elif level != "named":
            leave(f"{file.name} (next to other texts)")
    if empty:
        what = f" that is called {' or '.join(archive.only)}" if archive.only else ""
        but = f"; left out: {', '.join(left)}" if left else ""
        raise EmptyFile(f"{archive.name}: an archive without a file to read{what}{but}")


def _files(archive: SourceFile, on_left: OnLeft = str) -> Generator[SourceFile | BadRecord]:
    """Those of a known format that are not hidden, and that the recipe does not leave out."""
    seen: set[int] = set()
    for entry in _entries(archive):
        parts, wrong = _parts(entry.member.name)
        called = f"{archive.name}/{_text('/'.join(parts))}"
        file = SourceFile(archive.path, called, archive.weight, entry.member)
        format = format_of(file)
        if wrong:
            yield BadRecord(f"{archive.name}: a member called {shown(_text(entry.member.name))}: {wrong}")
        elif entry.kind == "folder" or _is_left(parts, archive) or format is None:
            continue
        elif entry.kind != "file" or format.members is not None:
            on_left(f"{called} ({entry.kind if entry.kind != 'file' else 'an archive in an archive'})")
        elif entry.refused or hash(called) in seen:
            yield BadRecord(f"{called}: {entry.refused or 'there twice: it can not be told which one is meant'}")
        else:
            seen.add(hash(called))
            yield file


def _parts(name: str) -> tuple[list[str], str]:
    """The folders and the name of a member, and what is wrong with them; empty if nothing is."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in re.split(r"[/\\]", name):
        return parts, "its '..' leads out of the archive's folder"
    if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name):
        return parts, "an absolute path"
    if any(unicodedata.category(character) == "Cc" for character in name):
        return parts, "control characters in a name"
    return parts, f"longer than {LONGEST_NAME:,} characters" if len(name) > LONGEST_NAME else ""


def _text(name: str) -> str:
    """A name that can be bytes which are no text, for messages and documents."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _is_left(parts: list[str], archive: SourceFile) -> bool:
    """Whether a member is hidden, or not among those that the recipe names, or among those that it excludes."""
    return (
        any(part.startswith(".") for part in parts)
        or bool(archive.only and not any(_is_beneath(parts, pattern) for pattern in archive.only))
        or any(_is_beneath(parts, pattern) for pattern in archive.without)
    )


def _is_beneath(parts: list[str], pattern: str) -> bool:
    """Whether a pattern matches a member, or a folder that it is in."""
    return any(_matches(parts[:count], pattern.split("/")) for count in range(1, len(parts) + 1))


def _matches(parts: list[str], pattern: list[str]) -> bool:
    if not pattern or not parts:
        return not parts and set(pattern) <= {"**"}
    if pattern[0] == "**":
        return _matches(parts, pattern[1:]) or _matches(parts[1:], pattern)
    return fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


# --- zip ---------------------------------------------------------------------------------------------------------


def _zip_entries(file: SourceFile) -> Iterator[_Entry]:
    with explained(file.name), file.seekable() as stream, _opened_zip(stream) as archive:
        for info in archive.infolist():
            opened = cast("Callable[[], IO[bytes]]", partial(archive.open, info))
            stored = partial(int, info.compress_size)
            yield _Entry(Member(_zip_name(info), info.file_size, opened, stored, stream.tell), *_zip_kind(info))


def _opened_zip(stream: IO[bytes]) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(stream)
    except (ValueError, NotImplementedError, RecursionError) as error:  # a UnicodeDecodeError among them
        raise zipfile.BadZipFile(str(error)) from None


def _zip_name(info: zipfile.ZipInfo) -> str:
    """As it was meant: names without the flag for UTF-8 are that often all the same, else in code page 437."""
    name = info.orig_filename
    if not info.flag_bits & UTF8 and not name.isascii():
        with suppress(UnicodeError):
            return name.encode("cp437").decode()
    return name


def _zip_kind(info: zipfile.ZipInfo) -> tuple[str, str]:
    mode = stat.S_IFMT(info.external_attr >> 16)
    if info.is_dir():
        return "folder", ""
    if mode not in (0, stat.S_IFREG):
        return "a link" if mode == stat.S_IFLNK else "a device", ""
    if info.flag_bits & ENCRYPTED:
        return "file", "encrypted: unpack the archive with its password"
    if info.compress_type not in METHODS:
        return "file", f"compressed by a method that isn't read (number {info.compress_type}): unpack the archive"
    return "file", ""


# --- tar ---------------------------------------------------------------------------------------------------------


class _Header(tarfile.TarInfo):
    """tarfile takes a damaged header for the archive's end; here only its zeros are one."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> _Header:
        try:
            return super().fromtarfile(archive)
        except tarfile.HeaderError as error:
            if type(error).__name__ == "EOFHeaderError":
                raise
            raise tarfile.ReadError(f"{error}, where a file or the archive's end should be") from None
        except (ValueError, ArithmeticError, RecursionError) as error:
            raise tarfile.ReadError(str(error)) from None

    @classmethod
    def frombuf(cls, *arguments: Any) -> _Header:
        header = super().frombuf(*arguments)
        if header.type in HEADERS and header.size > LONGEST_HEADER:
            raise tarfile.ReadError(f"a header of {header.size:,} bytes")
        return header


class _Blocks:
    """Blocks of bytes as a file to read; `stored` counts the bytes of the archive that are behind."""

    def __init__(self, file: SourceFile) -> None:
        self.stored = 0
        self._blocks = file.blocks(self._on_read)
        self._buffer = bytearray()

    def _on_read(self, stored: int) -> None:
        self.stored = stored

    def beyond(self, stored: int) -> int:
        return self.stored - stored

    def read(self, size: int) -> bytes:
        while len(self._buffer) < size and (block := next(self._blocks, b"")):
            self._buffer += block
        content = bytes(self._buffer[:size])
        del self._buffer[:size]
        return content


def _tar_entries(file: SourceFile) -> Iterator[_Entry]:
    blocks = _Blocks(file)
    stream = cast("IO[bytes]", blocks)
    with (
        explained(file.name),
        tarfile.open(fileobj=stream, mode="r|", bufsize=BLOCK, tarinfo=_Header) as archive,
    ):
        while (info := archive.next()) is not None:
            opened = cast("Callable[[], IO[bytes]]", partial(archive.extractfile, info))
            stored = partial(blocks.beyond, blocks.stored)
            yield _Entry(Member(info.name, info.size, opened, stored, partial(blocks.beyond, 0)), _tar_kind(info))
            vars(archive)["members"].clear()  # which it would keep for looking them up
        while blocks.read(BLOCK):  # the checksum of a compressed one comes last
            pass


def _tar_kind(info: tarfile.TarInfo) -> str:
    if info.isdir():
        return "folder"
    if info.issym() or info.islnk():
        return "a link"
    if info.issparse():
        return "a sparse file"
    return "file" if info.isreg() else "a device"


def _entries(archive: SourceFile) -> Iterator[_Entry]:
    return _zip_entries(archive) if archive.suffix == ".zip" else _tar_entries(archive)


# --- the format --------------------------------------------------------------------------------------------------


def read_archive(archive: SourceFile, field: str, on_read: Callable[[int], object], on_invalid: OnInvalid) -> Texts:
    """The texts of all members, each with its position in its own file."""
    for file in members(archive):
        if isinstance(file, BadRecord):
            yield 0, file
            continue
        format = known_format(file)
        for position, text in format.texts(file, field, on_read, on_invalid):
            yield position, format.extract(text) if format.extract and isinstance(text, str) else text


def first_records(archive: SourceFile) -> Iterator[dict[str, Any]]:
    """Those of the members that hold records."""
    with suppress(EmptyFile):
        for file in members(archive):
            if not isinstance(file, BadRecord) and (records := known_format(file).records):
                yield from islice(records(file), RECORDS)


def first_members(archive: SourceFile, field: str, size: int, stem: Path) -> Beginning:
    """The texts of the first members, as jsonl; what is wrong with others is said by who reads all of the archive."""
    texts: list[str] = []
    length = behind = 0

    def on_read(stored: int) -> None:
        nonlocal behind
        behind = stored

    with suppress(BadRecord):
        for _, text in read_archive(archive, field, on_read, None):
            if isinstance(text, BadRecord):
                continue
            texts.append(text if isinstance(text, str) else text.decode())
            length += len(texts[-1])
            if length >= max(size, LEAST):
                share = min(1.0, behind / archive.size)
                return Beginning(as_jsonl(archive, texts, field, stem), share, length)
    return Beginning(archive, 1.0, length)


FORMATS = (
    Format((".zip", ".tar", ".tgz"), read_archive, first_records, first_members, in_folders="instead", members=members),
)
