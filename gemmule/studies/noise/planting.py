"""Plants noise in known amounts, and says of each document what it is and what it should become."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from gemmule.studies.noise.duplicates import near_duplicate
from gemmule.studies.noise.gibberish import GIBBERISH, mojibake, typographic
from gemmule.studies.noise.languages import SENTENCES, foreign
from gemmule.studies.noise.pages import page
from gemmule.studies.noise.personal import LOOKALIKES, PERSONAL, lookalike, sentence

Kind = tuple[str, str]  # what it is, and which of its variants
NEAR = ("0.65", "0.7", "0.75", "0.78", "0.82", "0.85", "0.9", "0.95")  # true Jaccard of 5-word shingles
MOJIBAKE = {"windows-1252": ("cp1252", 1), "windows-1252 twice": ("cp1252", 2), "latin-1": ("latin-1", 1),
            "latin-1 twice": ("latin-1", 2)}  # fmt: skip
PASSAGE = 60  # words
PAGES = 20  # of a site
KINDS: dict[str, Sequence[str]] = {
    "exact duplicate": ("",),
    "near duplicate": NEAR,
    "gibberish": tuple(GIBBERISH),
    "language": tuple(SENTENCES),
    "mojibake": (*MOJIBAKE, "de", "ru", "ja"),
    "boilerplate": ("",),
    "personal data": tuple(PERSONAL),
    "lookalike": tuple(LOOKALIKES),
    "evaluation item": ("",),
    "passage": ("",),
}
BESIDE = ("exact duplicate", "near duplicate", "gibberish", "language")  # more documents; the others change one


@dataclass(frozen=True)
class Noisy:
    """A document with what is known of it."""

    text: str
    kind: str = ""  # empty: real text as it stands
    variant: str = ""
    clean: str | None = None  # what it should become; None: nothing, it should be dropped
    planted: tuple[str, ...] = ()  # what should not be in it any more, or, of lookalikes, should
    like: int | None = None  # the number of the document that it copies, which comes before it


def each(count: int, *kinds: str) -> dict[Kind, int]:
    """So many of every variant of these kinds; of all kinds if none is named."""
    return {(kind, variant): count for kind in kinds or KINDS for variant in KINDS[kind]}


def plant(documents: Sequence[str], amounts: Mapping[Kind, int], seed: int, items: Sequence[str] = ()) -> list[Noisy]:
    """Real documents and noise among them, in random order; a copy always comes after what it copies.

    Duplicates, gibberish and other languages are documents more; the other kinds are planted in a real one. No real
    document serves twice. `items` are the evaluation set's.
    """
    random = Random(seed)
    hosts = list(range(len(documents)))
    random.shuffle(hosts)
    made: list[Noisy] = [Noisy(text, clean=text) for text in documents]
    for kind, variant in amounts:
        for number in range(amounts[kind, variant]):
            host = _next_host(hosts, documents, kind)
            beside = _next_host(hosts, documents, kind) if kind == "passage" else host
            noisy = _make(kind, variant, documents[host], documents[beside], number, random, items)
            if kind in BESIDE:
                made.append(dataclasses.replace(noisy, like=host if "duplicate" in kind else None))
            else:
                made[host] = dataclasses.replace(noisy, like=beside if kind == "passage" else None)
    return _in_order(made, random)


def _next_host(hosts: list[int], documents: Sequence[str], kind: str) -> int:
    """A real document that nothing was planted in; of mojibake, one that it shows in."""
    for place in range(len(hosts) - 1, -1, -1):
        if kind != "mojibake" or documents[hosts[place]].count("'") >= 3:
            return hosts.pop(place)
    raise ValueError("more noise than there are documents to plant it in")


def _make(kind: str, variant: str, text: str, other: str, number: int, random: Random, items: Sequence[str]) -> Noisy:
    if kind == "exact duplicate":
        return Noisy(text, kind, variant)
    if kind == "near duplicate":
        copy = near_duplicate(text, float(variant), random)
        return Noisy(copy, kind, variant, clean=copy if float(variant) < 0.8 else None)
    if kind == "gibberish":
        return Noisy(GIBBERISH[variant](text, random), kind, variant)
    if kind == "language":
        return Noisy(foreign(variant, len(text), random), kind, variant)
    if kind == "mojibake":
        encoding, times = MOJIBAKE.get(variant, ("cp1252", 1))
        right = typographic(text) if variant in MOJIBAKE else foreign(variant, len(text), random)
        return Noisy(mojibake(right, encoding, times), kind, variant, clean=right)
    if kind == "boilerplate":
        whole, lines = page(text, number // PAGES, random)
        return Noisy(whole, kind, variant, clean=text, planted=lines)
    if kind in ("personal data", "lookalike"):
        said, found = (sentence if kind == "personal data" else lookalike)(variant, random)
        whole = _insert(text, said, random)
        return Noisy(whole, kind, variant, clean=whole, planted=(found,))
    if kind == "evaluation item":
        item = items[number % len(items)]
        return Noisy(_insert(text, item, random), kind, variant, planted=(item,))
    words = other.split()
    passage = " ".join(words[len(words) // 2 :][:PASSAGE])
    return Noisy(_insert(text, passage, random), kind, variant, clean=text, planted=(passage,))


def _insert(text: str, paragraph: str, random: Random) -> str:
    paragraphs = text.split("\n\n")
    paragraphs.insert(random.randint(0, len(paragraphs)), paragraph)
    return "\n\n".join(paragraphs)


def _in_order(made: list[Noisy], random: Random) -> list[Noisy]:
    order = list(range(len(made)))  # what stands at each place
    random.shuffle(order)
    places = {number: place for place, number in enumerate(order)}
    for number, noisy in enumerate(made):
        if noisy.like is not None and places[number] < places[noisy.like]:
            places[number], places[noisy.like] = places[noisy.like], places[number]
    return list(_placed(made, places))


def _placed(made: list[Noisy], places: dict[int, int]) -> Iterator[Noisy]:
    for number in sorted(places, key=places.__getitem__):
        like = made[number].like
        yield made[number] if like is None else dataclasses.replace(made[number], like=places[like])
