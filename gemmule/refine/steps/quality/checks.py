"""A figure of a document beside its threshold, and the document's words, split once for all rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

from gemmule.refine.steps.quality.words import NO_SIGN, words_of


class Check(NamedTuple):
    """One rule's figure. `name` is the rule's, as in the recipe; `what` says what is counted, as in a sentence."""

    name: str
    value: float
    what: str
    limit: float
    at_least: bool  # or at most

    @property
    def fails(self) -> bool:
        return self.value < self.limit if self.at_least else self.value > self.limit

    @property
    def said(self) -> str:
        """With its threshold, whether or not it fails."""
        if self.fails:
            return self.reason
        return (
            f"{rounded(self.value, self.limit)} {self.what} (at {'least' if self.at_least else 'most'} {self.limit:,})"
        )

    @property
    def reason(self) -> str:
        if not self.limit:
            return f"{self.what} in {self.value:,} line{'s' * (self.value > 1)}"
        counts = isinstance(self.value, int) and isinstance(self.limit, int)
        than = ("fewer" if counts else "less") if self.at_least else "more"
        return f"{rounded(self.value, self.limit)} {self.what}, {than} than {self.limit:,}"


def rounded(value: float, limit: float) -> str:
    """With as many digits as tell it from the threshold."""
    if isinstance(value, int):
        return f"{value:,}"
    return next((text for digits in (2, 3, 4) if float(text := f"{value:.{digits}f}") != limit), f"{value:.6g}")


def at_least(name: str, value: float, what: str, limit: float) -> Check:
    return Check(name, value, what, limit, True)


def at_most(name: str, value: float, what: str, limit: float) -> Check:
    return Check(name, value, what, limit, False)


class Text:
    """A text whose words are split when a rule first asks for them."""

    def __init__(self, text: str, *, thorough: bool = False) -> None:
        self.text = text
        self.thorough = thorough  # whether figures that can't decide are wanted too

    @cached_property
    def words(self) -> list[str]:
        return words_of(self.text)

    @cached_property
    def longest(self) -> int:
        """Characters of the longest word."""
        return max(map(len, self.words), default=0)

    @cached_property
    def _others(self) -> Counter[str]:
        """The words that are not all letters."""
        return Counter(word for word in self.words if not word.isalpha())

    @cached_property
    def _signs(self) -> Counter[str]:
        """The words that are only signs."""
        return Counter({word: count for word, count in self._others.items() if not NO_SIGN.search(word)})

    @property
    def proper_words(self) -> int:
        """How many words are not only signs."""
        return len(self.words) - self._signs.total()

    @property
    def letters(self) -> int:
        """The characters of these words."""
        signs = sum(len(word) * count for word, count in self._signs.items())
        return sum(map(len, self.words)) - signs

    @property
    def with_letters(self) -> int:
        """How many words have a letter."""
        without = sum(count for word, count in self._others.items() if not any(map(str.isalpha, word)))
        return len(self.words) - without


def duplicated(elements: Sequence[str]) -> tuple[int, int]:
    """How many elements stood there before, and their characters."""
    if len(set(elements)) == len(elements):
        return 0, 0
    seen: set[str] = set()
    count = characters = 0
    for element in elements:
        if element in seen:
            count += 1
            characters += len(element)
        else:
            seen.add(element)
    return count, characters
