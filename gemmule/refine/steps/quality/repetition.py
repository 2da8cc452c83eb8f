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
    for n, limit in limits.top_n_grams:
        ratio = top(text.words, n) / len(text.text)
        yield at_most(f"top_n_grams {n}", ratio, f"of the text is one phrase of {n} words", limit)
    yield from _repeated(text, limits)


def _blocks(blocks: Sequence[str], kind: str, what: str, text: Text, limits: Repetition) -> Iterator[Check]:
    count, characters = duplicated(blocks)
    if limit := getattr(limits, f"dup_{kind}_frac"):
        yield at_most(f"dup_{kind}_frac", count / len(blocks), f"of the {what} are repeated", limit)
    if limit := getattr(limits, f"dup_{kind}_char_frac"):
        ratio = characters / len(text.text)
        yield at_most(f"dup_{kind}_char_frac", ratio, f"of the text is repeated {what}", limit)


def top(words: Sequence[str], n: int) -> int:
    """Characters that the commonest n-gram takes, with spaces between its words; of equally common ones the first."""
    counts = Counter(zip(*(words[start:] for start in range(n)), strict=False))
    if not counts:
        return 0
    phrase, count = max(counts.items(), key=_count)
    return count * (sum(map(len, phrase)) + n - 1)


def _count(item: tuple[object, int]) -> int:
    return item[1]


def _repeated(text: Text, limits: Repetition) -> Iterator[Check]:
    """Of each length, the text in n-grams that stood there before."""
    shortest, lowest = (
        min((n for n, _ in limits.dup_n_grams), default=1),
        min((at for _, at in limits.dup_n_grams), default=1),
    )
    nothing = not text.thorough and covered(text.words, shortest) <= lowest * len(text.text)
    for n, limit in limits.dup_n_grams:
        characters = 0 if nothing else repeated(text.words, n)
        yield at_most(
            f"dup_n_grams {n}", characters / len(text.text), f"of the text is repeated phrases of {n} words", limit
        )


def covered(words: Sequence[str], n: int) -> int:
    """Characters of the words that are in any n-gram that stood there before."""
    grams = list(zip(*(words[start:] for start in range(n)), strict=False))
    if len(set(grams)) == len(grams):
        return 0
    seen: set[tuple[str, ...]] = set()
    characters = until = 0  # the words before `until` are counted
    for place, gram in enumerate(grams):
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
