"""Near-duplicates of a known true Jaccard similarity of their 5-word shingles."""

from __future__ import annotations

import re
from random import Random

SHINGLE = 5  # words


def words_of(text: str) -> list[str]:
    """As they are compared: in small letters, without punctuation."""
    return re.findall(r"\w+", text.lower())


def shingles(text: str) -> set[tuple[str, ...]]:
    words = words_of(text)
    return {tuple(words[start : start + SHINGLE]) for start in range(len(words) - SHINGLE + 1)}


def jaccard(one: str, other: str) -> float:
    mine, theirs = shingles(one), shingles(other)
    return len(mine & theirs) / len(mine | theirs)


def near_duplicate(text: str, similarity: float, random: Random) -> str:
    """The text with some words exchanged for others of it, so that its Jaccard similarity with it is that.

    A word that is exchanged takes 5 of n shingles away and brings 5 new ones, one at the end fewer:
    (n - d) / (n + d) = similarity. Words are exchanged at least 5 from each other, until d is reached.
    """
    parts = re.split(r"(\w+)", text)  # words at odd places
    places = range(1, len(parts), 2)
    n = len(places) - SHINGLE + 1
    count, rest = divmod(round(n * (1 - similarity) / (1 + similarity)), SHINGLE)
    spread = (len(places) - 3 * SHINGLE) / max(1, count)
    chosen = [SHINGLE + int(number * spread + random.uniform(0, spread - SHINGLE)) for number in range(count)]
    changed = list(parts)
    for number in [*chosen, *([len(places) - rest] if rest else [])]:
        new = old = parts[places[number]]
        while new.lower() == old.lower():
            new = parts[random.choice(places)]
        changed[places[number]] = new
    return "".join(changed)
