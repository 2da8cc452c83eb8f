"""The shape of a text, by which most text is passed over without a search: prose has few long numbers and no tokens.

A search by a character class reads some 30 MB/s; translating bytes and looking for a literal, far more.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from functools import cached_property

SPACES = " \xa0\u2007\u2009\u202f"
HYPHENS = "\u2010\u2011\u2013-"  # the last of a class of characters
# Scripts written without spaces, and Hangul, whose endings are joined to what is before: a number or Latin letters end
# where these begin.
SPACELESS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
_IN_WORDS = re.compile(rf"[^\W{SPACELESS}]")
_BETWEEN = " ()/-"  # what stands between the digits of one number, with "."
_ZEROS = (0x660, 0x6F0, 0x966, 0x9E6, 0xE50, 0xFF10)  # Arabic, Persian, Devanagari, Bengali, Thai, fullwidth
_OTHER_DIGITS = frozenset(chr(zero + digit) for zero in _ZEROS for digit in range(10))

_NUMBERS = bytearray(b"_" * 128 + b" " * 128)  # 0: a digit, A: a capital; of a character past ASCII each byte is " "
_TOKENS = bytearray(b" " * 256)  # w: of a token
for _kind, _characters in ((b"0", string.digits), (b"A", string.ascii_uppercase), (b".", "."), (b" ", _BETWEEN)):
    for _character in _characters:
        _NUMBERS[ord(_character)] = _kind[0]
for _character in string.ascii_letters + string.digits + "_-.":
    _TOKENS[ord(_character)] = ord("w")

_NUMBER = re.compile(rb"0(?:[ .]{0,9}0){6}")
_ADDRESS = re.compile(rb"0\.0{1,3}\.0{1,3}\.0")


def in_word(character: str) -> bool:
    """Whether what stands beside this character, or nothing, is a part of a word or number with it."""
    return _IN_WORDS.match(character) is not None


class Shape:
    """What a text may hold."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._content = text.encode("utf-8", "surrogatepass")

    @cached_property
    def _numbers(self) -> bytes:
        return self._content.translate(_NUMBERS)

    def tokens(self) -> Iterator[int]:
        """Where 20 and more letters, digits, dots, hyphens and underscores in a row begin."""
        kinds = self._content.translate(_TOKENS)
        end = behind = characters = 0
        while end >= 0 and (found := kinds.find(b"w" * 20, end)) >= 0:
            start = kinds.rfind(b" ", end, found) + 1 or end
            characters += len(self._content[behind:start].decode("utf-8", "surrogatepass"))
            behind = start
            yield characters
            end = kinds.find(b" ", found)

    @property
    def has_number(self) -> bool:
        """Seven digits that may be one number."""
        if _NUMBER.search(self._numbers):
            return True
        return not self._text.isascii() and not _OTHER_DIGITS.isdisjoint(self._text)

    @property
    def has_address(self) -> bool:
        """Four numbers with dots between."""
        return _ADDRESS.search(self._numbers) is not None

    @property
    def has_account(self) -> bool:
        """Two capitals and two digits, as an IBAN begins."""
        return b"AA00" in self._numbers
