"""Public IP addresses: those by which a machine, and so a person, may be found.

Private ones, those of documentation and the like stay (`ipaddress.is_global`, IANA's registries). Four numbers with
dots between may be a version or a section as well: what stands before them tells, or that they are small.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from gemmule.refine.steps.personal_data.masking import Place
from gemmule.refine.steps.personal_data.shape import SPACELESS, in_word

_DOTTED = re.compile(rf"\d{{1,3}}(?:\.\d{{1,3}}){{3}}(?![^\W{SPACELESS}]|\.\w|-\d)")
_VERSION = re.compile(
    r"(?:\b(?:v|ver|vers\w*|versi\w+|verz\w+|wersj\w*|верси\w*|версі\w*|έκδοση\w*|release|rel|rev|revision|build|firmware"
    r"|driver|kernel|update|patch|section|sec|sect|chapter|clause|article|appendix|table|figure|abschnitt|kapitel)\.?"
    r"|[§#]|版本|バージョン|버전|版)[\s:=(]*$"
    r"|(?:[=<>~^!]=|[<>~^]|\w/)\s*$",  # a requirement of a package; the name of a browser
    re.IGNORECASE,
)
_NAMED = re.compile(
    r"(?:\b(?:ip(?:v4)?|dns|\w*hosts?|\w*servers?|ping|address\w*|gateway|router|client|peer)\W{1,3}|://|@)$",
    re.IGNORECASE,
)
_HEADING = re.compile(r"\.?[ \t\xa0]+[^\W\d_a-z]")
_COLONS = re.compile(r":[0-9A-Fa-f]{0,4}:")
_HEXADECIMAL = re.compile(r"[0-9A-Fa-f:]+")


def ipv4(text: str) -> Iterator[Place]:
    for match in _DOTTED.finditer(text):
        start, end = match.span()
        before = text[max(0, start - 24) : start]
        if in_word(before[-1:]) or before[-1:] in (".", "-") or not _is_public(match[0]):
            continue
        if not _VERSION.search(before) and not _may_be_version(match[0], before, text[end : end + 4]):
            yield Place(start, end)


def _may_be_version(number: str, before: str, after: str) -> bool:
    """A section or version, by small numbers as 1 in 100 addresses has, where nothing calls it an address. Four that
    are the same are none, but before a title."""
    numbers = [int(part) for part in number.split(".")]
    small = max(numbers) < 50 or (numbers[0] < 40 and numbers[1] < 12)
    if not small or _NAMED.search(before):
        return False
    return len(set(numbers)) > 1 or _HEADING.match(after) is not None


def ipv6(text: str) -> Iterator[Place]:
    """2000::/3 only: addresses of the net are from there."""
    end = 0
    for match in _COLONS.finditer(text):
        if match.start() < end:
            continue
        start, end = match.span()  # and what goes on to both sides
        while start and _HEXADECIMAL.fullmatch(text[start - 1]):
            start -= 1
        if ahead := _HEXADECIMAL.match(text, end):
            end = ahead.end()
        address = text[start:end]
        if address.endswith(":") and not address.endswith("::"):
            address, end = address[:-1], end - 1
        joined = in_word(text[max(0, start - 1) : start]) or in_word(text[end : end + 1])
        if address[0] in "23" and address.find(":") == 4 and not joined and _is_public(address):
            yield Place(start, end)


def _is_public(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_global
    except ValueError:
        return False
