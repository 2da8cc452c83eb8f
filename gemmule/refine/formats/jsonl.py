"""jsonl: a JSON object a line, with the text in one of its fields."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

from gemmule.base.encodings import BYTE_ORDER_MARK, BadRecord, nul_byte, wrong_bytes
from gemmule.refine.beginnings import first_bytes, whole_lines
from gemmule.refine.formats import Format, streamed
from gemmule.refine.records import LONG, TOO_LONG, Texts, check_utf8, kind, lines, parse_json, taken, text_in
from gemmule.refine.source_file import SourceFile


def read_jsonl(blocks: Iterable[bytes], name: str, field: str) -> Texts:
    """One JSON object a line; the position is the line's number, from 1. Lines end at a newline byte."""
    for number, line in enumerate(lines(blocks), start=1):
        where = f"{name}, line {number}"
        if line is None:
            yield number, BadRecord(f"{where}: {TOO_LONG}")
        elif content := (line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line).strip():
            line = b""  # a long one is not kept beside its text
            yield number, taken(_object_text, content, field, where)


def _object_text(content: bytes, field: str, where: str) -> str | bytes:
    if b"\0" in content:
        raise nul_byte(where)
    if len(content) >= LONG and (text := _long_text(content, field)) is not None:
        return text
    try:
        record = parse_json(content.decode())
    except UnicodeDecodeError as error:
        raise wrong_bytes(error, where) from None
    except (ValueError, RecursionError) as error:
        raise BadRecord(f"{where}: not JSON ({_reason(error)}); jsonl holds one JSON object a line") from None
    if not isinstance(record, dict):
        raise BadRecord(f"{where}: not a JSON object but {kind(record)}; jsonl holds one JSON object a line")
    return text_in(record, field, where)


def _long_text(content: bytes, field: str) -> bytes | None:
    """The text of a long record, parsed as Latin-1, where each byte is a character and takes no more room than that.

    None where that can't be (escaped characters are no bytes), or where something is wrong, which the usual way says.
    """
    if b"\\u" in content:
        return None
    try:
        text = parse_json(content.decode("latin-1"))[field.encode().decode("latin-1")].encode("latin-1")
        check_utf8(text)
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return None
    return bytes(text)


def _reason(error: Exception) -> str:
    return f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)


def first_records(file: SourceFile) -> Iterator[dict[str, Any]]:
    """Those that are whole in the first MiB."""
    content, _ = file.beginning(2**20)
    for line in content.removeprefix(BYTE_ORDER_MARK).split(b"\n"):
        with suppress(ValueError, RecursionError):
            record = parse_json(line.decode())
            if isinstance(record, dict):
                yield record


FORMATS = (Format((".jsonl",), streamed(read_jsonl), first_records, first_bytes(whole_lines)),)
