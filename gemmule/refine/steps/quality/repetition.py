"""Gopher's repetition rules: Rae et al. 2021, arXiv 2112.11446, appendix A1.1, table A1.

Decisions are datatrove's (`GopherRepetitionFilter`). The n-grams of 5 to 10 words that are repeated cover no more than
those of 5 do; where these cover less than any threshold, which is nearly always, longer ones are not looked at.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from gemmule.recipe.refining import Repetition
from gemmule.refine.steps.quality.checks import Check, Text, at_most, duplicated

PARAGRAPHS, LINES = re.compile(r"\n{2,}"), re.compile(r"\n+")


def checks(text: Text, limits: Repetition) -> Iterator[Check]:
    """The rules, in datatrove's order."""
    yield from _blocks(PARAGRAPHS.split(text.text.strip()), "para", "paragraphs", text, limits)
    yield from _blocks(LINES.split(text.text), "line", "lines", text, limits)
    yield from _top(text, limits)
    yield from _repeated(text, limits)


def _blocks(blocks: Sequence[str], kind: str, what: str, text: Text, limits: Repetition) -> Iterator[Check]:
    count, characters = duplicated(blocks)
    if limit := getattr(limits, f"dup_{kind}_frac"):
        yield at_most(f"dup_{kind}_frac", count / len(blocks), f"of the {what} are repeated", limit)
    if limit := getattr(limits, f"dup_{kind}_char_frac"):
        ratio = characters / len(text.text)
        yield at_most(f"dup_{kind}_char_frac", ratio, f"of the text is repeated {what}", limit)


def _top(text: Text, limits: Repetition) -> Iterator[Check]:
    """A longer phrase stands no more often than a shorter one: where that settles it, it is not looked for."""
    most = len(text.words)
    for n, limit in sorted(limits.top_n_grams):
        characters = most * (n * text.longest + n - 1)
        if text.thorough or characters > limit * len(text.text):
            characters, most = top(text.words, n)
        yield at_most(f"top_n_grams {n}", characters / len(text.text), f"of the text is one phrase of {n} words", limit)


def top(words: Sequence[str], n: int) -> tuple[int, int]:
    """Characters that the commonest n-gram takes, with spaces between its words, and how often it stands there; of
    equally common ones the first."""
    counts = Counter(_grams(words, n))
    most = max(counts.values(), default=0)
    phrase = next((phrase for phrase, count in counts.items() if count == most), ())
    return most * (sum(map(len, phrase)) + n - 1), most


def _grams(words: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    return zip(*(words[start:] for start in range(n)), strict=False)


def _repeated(text: Text, limits: Repetition) -> Iterator[Check]:
    """Of each length, the text in n-grams that stood there before."""
    lowest = min((limit for _, limit in limits.dup_n_grams), default=1) * len(text.text)
    shortest = min((n for n, _ in limits.dup_n_grams), default=1)
    nothing = not text.thorough and _little_is_repeated(text, shortest, lowest)
    for n, limit in limits.dup_n_grams:
        characters = 0 if nothing else repeated(text.words, n)
        yield at_most(
            f"dup_n_grams {n}", characters / len(text.text), f"of the text is repeated phrases of {n} words", limit
        )


def _little_is_repeated(text: Text, n: int, characters: float) -> bool:
    """Whether the words in n-grams that stood there before surely have no more characters."""
    grams = list(_grams(text.words, n))
    copies = len(grams) - len(set(grams))
    return copies * n * text.longest <= characters or covered(text.words, n) <= characters


def covered(words: Sequence[str], n: int) -> int:
    """Characters of the words that are in any n-gram that stood there before."""
    seen: set[tuple[str, ...]] = set()
    characters = until = 0  # the words before `until` are counted
    for place, gram in enumerate(_grams(words, n)):
        if gram in seen:
            characters += sum(map(len, words[max(until, place) : place + n]))
            until = place + n
        else:
            seen.add(gram)
    return characters


def repeated(words: Sequence[str], n: int) -> int:
    """Characters of the n-grams that stood there before, none counted inside another."""
    seen: set[str] = set()
    characters = place = 0
    while place <= len(words) - n:
        gram = "".join(words[place : place + n])
        if gram in seen:
            characters += len(gram)
            place += n
        else:
            seen.add(gram)
            place += 1
    return characters
