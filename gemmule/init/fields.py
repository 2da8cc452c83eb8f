"""Which field of records holds the text: the one that brings the most that is new, and not the longest.

A prompt that is the same in every record, an id, an address, a hash and a text with its markup may all be longer than
the text. So what counts is how many different runs of letters a field brings, over the first records of each file; of
those that bring about as much, the longest; and of two that bring the same, that with less markup.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import islice

from gemmule.base.errors import RequestError
from gemmule.refine.formats import known_format
from gemmule.refine.source_file import SourceFile

FILES = 100  # that are looked into
LOOKED_AT = 100  # records of each
LOOKED_INTO = 20_000  # characters of a value
LETTERS = re.compile(r"[^\W_]{1,6}")  # a word or number, or a part of one: not all scripts part words
RUN = 5  # of them, one after the other
TAG, MARKUP = re.compile(r"<[^<>]*>"), re.compile(r"<[^<>]*>|[{}\[\]<>\\|=_/;&$#@*^~`]")
USUAL, ENOUGH = "text", 0.2  # the field's usual name; the share of the best one's that it has to bring
CLOSE = 0.8  # of the most runs: then the longest of them
SAME = 0.5  # of the best one's runs: that is the same text once more


def text_fields(files: list[SourceFile]) -> list[str]:
    """The fields with text that the records of all files have, the likeliest first; none for plain text.

    Raises RequestError if the files' records have none in common.
    """
    with_records = [(file, records) for file in files if (records := known_format(file).records)]
    if not with_records:
        return []
    runs: dict[str, set[tuple[str, ...]]] = {}
    lengths: Counter[str] = Counter()
    markup: Counter[str] = Counter()
    shared: set[str] | None = None
    others: dict[str, str] = {}
    for file, first_records in with_records[:FILES]:
        here: set[str] = set()
        found = list(islice(first_records(file), LOOKED_AT))
        if not found and known_format(file).members is not None:
            continue  # an archive of plain texts
        for record in found:
            for name, value in record.items():
                if not isinstance(value, str):
                    others.setdefault(name, type(value).__name__)
                    continue
                here.add(name)
                text = value[:LOOKED_INTO]
                lengths[name] += len(text)
                markup[name] += sum(map(len, MARKUP.findall(text)))
                runs.setdefault(name, set()).update(_runs(text))
        shared = here if shared is None else shared & here
    if shared is None:
        return []
    if not shared:
        raise RequestError(_nothing_shared([file for file, _ in with_records], others))
    order = sorted(shared, key=lambda name: (-len(runs[name]), -lengths[name], name))
    close = [name for name in order if len(runs[name]) >= CLOSE * len(runs[order[0]])]
    best = max(close, key=lambda name: lengths[name])
    if USUAL in shared and len(runs[USUAL]) >= ENOUGH * len(runs[best]):
        best = USUAL
    else:
        same = [name for name in order if len(runs[name] & runs[best]) >= SAME * len(runs[best])]
        best = min(same, key=lambda name: markup[name] / max(1, lengths[name]))
    return [best, *(name for name in order if name != best)]


def _nothing_shared(files: list[SourceFile], others: dict[str, str]) -> str:
    if len(files) == 1:
        known = "".join(f"; {name} is not text but a {kind}" for name, kind in list(others.items())[:3])
        return f"{files[0].name}: its records have no field of text{known}: let each have its text in a field"
    return (
        f"{files[0].name}: its records have no field of text that those of the other files have too; name files of one "
        "kind, and say which field holds the text by --field"
    )


def _runs(text: str) -> Iterator[tuple[str, ...]]:
    """The runs of letters in a text; none in an id, an address or a hash, which have no white space."""
    if text.isascii() and not any(character.isspace() for character in text.strip()):
        return
    letters = LETTERS.findall(TAG.sub(" ", text))
    for start in range(max(1, len(letters) - RUN + 1)):
        yield tuple(letters[start : start + RUN])
