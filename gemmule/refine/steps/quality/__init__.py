"""Drops documents by the rules that made MassiveText, C4 and FineWeb: each set is a file of this folder.

The decisions are datatrove's, in FineWeb's order: Gopher's rules, then C4's, which removes lines, then FineWeb's on
what is left. They are for English web pages; which other text is spared those that misjudge it, `allowances` says
(`kinds.py` has by what it is known):

- "other", with `quality = true` or a table: source code, known by its suffix, is left alone; in another language than
  English, its stop words are not looked for, and a word without spaces has two characters;
- "all", with `quality = "careful"`, which is the default: of verse, plays and dialogues, how lines end, how short they
  are, and which come again says nothing; a short text in whole sentences may be short, and may say a thing twice; prose
  may have curly brackets; and words are counted as Gopher's paper does: a comma is none. (datatrove takes marks for
  words without a letter, so that essays with many are dropped.) By the rules as they are, all of GSM8K has too few
  words, and a tenth of Shakespeare's scenes has too many commas or a refrain. Web pages (sources in .html) are not
  spared these;
- "none": everything is judged as an English web page.

Of what is no web page only notices (of cookies, of JavaScript) and lines with a word of more than 1,000 characters are
removed: headings, speakers and blank lines, which C4 removes, are part of it.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterator

from gemmule.recipe.refining import C4, FineWeb, Gopher, Quality, Repetition
from gemmule.recipe.section import section_of
from gemmule.refine.sources import Document
from gemmule.refine.steps.quality import c4, fineweb, gopher, kinds, repetition
from gemmule.refine.steps.quality.checks import Check, Text
from gemmule.refine.steps.step import DocumentStep, Figure, Verdict

SPACE_AT_END = re.compile(r"[ \t]+$", re.MULTILINE)


class QualityRules(DocumentStep):
    name = "quality"

    def __init__(self, settings: Quality) -> None:
        self.gopher = section_of(settings.gopher, Gopher)
        self.repetition = section_of(settings.repetition, Repetition)
        self.c4 = section_of(settings.c4, C4)
        self.fineweb = section_of(settings.fineweb, FineWeb)
        self.allowances = settings.allowances

    def judge(self, document: Document) -> Verdict:
        return self._judge(document, thorough=False)

    def explain(self, document: Document) -> Verdict:
        return self._judge(document, thorough=True)

    def _judge(self, document: Document, *, thorough: bool) -> Verdict:
        if self.allowances != "none" and kinds.is_code(document.source):
            return Verdict(document, figures={"rules": "none, for this is source code"} if thorough else {})
        is_page = self.allowances == "none" or kinds.is_page(document.source)
        every = self.allowances == "all" and not is_page
        text = Text(document.text if is_page else SPACE_AT_END.sub("", document.text), thorough=thorough)
        lines = c4.Lines(text, self.c4) if self.c4 else None
        reason, figures, counts = "", dict[str, Figure](), Counter[str]()
        for of, check in self._checks(text, lines):
            excuse = ""
            if check.fails and self.allowances != "none":
                excuse = kinds.excuse(check, text, document.language, every)
            counts[f"set aside: {excuse}"] += bool(excuse)
            if check.fails and not excuse:
                reason = reason or f"{of}: {check.reason}"
                if not thorough:
                    return Verdict(None, reason)
            if thorough:
                figures[f"{of}.{check.name}"] = f"{check.said}{f', but this is {excuse}' if excuse else ''}"
        if reason:
            return Verdict(None, reason, figures)
        if lines:
            left, removed = lines.of_a_page() if is_page else lines.of_other_text(document.text)
            document = dataclasses.replace(document, text=left)
            counts.update({f"lines: {rule}": count for rule, count in removed.items()})
        return Verdict(document, figures=figures, counts=+counts)

    def _checks(self, text: Text, lines: c4.Lines | None) -> Iterator[tuple[str, Check]]:
        """The figures of each set, in order; what is not asked for is not looked at."""
        if self.gopher:
            yield from (("gopher", check) for check in gopher.checks(text, self.gopher))
        if self.repetition:
            yield from (("repetition", check) for check in repetition.checks(text, self.repetition))
        if lines:
            yield from (("c4", check) for check in lines.checks())
        if self.fineweb:
            left = lines.kept if lines and lines.kept.text else text
            yield from (("fineweb", check) for check in fineweb.checks(left, self.fineweb))
