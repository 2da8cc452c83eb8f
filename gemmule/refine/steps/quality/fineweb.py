"""FineWeb's rules: Penedo et al. 2024, "The FineWeb Datasets", arXiv 2406.17557, section 3.4.

Decisions are datatrove's (`FineWebQualityFilter`), with one difference: white space at a line's end is not looked at.
datatrove looks at the last character, so that prose whose lines end in a space, as those of film reviews often do, has
no line with a full stop, and is dropped. (Where C4's rules come before, they take such space away.)
"""

from __future__ import annotations

from collections.abc import Iterator

from gemmule.recipe.refining import FineWeb
from gemmule.refine.steps.quality.checks import Check, Text, at_least, at_most, duplicated
from gemmule.refine.steps.quality.words import SENTENCE_ENDS

ENDS = tuple(SENTENCE_ENDS)


def checks(text: Text, limits: FineWeb) -> Iterator[Check]:
    """The rules, in datatrove's order, of a text that has words."""
    lines = [line for line in text.text.split("\n") if line.strip()]
    ratio = sum(line.rstrip().endswith(ENDS) for line in lines) / len(lines)
    if ratio or not limits.line_punct_exclude_zero:
        yield at_least("line_punct_thr", ratio, "of the lines end a sentence", limits.line_punct_thr)
    ratio = sum(len(line) <= limits.short_line_length for line in lines) / len(lines)
    what = f"of the lines have at most {limits.short_line_length} characters"
    yield at_most("short_line_thr", ratio, what, limits.short_line_thr)
    ratio = duplicated(lines)[1] / len(text.text.replace("\n", ""))
    yield at_most("char_duplicates_ratio", ratio, "of the text is repeated lines", limits.char_duplicates_ratio)
    ratio = text.text.count("\n") / len(text.words)
    yield at_most("new_line_ratio", ratio, "line ends a word", limits.new_line_ratio)
