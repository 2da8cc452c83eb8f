"""Card numbers and IBANs: what is written as one is and passes its checksum.

- A card: 13 to 19 digits by an issuer's prefix and lengths, in one or grouped as on a card, with Luhn's check digit
  (ISO/IEC 7812-1). Digits in one pass it by chance: of the lengths that are rare today they need a word such as "card".
- An IBAN: its country's length and form, and ISO 7064's mod 97-10.

Both have the mask <card>. Numbers without a checksum (accounts in some countries, social security numbers of the United
States) can't be told from others and stay.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from gemmule.refine.steps.personal_data.masking import Place
from gemmule.refine.steps.personal_data.shape import HYPHENS, SPACELESS, SPACES, in_word

_GROUPED = re.compile(
    rf"[2-6](?:\d{{3}}([{SPACES}{HYPHENS}])\d{{4}}\1\d{{4}}\1\d{{1,4}}(?:\1\d{{1,3}})?"  # as most are
    rf"|\d{{3}}([{SPACES}{HYPHENS}])\d{{6}}\2\d{{4,5}}"  # American Express, Diners Club
    rf"|\d{{3}}([{SPACES}{HYPHENS}])\d{{3}}\3\d{{3}}\3\d{{3}}"  # Visa of 13 digits
    r"|\d{12,18})(?!\d)"
)
_ISSUERS = re.compile(
    r"4\d{15}"  # Visa
    r"|(?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}"  # Mastercard
    r"|3[47]\d{13}"  # American Express
    r"|(?:6011|64[4-9]\d|65\d\d)\d{12}"  # Discover
    r"|3(?:0[0-59]|[689]\d)\d{11}"  # Diners Club
    r"|35(?:2[89]|[3-8]\d)\d{12}"  # JCB
    r"|62\d{14,17}"  # UnionPay
    r"|(?:5018|5020|5038|5893|6304|6759|676[1-3])\d{9,15}"  # Maestro
)
_RARE = re.compile(r"4(?:\d{12}|\d{18})|(?:6011|64[4-9]\d|65\d\d|35(?:2[89]|[3-8]\d))\d{13,15}")
_NAMED = re.compile(
    r"(?<!<)(?:card|visa|karte|carte|tarjeta|cartão|carta|kort\w*|kaart|kart\w*|карт\w*|卡|カード|카드)"
    r"\W{0,3}(?:\w{1,12}\W{1,3}){0,2}$",
    re.IGNORECASE,
)
_HEXADECIMAL_BEFORE = re.compile(r"(?:(?<!\w)[0-9A-F]{4,5}\s){1,6}$")  # as in a table of characters by their codes
_HEXADECIMAL_AFTER = re.compile(r"(?:\s[0-9A-F]{4,5}(?!\w)){1,6}")
_IBAN = re.compile(rf"[A-Z](?<![^\W{SPACELESS}].)[A-Z]\d\d(?:[{SPACES}]?[A-Z0-9]){{11,30}}")
_NUMBER_BEFORE = re.compile(r"[./#$€£]$|\w-$")
_GOES_ON = re.compile(rf"[^\W{SPACELESS}]|\.\d|\*")
_SEPARATORS = re.compile(rf"[{SPACES}{HYPHENS}]")


def cards(text: str) -> Iterator[Place]:
    for match in _GROUPED.finditer(text):
        start, end = match.span()
        before = text[max(0, start - 40) : start]
        if _NUMBER_BEFORE.search(before) or in_word(before[-1:]) or _GOES_ON.match(text, end):
            continue
        beside = _HEXADECIMAL_BEFORE.search(before), _HEXADECIMAL_AFTER.match(text, end)
        if any(codes and codes[0].isupper() for codes in beside):
            continue
        groups = list(_SEPARATORS.finditer(match[0]))
        clear = bool(groups) or _NAMED.search(before) is not None
        for stop in (end, *(start + group.start() for group in reversed(groups))):  # what follows may be an expiry date
            if stop - start >= 13 and _is_card(_SEPARATORS.sub("", text[start:stop]), clear):
                yield Place(start, stop)
                break


def _is_card(digits: str, clear: bool) -> bool:
    from stdnum import luhn

    issued = _ISSUERS.fullmatch(digits) or (clear and _RARE.fullmatch(digits))
    return digits.isascii() and bool(issued) and bool(luhn.is_valid(digits))


def ibans(text: str) -> Iterator[Place]:
    from stdnum import iban

    for match in _IBAN.finditer(text):
        start = match.start()
        ends = [match.end(), *(start + space.start() for space in reversed(list(_SEPARATORS.finditer(match[0]))))]
        for end in ends:  # words in capitals may follow
            number = _SEPARATORS.sub("", text[start:end])
            if len(number) >= 15 and not in_word(text[end : end + 1]) and iban.is_valid(number, check_country=False):
                yield Place(start, end)
                break
