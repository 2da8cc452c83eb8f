"""Telephone numbers, by libphonenumber's rules for each country.

- With + and a country's code: whatever is a valid number.
- As they are written within a country: only for the countries of the document's language (_COUNTRIES; for source code
  and text too short to tell, those of English), only if valid and grouped as numbers are there, and only if the form is
  a telephone number's own: a leading 0, an area code in parentheses, 3-3-4 digits with hyphens or dots in North
  America, or nine digits and more in three groups that are no thousands. Shorter ones, and digits in one, only after a
  word such as "tel."; after one, in groups, those of other large countries too: text may be of several languages.

So dates, prices, ISBNs, sums, ranges of years and identifiers stay.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from gemmule.refine.steps.personal_data.masking import Place
from gemmule.refine.steps.personal_data.shape import HYPHENS, SPACES, in_word

_CANDIDATE = re.compile(rf"\d(?:[{SPACES}.()/（）{HYPHENS}]{{0,3}}\d){{6,}}")
_LONGEST = 40  # characters; longer ones are rows of a table
_AHEAD = 16  # characters, for an extension: "ext. 123"
_PLUS = frozenset("+＋")
_LEAD = re.compile(r"(?:[(（]?[+＋][(（]?|[(（])$")
_NORTH_AMERICAN = re.compile(
    rf"(?<!\d)(?:\d{{3}}(?:([.{HYPHENS}])\d{{3}}\1|[{SPACES}/]\d{{3}}[.{HYPHENS}])"
    rf"|\(\d{{3}}\) ?\d{{3}}[.{HYPHENS}])\d{{4}}(?!\d)"
)
_THOUSANDS = re.compile(rf"[1-9]\d{{0,2}}(?:([{SPACES}.])\d{{3}})(?:\1\d{{3}})*")
_OTHER_FORMS = re.compile(
    r"(?<!\d)(?:\d{4}([./-])\d\d?\1\d\d?|\d\d?([./-])\d\d?\2\d{4})(?!\d)"  # dates
    r"|(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?!\.?\d)"  # addresses
    r"|^\D*\d+\.\d+\D*$"  # decimals
    r"|^0\.|^0[ -]\d+$|^\([^)]*$"
)
_GROUPS = re.compile(r"\d+")
_GOES_ON_FROM = re.compile(r"[)\]]$|(?<![^\W\d_])\.$|[$€£¥₹]\s?$|\d:$")  # of what stands before
_GOES_ON = re.compile(r"[*^=%_]|[.,:]\d")
_WORDS = re.compile(r"[^\W\d_]+")
_NUMBERS_AND_MASKS = re.compile(r"[\d>]|\n\s*\n")
_OTHER_NUMBERS = {"isbn", "issn", "ean", "gtin", "doi", "arxiv", "pmid", "rfc", "asin", "upc"}
# By which the number after them is a telephone's: words, beginnings of words, and what stands in text without spaces or
# with vowel signs, at which words can't be cut.
_NAMES = {
    "tel", "tél", "tels", "tlf", "mob", "gsm", "sms", "cep", "đt", "sđt", "hp", "puh", "ring", "bel", "kom", "тел",
    "моб", "κιν",
}  # fmt: skip
_BEGINNINGS = (
    "telef", "teleph", "télé", "phone", "call", "cell", "mobil", "fax", "faks", "hotline", "whatsapp", "dial", "handy",
    "anruf", "durchwahl", "portable", "appele", "móvil", "llama", "llame", "celular", "kännykkä", "sími", "komórk",
    "điện", "hubungi", "simu", "foon", "телеф", "мобил", "мобіл", "звон", "дзвон", "τηλέφ", "κινητ", "טלפון", "הטלפון",
    "נייד", "هاتف", "الهاتف", "جوال", "تلفن", "موبایل", "فون", "հեռ", "ტელ",
)  # fmt: skip
_SIGNS = (
    "☎", "✆", "📞", "📱", "電話", "电话", "手机", "手機", "携帯", "传真", "傳真", "전화", "휴대폰", "연락처", "팩스",
    "โทร", "เบอร์", "फ़ोन", "फोन", "मोबाइल", "दूरभाष", "ফোন", "মোবাইল",
)  # fmt: skip
_COUNTRIES = {
    "": "US GB AU NZ IE ZA", "af": "ZA NA", "am": "ET", "ar": "EG SA AE MA DZ TN JO IQ KW LB", "as": "IN", "az": "AZ",
    "be": "BY", "bg": "BG", "bn": "BD IN", "bs": "BA RS HR", "ca": "ES AD", "cs": "CZ", "cy": "GB", "da": "DK",
    "de": "DE AT CH", "dz": "BT", "el": "GR CY", "en": "US GB AU NZ IE ZA", "es": "ES MX AR CO CL PE VE EC UY",
    "et": "EE", "eu": "ES", "fa": "IR AF", "fi": "FI", "fo": "FO", "fr": "FR BE CH CA", "ga": "IE", "gl": "ES",
    "gu": "IN", "he": "IL", "hi": "IN", "hr": "HR BA RS", "ht": "HT", "hu": "HU", "hy": "AM", "id": "ID", "is": "IS",
    "it": "IT CH", "ja": "JP", "jv": "ID", "ka": "GE", "kk": "KZ", "km": "KH", "kn": "IN", "ko": "KR", "ky": "KG",
    "lb": "LU", "lo": "LA", "lt": "LT", "lv": "LV", "mk": "MK", "ml": "IN", "mn": "MN", "mr": "IN", "ms": "MY",
    "mt": "MT", "nb": "NO", "ne": "NP", "nl": "NL BE", "nn": "NO", "no": "NO", "or": "IN", "pa": "IN PK", "pl": "PL",
    "ps": "AF PK", "pt": "BR PT", "ro": "RO MD", "ru": "RU BY KZ", "rw": "RW", "se": "NO SE FI", "si": "LK", "sk": "SK",
    "sl": "SI", "sq": "AL", "sr": "RS BA HR ME", "sv": "SE FI", "sw": "KE TZ", "ta": "IN LK", "te": "IN", "th": "TH",
    "tl": "PH", "tr": "TR", "ug": "CN", "uk": "UA", "ur": "PK IN", "vi": "VN", "xh": "ZA", "zh": "CN TW", "zu": "ZA",
}  # fmt: skip
_LARGE = "US GB DE FR ES IT NL SE PL BR MX TR RU IN JP CN KR ID"


def phones(text: str, language: str) -> Iterator[Place]:
    for match in _CANDIDATE.finditer(text):
        start, end = match.span()
        if lead := _LEAD.search(text[max(0, start - 3) : start]):
            start -= len(lead[0])
        before, candidate = text[max(0, start - 32) : start], text[start:end]
        named = _is_named(before) and not _OTHER_FORMS.search(candidate)
        abroad = lead is not None and not _PLUS.isdisjoint(lead[0])
        national = len(candidate) <= _LONGEST and (named or _may_be_national(candidate, language))
        if not abroad and not national:
            continue
        if in_word(before[-1:]) or _GOES_ON_FROM.search(before):
            continue
        found = _valid(text, start, end, "ZZ") if abroad else []
        for country in _countries(candidate, language, named) if national and not _is_of_another(before) else ():
            if any(place.start == start and place.end >= end for place in found):
                break
            for place in _valid(text, start, end, country):
                clear = _is_clear(text[place.start : place.end], country, named)
                if clear and all(place.end <= other.start or place.start >= other.end for other in found):
                    found.append(place)
        yield from sorted(found, key=lambda place: place.start)


def _may_be_national(candidate: str, language: str) -> bool:
    """Quick: most numbers end here."""
    if candidate.isdigit() or "  " in candidate or _OTHER_FORMS.search(candidate) or _THOUSANDS.fullmatch(candidate):
        return False
    groups = _GROUPS.findall(candidate)
    if candidate[0] in "0(（":
        return sum(map(len, groups)) > (7 if len(groups) > 2 or candidate[0] != "0" else 8)
    if language in ("", "en"):
        return _NORTH_AMERICAN.search(candidate) is not None
    return len(groups) > 2


def _countries(candidate: str, language: str, named: bool) -> list[str]:
    countries = _COUNTRIES.get(language, "").split()
    if named and not candidate.isdigit():
        countries += [country for country in _LARGE.split() if country not in countries]
    return countries if candidate[0] != "0" else [country for country in countries if country != "US"]


def _is_clear(written: str, country: str, named: bool) -> bool:
    """Whether a number that is valid and well grouped can hardly be anything but a telephone number."""
    groups = _GROUPS.findall(written)
    if "  " in written or _OTHER_FORMS.search(written):
        return False
    if named:
        return True
    if len(groups) == 1 or _THOUSANDS.fullmatch(written):
        return False
    if written[0] in "0(（":
        return True
    if country == "US":
        return _NORTH_AMERICAN.search(written) is not None
    return len(groups) > 2 and sum(map(len, groups)) >= 9


def _is_named(before: str) -> bool:
    """By one of the last words, after any number or mask."""
    before = _NUMBERS_AND_MASKS.split(before.lower())[-1]
    if any(word in _NAMES or word.startswith(_BEGINNINGS) for word in _WORDS.findall(before)[-3:]):
        return True
    return not before.isascii() and any(sign in before for sign in _SIGNS)


def _is_of_another(before: str) -> bool:
    return not _OTHER_NUMBERS.isdisjoint(_WORDS.findall(before.lower())[-1:])


def _valid(text: str, start: int, end: int, country: str) -> list[Place]:
    """Numbers that begin in text[start:end]: those with a country's code for "ZZ", else a country's, well grouped."""
    from phonenumbers import Leniency, PhoneNumberMatcher

    leniency = Leniency.VALID if country == "ZZ" else Leniency.STRICT_GROUPING
    offset = max(0, start - 1)  # it looks at what stands before
    matches = PhoneNumberMatcher(text[offset : end + _AHEAD], country, leniency=leniency, max_tries=100)
    places = [Place(offset + match.start, offset + match.end) for match in matches]
    return [place for place in places if place.start < end and not _GOES_ON.match(text, place.end)]
