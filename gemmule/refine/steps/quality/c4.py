"""C4's rules: Raffel et al. 2020, "Exploring the Limits of Transfer Learning", JMLR 21, section 2.2.

Decisions are datatrove's (`C4QualityFilter`) as FineWeb uses it: lines may end without a full stop. Lines that are no
text of their own (notices about cookies and JavaScript) are removed.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from functools import cached_property

from gemmule.recipe.refining import C4
from gemmule.refine.steps.quality.checks import Check, Text, at_least, at_most
from gemmule.refine.steps.quality.words import SENTENCE_ENDS, words_of

CITATION = re.compile(r"\[\d*]|\[edit]|\[citation needed]")
ENDS, ELLIPSIS = (".", "?", "!", '"', "'"), "..."
POLICIES = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
DROPS = {"filter_lorem_ipsum": '"lorem ipsum"', "filter_curly_bracket": '"{"'}  # the whole document
NOTICES = {"filter_javascript": 2, "filter_policy": 2, "max_word_length": 10**9}  # at most so many lines of a text


class Lines:
    """The lines of a text, and which rule is against each."""

    def __init__(self, text: Text, limits: C4) -> None:
        self.text, self.limits = text, limits

    @cached_property
    def judged(self) -> list[tuple[str, str]]:
        """Each line, stripped and without citation marks, and the rule; "" for none."""
        return list(lines_of(self.text.text, self.limits))

    @cached_property
    def kept(self) -> Text:
        """The lines that no rule is against, one under the other, as datatrove gives them."""
        kept = (line for line, rule in self.judged if not rule)
        return Text("\n".join(kept).strip(), thorough=self.text.thorough)

    def checks(self) -> Iterator[Check]:
        against = Counter(rule for _, rule in self.judged)
        for rule, what in DROPS.items():
            if getattr(self.limits, rule):
                yield at_most(rule, against[rule], what, 0)
        if (least := self.limits.min_num_sentences) >= 0:
            yield at_least("min_num_sentences", self._sentences(least), "sentences", least)

    def _sentences(self, enough: int) -> int:
        """Counted up to what is `enough`, unless all figures are wanted."""
        count = 0
        for line in self.kept.text.split("\n"):
            if line and (count < enough or self.kept.thorough):
                count += sentences(line)
        return count

    def of_a_page(self) -> tuple[str, Counter[str]]:
        """The text that datatrove gives, and how many lines of it went, by rule."""
        return self.kept.text, Counter(rule for _, rule in self.judged if rule)

    def of_other_text(self, whole: str) -> tuple[str, Counter[str]]:
        """The text, with space at the ends of its lines, without what is surely no part of it; how many lines went.

        Where more than two lines speak of cookies, or of JavaScript, the text is about these.
        """
        against = Counter(rule for _, rule in self.judged)
        rules = {rule for rule in NOTICES if 0 < against[rule] <= NOTICES[rule]}
        if not rules:
            return whole, Counter()
        went = [rule if rule in rules and _stands_alone(line) else "" for line, rule in self.judged]
        lines = whole.splitlines(keepends=True)
        left = "".join(line for line, rule in zip(lines, went, strict=True) if not rule)
        return left, Counter(filter(None, went))


def _stands_alone(line: str) -> bool:
    """No part of a sentence that goes on in other lines."""
    return not line[:1].islower() and (line.endswith(ENDS) or len(line.split()) <= 8)


def lines_of(text: str, limits: C4) -> Iterator[tuple[str, str]]:
    """The lines in order, stripped and without citation marks, each with the rule that takes it out; "" if none."""
    for line in map(str.strip, text.splitlines()):
        words = line.split()
        if len(line) > limits.max_word_length >= 0 and max(map(len, words)) > limits.max_word_length:
            yield line, "max_word_length"
            continue
        if limits.remove_citations and "[" in line:
            line = CITATION.sub("", line)
        yield line, _rule_against(line, len(words), limits)


def _rule_against(line: str, words: int, limits: C4) -> str:
    if limits.filter_no_terminal_punct and (not line.endswith(ENDS) or line.endswith(ELLIPSIS)):
        return "filter_no_terminal_punct"
    if words < limits.min_words_per_line:
        return "min_words_per_line"
    lower = line.lower()
    if limits.filter_lorem_ipsum and "lorem ipsum" in lower:
        return "filter_lorem_ipsum"
    if limits.filter_javascript and "javascript" in lower:
        return "filter_javascript"
    if limits.filter_curly_bracket and "{" in line:
        return "filter_curly_bracket"
    if limits.filter_policy and any(phrase in lower for phrase in POLICIES):
        return "filter_policy"
    return ""


def sentences(line: str) -> int:
    """As spaCy's sentencizer counts them: one begins at the first word after a full stop and what closes with it."""
    count, ended = 1, False
    for word in words_of(line):
        if len(word) == 1 and word in SENTENCE_ENDS:
            ended = True
        elif ended and not all(unicodedata.category(sign)[0] == "P" for sign in word):
            count, ended = count + 1, False
    return count
