"""What the formats of records share: lines, JSON, and which value of a field is a text.

A reader gives (position, text), a very long text as its bytes in UTF-8; in place of a text a BadRecord, where a record
can't be taken and the next one may be. What spoils the rest of the file is raised. Nothing larger than a record is in
memory, and no record over LONGEST_RECORD is read.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from gemmule.base.encodings import BadRecord

Texts = Iterator[tuple[int, str | bytes | BadRecord]]
Read = Callable[[Iterable[bytes], str, str], Texts]  # of a file's bytes in blocks, its name for errors, the field
LONGEST_RECORD = 2**28  # bytes
TOO_LONG = f"longer than {LONGEST_RECORD // 10**6} MB, too long for a record: put long texts into txt files"
LONG = 2**22  # bytes of a text that is better kept as such: one emoji in it makes four of each character in a str
SAY_WHICH = "; say which one holds the text by data.field"
DECODER, OF_LONG_NUMBERS = json.JSONDecoder(strict=False), json.JSONDecoder(strict=False, parse_int=float)


def lines(blocks: Iterable[bytes]) -> Iterator[bytes | None]:
    """The lines, without the newline byte that ends each; None for one over LONGEST_RECORD."""
    pending: list[bytes] = []
    length = 0
    for block in blocks:
        head, *rest = block.split(b"\n")
        length += len(head)
        pending = [*pending, head] if length <= LONGEST_RECORD else []
        for line in rest:
            yield b"".join(pending) if length <= LONGEST_RECORD else None
            pending, length = [line], len(line)
    if length:
        yield b"".join(pending) if length <= LONGEST_RECORD else None


def check_utf8(text: bytes | memoryview) -> None:
    """Raises UnicodeDecodeError; keeps no more than a block of the text beside it."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    for start in range(0, len(text), 2**20):
        decoder.decode(text[start : start + 2**20])
    decoder.decode(b"", final=True)


def parse_json(text: str) -> Any:
    """Not strict: a form feed or tab written raw within a string is a fault of form that leaves no doubt; and a number
    of any length is a number. Raises ValueError or RecursionError."""
    return tolerantly(lambda decoder: decoder.decode(text))


def tolerantly(decode: Callable[[json.JSONDecoder], Any]) -> Any:
    try:
        return decode(DECODER)
    except json.JSONDecodeError:
        raise
    except ValueError:  # Python turns no more than 4,300 digits into an int
        return decode(OF_LONG_NUMBERS)


def text_in(record: dict[str, Any], field: str, where: str) -> str:
    """The text in a field of a record. Raises BadRecord."""
    if field not in record:
        raise BadRecord(f"{where}: {no_field(field, record)}")
    return checked_text(record[field], f"{where}: field {field!r}")


def checked_text(value: Any, where: str) -> str:
    """`value`, if it is a text that can be encoded. Raises BadRecord."""
    if not isinstance(value, str):
        raise BadRecord(f"{where} is not a text but {kind(value)}")
    try:
        if not value.isascii():
            value.encode()
    except UnicodeEncodeError as error:
        lone = f"\\u{ord(value[error.start]):04x}"
        raise BadRecord(f"{where} holds half a surrogate pair ({lone}), which is not text") from None
    return value


def no_field(field: str, names: Iterable[str]) -> str:
    there = ", ".join(sorted(names)) or "none"
    return f"has no field {field!r} (its fields: {there}){SAY_WHICH}"


def kind(value: Any) -> str:
    """What a value that is no text is called."""
    names = {type(None): "null", bool: "true or false", str: "a text", list: "a list", dict: "an object"}
    return names.get(type(value), "binary data" if isinstance(value, bytes) else "a number")


def taken(text: Callable[..., str | bytes], *arguments: Any) -> str | bytes | BadRecord:
    """What a function gives, or what it raises of a record that can't be taken."""
    try:
        return text(*arguments)
    except BadRecord as error:
        return error
