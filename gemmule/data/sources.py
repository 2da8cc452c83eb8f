"""Source files to documents: the first step of the flow, text in.

- txt, md, jsonl and parquet, each plain, .gz or .zst; named one by one, by folder or by glob. Source code and other
  markup, which folders hold beside their texts, where a file or a glob names it (`src/**/*.py`).
- Read in a stream: a file may be larger than memory.
- Text is taken as it is, byte for byte: no newline translation, no normalisation, and lines of jsonl end at a newline
  byte and nowhere else (U+2028 and its like are characters as any other).
- What can't be read exactly is refused, naming file and line, never skipped or repaired; only documents without text
  are passed over, and counted.
"""

from __future__ import annotations

import fnmatch
import glob
import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from gemmule.artifact import sha256_file
from gemmule.data.compressed import SUFFIXES, read_blocks, unreadable
from gemmule.data.plain_text import cut
from gemmule.errors import RequestError, WorkError

FORMATS = (".txt", ".md", ".jsonl", ".parquet")
ALSO_PLAIN = {
    ".adoc", ".org", ".po", ".rst", ".srt", ".tex", ".asm", ".bash", ".c", ".cc", ".clj", ".cpp", ".cs", ".css",
    ".cu", ".cxx", ".dart", ".el", ".erl", ".ex", ".exs", ".f90", ".go", ".h", ".hpp", ".hs", ".java", ".jl", ".js",
    ".jsx", ".kt", ".lean", ".lisp", ".lua", ".m", ".ml", ".nim", ".php", ".pl", ".pm", ".proto", ".py", ".pyi", ".r",
    ".rb", ".rs", ".s", ".scala", ".scm", ".sh", ".sql", ".swift", ".tcl", ".ts", ".tsx", ".v", ".vb", ".vhd", ".vim",
    ".zig",
}  # fmt: skip
"""Read as txt is, where they are named."""
KNOWN = f"{', '.join(FORMATS)}, each also with {' or '.join(SUFFIXES)}"
BUNDLED = "gemmule:shakespeare"
BUNDLED_FOLDER = Path(__file__).parent / "shakespeare"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class SourceFile:
    """A file to read and what to call it: relative to the recipe where it lies beneath it."""

    path: Path
    name: str

    @property
    def format(self) -> str | None:
        """The kind of file, by its name: one of FORMATS or ALSO_PLAIN, or None."""
        path = self.path.with_suffix("") if self.path.suffix.lower() in SUFFIXES else self.path
        extension = path.suffix.lower()
        return extension if extension in FORMATS or extension in ALSO_PLAIN else None


@dataclass(frozen=True)
class Document:
    """A text and where it stands: `position` is the byte offset in the (decompressed) file for txt and md, the line
    number from 1 for jsonl, the row from 0 for parquet."""

    text: str
    source: str
    position: int


class MissingSource(RequestError):
    """A pattern names nothing that is there (now: it may have been, when the documents were made)."""


def resolve(patterns: Iterable[str], base: Path) -> list[SourceFile]:
    """The files that `patterns` name, each once, sorted within a pattern.

    A pattern is a file, a folder (all files of known kinds beneath it, hidden ones left out), a glob (`**` for any
    depth), relative to `base`; or of the bundled text, all ("gemmule:shakespeare") or by name
    ("gemmule:shakespeare/hamlet.txt", "gemmule:shakespeare/*henry*"). A glob finds the ALSO_PLAIN that it ends in.

    Raises MissingSource for a pattern that names nothing, RequestError for a file of unknown kind named outright and
    an empty file.
    """
    found: dict[Path, SourceFile] = {}
    for pattern in patterns:
        try:
            for file in _matches(pattern, base):
                found.setdefault(file.path.resolve(), file)
                if file.path.stat().st_size == 0:
                    raise RequestError(f"{file.name}: an empty file (0 bytes); leave it out of the sources")
        except OSError as error:
            raise unreadable(str(error.filename or pattern), error) from None
    return list(found.values())


def _matches(pattern: str, base: Path) -> list[SourceFile]:
    if is_bundled(pattern):
        return _bundled(pattern)
    if not pattern:
        raise RequestError(f"'': names no file; for all files in {base} write '.'")
    pattern = os.path.expanduser(pattern)
    place = base / pattern
    if place.is_file():
        file = SourceFile(place, _shown(place, base))
        if file.format is None:
            raise RequestError(f"{file.name}: a kind of file that isn't read; known: {KNOWN}")
        return [file]
    formats = {*FORMATS}
    if place.is_dir():
        paths = [Path(root) / name for root, _, names in _walk(place) for name in names]
        nothing = f"{pattern}: a folder without a file to read; known: {KNOWN}"
    elif glob.has_magic(pattern):
        paths = [base / path for path in glob.glob(pattern, root_dir=base, recursive=True)]
        formats |= {SourceFile(Path(pattern), pattern).format or ""}
        nothing = f"{pattern}: matches no file to read; known: {KNOWN}"
    else:
        raise MissingSource(f"{pattern}: no such file or folder (looked in {base})")
    found = [SourceFile(path, _shown(path, base)) for path in sorted(paths)]
    files = [file for file in found if file.format in formats and file.path.is_file()]
    if not files:
        raise MissingSource(nothing + (_hint(pattern, found) if place.is_dir() else ""))
    return files


def is_bundled(pattern: str) -> bool:
    """Whether it names the bundled text, or a part of it: no path, and the same wherever the recipe lies."""
    return pattern == BUNDLED or pattern.startswith(f"{BUNDLED}/")


def _bundled(pattern: str) -> list[SourceFile]:
    wanted = pattern.removeprefix(BUNDLED).removeprefix("/") or "*"
    names = {path.name.removesuffix(".zst"): path for path in sorted(BUNDLED_FOLDER.glob("*.txt.zst"))}
    found = fnmatch.filter(names, wanted)
    if not found:
        raise MissingSource(f"{pattern}: no such text; there are: {', '.join(names)}")
    return [SourceFile(names[name], f"{BUNDLED}/{name}") for name in found]


def _hint(folder: str, found: Iterable[SourceFile]) -> str:
    """How to name the code that a folder holds the most of; empty where there is none."""
    code = Counter(file.format for file in found if file.format in ALSO_PLAIN).most_common(1)
    return "".join(f"; for its {count:,} {kind} files write {folder}/**/*{kind}" for kind, count in code)


def _walk(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """os.walk without what is hidden (.git, .venv), as globs leave it out too, and without gemmule's own run folders
    beneath, whose documents and metrics are no source."""

    def refuse(error: OSError) -> None:
        raise error  # os.walk would pass over what it may not read

    for root, folders, names in os.walk(folder, onerror=refuse):
        if Path(root) != folder and {"recipe.toml", ".lock"} <= set(names):
            folders.clear()
            continue
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield root, folders, [name for name in names if not name.startswith(".")]


def _shown(path: Path, base: Path) -> str:
    shown = path.relative_to(base) if path.is_relative_to(base) else path
    return os.fsencode(shown).decode("utf-8", "replace")  # a file's name can be bytes that are no text


def fingerprint(file: SourceFile, known: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What tells whether a source changed: {"name", "size", "mtime_ns", "sha256"}.

    The sha256 is taken from `known`, an earlier fingerprint of the file, where size and time of change are the same.
    """
    try:
        status = file.path.stat()
        if known and (known.get("size"), known.get("mtime_ns")) == (status.st_size, status.st_mtime_ns):
            sha256 = known["sha256"]
        else:
            sha256 = sha256_file(file.path)
    except OSError as error:
        raise unreadable(file.name, error) from None
    return {"name": file.name, "size": status.st_size, "mtime_ns": status.st_mtime_ns, "sha256": sha256}


def read_documents(
    file: SourceFile, field: str = "text", on_skip: Callable[[int], None] | None = None
) -> Iterator[Document]:
    """The documents in a file, in order. `field` is the one that holds the text in jsonl and parquet.

    Documents of nothing but white space are passed over; `on_skip` is told the position of each.

    Raises RequestError naming file and line (row, in parquet) for what isn't UTF-8, JSON, or an object whose `field`
    is a text; WorkError naming the file for an archive that is cut short or damaged.
    """
    readers = {".jsonl": _read_jsonl, ".parquet": _read_parquet}
    texts = readers[file.format](file, field) if file.format in readers else _read_plain(file)
    for position, text in texts:
        if text.strip():
            yield Document(text, file.name, position)
        elif on_skip:
            on_skip(position)


def _read_plain(file: SourceFile) -> Iterator[tuple[int, str]]:
    line = 1
    for offset, content in cut(_not_empty(read_blocks(file.path, file.name), file.name)):
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError as error:
            line += content.count(b"\n", 0, error.start)
            raise _not_utf8(f"{file.name}, line {line} (byte {offset + error.start})") from None
        yield offset, text
        line += content.count(b"\n")


def _read_jsonl(file: SourceFile, field: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(_lines(_not_empty(read_blocks(file.path, file.name), file.name)), start=1):
        if number == 1:
            line = line.removeprefix(BYTE_ORDER_MARK)
        if line.strip():
            yield number, _text_of(line, field, f"{file.name}, line {number}")


def _text_of(line: bytes, field: str, where: str) -> str:
    try:
        # not strict: a form feed or tab written raw within a string is a fault of form that leaves no doubt
        record = json.loads(line.decode("utf-8"), strict=False)
    except UnicodeDecodeError:
        raise _not_utf8(where) from None
    except (ValueError, RecursionError) as error:
        reason = f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
        raise RequestError(f"{where}: not JSON ({reason}); jsonl holds one JSON object a line") from None
    if not isinstance(record, dict):
        raise RequestError(f"{where}: not a JSON object but {_kind(record)}; jsonl holds one JSON object a line")
    if field not in record:
        names = ", ".join(sorted(record)) or "none"
        raise RequestError(f"{where}: has no field {field!r} (its fields: {names}); say which one holds the text")
    text = record[field]
    if not isinstance(text, str):
        raise RequestError(f"{where}: field {field!r} is not a text but {_kind(text)}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        lone = f"\\u{ord(text[error.start]):04x}"
        raise RequestError(f"{where}: field {field!r} holds half a surrogate pair ({lone}), which is no text") from None
    return text


def _read_parquet(file: SourceFile, field: str) -> Iterator[tuple[int, str]]:
    import pyarrow

    try:
        with seekable(file) as stream:
            row = 0
            for column in _columns(stream, file.name, field):
                for value in column:
                    where = f"{file.name}, row {row}: field {field!r}"
                    try:
                        text = value.as_py()
                    except UnicodeDecodeError:
                        raise RequestError(f"{where} is not UTF-8") from None
                    if not isinstance(text, str):
                        raise RequestError(f"{where} is not a text but {_kind(text)}")
                    yield row, text
                    row += 1
    except pyarrow.ArrowException as error:
        raise WorkError(f"{file.name}: not parquet, or cut short or damaged ({error})") from None
    except OSError as error:
        if error.errno is None:  # pyarrow's own word for pages that can't be decoded
            raise WorkError(f"{file.name}: damaged ({error})") from None
        raise unreadable(file.name, error) from None


def _columns(stream: IO[bytes], name: str, field: str) -> Iterator[Any]:
    """The column `field` in arrays of a few hundred rows."""
    from pyarrow.parquet import ParquetFile

    table = ParquetFile(stream, buffer_size=2**20, page_checksum_verification=True)
    if field not in table.schema_arrow.names:
        names = ", ".join(table.schema_arrow.names) or "none"
        raise RequestError(f"{name}: has no field {field!r} (its fields: {names}); say which one holds the text")
    for batch in table.iter_batches(batch_size=256, columns=[field]):
        yield batch.column(field)


@contextmanager
def seekable(file: SourceFile) -> Iterator[IO[bytes]]:
    """The file opened; if it is compressed, a decompressed copy that vanishes when closed: parquet needs to jump."""
    if file.path.suffix.lower() not in SUFFIXES:
        with file.path.open("rb") as stream:
            yield stream
        return
    with tempfile.TemporaryFile() as copy:
        for block in read_blocks(file.path, file.name):
            copy.write(block)
        copy.seek(0)
        yield copy


def _not_empty(blocks: Iterable[bytes], name: str) -> Iterator[bytes]:
    """The blocks, refused if there are none (an empty file, compressed) or if they begin as UTF-16 does."""
    empty = True
    for block in blocks:
        if empty and block.startswith(UTF16_MARKS):
            raise RequestError(f"{name}, line 1: UTF-16; convert it: iconv -f UTF-16 -t UTF-8")
        empty = False
        yield block
    if empty:
        raise RequestError(f"{name}: holds no text (0 bytes when decompressed); leave it out of the sources")


def _lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """The lines, without the newline byte that ends each."""
    pending: list[bytes] = []
    for block in blocks:
        head, *rest = block.split(b"\n")
        pending.append(head)
        for line in rest:
            yield b"".join(pending)
            pending = [line]
    if last := b"".join(pending):
        yield last


def _not_utf8(where: str) -> RequestError:
    return RequestError(f"{where}: not UTF-8; convert it, for example by iconv -f LATIN1 -t UTF-8")


def _kind(value: Any) -> str:
    names = {type(None): "null", bool: "true or false", str: "a text", list: "a list", dict: "an object"}
    return names.get(type(value), "binary data" if isinstance(value, bytes) else "a number")
