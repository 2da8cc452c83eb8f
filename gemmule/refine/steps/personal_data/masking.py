"""What finds personal data: a function from a text to the places to mask."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """text[start:end] is personal data."""

    start: int
    end: int


def replaced(text: str, places: Iterable[Place], mask: str) -> tuple[str, int]:
    """The text with each place, in order, as the mask; and how many there were. Of two that overlap the first stays."""
    pieces, end, count = [], 0, 0
    for place in places:
        if place.start >= end:
            pieces += [text[end : place.start], mask]
            end = place.end
            count += 1
    return ("".join([*pieces, text[end:]]), count) if count else (text, 0)


def occurrences(text: str, sign: str) -> Iterator[int]:
    """Where a character stands in a text."""
    place = text.find(sign)
    while place >= 0:
        yield place
        place = text.find(sign, place + 1)
