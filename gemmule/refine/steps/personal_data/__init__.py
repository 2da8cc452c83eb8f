"""Personal data: masked by a word in angle brackets, or its documents dropped.

<email>, <phone>, <card> (cards and IBANs), <ip> (public addresses) and <key>, in the modules beside this one. What is
found is never named in a reason or a figure, only its kind and how many.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal

from gemmule.refine.corpus import Corpus
from gemmule.refine.sources import Document
from gemmule.refine.steps.extras import check_installed
from gemmule.refine.steps.personal_data.accounts import cards, ibans
from gemmule.refine.steps.personal_data.addresses import ipv4, ipv6
from gemmule.refine.steps.personal_data.emails import emails
from gemmule.refine.steps.personal_data.keys import keys
from gemmule.refine.steps.personal_data.masking import Place, replaced
from gemmule.refine.steps.personal_data.phones import phones
from gemmule.refine.steps.personal_data.shape import Shape
from gemmule.refine.steps.step import DocumentStep, Verdict


class PersonalData(DocumentStep):
    """Masks personal data, or drops the documents that have some."""

    name: ClassVar[str] = "personal_data"

    def __init__(self, how: Literal["mask", "drop"] = "mask") -> None:
        self._how = how

    def prepare(self, folder: Path, corpus: Corpus | None) -> None:
        check_installed(self.name, "phonenumbers", "stdnum")

    def judge(self, document: Document) -> Verdict:
        text, counts = mask(document.text, document.language)
        if not counts:
            return Verdict(document)
        if self._how == "drop":
            found = ", ".join(f"{count} {kind}" for kind, count in counts.items())
            return Verdict(None, f"personal data: {found}", counts=counts)
        return Verdict(replace(document, text=text), counts=counts)


def masked(text: str, language: str = "") -> str:
    """A text without the personal data in it. `language` is an ISO 639-1 code, by which telephone numbers are known."""
    return mask(text, language)[0]


def mask(text: str, language: str = "") -> tuple[str, dict[str, int]]:
    """A text with its personal data masked, and how much of each kind there was."""
    counts: dict[str, int] = {}
    shape = Shape(text)

    def hide(kind: str, places: Iterator[Place]) -> None:
        nonlocal text
        text, count = replaced(text, places, kind)
        if count:
            counts[kind] = counts.get(kind, 0) + count

    hide("<key>", keys(text, shape.tokens()))
    hide("<email>", emails(text))
    if shape.has_account:
        hide("<card>", ibans(text))
    if shape.has_number:
        hide("<card>", cards(text))
    if shape.has_address:
        hide("<ip>", ipv4(text))
    hide("<ip>", ipv6(text))
    if shape.has_number:
        hide("<phone>", phones(text, language))
    return text, counts
