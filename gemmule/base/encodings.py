"""Whether bytes are text in UTF-8, and what they are if not: said by name, with the way to convert them.

A byte-order mark at the beginning is no text. UTF-16 and UTF-32 are known by their marks, and without one by the NUL
bytes that every line end and space of theirs has. An 8-bit encoding can't be told from another: then the bytes are
shown. Where that is asked for, invalid bytes are replaced, before a format sees them.
"""

from __future__ import annotations

import codecs
import unicodedata
from collections.abc import Callable, Iterable, Iterator

from gemmule.base.errors import RequestError

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
SAMPLE = 4096  # bytes, of which it is told what they are
MARKS = {  # those of UTF-32 first: one of them begins as one of UTF-16 does
    b"\xff\xfe\0\0": "UTF-32LE",
    b"\0\0\xfe\xff": "UTF-32BE",
    b"\xff\xfe": "UTF-16LE",
    b"\xfe\xff": "UTF-16BE",
}
KINDS = {
    b"PK\x03\x04": "a zip archive, as docx, xlsx, odt and epub are too: export its text, or unpack it",
    b"%PDF-": "a PDF: export its text, as by pdftotext",
    b"\x1f\x8b": "compressed with gzip: rename it to end in .gz",
    b"\x28\xb5\x2f\xfd": "compressed with zstd: rename it to end in .zst",
    b"BZh": "compressed with bzip2: unpack it",
    b"\xfd7zXZ\0": "compressed with xz: unpack it",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive: unpack it",
    b"PAR1": "parquet: rename it to end in .parquet",
    b"SQLite format 3\0": "an SQLite database: export its text",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
    b"\x7fELF": "a program",
}
ODD = {"Cn", "Co", "Cs", "Cc"}  # categories of characters that a text has next to none of
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"  # U+FFFD
ENDS = "\t\n\r\f\v"
FEW = 0.02  # of them in a text


class BadRecord(RequestError):
    """A record, or a whole file, that can't be taken: it stops the work, or is skipped and counted (`bad_records`)."""


class EmptyFile(BadRecord):
    """A file without a byte of text."""


class InvalidBytes(BadRecord):
    """Bytes that are no UTF-8, which a reader can be told to replace."""


def text_blocks(blocks: Iterable[bytes], name: str) -> Iterator[bytes]:
    """The blocks of a file of text. Raises EmptyFile if there are none, BadRecord if they begin as no text does."""
    empty = True
    for block in blocks:
        if empty and (kind := what_it_is(block)):
            raise BadRecord(f"{name}, line 1: {kind}")
        empty = empty and block == BYTE_ORDER_MARK
        yield block
    if empty:
        raise EmptyFile(f"{name}: holds no text (0 bytes when decompressed); leave it out of the sources")


def valid_blocks(blocks: Iterable[bytes], on_invalid: Callable[[int], object]) -> Iterator[bytes]:
    """The blocks with U+FFFD for what is no UTF-8, and without NUL bytes; `on_invalid` is told how many these were.

    Each longest beginning of a character that does not go on as one becomes one U+FFFD, as the Unicode standard (3.9,
    "U+FFFD Substitution of Maximal Subparts") and browsers have it.
    """
    begun = b""  # of a character that the next block goes on with
    for block in blocks:
        content = begun + block
        text, used = codecs.utf_8_decode(content, "replace", False)
        begun = content[used:]
        yield from _without_nuls(text, content[:used], on_invalid)
    yield from _without_nuls(begun.decode("utf-8", "replace"), begun, on_invalid)


def _without_nuls(text: str, content: bytes, on_invalid: Callable[[int], object]) -> Iterator[bytes]:
    """`text`, which is the `content` decoded, encoded again."""
    if invalid := text.count(REPLACEMENT) - content.count(REPLACEMENT.encode()) + content.count(b"\0"):
        on_invalid(invalid)
        content = text.replace("\0", "").encode()
    if content:
        yield content


def wrong_bytes(error: UnicodeDecodeError, where: str) -> InvalidBytes:
    """What to say of bytes that are no UTF-8, at `where`."""
    content: bytes = error.object
    shown = content[error.start : error.start + 4].hex(" ").upper()
    return InvalidBytes(
        f"{where}: not UTF-8 (bytes {shown}); convert it from the encoding that it is in, which can't be told from the "
        "bytes: if it comes from Windows in Western Europe, by iconv -f CP1252 -t UTF-8"
    )


def nul_byte(where: str) -> BadRecord:
    """What to say of a NUL byte, at `where`."""
    return BadRecord(
        f"{where}: a NUL byte, which text does not contain: UTF-16, or binary data? Stray ones: tr -d '\\000'"
    )


def what_it_is(beginning: bytes) -> str | None:
    """What a file is that begins so and is not text in UTF-8, with the remedy; None if it may be."""
    for mark, encoding in MARKS.items():
        if beginning.startswith(mark):
            return _convert(encoding)
    sample = beginning[:SAMPLE]
    for magic, kind in KINDS.items():
        if sample.startswith(magic):
            return f"not text but {kind}"
    if b"\0" not in sample or _odd(sample, "UTF-8", "replace") < FEW:
        return None
    for encoding in ("UTF-32LE", "UTF-32BE", "UTF-16LE", "UTF-16BE"):
        if _odd(sample[: len(sample) // 4 * 4] or sample, encoding) < FEW:
            return _convert(encoding)
    return "not text: binary data, with NUL bytes in it"


def _convert(encoding: str) -> str:
    return f"{encoding}; convert it: iconv -f {encoding} -t UTF-8"


def _odd(sample: bytes, encoding: str, errors: str = "strict") -> float:
    """The share of characters that no text has, if the sample is read in this encoding; 1 if it can't be."""
    try:
        text = sample.decode(encoding, errors)
    except UnicodeDecodeError as error:
        if error.reason not in ("unexpected end of data", "truncated data"):
            return 1.0
        text = sample[: error.start].decode(encoding)
    odd = text.count(REPLACEMENT) + sum(unicodedata.category(each) in ODD and each not in ENDS for each in text)
    return odd / len(text) if text else 1.0
