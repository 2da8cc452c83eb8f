"""Cuts a long text into the parts that a tokenizer is handed at a time: memory, time and Ctrl-C are bounded by one.

The tokenizers library holds some 150 bytes a token, hears no signal within a call, and its patterns give up on
stretches of millions of spaces. Documents are mostly shorter than a part; a prompt or a record may be longer.

A part ends where the ids stay what they are for the whole text: after a line or before a space, where the tokenizer
gives the same ids to the text on both sides together and apart. Only where there is no such place (DNA, a million
spaces) does it end after LONGEST characters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

LONGEST = 2**17  # characters
CONTEXT = 256  # characters on each side that show whether a cut changes ids
TRIES = 8  # places of each kind that are looked at
AT_ONCE = 2**19  # characters of a batch: enough to keep cores busy
Encode = Callable[[str], list[int]]


def parts(text: str, encode: Encode, longest: int = LONGEST) -> Iterator[str]:
    """Parts of `text`, each of at most `longest` characters. The ids of each, joined, are those of the text.

    Where `encode` puts a space before every text, as SentencePiece does, the one at a cut is left out.
    """
    start = 0
    while len(text) - start > longest:
        for end, begin in _places(text, start + longest // 2, start + longest):
            left, right = text[max(start, end - CONTEXT) : end], text[begin : begin + CONTEXT]
            if encode(text[max(start, end - CONTEXT) : begin + CONTEXT]) == encode(left) + encode(right):
                break
        else:
            end = begin = start + longest
        yield text[start:end]
        start = begin
    yield text[start:] if start else text


def groups(texts: Iterable[str]) -> Iterator[list[str]]:
    """The texts in batches of about AT_ONCE characters; one that is longer than a part by itself."""
    some: list[str] = []
    size = 0
    for text in texts:
        if some and (size + len(text) > AT_ONCE or len(text) > LONGEST):
            yield some
            some, size = [], 0
        some.append(text)
        size = AT_ONCE if len(text) > LONGEST else size + len(text)
    if some:
        yield some


def _places(text: str, low: int, high: int) -> Iterator[tuple[int, int]]:
    """Where a part could end and the next begin, the last first."""
    for end in islice(line_ends(text, low, high), TRIES):
        yield end, end
    for end in islice(word_ends(text, low, high), TRIES):
        yield end, end
        yield end, end + 1


def line_ends(text: str, low: int, high: int) -> Iterator[int]:
    """Places between low and high after a line end that stands alone, the last first."""
    while (place := text.rfind("\n", low, high)) >= 0:
        if _stands_alone(text, place):
            yield place + 1
        high = place


def word_ends(text: str, low: int, high: int) -> Iterator[int]:
    """Places between low and high before a space that stands alone, the last first."""
    while (place := text.rfind(" ", low, high)) >= 0:
        if _stands_alone(text, place):
            yield place
        high = place


def _stands_alone(text: str, place: int) -> bool:
    return 0 < place < len(text) - 1 and not text[place - 1].isspace() and not text[place + 1].isspace()
