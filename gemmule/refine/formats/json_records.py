"""json: a list of records, an object with such a list, or records one after the other; read in a stream."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

from gemmule.base.encodings import BadRecord, wrong_bytes
from gemmule.refine.beginnings import first_texts
from gemmule.refine.formats import Format, streamed
from gemmule.refine.records import (
    LONGEST_RECORD,
    TOO_LONG,
    Texts,
    checked_text,
    kind,
    no_field,
    taken,
    text_in,
    tolerantly,
)
from gemmule.refine.source_file import SourceFile


def read_json(blocks: Iterable[bytes], name: str, field: str) -> Texts:
    """A list of records, or an object with one such list, or with the field itself; or one object a line, as in jsonl.

    A record is an object with the field, or a text. The position is the record's number, from 1.
    """
    stream = JsonStream(blocks, name)
    opening = stream.peek()
    if opening == "[":
        for number, record in enumerate(stream.elements(), start=1):
            yield number, _record_text(record, field, f"{name}, record {number}")
        stream.end()
    elif opening == "{":
        yield from _read_object(stream, name, field)
    else:
        raise BadRecord(f"{name}: not a list of records: it begins with {opening!r}")


def _read_object(stream: JsonStream, name: str, field: str) -> Texts:
    """The records of a list in an object, if the first one there has the field; else the object is itself a record, and
    so are those that follow it."""
    record: dict[str, Any] = {}
    keys: list[str] = []
    found, number = None, 0
    for key in stream.names():
        keys.append(key)
        if stream.peek() != "[":
            value = stream.value()
            record |= {key: value} if key == field else {}
            continue
        there = False
        for place, element in enumerate(stream.elements()):
            there = there or (place == 0 and isinstance(element, dict) and field in element)
            if there and found not in (None, key):
                raise BadRecord(
                    f"{name}: two lists of records with {field!r} in it, {found!r} and {key!r}: write one alone"
                )
            if there:
                found, number = key, number + 1
                yield number, _record_text(element, field, f"{name}, record {number} of {found!r}")
    if found is not None:
        stream.end()
        return
    if not record:
        raise BadRecord(
            f"{name}: no list of records with that field in it, and the object itself {no_field(field, keys)}"
        )
    number = 1
    yield number, taken(text_in, record, field, f"{name}, record {number}")
    while stream.peek():
        number += 1
        yield number, _record_text(stream.value(), field, f"{name}, record {number}")


def _record_text(record: Any, field: str, where: str) -> str | bytes | BadRecord:
    if isinstance(record, str):
        return taken(checked_text, record, where)
    if not isinstance(record, dict):
        return BadRecord(f"{where}: not an object or a text but {kind(record)}")
    return taken(text_in, record, field, where)


class JsonStream:
    """JSON read value by value: no more of it is in memory than a value and a block."""

    def __init__(self, blocks: Iterable[bytes], name: str) -> None:
        self._blocks, self._name = iter(blocks), name
        self._text, self._place, self._over = "", 0, False
        self._rest = b""  # of a character
        self._lines = 1  # before what is in memory, and one
        self._read(1)
        self._text = self._text.removeprefix("\ufeff")

    def peek(self) -> str:
        """The next character that is no white space; empty at the end."""
        while True:
            while self._place < len(self._text) and self._text[self._place] in " \t\r\n":
                self._place += 1
            if self._place < len(self._text) or not self._read(1):
                return self._text[self._place : self._place + 1]

    def take(self, wanted: str) -> None:
        if (found := self.peek()) != wanted:
            raise self._wrong(f"{wanted!r} expected, and {found!r} found" if found else "it ends early")
        self._place += 1

    def value(self) -> Any:
        """The value that begins here."""
        self.peek()
        while True:
            try:
                value, end = tolerantly(lambda decoder: decoder.raw_decode(self._text, self._place))
            except RecursionError as error:
                raise self._wrong(str(error)) from None
            except json.JSONDecodeError as error:
                # it may only be that the rest is not here yet: twice as much is read, so that all stays linear
                near_end = error.msg.startswith("Unterminated") or error.pos >= len(self._text) - 32
                if not near_end or not self._read(max(1, len(self._text) - self._place)):
                    raise self._wrong(error.msg, error.pos) from None
                if len(self._text) - self._place > LONGEST_RECORD:
                    raise BadRecord(f"{self._name}: a value {TOO_LONG}") from None
                continue
            if end < len(self._text) or not self._read(1):
                self._place = end
                return value

    def elements(self) -> Iterator[Any]:
        """Of the list that begins here."""
        self.take("[")
        while self.peek() != "]":
            yield self.value()
            if self.peek() != "]":
                self.take(",")
        self.take("]")

    def names(self) -> Iterator[str]:
        """Of the object that begins here; the value of each is to be taken before the next is asked for."""
        self.take("{")
        while self.peek() != "}":
            if self.peek() != '"':
                raise self._wrong("a name in quotes expected")
            key: str = self.value()
            self.take(":")
            yield key
            if self.peek() != "}":
                self.take(",")
                self.peek()
        self.take("}")

    def end(self) -> None:
        if found := self.peek():
            raise self._wrong(f"{found!r} after its end")

    def _read(self, least: int) -> bool:
        """Reads so many characters more, or all; whether there were any. What lies behind is dropped."""
        parts, length = [self._text[self._place :]], 0
        while length < least and not self._over:
            block = next(self._blocks, b"")
            self._over = not block
            parts.append(self._decode(block))
            length += len(parts[-1])
        if length:
            self._lines += self._text.count("\n", 0, self._place)
            self._text, self._place = "".join(parts), 0
        return length > 0

    def _decode(self, block: bytes) -> str:
        content = self._rest + block
        try:
            self._rest = b""
            return content.decode()
        except UnicodeDecodeError as error:
            if error.reason != "unexpected end of data" or not block:
                raise wrong_bytes(error, self._name) from None
            self._rest = content[error.start :]
            return content[: error.start].decode()

    def _wrong(self, reason: str, place: int | None = None) -> BadRecord:
        line = self._lines + self._text.count("\n", 0, self._place if place is None else place)
        return BadRecord(f"{self._name}, line {line}: not JSON ({reason})")


def first_records(file: SourceFile) -> Iterator[dict[str, Any]]:
    """Those that are whole in the first MiB."""
    content, _ = file.beginning(2**20)
    with suppress(BadRecord):
        stream = JsonStream(iter([content]), file.name)
        if stream.peek() == "[":
            yield from (element for element in stream.elements() if isinstance(element, dict))
            return
        record: dict[str, Any] = {}
        for name in stream.names():
            if stream.peek() == "[":
                yield from (element for element in stream.elements() if isinstance(element, dict))
            else:
                record[name] = stream.value()
        yield record


FORMATS = (Format((".json",), streamed(read_json), first_records, first_texts(read_json), in_folders="alone"),)
