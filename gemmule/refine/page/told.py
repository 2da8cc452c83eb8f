"""What each step of the refinery is, in a sentence, and where its method comes from."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gemmule.base.page import visible
from gemmule.refine.page.record import StepRecord

DIGEST = re.compile(", sha256 [0-9a-f]+$")


@dataclass(frozen=True)
class Told:
    """What the page says of a step besides its figures."""

    title: str
    what: str = ""
    source: str = ""
    keys: tuple[str, ...] = ()  # of [refine] that set it
    counted: str = ""  # what all its `counts` are of, where that is one thing
    matched: str = "Like"  # what a document that it drops is to the one named beside it


STEPS = {
    "repair": Told(
        "Repair",
        "Mends text that was decoded wrongly, brings letters to one form (NFC), and removes control characters.",
        "ftfy (Speer 2019); Unicode Standard Annex 15",
        ("repair",),
        "Repairs, by kind",
    ),
    "languages": Told(
        "Languages",
        "Tells the language of each document by the bytes that are usual in it, and drops those in other languages than"
        " the recipe lists. Text too short to tell is kept.",
        "langid.py (Lui and Baldwin 2012), as py3langid",
        ("languages", "language_threshold"),
        "Documents, by language",
    ),
    "personal_data": Told(
        "Personal data",
        "Finds e-mail addresses, phone numbers, cards and IBANs, public IP addresses, and keys. A number counts only if"
        " its checksum or its country’s rule holds.",
        "libphonenumber; ISO/IEC 7812 (cards); ISO 13616 (IBANs); IANA’s registries; gitleaks (keys)",
        ("personal_data",),
        "Found, by kind",
    ),
    "quality": Told(
        "Quality rules",
        "Drops text that is no prose by simple measures: length, words, symbols, repetition, how lines end. A rule that"
        " can’t tell, as of verse, short texts and other languages, is set aside.",
        "Gopher (Rae et al. 2021, arXiv 2112.11446), C4 (Raffel et al. 2020, arXiv 1910.10683), FineWeb (Penedo et"
        " al. 2024, arXiv 2406.17557)",
        ("quality",),
    ),
    "boilerplate": Told(
        "Boilerplate lines",
        "Takes lines that many documents have, such as menus and notices, out of them. A short document that has"
        " nothing else is dropped.",
        "lines are counted in a count-min sketch (Cormode and Muthukrishnan 2005)",
        ("quality.boilerplate",),
    ),
    "exact_duplicates": Told(
        "Exact duplicates",
        "Drops documents whose text is the same as an earlier one’s, white space around it aside. The first stays.",
        "",
        ("duplicates.exact",),
        matched="The same as",
    ),
    "near_duplicates": Told(
        "Near duplicates",
        "Drops documents that share most of their 5-word sequences with an earlier one that stays. MinHash finds whom"
        " to compare; the true Jaccard similarity decides.",
        "MinHash (Broder 1997)",
        ("duplicates.near",),
    ),
    "substrings": Told(
        "Repeated passages",
        "Cuts long passages that stood word for word before, in an earlier document or in the same one.",
        "the idea is that of Lee et al. 2021 (arXiv 2107.06499)",
        ("duplicates.substrings",),
        matched="First seen in",
    ),
    "minus": Told(
        "Minus a collection",
        "Drops what the collections that the recipe names have already, the same or nearly.",
        "",
        ("minus",),
        matched="In the collection",
    ),
    "decontaminate": Told(
        "Evaluation text",
        "Drops documents that share 13 words in a row with an item of an evaluation set, so that a model is not"
        " measured on what it was trained on.",
        "GPT-3 (Brown et al. 2020, arXiv 2005.14165, appendix C)",
        ("decontaminate",),
        "Items met most often, with documents",
        "Evaluation item",
    ),
    "keep": Told("Your own function", "Asks the function that the recipe names about each document.", "", ("keep",)),
    "teacher_score": Told(
        "Teacher’s score",
        "Drops what the teacher predicts worst (noise) and best (repetition), and keeps what is between.",
        "the idea is that of perplexity filters: Marion et al. 2023 (arXiv 2309.04564)",
        ("teacher_score",),
    ),
}


def told(step: StepRecord) -> Told:
    """A step that is not known here is called by its name."""
    return STEPS.get(step.name, Told(visible(step.name), keys=(step.name,)))


def recipe_lines(settings: Mapping[str, Any], keys: tuple[str, ...]) -> list[str]:
    """The lines below [refine] that set these keys, what is below them, or the tables that they are in.

    Of a key that names files or code what those come to, as a comment.
    """
    return [
        f"# {key}: {value}" if DIGEST.search(str(value)) else f"{key} = {_toml(value)}"
        for key, value in settings.items()
        if any(f"{key}.".startswith(f"{each}.") or each.startswith(f"{key}.") for each in keys)
    ]


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return f"{{ {', '.join(_entries(value))} }}" if value else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return _quoted(value) if isinstance(value, str) else str(value)


def _entries(table: Mapping[str, Any]) -> Iterator[str]:
    return (f"{key} = {_toml(value)}" for key, value in table.items() if value is not None)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
