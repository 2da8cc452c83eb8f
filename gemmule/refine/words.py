"""Text as numbers: a hash for each word, and for each run of so many words; what duplicates are found by.

All in numpy, over the characters of a document at once. Scripts that write no spaces between words (Chinese, Japanese,
Thai...) count each character as a word. Hashes of 64 bits stand for what they are of: among 10**9 different runs two
share one with a probability of 3%. They are the same in every process and session.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gemmule.base.splitmix import GOLDEN, mix

Hashes = NDArray[np.uint64]
INVERSE = np.uint64(pow(int(GOLDEN), -1, 2**64))
SHINGLE = 5  # words
LAST = 0x33000  # code points from here on are no letters
UNSPACED = (
    (0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3001, 0x30FF), (0x31F0, 0x31FF), (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF), (0xA9E0, 0xA9FE), (0xAA60, 0xAA7F), (0xF900, 0xFAFF), (0xFF01, 0xFF0F), (0xFF1A, 0xFF20),
    (0xFF3B, 0xFF40), (0xFF5B, 0xFF9F), (0x1B000, 0x1B16F), (0x20000, LAST - 1),
)  # fmt: skip
"""Thai and Lao, Burmese, Khmer, kana, Han, and the punctuation among them."""
BETWEEN, LETTER, WORD = 0, 1, 2  # what a character is: between words, of a word, a word by itself


class Words(NamedTuple):
    """The words of a text: what each is, and where."""

    hashes: Hashes  # [words]
    starts: NDArray[np.int64]  # [words], in characters
    ends: NDArray[np.int64]


class _Alphabet(NamedTuple):
    numbers: Hashes  # [LAST + 1]: what a character counts as
    kinds: NDArray[np.uint8]  # [LAST + 1]


def plain_words(text: str) -> Hashes:
    """A hash for each word, in lower case and without punctuation."""
    return _words(text, _plain()).hashes


def written_words(text: str) -> Words:
    """What stands between white space, as it is written."""
    return _words(text, _written())


def runs(words: Hashes, length: int) -> Hashes:
    """A hash for each `length` words in a row: [words - length + 1]; empty for fewer words."""
    count = max(0, len(words) - length + 1)
    found = np.zeros(count, np.uint64)
    for place in range(length if count else 0):
        found *= GOLDEN
        found += words[place : place + count]
    return mix(found)


def shingles(text: str) -> Hashes:
    """The set of a text's runs of 5 plain words, sorted; of a text of fewer words the run of them all."""
    found = np.sort(shingle_runs(text))
    new = np.ones(len(found), bool)
    np.not_equal(found[1:], found[:-1], out=new[1:])
    return found[new]


def shingle_runs(text: str) -> Hashes:
    """The shingles as they come, some more than once."""
    words = plain_words(text)
    return runs(words, min(SHINGLE, max(1, len(words))))


def _words(text: str, alphabet: _Alphabet) -> Words:
    characters = np.minimum(np.frombuffer(text.encode("utf-32-le"), np.uint32), np.uint32(LAST)).astype(np.intp)
    kinds = alphabet.kinds[characters]
    within = (kinds[1:] == LETTER) & (kinds[:-1] == LETTER)  # a word goes on from a character to the next
    starts = kinds != BETWEEN
    ends = starts.copy()
    starts[1:] &= ~within
    ends[:-1] &= ~within
    first, last = np.flatnonzero(starts), np.flatnonzero(ends) + 1
    powers, inverses = _powers(1 << len(characters).bit_length())
    sums = np.zeros(len(characters) + 1, np.uint64)
    np.cumsum(alphabet.numbers[characters] * powers[: len(characters)], out=sums[1:])
    return Words(mix((sums[last] - sums[first]) * inverses[first]), first, last)


@lru_cache(maxsize=1)
def _plain() -> _Alphabet:
    every = "".join(map(chr, range(LAST + 1)))
    marks = [code for code, character in enumerate(every) if unicodedata.category(character) in ("Mn", "Mc")]
    kinds = np.full(LAST + 1, BETWEEN, np.uint8)
    kinds[[match.start() for match in re.finditer(r"[^\W_]", every)] + marks] = LETTER
    lower = every.replace("İ", "i").lower()  # the one letter that would become two
    return _alphabet(np.frombuffer(lower.encode("utf-32-le", "surrogatepass"), np.uint32), kinds)


@lru_cache(maxsize=1)
def _written() -> _Alphabet:
    kinds = np.full(LAST + 1, LETTER, np.uint8)
    kinds[[code for code in range(LAST + 1) if chr(code).isspace()]] = BETWEEN
    return _alphabet(np.arange(LAST + 1), kinds)


def _alphabet(codes: NDArray[np.integer[Any]], kinds: NDArray[np.uint8]) -> _Alphabet:
    for start, end in UNSPACED:
        marked = kinds[start : end + 1]
        marked[marked == LETTER] = WORD
    return _Alphabet(mix(codes.astype(np.uint64) + GOLDEN), kinds)


@lru_cache(maxsize=2)
def _powers(count: int) -> tuple[Hashes, Hashes]:
    """The first powers of GOLDEN, which is odd, and of its inverse modulo 2**64."""
    of_both = [np.cumprod(np.full(count, base), dtype=np.uint64) for base in (GOLDEN, INVERSE)]
    return of_both[0], of_both[1]
