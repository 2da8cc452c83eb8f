"""Gopher's quality rules: Rae et al. 2021, "Scaling Language Models", arXiv 2112.11446, appendix A1.1.

Decisions are datatrove's (`GopherQualityFilter`): words are counted as spaCy splits them, so that punctuation marks are
words too, except where "words" below says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator

from gemmule.recipe.refining import Gopher
from gemmule.refine.steps.quality.checks import Check, Text, at_least, at_most

ELLIPSES, BULLETS = ("...", "…"), ("•", "-")


def checks(text: Text, limits: Gopher) -> Iterator[Check]:
    """The rules, in datatrove's order."""
    yield from _words(text, limits)
    yield from _symbols(text, limits)
    yield from _lines(text.text.splitlines(), limits)
    ratio = text.with_letters / max(len(text.words), 1)
    yield at_least("max_non_alpha_words_ratio", ratio, "of the words have a letter", limits.max_non_alpha_words_ratio)
    stop_words = len({*limits.stop_words}.intersection(text.words))
    yield at_least("min_stop_words", stop_words, "of the commonest English words", limits.min_stop_words)


def _words(text: Text, limits: Gopher) -> Iterator[Check]:
    """Words that are not only signs: how many, and how long."""
    count, letters = text.proper_words, text.letters / max(text.proper_words, 1)
    yield at_least("min_doc_words", count, "words", limits.min_doc_words)
    if limits.max_doc_words:
        yield at_most("max_doc_words", count, "words", limits.max_doc_words)
    yield at_least("min_avg_word_length", letters, "letters a word", limits.min_avg_word_length)
    if limits.max_avg_word_length:
        yield at_most("max_avg_word_length", letters, "letters a word", limits.max_avg_word_length)


def _symbols(text: Text, limits: Gopher) -> Iterator[Check]:
    if limits.max_symbol_word_ratio:
        for sign, what in ((("#",), "# a word"), (ELLIPSES, "ellipses a word")):
            ratio = sum(map(text.text.count, sign)) / max(len(text.words), 1)
            yield at_most(f"max_symbol_word_ratio {sign[0]}", ratio, what, limits.max_symbol_word_ratio)


def _lines(lines: list[str], limits: Gopher) -> Iterator[Check]:
    if limits.max_bullet_lines_ratio:
        ratio = sum(line.lstrip().startswith(BULLETS) for line in lines) / max(len(lines), 1)
        yield at_most("max_bullet_lines_ratio", ratio, "of the lines are bullet points", limits.max_bullet_lines_ratio)
    if limits.max_ellipsis_lines_ratio:
        ratio = sum(line.rstrip().endswith(ELLIPSES) for line in lines) / max(len(lines), 1)
        yield at_most(
            "max_ellipsis_lines_ratio", ratio, "of the lines end in an ellipsis", limits.max_ellipsis_lines_ratio
        )
