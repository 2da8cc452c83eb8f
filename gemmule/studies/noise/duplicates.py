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
    """The text with some words exchanged for others of it, so that its Jaccard similarity with it is nearly that.

    A word that is exchanged takes 5 of n shingles away and brings 5 new ones: (n - d) / (n + d) = similarity. Words are
    exchanged one at a time, each at least 5 from the last, until it is reached: within 5 shingles in n.
    """
    parts = re.split(r"(\w+)", text)  # words at odd places
    places = list(range(1, len(parts), 2))
    lost = len(places) * (1 - similarity) / (1 + similarity)
    count = round(lost / SHINGLE)
    spread = len(places) / max(1, count)  # never below SHINGLE
    changed = list(parts)
    for number in range(count):
        place = places[min(len(places) - 1, int(number * spread + random.uniform(0, spread - SHINGLE)))]
        old = parts[place]
        new = old
        while new.lower() == old.lower():
            new = parts[random.choice(places)]
        changed[place] = new
    return "".join(changed)
