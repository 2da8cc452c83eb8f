"""Cuts a long text into documents, so that one long file, or record, still gives a validation set.

A text of up to 64 KiB is one document. A longer one is cut into documents of about 16 KiB, each ending after blank
lines (which stay with the document before); where there are none within 64 KiB, after a line; else after a space; else
between two characters. Nothing is changed or dropped: the documents, joined, are the text again, byte for byte. Only a
newline byte ends a line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

LONGEST = 65_536  # bytes
USUAL = 16_384
BLANK_LINES = re.compile(rb"\n(?:[ \t\r]*\n)+")
HORIZON = 2 * LONGEST  # blank lines that begin within LONGEST are followed so far, to stay together


def cut(blocks: Iterable[bytes | memoryview]) -> Iterator[tuple[int, bytes]]:
    """The documents in a text, each with its byte offset. Keeps about 128 KiB and one block in memory.

    Where the cuts fall depends on the text alone, not on how it came in blocks.
    """
    blocks = iter(blocks)
    buffer = bytearray()
    offset = 0
    long = False
    while True:
        while len(buffer) < HORIZON and (block := next(blocks, b"")):
            buffer += block
        if not buffer:
            return
        long = long or len(buffer) > LONGEST
        if not long or len(buffer) <= USUAL:
            yield offset, bytes(buffer)
            return
        end = _end(bytes(buffer[:HORIZON]))
        yield offset, bytes(buffer[:end])
        del buffer[:end]
        offset += end


def _end(text: bytes) -> int:
    """Where the first document in `text` ends, which is longer than USUAL: the first good place from USUAL on, or the
    last one before it."""
    content = len(text) - len(text.lstrip())  # nothing but white space is no document
    last = 0
    for match in BLANK_LINES.finditer(text, content):
        if match.start() >= LONGEST or last >= USUAL:
            break
        last = match.end()
    if last:
        return last
    for separator in (b"\n", b" "):
        place = text.find(separator, USUAL, LONGEST)
        if place < 0:
            place = text.rfind(separator, 0, USUAL)
        if place >= content:
            return place + 1
    end = USUAL
    while end > USUAL - 3 and text[end] & 0xC0 == 0x80:  # a byte inside a character
        end -= 1
    return end
